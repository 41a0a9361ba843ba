//! The `[sweep]` section: over which options runs of the pipeline are to differ, and what they are judged by.
//!
//! Here its form is checked, and what can be told from one parameter alone. Whether the pipeline takes each value is known once it is
//! planned with it, which `pipe check` and `pipe sweep` do.

mod population;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

pub use population::PopulationConfig;

use crate::file::File;
use crate::lower::Lowering;
use crate::message;
use crate::nodes::Read;
use pipe_document::diagnostic::{Diagnostic, Diagnostics, Location, suggest};
use pipe_document::{Entry, KeyOrValue, PathSegment};
use pipe_vocab::{ValueRef, schema_of};

/// How runs of the pipeline are to differ, for `pipe sweep`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SweepConfig {
    /// The study's name; the pipeline's when left out.
    #[serde(default)]
    pub study: Option<String>,
    /// How the values of a trial are chosen.
    #[serde(default)]
    pub sampler: Sampler,
    /// The seed of what the sampler draws.
    #[serde(default)]
    pub seed: u64,
    /// How many trials the study is to have; of a grid all its points when left out, else 50.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub trials: Option<u64>,
    /// How many runs make a trial, each with a seed of its own: the pipeline's, and those that follow it. Their mean counts.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    pub seeds: u64,
    /// Whether a trial that failed is one of `trials`; otherwise another is made in its place.
    #[serde(default = "yes")]
    pub count_failed: bool,
    /// Of how many of the best trials checkpoints are kept; of all when left out.
    #[serde(default)]
    pub keep: Option<u64>,
    /// The parameters, by the option that each sets, as `--set` names it: `"optimizer.sgd.lr"`, `"vars.width"`.
    #[schemars(with = "BTreeMap<String, ParameterConfig>")]
    pub parameters: IndexMap<String, ParameterConfig>,
    /// What trials are judged by.
    #[schemars(length(min = 1))]
    pub objectives: Vec<ObjectiveConfig>,
    /// What a trial must keep to, to be among the best.
    #[serde(default)]
    pub constraints: Vec<ConstraintConfig>,
    /// Which trials are ended before they are done; none when left out.
    #[serde(default)]
    pub pruner: Option<PrunerConfig>,
    /// Of `sampler = "population"`: how its members learn from each other.
    #[serde(default)]
    pub population: Option<PopulationConfig>,
}

fn one() -> u64 {
    1
}

fn yes() -> bool {
    true
}

/// How the values of a trial are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sampler {
    /// Where those of good trials are dense and those of others are not.
    #[default]
    Tpe,
    /// By chance.
    Random,
    /// All there are, in order.
    Grid,
    /// By chance at first; then the trials, all at work together, are edited: population-based training.
    Population,
}

/// The values of a parameter: one of `range`, `log`, `int`, `log_int` and `choice`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ParameterConfig {
    /// A number between these two.
    pub range: Option<[f64; 2]>,
    /// A number between these two, as likely between 0.001 and 0.01 as between 0.01 and 0.1.
    pub log: Option<[f64; 2]>,
    /// An integer from the first to the second.
    pub int: Option<[i64; 2]>,
    /// An integer from the first to the second, as likely between 1 and 10 as between 10 and 100.
    pub log_int: Option<[i64; 2]>,
    /// One of these: texts, numbers, true and false.
    pub choice: Option<Vec<Json>>,
    /// Of `range` and `int`: the distance between two values.
    pub step: Option<f64>,
    /// The parameter is there only where these others have such a value, or one of a list of values.
    pub when: BTreeMap<String, Json>,
}

/// Which way a value is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The smaller.
    Min,
    /// The larger.
    Max,
}

/// Which value of a curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Which {
    /// The latest.
    #[default]
    Last,
    /// The best.
    Best,
}

