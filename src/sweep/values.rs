//! Whether the pipeline takes every value that `[sweep]` may give it: it is planned with each end of a range and with each choice, before the
//! first trial; and, where it takes all of these, with each choice beside values of all others.

use pipe_document::diagnostic::{Diagnostic, Diagnostics};
use pipe_document::{Entry, KeyOrValue};
use pipe_plan::sweep::{ParameterConfig, Sampler};
use pipe_plan::{Plan, SweepConfig};
use pipe_run::load::Loaded;
use pipe_run::reload::difference::{OPTIMIZER_STATE, WEIGHTS, difference};
use pipe_sweep::{Distribution, Parameter, Space, Values};
use pipe_vocab::shown::shown_name;
use pipe_vocab::{Kind, NodeId, Reload};
use serde_json::Value;

use super::settings::{space_of, trained};
use crate::source::PipelineArgs;

/// The arguments of `--set` that give a pipeline these values.
pub(super) fn sets(space: &Space, values: &Values) -> Vec<String> {
    let of = |(name, inner): (&String, &f64)| Some(set(name, &space.get(name)?.distribution.outer(*inner)));
    values.iter().filter_map(of).collect()
}

/// As TOML writes it, too: there are no tables in it.
pub(super) fn set(name: &str, value: &Value) -> String {
    format!("{name}={value}")
}

/// What the pipeline refuses, at the value's place in the file.
pub fn check(pipeline: &PipelineArgs, loaded: &Loaded, config: &SweepConfig) -> Diagnostics {
    let mut found = Diagnostics::new();
    let Some(entry) = loaded.document.as_ref().and_then(|document| document.sweep()) else { return found };
    let space = space_of(config);
    let tried = Tried { pipeline, config, entry, space: &space };
    for parameter in &space.parameters {
        for (index, inner) in parameter.distribution.extremes().into_iter().enumerate() {
            let values = beside(&space, &parameter.name, inner);
            found.extend(tried.refusal(parameter, index, inner, &values, ""));
        }
    }
    if found.has_errors() {
        return found;
    }
    let chosen = |parameter: &&Parameter| matches!(parameter.distribution, Distribution::Categorical { .. });
    for parameter in space.parameters.iter().filter(chosen) {
        for (index, inner) in parameter.distribution.extremes().into_iter().enumerate() {
            let forced = beside(&space, &parameter.name, inner);
            let first = |other: &Parameter| other.distribution.extremes().first().copied().unwrap_or_default();
            let values = space.fill(|other| forced.get(&other.name).copied().unwrap_or_else(|| first(other)));
            found.extend(tried.refusal(parameter, index, inner, &values, " beside the others"));
        }
    }
    if !found.has_errors() && config.sampler == Sampler::Population {
        found.extend(tried.not_for_members(loaded.plan.as_ref()));
        found.extend(space.parameters.iter().filter_map(|parameter| tried.not_hot(parameter)));
    }
    found
}

/// What values are tried on.
struct Tried<'a> {
    pipeline: &'a PipelineArgs,
    config: &'a SweepConfig,
    entry: &'a Entry,
    space: &'a Space,
}

impl Tried<'_> {
    /// Why the pipeline does not take a value of a parameter, with `values`, of which it is one.
    fn refusal(
        &self,
        parameter: &Parameter,
        index: usize,
        inner: f64,
        values: &Values,
        how: &str,
    ) -> Option<Diagnostic> {
        let sets = [&self.pipeline.sets[..], &sets(self.space, values)].concat();
        let tried = PipelineArgs { sets, ..self.pipeline.clone() }.load();
        let refused = tried.diagnostics.iter().find(|one| one.is_error())?;
        let kind = kind_of(self.config.parameters.get(&parameter.name)?);
        let place = ["parameters".into(), parameter.name.as_str().into(), kind.into(), index.into()];
        let (name, value) = (shown_name(&parameter.name), parameter.distribution.outer(inner));
        let message = format!("`{name}` cannot be {value}{how}: {}", refused.message);
        let at = self.entry.node.locate(&place, KeyOrValue::Value);
        Some(Diagnostic::error("refused-value", message).at(at).maybe_help(refused.help.clone()))
    }
}

