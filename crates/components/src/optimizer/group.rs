//! Parameter groups: which parameters have which learning rate and weight decay, by patterns on their names.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;
use wildmatch::WildMatch;

use pipe_core::{LR, ParamGroup, Problems};

/// Settings of the parameters whose names match a pattern.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupConfig {
    /// Pattern on parameter names: `*` stands for any text, dots included, `?` for one character (`backbone.*`).
    #[serde(rename = "match")]
    pub pattern: String,
    /// Learning rate of these parameters.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub lr: Option<f64>,
    /// Multiple of the optimizer's learning rate, instead of `lr`.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub lr_scale: Option<f64>,
    /// Weight decay of these parameters.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub weight_decay: Option<f64>,
}

/// Checks tables of `groups` as far as that needs no model.
pub fn check_groups(groups: &[GroupConfig], problems: &mut Problems) {
    for (i, group) in groups.iter().enumerate() {
        if group.lr.is_some() && group.lr_scale.is_some() {
            let message = format!("the group `{}` has both `lr` and `lr_scale`", group.pattern);
            problems.at(&format!("groups.{i}.lr_scale"), message, "keep one of them");
        }
    }
}

/// An optimizer's settings for its parameters.
#[derive(Debug)]
pub struct Settings<'a> {
    /// Learning rate of parameters in no group.
    pub lr: f64,
    /// Weight decay of parameters in no group.
    pub weight_decay: f64,
    /// The optimizer's other settings, by option, those left out that are switched off.
    pub others: &'a [(&'static str, f64)],
    /// Groups by pattern.
    pub groups: &'a [GroupConfig],
    /// Patterns of parameters without weight decay, and the word `norm`.
    pub no_weight_decay: &'a [String],
}

/// Sorts parameters into groups: first those in no table of `groups`, then the tables in order; each split
/// into parameters with and without weight decay where `no_weight_decay` says so. Empty groups are dropped.
///
/// # Errors
/// When there are no parameters, or a pattern matches none, with the nearest names.
pub fn make_groups(parameters: Vec<(String, Tensor)>, settings: &Settings<'_>) -> Result<Vec<ParamGroup>> {
    if parameters.is_empty() {
        bail!("the model has no trainable parameters: is everything frozen?");
    }
    let undecayed = undecayed(&parameters, settings.no_weight_decay)?;
    // Key: 0 for the rest, i + 1 for table i; then whether weight decay is skipped.
    let mut sorted: BTreeMap<(usize, bool), ParamGroup> = BTreeMap::new();
    let names: Vec<String> = parameters.iter().map(|(name, _)| name.clone()).collect();
    for (name, param) in parameters {
        let table = settings.groups.iter().position(|group| matches(&group.pattern, &name));
        let key = (table.map_or(0, |i| i + 1), undecayed.contains(&name));
        let group = sorted.entry(key).or_insert_with(|| {
            let own = table.map(|i| &settings.groups[i]);
            let lr = own.and_then(|own| own.lr.or(own.lr_scale.map(|scale| settings.lr * scale)));
            let weight_decay = own.and_then(|own| own.weight_decay).unwrap_or(settings.weight_decay);
            let own = [(LR, lr.unwrap_or(settings.lr)), ("weight_decay", if key.1 { 0.0 } else { weight_decay })];
            let all = own.into_iter().chain(settings.others.iter().copied());
            let mut group = ParamGroup::new(Vec::new(), Vec::new(), all);
            group.table = table;
            group
        });
        group.names.push(name);
        group.params.push(param);
    }
    for (i, group) in settings.groups.iter().enumerate() {
        if !sorted.keys().any(|(table, _)| *table == i + 1) {
            if names.iter().any(|name| matches(&group.pattern, name)) {
                bail!(
                    "groups: every parameter that matches `{}` belongs to an earlier group; move it up",
                    group.pattern
                );
            }
            return Err(nothing_fits("groups", &group.pattern, &names));
        }
    }
    Ok(sorted.into_values().collect())
}