/// What trials are judged by.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// The measured value: `metric.NAME:VALUE`, `engine.NAME:loss`, or the tag of its records, such as `val/accuracy`.
    #[schemars(length(min = 1))]
    pub metric: String,
    /// Which way it is better.
    pub direction: Direction,
    /// Which of its values counts.
    #[serde(default)]
    pub value: Which,
}

/// Bounds of a measured value.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConstraintConfig {
    /// The measured value, of which the latest counts; as in `objectives`.
    #[schemars(length(min = 1))]
    pub metric: String,
    /// It must be no less.
    #[serde(default)]
    pub min: Option<f64>,
    /// It must be no more.
    #[serde(default)]
    pub max: Option<f64>,
}

/// Which trials are ended before they are done. A report is a new value of the objective.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum PrunerConfig {
    /// Those whose best report is worse than the median of the other trials' reports of the same number.
    Median {
        /// No trial is ended before so many are complete.
        #[serde(default = "five")]
        startup: u64,
        /// Nor before it has made so many reports.
        #[serde(default)]
        warmup: u64,
        /// Trials are looked at every so many reports.
        #[serde(default = "one")]
        #[schemars(range(min = 1))]
        every: u64,
    },
    /// Successive halving: those that are not among the best at a rung, of which each is `factor` times as many reports up.
    Asha {
        /// The reports up to the first rung; a hundredth of those of the longest complete trial when left out.
        #[serde(default)]
        #[schemars(range(min = 1))]
        min_reports: Option<u64>,
        /// One of so many goes on.
        #[serde(default = "four")]
        #[schemars(range(min = 2))]
        factor: u64,
        /// How many rungs are left out at the beginning.
        #[serde(default)]
        #[schemars(range(max = 20))]
        skip: u32,
        /// No trial goes on from a rung before so many have come to it.
        #[serde(default)]
        bootstrap: u64,
    },
}

fn four() -> u64 {
    4
}

fn five() -> u64 {
    5
}

/// The section's JSON schema.
pub fn schema() -> &'static Json {
    static SCHEMA: OnceLock<Json> = OnceLock::new();
    SCHEMA.get_or_init(schema_of::<SweepConfig>)
}

/// Reads the section; nothing where there is none or it is wrong.
pub(crate) fn read(file: File<'_>, nodes: &Read, found: &mut Diagnostics) -> Option<SweepConfig> {
    let entry = file.document.sweep()?;
    let node = &entry.node;
    let Some(table) = node.as_table() else {
        let message = format!("`sweep` must be a table, found {}", message::found(&node.value));
        found.push(Diagnostic::error("wrong-type", message).at(node.location.clone()).help("write `[sweep]`"));
        return None;
    };
    let mut lowering = Lowering::new(file.document, file.sources, file.catalog, schema(), vec!["sweep".into()]);
    let json = lowering.table(table, &node.location, &[], "`[sweep]`");
    let wrong = lowering.diagnostics.has_errors();
    found.extend(lowering.diagnostics);
    if wrong {
        return None;
    }
    let config: SweepConfig = match serde_json::from_value(json) {
        Ok(config) => config,
        Err(error) => {
            found.push(Diagnostic::error("invalid-option", error.to_string()).at(node.location.clone()));
            return None;
        }
    };
    let mut check = Check { entry, found, wrong: false };
    for (name, parameter) in &config.parameters {
        check.parameter(name, parameter, &config, file);
    }
    check.whole(&config);
    let metrics = config.objectives.iter().map(|one| ("objectives", &one.metric)).enumerate();
    let bounds = config.constraints.iter().map(|one| ("constraints", &one.metric)).enumerate();
    for (index, (list, metric)) in metrics.chain(bounds) {
        check.metric(metric, &[list.into(), index.into(), "metric".into()], nodes);
    }
    let wrong = check.wrong;
    (!wrong).then_some(config)
}

/// A grid has no more points.
const MOST_POINTS: f64 = 1e5;

