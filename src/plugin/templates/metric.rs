use pipe_plugin::prelude::*;
use pipe_plugin::tch::Kind as Type;

/// Share of samples whose label is not the likeliest class. The value is `error`.
#[config]
pub struct PluginName {
    /// Say percent.
    #[serde(default)]
    pub percent: bool,
}

impl Config for PluginName {
    const KIND: Kind = Kind::Metric;
    const TYPE: &'static str = "plugin_name";
    const EXAMPLE: &'static str = r#"
[metric.mine]
type = "plugin_name"
percent = true
"#;

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::LOGITS, fields::LABEL])
    }

    fn values(&self) -> Vec<String> {
        vec!["error".into()]
    }
}

impl Component for PluginName {
    fn build(self, _ctx: &mut Build) -> Result<Instance> {
        let scale = if self.percent { 100.0 } else { 1.0 };
        Ok(Instance::metric(Errors { scale, wrong: 0.0, seen: 0.0 }))
    }
}

struct Errors {
    scale: f64,
    wrong: f64,
    seen: f64,
}

impl Stateful for Errors {
    fn state(&self) -> Result<State> {
        State::of(&json!({ "wrong": self.wrong, "seen": self.seen }))
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        let saved = |name: &str| state.values.get(name).and_then(Value::as_f64);
        let number = |name: &str| saved(name).with_context(|| format!("there is no `{name}`"));
        (self.wrong, self.seen) = (number("wrong")?, number("seen")?);
        Ok(())
    }
}

impl Metric for Errors {
    fn reset(&mut self) {
        (self.wrong, self.seen) = (0.0, 0.0);
    }

    fn update(&mut self, batch: &Batch, output: &ModelOutput) -> Result<()> {
        let likeliest = output.outputs.stacked(fields::LOGITS)?.f_argmax(1, false)?;
        let wrong = likeliest.f_not_equal_tensor(batch.stacked(fields::LABEL)?)?;
        self.wrong += f64::try_from(wrong.sum(Type::Double))?;
        self.seen += batch.size as f64;
        Ok(())
    }

    fn compute(&mut self) -> Result<MetricReport> {
        let error = self.scale * self.wrong / self.seen;
        Ok(MetricReport { values: vec![("error".into(), error)], ..MetricReport::default() })
    }
}

pipe_plugin::export! { PluginName }

#[cfg(test)]
mod tests {
    use pipe_plugin::testing::metric;

    use super::*;

    #[test]
    fn wrong_classes_are_counted() {
        let mut built = metric::<PluginName>(json!({ "percent": true })).unwrap();
        let mut batch = Batch::new(2);
        batch.set(fields::LABEL, BatchField::Stacked(Tensor::from_slice(&[0i64, 1])));
        let mut output = ModelOutput::default();
        let logits = Tensor::from_slice2(&[[2.0f32, 1.0], [2.0, 1.0]]);
        output.outputs.set(fields::LOGITS, BatchField::Stacked(logits));
        built.update(&batch, &output).unwrap();
        assert_eq!(built.compute().unwrap().values, [("error".to_owned(), 50.0)]);
    }
}