/// The settings of an optimizer that are worth showing, with their values now: learning rates, and what schedulers drive. One
/// that is alike in all groups comes once (`lr`), others for each table of `groups` (`groups[0].lr`).
pub fn shown(groups: &[ParamGroup]) -> Vec<(String, f64)> {
    let driven: BTreeSet<&str> = groups.iter().flat_map(ParamGroup::driven).filter(|name| *name != LR).collect();
    let mut all: Vec<(String, f64)> = Vec::new();
    for setting in [LR].into_iter().chain(driven) {
        // What is switched off is not scheduled.
        let on = |group: &&ParamGroup| group.settings.get(setting).is_some_and(|base| setting == LR || *base != 0.0);
        let of: Vec<&ParamGroup> = groups.iter().filter(on).collect();
        let key = |group: &ParamGroup| {
            let drivers = group.factors.keys().filter(|(name, _)| name == setting).cloned();
            (group.settings[setting].to_bits(), drivers.collect::<Vec<_>>())
        };
        let alike = of.windows(2).all(|pair| key(pair[0]) == key(pair[1]));
        for group in of {
            let name = match group.table {
                Some(table) if !alike => format!("groups[{table}].{setting}"),
                _ => setting.to_owned(),
            };
            if all.iter().all(|(known, _)| *known != name) {
                all.extend(group.value(setting).map(|value| (name, value)));
            }
        }
    }
    all
}

fn undecayed(parameters: &[(String, Tensor)], patterns: &[String]) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for pattern in patterns {
        let before = found.len();
        let fits: Vec<&String> = match pattern.as_str() {
            "norm" => norm_parameters(parameters),
            pattern => parameters.iter().map(|(name, _)| name).filter(|name| matches(pattern, name)).collect(),
        };
        // `norm` describes layers rather than names: a model may well have none.
        if fits.is_empty() && pattern != "norm" {
            let names: Vec<String> = parameters.iter().map(|(name, _)| name.clone()).collect();
            return Err(nothing_fits("no_weight_decay", pattern, &names));
        }
        found.extend(fits.into_iter().cloned());
        tracing::debug!("no_weight_decay: `{pattern}` adds {} parameters", found.len() - before);
    }
    Ok(found)
}

/// Weights and biases of normalization layers. They are known by their `weight` of one dimension: those of convolutions
/// and linear layers have two or more.
fn norm_parameters(parameters: &[(String, Tensor)]) -> Vec<&String> {
    let layer = |name: &str| name.rsplit_once('.').map_or(String::new(), |(layer, _)| layer.to_owned());
    let is_weight = |name: &str| name == "weight" || name.ends_with(".weight");
    let norms: BTreeSet<String> = parameters
        .iter()
        .filter(|(name, param)| is_weight(name) && param.dim() == 1)
        .map(|(name, _)| layer(name))
        .collect();
    let of_norm = |name: &str| norms.contains(&layer(name)) && (is_weight(name) || name.ends_with("bias"));
    parameters.iter().map(|(name, _)| name).filter(|name| of_norm(name)).collect()
}

/// Whether `name` matches `pattern`: `*` stands for any text, `?` for one character.
pub fn matches(pattern: &str, name: &str) -> bool {
    WildMatch::new(pattern).matches(name)
}