/// Up to here each integer is a number of its own.
const LARGEST: f64 = (1u64 << 53) as f64;

/// What is found wrong with the section.
struct Check<'a> {
    entry: &'a Entry,
    found: &'a mut Diagnostics,
    wrong: bool,
}

impl Check<'_> {
    fn error(&mut self, path: &[PathSegment], what: KeyOrValue, message: String, help: Option<String>) {
        let at = self.entry.node.locate(path, what);
        self.error_at(at, message, help);
    }

    fn error_at(&mut self, at: Location, message: String, help: Option<String>) {
        self.wrong = true;
        self.found.push(Diagnostic::error("bad-sweep", message).at(at).maybe_help(help));
    }

    fn parameter(&mut self, name: &str, parameter: &ParameterConfig, config: &SweepConfig, file: File<'_>) {
        let own: [PathSegment; 2] = ["parameters".into(), name.into()];
        let of = |key: &str| [&own[..], &[key.into()]].concat();
        if let Some(variable) = name.strip_prefix("vars.").filter(|name| file.document.vars().get(name).is_none()) {
            let near = suggest(variable, file.document.vars().keys());
            let help = near.map(|near| format!("did you mean `vars.{near}`?"));
            self.error(&own, KeyOrValue::Key, format!("there is no variable `{variable}`"), help);
        } else if !name.contains('.')
            || ["sweep", "profile", "plugins", "extends"].contains(&name.split('.').next().unwrap_or_default())
        {
            let help = "name an option as `--set` does, in quotes: \"optimizer.sgd.lr\" = { log = [1e-4, 1e-1] }";
            self.error(&own, KeyOrValue::Key, format!("`{name}` is no option of the pipeline"), Some(help.into()));
            return;
        }
        let given: Vec<&str> = parameter.given();
        if given.len() != 1 {
            let message = match given.is_empty() {
                true => format!("`{name}` has no values"),
                false => format!("`{name}` has several kinds of values: {}", message::list(&given)),
            };
            let help = "give one of `range`, `log`, `int`, `log_int` and `choice`";
            self.error(&own, KeyOrValue::Key, message, Some(help.into()));
            return;
        }
        self.ends(parameter, &of(given[0]));
        self.step(parameter, given[0], &of("step"));
        if let Some(choices) = &parameter.choice {
            self.choices(choices, &of("choice"));
        }
        let needs_step = parameter.log.is_some() || parameter.range.is_some() && parameter.step.is_none();
        if config.sampler == Sampler::Grid && needs_step {
            let help = "a grid has finitely many values: give `choice`, `int`, or `range` with `step`";
            self.error(&own, KeyOrValue::Key, format!("`{name}` has no steps"), Some(help.into()));
        }
        for (parent, values) in &parameter.when {
            self.condition(name, parent, values, config);
        }
    }

    fn ends(&mut self, parameter: &ParameterConfig, path: &[PathSegment]) {
        let ints = parameter.int.or(parameter.log_int).map(|ends| ends.map(|end| end as f64));
        let Some([low, high]) = parameter.range.or(parameter.log).or(ints) else { return };
        if low > high || !low.is_finite() || !high.is_finite() {
            self.error(
                path,
                KeyOrValue::Value,
                format!("{low} is not below {high}"),
                Some("the smaller end comes first".into()),
            );
        } else if !(high - low).is_finite() || ints.is_some() && low.abs().max(high.abs()) > LARGEST {
            self.error(path, KeyOrValue::Value, "these are too far apart to be told from each other".into(), None);
        } else if parameter.log.is_some() && low <= 0.0 || parameter.log_int.is_some() && low < 1.0 {
            self.error(
                path,
                KeyOrValue::Value,
                format!("the logarithm of {low} is not to be had"),
                Some("begin above 0".into()),
            );
        }
    }

    fn step(&mut self, parameter: &ParameterConfig, kind: &str, path: &[PathSegment]) {
        let Some(step) = parameter.step else { return };
        let message = match kind {
            "range" if step > 0.0 && step.is_finite() => return,
            "int" if step >= 1.0 && step.fract() == 0.0 && step < 1e15 => return,
            "range" => format!("a step of {step} leads nowhere"),
            "int" => format!("a step of {step} leads to no integer"),
            _ => format!("`{kind}` has no steps"),
        };
        self.error(path, KeyOrValue::Value, message, None);
    }

    fn choices(&mut self, choices: &[Json], path: &[PathSegment]) {
        if choices.is_empty() {
            self.error(path, KeyOrValue::Value, "there is nothing to choose".into(), None);
        }
        for (index, choice) in choices.iter().enumerate() {
            let path = [path, &[index.into()]].concat();
            let message = match choice {
                Json::Array(_) | Json::Object(_) | Json::Null => "a choice is a text, a number, true or false",
                _ if choices[..index].iter().any(|other| same(other, choice)) => "this is among the choices already",
                _ => continue,
            };
            let help = choice.is_array().then(|| "make it a variable's, or several parameters".to_owned());
            self.error(&path, KeyOrValue::Value, message.into(), help);
        }
    }

    fn condition(&mut self, name: &str, parent: &str, values: &Json, config: &SweepConfig) {
        let path: Vec<PathSegment> = vec!["parameters".into(), name.into(), "when".into(), parent.into()];
        let Some((index, _, other)) = config.parameters.get_full(parent) else {
            let help = suggest(parent, config.parameters.keys().map(String::as_str));
            let help = help.map(|near| format!("did you mean `{near}`?"));
            return self.error(&path, KeyOrValue::Key, format!("`{parent}` is no parameter"), help);
        };
        if config.parameters.get_index_of(name).is_none_or(|own| own <= index) {
            let message = format!("`{name}` depends on `{parent}`, which comes after it");
            return self.error(&path, KeyOrValue::Key, message, Some("put it behind".into()));
        }
        let wanted = values.as_array().map_or(std::slice::from_ref(values), Vec::as_slice);
        for value in wanted {
            if !other.has(value) {
                self.error(&path, KeyOrValue::Value, format!("`{parent}` is never {value}"), None);
            }
        }
    }

    fn whole(&mut self, config: &SweepConfig) {
        if config.parameters.is_empty() {
            self.error(&["parameters".into()], KeyOrValue::Key, "there are no parameters".into(), None);
        }
        if config.pruner.is_some() && config.objectives.len() > 1 {
            let message = "of several objectives no single report says that a trial is bad".to_owned();
            self.error(&["pruner".into()], KeyOrValue::Key, message, Some("remove `pruner`".into()));
        }
        self.population(config);
        for (index, bounds) in config.constraints.iter().enumerate() {
            if bounds.min.is_none() && bounds.max.is_none() {
                let path = ["constraints".into(), index.into()];
                self.error(
                    &path,
                    KeyOrValue::Key,
                    "this constrains nothing".into(),
                    Some("give `min` or `max`".into()),
                );
            }
        }
        let points: f64 = config.parameters.values().map(ParameterConfig::count).product();
        if config.sampler == Sampler::Grid && points > MOST_POINTS {
            let message = format!("a grid of {points} points is too large");
            let help = "use fewer values, or another sampler: `tpe` or `random`";
            self.error(&["sampler".into()], KeyOrValue::Value, message, Some(help.into()));
        }
        let fits = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        if config.study.as_ref().is_some_and(|name| name.is_empty() || name.starts_with('.') || !name.chars().all(fits))
        {
            let help = "use letters, digits, `_`, `-` and `.`, and no `.` at the start";
            self.error(
                &["study".into()],
                KeyOrValue::Value,
                "this cannot be the name of a folder".into(),
                Some(help.into()),
            );
        }
    }

    fn population(&mut self, config: &SweepConfig) {
        for (path, message, help) in not_for_population(config) {
            self.error(&path, KeyOrValue::Key, message.to_owned(), Some(help.to_owned()));
        }
    }

    fn metric(&mut self, metric: &str, path: &[PathSegment], nodes: &Read) {
        // Tags are known once there are records.
        let Ok(ValueRef { node, value }) = serde_json::from_value(Json::String(metric.to_owned())) else { return };
        let Some(producer) = nodes.nodes.get(&node) else {
            if !nodes.unreadable.contains(&node) {
                let names: Vec<String> = nodes.nodes.keys().map(ToString::to_string).collect();
                let near = suggest(&node.to_string(), names.iter().map(String::as_str))
                    .map(|near| format!("did you mean `{near}`?"));
                self.error(path, KeyOrValue::Value, format!("there is no node `{node}`"), near);
            }
            return;
        };
        let values = producer.values();
        if producer.component.is_some() && !values.contains(&value) {
            let help = match suggest(&value, values.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{node}:{near}`?"),
                None => format!("it produces {}", message::list(&values)),
            };
            self.error(path, KeyOrValue::Value, format!("`{node}` does not produce `{value}`"), Some(help));
        }
    }
}

/// What is wrong with a section for a population: where, what, and what to do.
fn not_for_population(config: &SweepConfig) -> Vec<(Vec<PathSegment>, &'static str, &'static str)> {
    if config.sampler != Sampler::Population {
        let help = "set `sampler = \"population\"`";
        let stray =
            config.population.iter().map(|_| (vec!["population".into()], "no other sampler has a population", help));
        return stray.collect();
    }
    let mut found: Vec<(Vec<PathSegment>, &str, &str)> = Vec::new();
    let mut wrong = |holds: bool, option: &str, message, help| {
        if holds {
            found.push((vec![option.into()], message, help));
        }
    };
    let several = config.objectives.len() > 1;
    wrong(several, "objectives", "a population has one objective, by which the worst is known", "keep one");
    wrong(config.seeds > 1, "seeds", "each member of a population is one run", "remove `seeds`");
    let message = "no member of a population is ended early: the worst go on from the best";
    wrong(config.pruner.is_some(), "pruner", message, "remove `pruner`");
    let help = "`trials` is the number of its members";
    wrong(config.trials == Some(1), "trials", "a population has two members at least", help);
    for name in config.parameters.keys().filter(|name| name.starts_with("vars.")) {
        let path = vec!["parameters".into(), name.as_str().into()];
        found.push((path, "a run at work has no variables any more", "name the option that the variable stands in"));
    }
    found
}

/// Whether two plain values are the same: 1 and 1.0 are.
fn same(a: &Json, b: &Json) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

impl ParameterConfig {
    /// The kinds of values that are given.
    fn given(&self) -> Vec<&'static str> {
        let all = [
            ("range", self.range.is_some()),
            ("log", self.log.is_some()),
            ("int", self.int.is_some()),
            ("log_int", self.log_int.is_some()),
            ("choice", self.choice.is_some()),
        ];
        all.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect()
    }

    /// How many values there are, where they have steps.
    fn count(&self) -> f64 {
        let span = |[low, high]: [f64; 2]| (high - low) / self.step.unwrap_or(1.0) + 1.0;
        let ints = self.int.or(self.log_int).map(|ends| span(ends.map(|end| end as f64)));
        let choices = self.choice.as_ref().map(|choices| choices.len() as f64);
        choices.or(ints).or(self.range.map(span)).unwrap_or(1.0).floor()
    }

    /// Whether the parameter can have a value.
    fn has(&self, value: &Json) -> bool {
        if let Some(choices) = &self.choice {
            return choices.iter().any(|choice| same(choice, value));
        }
        let ints = self.int.or(self.log_int);
        let within = |number: i64| ints.is_some_and(|[low, high]| low <= number && number <= high);
        value.as_i64().is_some_and(within)
    }
}