impl Tried<'_> {
    /// Why a run at work cannot be given another value of a parameter.
    fn not_hot(&self, parameter: &Parameter) -> Option<Diagnostic> {
        let plan = |inner: f64| {
            let sets =
                [&self.pipeline.sets[..], &sets(self.space, &beside(self.space, &parameter.name, inner))].concat();
            PipelineArgs { sets, ..self.pipeline.clone() }.load().plan
        };
        let (first, others) =
            parameter.distribution.extremes().split_first().map(|(one, rest)| (*one, rest.to_vec()))?;
        let first = plan(first)?;
        let changes = others.into_iter().filter_map(plan).flat_map(|other| difference(&first, &other));
        let change = changes.into_iter().find(|change| change.class() != Reload::Hot)?;
        let name = shown_name(&parameter.name);
        let message = format!(
            "`{name}` cannot change in the members of a population, which train on while they are edited: `{}` is {}",
            shown_name(&change.name()),
            change.class()
        );
        let at = self.entry.node.locate(&["parameters".into(), parameter.name.as_str().into()], KeyOrValue::Key);
        let help = "`pipe components KIND.TYPE` says which options are hot; another sampler takes all";
        Some(Diagnostic::error("not-hot", message).at(at).help(help))
    }

    /// What a pipeline lacks whose runs are to go on from each other's checkpoints.
    fn not_for_members(&self, plan: Option<&Plan>) -> Option<Diagnostic> {
        let plan = plan?;
        let saves =
            plan.nodes.values().any(|node| node.id.kind == Kind::Handler && node.descriptor.name == "checkpoint");
        let hot = |id: &NodeId| {
            let schema = plan.nodes.get(id).map(|node| node.descriptor.schema());
            schema.is_some_and(|schema| {
                [WEIGHTS, OPTIMIZER_STATE].iter().all(|option| Reload::of_option(schema, option) == Reload::Hot)
            })
        };
        let models = trained(plan);
        let (message, help) = match models.iter().find(|id| !hot(id)) {
            _ if models.is_empty() => ("a population needs a model that is trained".to_owned(), "add an optimizer"),
            Some(model) => {
                (format!("the weights of `{model}` cannot be edited in a run at work"), "another sampler takes it")
            }
            None if !saves => (
                "the members of a population go on from each other's checkpoints, and none is saved".to_owned(),
                "add a `handler.checkpoint`",
            ),
            None => return None,
        };
        let at = self.entry.node.locate(&["sampler".into()], KeyOrValue::Value);
        Some(Diagnostic::error("bad-sweep", message).at(at).help(help))
    }
}

/// The key of a parameter's values in the file.
fn kind_of(config: &ParameterConfig) -> &'static str {
    match config {
        config if config.choice.is_some() => "choice",
        config if config.int.is_some() => "int",
        config if config.log_int.is_some() => "log_int",
        config if config.log.is_some() => "log",
        _ => "range",
    }
}

/// A value with what must be there beside it: what it depends on, and what depends on that. All others are as the pipeline has them.
fn beside(space: &Space, name: &str, inner: f64) -> Values {
    let mut forced = Values::from_iter([(name.to_owned(), inner)]);
    let mut open = vec![name.to_owned()];
    while let Some(parameter) = open.pop().and_then(|name| space.get(&name)) {
        for (parent, wanted) in &parameter.when {
            let distribution = space.get(parent).map(|parent| &parent.distribution);
            let value = distribution.and_then(|distribution| distribution.inner(wanted.first()?));
            if let Some(value) = value.filter(|_| !forced.contains_key(parent)) {
                forced.insert(parent.clone(), value);
                open.push(parent.clone());
            }
        }
    }
    let mut values = Values::new();
    for parameter in &space.parameters {
        let depends = !parameter.when.is_empty() && space.is_active(parameter, &values);
        let first = || parameter.distribution.extremes().first().copied().filter(|_| depends);
        if let Some(value) = forced.get(&parameter.name).copied().or_else(first) {
            values.insert(parameter.name.clone(), value);
        }
    }
    values
}
