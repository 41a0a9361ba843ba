//! Filling a model from a state dict: what fits is copied, the rest is named.

use std::fmt;

use anyhow::{Context, Result, bail};
use indexmap::IndexMap;
use tch::no_grad;

use super::StateDict;

/// Names closer than this (Jaro-Winkler, 0 to 1) are proposed as what was meant.
const NEAR: f64 = 0.85;
/// Groups of names shown per heading of a report.
const SHOWN_GROUPS: usize = 12;

/// How a state dict is laid over a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOptions {
    /// Refuse anything missing, unexpected or of another shape.
    pub strict: bool,
    /// Take only the names starting with this, and cut it off (`module.`); the rest of the file is left aside.
    pub strip_prefix: String,
    /// Put this before the file's names (`backbone.body.`); only the model's names under it can be missing.
    pub into_prefix: String,
    /// Names starting with one of these may be of another shape, even with `strict`; they keep their values and are
    /// reported as misshapen.
    pub replaceable: Vec<String>,
    /// Names of the model starting with one of these may be missing from the file; they keep their values.
    pub additional: Vec<String>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            strict: true,
            strip_prefix: String::new(),
            into_prefix: String::new(),
            replaceable: Vec::new(),
            additional: Vec::new(),
        }
    }
}

impl LoadOptions {
    /// Copies what fits and reports the rest.
    pub fn lenient() -> Self {
        Self { strict: false, ..Self::default() }
    }
}

/// What a load did; `Display` gives a summary for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Names of the model that were filled.
    pub loaded: Vec<String>,
    /// Names of the model that the file has not.
    pub missing: Vec<String>,
    /// Names of the file that the model has not.
    pub unexpected: Vec<String>,
    /// Name, the file's shape, the model's shape.
    pub misshapen: Vec<(String, Vec<i64>, Vec<i64>)>,
}

impl LoadReport {
    /// Whether everything fitted.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshapen.is_empty()
    }

    /// Whether everything fitted but what was allowed not to.
    fn is_acceptable(&self, options: &LoadOptions) -> bool {
        let allowed = |name: &str| options.replaceable.iter().any(|prefix| name.starts_with(prefix));
        let sound = self.misshapen.iter().all(|(name, _, _)| allowed(name));
        sound && self.missing.is_empty() && self.unexpected.is_empty()
    }

    /// The unexpected name most like `name`, if one is near.
    fn nearest(&self, name: &str) -> Option<&str> {
        let scored = self.unexpected.iter().map(|other| (strsim::jaro_winkler(name, other), other));
        scored.filter(|(score, _)| *score > NEAR).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, other)| other.as_str())
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.loaded.len() + self.missing.len() + self.misshapen.len();
        write!(f, "{} of the model's {total} tensors loaded", self.loaded.len())?;
        if !self.misshapen.is_empty() {
            write!(f, "\n  shape mismatch ({}):", self.misshapen.len())?;
            for (name, have, want) in self.misshapen.iter().take(SHOWN_GROUPS) {
                write!(f, "\n    {name}: {have:?} in the file, {want:?} in the model")?;
            }
            write_rest(f, self.misshapen.len())?;
        }
        write_groups(f, "missing from the file", &self.missing, |name| {
            self.nearest(name).map(|near| format!(", the file has `{near}`")).unwrap_or_default()
        })?;
        write_groups(f, "not in the model", &self.unexpected, |_| String::new())
    }
}

/// Writes names grouped by the layer they belong to: `layer4.2.bn3.{weight, bias}`.
fn write_groups(
    f: &mut fmt::Formatter<'_>,
    heading: &str,
    names: &[String],
    note: impl Fn(&str) -> String,
) -> fmt::Result {
    if names.is_empty() {
        return Ok(());
    }
    let mut groups: IndexMap<&str, Vec<&str>> = IndexMap::new();
    for name in names {
        let (layer, leaf) = name.rsplit_once('.').unwrap_or(("", name));
        groups.entry(layer).or_default().push(leaf);
    }
    write!(f, "\n  {heading} ({}):", names.len())?;
    for (layer, leaves) in groups.iter().take(SHOWN_GROUPS) {
        let first = if layer.is_empty() { leaves[0].to_owned() } else { format!("{layer}.{}", leaves[0]) };
        let shown = match (leaves.as_slice(), layer.is_empty()) {
            ([_], _) => first.clone(),
            (_, true) => leaves.join(", "),
            (_, false) => format!("{layer}.{{{}}}", leaves.join(", ")),
        };
        write!(f, "\n    {shown}{}", note(&first))?;
    }
    write_rest(f, groups.len())
}

fn write_rest(f: &mut fmt::Formatter<'_>, count: usize) -> fmt::Result {
    match count.saturating_sub(SHOWN_GROUPS) {
        0 => Ok(()),
        more => write!(f, "\n    … and {more} more"),
    }
}