/// That no parameter matches a pattern of an option, with the nearest names.
pub fn nothing_fits(option: &str, pattern: &str, names: &[String]) -> anyhow::Error {
    let literal: String = pattern.replace(['*', '?'], "");
    let literal = literal.trim_matches('.');
    let length = literal.split('.').count();
    let nearness = |name: &String| {
        let parts: Vec<&str> = name.split('.').collect();
        let windows = parts.windows(length.min(parts.len()));
        windows.map(|window| strsim::normalized_damerau_levenshtein(literal, &window.join("."))).fold(0.0, f64::max)
    };
    let mut ranked: Vec<(f64, &String)> = names.iter().map(|name| (nearness(name), name)).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let nearest: Vec<String> = ranked.iter().take(3).map(|(_, name)| format!("`{name}`")).collect();
    anyhow::anyhow!("{option}: no parameter of the model matches `{pattern}`; the nearest are {}", nearest.join(", "))
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    fn parameters() -> Vec<(String, Tensor)> {
        let shapes: [(&str, &[i64]); 6] = [
            ("backbone.conv1.weight", &[4, 3, 1, 1]),
            ("backbone.bn1.weight", &[4]),
            ("backbone.bn1.bias", &[4]),
            ("head.fc.weight", &[2, 4]),
            ("head.fc.bias", &[2]),
            ("head.scale", &[1]),
        ];
        shapes
            .into_iter()
            .map(|(name, shape)| (name.into(), Tensor::zeros(shape, (Kind::Float, Device::Cpu))))
            .collect()
    }

    fn groups(tables: &[(&str, f64, Option<f64>)], no_weight_decay: &[&str]) -> Result<Vec<ParamGroup>> {
        let table = |(pattern, scale, weight_decay): &(&str, f64, Option<f64>)| GroupConfig {
            pattern: (*pattern).into(),
            lr: None,
            lr_scale: Some(*scale),
            weight_decay: *weight_decay,
        };
        let tables: Vec<GroupConfig> = tables.iter().map(table).collect();
        let no_weight_decay: Vec<String> = no_weight_decay.iter().map(|s| (*s).to_owned()).collect();
        let settings =
            Settings { lr: 0.1, weight_decay: 0.01, others: &[], groups: &tables, no_weight_decay: &no_weight_decay };
        make_groups(parameters(), &settings)
    }

    /// `[names] lr weight_decay` of each group.
    fn shown(groups: &[ParamGroup]) -> Vec<String> {
        groups.iter().map(|g| format!("[{}] {} {}", g.names.join(" "), g.lr(), g.settings["weight_decay"])).collect()
    }

    #[test]
    fn patterns() {
        for (pattern, name, fits) in [
            ("*.bias", "head.fc.bias", true),
            ("*.bias", "bias", false),
            ("*bias", "bias", true),
            ("backbone.*", "backbone.layer1.0.weight", true),
            ("backbone.*", "rpn.backbone.weight", false),
            ("*layer?.0*", "body.layer4.0.w", true),
            ("*a*b", "aabab", true),
            ("*a*b", "aabaa", false),
            ("a", "a", true),
            ("", "a", false),
            ("**", "", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} on {name}");
        }
    }

    #[test]
    fn the_first_table_takes_a_parameter_and_the_rest_comes_first() {
        let groups = groups(&[("backbone.bn1.*", 0.5, Some(0.2)), ("backbone.*", 0.1, None)], &[]).unwrap();
        assert_eq!(
            shown(&groups),
            [
                "[head.fc.weight head.fc.bias head.scale] 0.1 0.01",
                "[backbone.bn1.weight backbone.bn1.bias] 0.05 0.2",
                "[backbone.conv1.weight] 0.010000000000000002 0.01",
            ]
        );
    }

    #[test]
    fn weight_decay_is_left_out_for_norms_and_biases() {
        assert_eq!(
            shown(&groups(&[], &["norm"]).unwrap()),
            [
                "[backbone.conv1.weight head.fc.weight head.fc.bias head.scale] 0.1 0.01",
                "[backbone.bn1.weight backbone.bn1.bias] 0.1 0",
            ]
        );
        assert_eq!(
            shown(&groups(&[("backbone.*", 1.0, Some(0.3))], &["norm", "*.bias"]).unwrap()),
            [
                "[head.fc.weight head.scale] 0.1 0.01",
                "[head.fc.bias] 0.1 0",
                "[backbone.conv1.weight] 0.1 0.3",
                "[backbone.bn1.weight backbone.bn1.bias] 0.1 0",
            ]
        );
    }

    /// `norm_weight_decay` and `bias_weight_decay` of 0, in `tests/parity/optim/weight_decay.py`.
    #[test]
    fn norms_and_biases_are_those_of_torchvisions_references() {
        let expected = pipe_run::testing::parity("optim/weight_decay.json");
        for (patterns, name) in [(&["norm"][..], "norm"), (&["norm", "*.bias"], "norm_and_bias")] {
            let test = pipe_run::testing::TestRun::new();
            test.try_build("model.net", serde_json::json!({ "type": "resnet" })).unwrap();
            let table = serde_json::json!({
                "type": "sgd", "model": "model.net", "weight_decay": 0.1, "no_weight_decay": patterns,
            });
            let optimizer = test.optimizer("optimizer.sgd", table);
            let optimizer = optimizer.borrow();
            let undecayed = optimizer.groups().iter().filter(|group| group.settings["weight_decay"] == 0.0);
            let mut names: Vec<&String> = undecayed.flat_map(|group| &group.names).collect();
            names.sort();
            assert_eq!(serde_json::json!(names), expected[name], "{name}");
        }
    }

    #[test]
    fn a_pattern_without_a_parameter_names_the_nearest() {
        let error = groups(&[("backbon.*", 0.1, None)], &[]).unwrap_err().to_string();
        assert!(error.starts_with("groups: ") && error.contains("`backbone.conv1.weight`"), "{error}");
        let error = groups(&[], &["head.fc.baias"]).unwrap_err().to_string();
        assert!(error.starts_with("no_weight_decay: ") && error.contains("nearest are `head.fc.bias`"), "{error}");
        let error = groups(&[("*", 1.0, None), ("head.*", 0.1, None)], &[]).unwrap_err().to_string();
        assert!(error.contains("earlier group"), "{error}");
    }
}
