//! Top-k accuracy.

use std::fmt;

use anyhow::ensure;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use tch::{Kind as DType, Tensor};

use super::counts::logits_and_labels;
use pipe_core::facts::{Better, Facts};
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, ModelOutput, Problems, State, Stateful};
use pipe_core::{Metric, MetricReport};
use pipe_data::{Batch, fields};

/// Top-k accuracy: the fraction of samples whose label is among the `k` highest scores.
///
/// Values: `top_<k>` for each `k`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopKAccuracyConfig {
    /// The number of highest scores considered: a number, or a list for one value each.
    #[serde(default = "default_k", deserialize_with = "one_or_more")]
    #[schemars(schema_with = "one_or_more_schema")]
    pub k: Vec<u32>,
}

fn one_or_more_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["integer", "array"], "minimum": 1, "items": { "type": "integer", "minimum": 1 } })
}

fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u32>, D::Error> {
    struct OneOrMore;

    impl<'de> Visitor<'de> for OneOrMore {
        type Value = Vec<u32>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number such as 5, or a list such as [1, 5]")
        }

        fn visit_u64<E: de::Error>(self, k: u64) -> Result<Vec<u32>, E> {
            let k = u32::try_from(k).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(k), &self))?;
            Ok(vec![k])
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u32>, A::Error> {
            let mut all = Vec::new();
            while let Some(k) = list.next_element()? {
                all.push(k);
            }
            Ok(all)
        }
    }

    deserializer.deserialize_any(OneOrMore)
}

fn default_k() -> Vec<u32> {
    vec![5]
}

impl Config for TopKAccuracyConfig {
    const KIND: Kind = Kind::Metric;
    const TYPE: &'static str = "top_k_accuracy";
    const EXAMPLE: &'static str = r#"
[metric.top]
type = "top_k_accuracy"
k = [1, 5]
"#;

    fn facts(&self) -> Facts {
        Facts::of_values(self.values(), Better::Higher)
    }

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::LOGITS, fields::LABEL])
    }

    fn values(&self) -> Vec<String> {
        self.k.iter().map(|k| format!("top_{k}")).collect()
    }

    fn check(&self, problems: &mut Problems) {
        if self.k.is_empty() || self.k.contains(&0) {
            problems.at("k", "`k` needs at least one value, each 1 or more", "use `k = [5]` or `k = [1, 5]`");
        }
    }
}

impl Component for TopKAccuracyConfig {
    fn build(self, _ctx: &mut BuildContext<'_>) -> anyhow::Result<Instance> {
        Ok(Instance::metric(TopK::new(self.k.iter().map(|k| (i64::from(*k), format!("top_{k}"))).collect())))
    }
}

pipe_core::register!(TopKAccuracyConfig);

/// Counts on the device the samples whose label is among the highest scores.
pub(super) struct TopK {
    /// k and the value's name.
    wanted: Vec<(i64, String)>,
    /// `[k's]` i64: samples with the label among the k highest.
    right: Option<Tensor>,
    samples: u64,
}

impl TopK {
    /// A count for each k, with the name of its value.
    pub(super) fn new(wanted: Vec<(i64, String)>) -> TopK {
        TopK { wanted, right: None, samples: 0 }
    }

    fn add(&mut self, right: Tensor, samples: u64) {
        self.samples += samples;
        self.right = Some(match self.right.take() {
            Some(before) => before.to_device(right.device()) + right,
            None => right,
        });
    }
}

impl Metric for TopK {
    fn reset(&mut self) {
        self.right = None;
        self.samples = 0;
    }

    fn update(&mut self, batch: &Batch, output: &ModelOutput) -> anyhow::Result<()> {
        let (logits, label) = logits_and_labels(batch, output)?;
        let classes = logits.size()[1];
        let most = self.wanted.iter().map(|(k, _)| *k).max().unwrap_or(1);
        ensure!(
            most <= classes,
            "top-{most} accuracy needs at least {most} classes, but the model has {classes}; lower `k`"
        );
        let (_, best) = logits.topk(most, 1, true, true);
        let hits = best.eq_tensor(&label.to_kind(DType::Int64).unsqueeze(1));
        let right = self.wanted.iter().map(|(k, _)| hits.narrow(1, 0, *k).sum(DType::Int64));
        let right = Tensor::stack(&right.collect::<Vec<_>>(), 0);
        self.add(right, label.size()[0] as u64);
        Ok(())
    }

    fn merges(&self) -> bool {
        true
    }

    fn merge(&mut self, other: &State) -> anyhow::Result<()> {
        let mut others = TopK::new(self.wanted.clone());
        others.load_state(other)?;
        if let Some(right) = others.right {
            self.add(right, others.samples);
        }
        Ok(())
    }

    fn compute(&mut self) -> anyhow::Result<MetricReport> {
        let right: Vec<f64> = match &self.right {
            Some(right) => Vec::try_from(right.to_kind(DType::Double))?,
            None => vec![f64::NAN; self.wanted.len()],
        };
        let values = self.wanted.iter().zip(right).map(|((_, name), n)| (name.clone(), n / self.samples as f64));
        Ok(MetricReport { values: values.collect(), ..MetricReport::default() })
    }
}

impl Stateful for TopK {
    fn state(&self) -> anyhow::Result<State> {
        let mut state = State::default();
        state.values.insert("samples".into(), self.samples.into());
        state.tensors.extend(self.right.as_ref().map(|right| ("right".to_owned(), right.shallow_clone())));
        Ok(state)
    }

    fn load_state(&mut self, state: &State) -> anyhow::Result<()> {
        let right = state.tensors.get("right");
        let fits = right.is_none_or(|right| right.size() == [self.wanted.len() as i64]);
        ensure!(fits, "the saved counts belong to other values of `k`");
        self.right = right.map(Tensor::copy);
        self.samples = state.values.get("samples").and_then(serde_json::Value::as_u64).unwrap_or(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use pipe_core::{Kind, builtin};

    #[test]
    fn k_is_a_number_or_a_list() {
        let parse =
            |k: serde_json::Value| builtin().get(Kind::Metric, "top_k_accuracy").unwrap().parse(json!({ "k": k }));
        assert_eq!(parse(json!(3)).ok().unwrap().values(), ["top_3"]);
        assert_eq!(parse(json!([1, 5])).ok().unwrap().values(), ["top_1", "top_5"]);
        for wrong in [json!("five"), json!(-1), json!([1, "two"]), json!(5_000_000_000_u64)] {
            let error = parse(wrong.clone()).err().unwrap();
            assert_eq!(error.path[0], "k", "{wrong}");
        }
    }
}