/// Copies `state` over `model` (live tensors by name); see [`LoadOptions`].
pub(super) fn load(model: &StateDict, state: &StateDict, options: &LoadOptions) -> Result<LoadReport> {
    let mut report = LoadReport::default();
    let mut fitting = Vec::new();
    for (name, source) in state {
        let Some(rest) = name.strip_prefix(&options.strip_prefix) else {
            continue;
        };
        let name = format!("{}{rest}", options.into_prefix);
        match model.get(&name) {
            None if !is_superfluous_counter(model, &name) => report.unexpected.push(name),
            None => {}
            Some(target) if target.size() == source.size() => fitting.push((name, target, source)),
            Some(target) => report.misshapen.push((name, source.size(), target.size())),
        }
    }
    report.loaded = fitting.iter().map(|(name, _, _)| name.clone()).collect();
    report.missing = missing(model, state, options, &report);
    if options.strict && !report.is_acceptable(options) {
        bail!("the weights do not match the model: {report}");
    }
    for (name, target, source) in fitting {
        no_grad(|| target.shallow_clone().f_copy_(source)).with_context(|| format!("copying `{name}`"))?;
    }
    Ok(report)
}

/// The model's names under the prefix that nothing in the file answers to.
fn missing(model: &StateDict, state: &StateDict, options: &LoadOptions, report: &LoadReport) -> Vec<String> {
    let answered = |name: &str| {
        let rest = name.strip_prefix(&options.into_prefix).unwrap_or(name);
        state.contains_key(&format!("{}{rest}", options.strip_prefix))
            // Files older than PyTorch 0.4 count no batches; PyTorch lets them pass as well.
            || name.ends_with(".num_batches_tracked")
    };
    let additional = |name: &str| options.additional.iter().any(|prefix| name.starts_with(prefix));
    let wanted = model.keys().filter(|name| name.starts_with(&options.into_prefix) && !additional(name));
    let absent: Vec<String> = wanted.filter(|name| !answered(name)).cloned().collect();
    debug_assert!(absent.iter().all(|name| !report.loaded.contains(name)));
    absent
}

/// A frozen norm counts no batches: torchvision's drops the counter of a trained one without a word.
fn is_superfluous_counter(model: &StateDict, name: &str) -> bool {
    name.strip_suffix("num_batches_tracked").is_some_and(|layer| model.contains_key(&format!("{layer}running_mean")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Linear, Norm, NormKind, ParameterStore};
    use tch::Tensor;

    fn model() -> ParameterStore {
        let store = ParameterStore::new();
        Linear::new(&store.root().sub("body").sub("fc"), 3, 2).unwrap();
        Norm::new(&store.root().sub("body").sub("bn"), NormKind::Frozen { eps: 1e-5 }, 2).unwrap();
        store
    }

    fn filled(value: f64) -> StateDict {
        let of = |shape: &[i64]| Tensor::full(shape, value, (tch::Kind::Float, tch::Device::Cpu));
        let norm = ["weight", "bias", "running_mean", "running_var"].map(|leaf| (format!("bn.{leaf}"), of(&[2])));
        let mut state: StateDict = norm.into_iter().collect();
        state.insert("fc.weight".into(), of(&[2, 3]));
        state.insert("fc.bias".into(), of(&[2]));
        state.insert("bn.num_batches_tracked".into(), Tensor::from(7i64));
        state
    }

    #[test]
    fn prefixes_are_added_and_counters_of_frozen_norms_dropped() {
        let store = model();
        let options = LoadOptions { into_prefix: "body.".into(), ..Default::default() };
        let report = store.load_state_dict(&filled(3.0), &options).unwrap();
        assert_eq!(report.loaded.len(), 6);
        assert_eq!(store.get("body.fc.weight").unwrap().double_value(&[1, 2]), 3.0);
        assert!(store.get("body.fc.weight").unwrap().requires_grad());
    }

    #[test]
    fn a_prefix_can_be_cut_off() {
        let store = model();
        let wrapped: StateDict = filled(4.0)
            .into_iter()
            .map(|(n, t)| (format!("module.body.{n}"), t))
            .chain([("step".into(), Tensor::from(1i64))])
            .collect();
        let options = LoadOptions { strip_prefix: "module.".into(), ..Default::default() };
        assert!(store.load_state_dict(&wrapped, &options).unwrap().is_complete());
    }

    #[test]
    fn strict_names_all_and_changes_nothing() {
        let store = model();
        let before = store.get("body.bn.bias").unwrap().copy();
        let mut state = filled(5.0);
        state.insert("fc.weight".into(), Tensor::zeros([4, 3], (tch::Kind::Float, tch::Device::Cpu)));
        let bias = state.shift_remove("fc.bias").unwrap();
        state.insert("fc.biass".into(), bias);
        let options = LoadOptions { into_prefix: "body.".into(), ..Default::default() };
        let text = store.load_state_dict(&state, &options).unwrap_err().to_string();
        assert_eq!(
            text,
            "the weights do not match the model: 4 of the model's 6 tensors loaded\
             \n  shape mismatch (1):\
             \n    body.fc.weight: [4, 3] in the file, [2, 3] in the model\
             \n  missing from the file (1):\
             \n    body.fc.bias, the file has `body.fc.biass`\
             \n  not in the model (1):\
             \n    body.fc.biass"
        );
        assert_eq!(store.get("body.bn.bias").unwrap(), before);
        let report = store.load_state_dict(&state, &LoadOptions { strict: false, ..options }).unwrap();
        assert_eq!((report.loaded.len(), report.missing.len(), report.unexpected.len()), (4, 1, 1));
        assert_eq!(store.get("body.bn.bias").unwrap().double_value(&[0]), 5.0);
    }
}
