use pipe_plugin::prelude::*;

/// Records the mean of the losses since it was called last, as `mean_loss/<loss>`.
///
/// For `engine.…:iteration_completed`.
#[config]
pub struct PluginName {
    /// Calls between records.
    #[serde(default = "ten")]
    #[schemars(range(min = 1))]
    pub interval: u64,
}

fn ten() -> u64 {
    10
}

impl Config for PluginName {
    const KIND: Kind = Kind::Handler;
    const TYPE: &'static str = "plugin_name";
    const EXAMPLE: &'static str = r#"
[handler.mine]
type = "plugin_name"
interval = 5
"#;
}

impl Component for PluginName {
    fn build(self, _ctx: &mut Build) -> Result<Instance> {
        Ok(Instance::handler(Mean { interval: self.interval, calls: 0, sums: Vec::new() }))
    }
}

struct Mean {
    interval: u64,
    calls: u64,
    sums: Vec<(String, f64)>,
}

impl Stateful for Mean {}

impl Handler for Mean {
    fn call(&mut self, event: &Event) -> Result<()> {
        let (_, output) = event.output.as_ref().context("call this on `iteration_completed`")?;
        for (name, loss) in &output.losses {
            let loss = f64::try_from(loss)?;
            match self.sums.iter_mut().find(|(known, _)| known == name) {
                Some((_, sum)) => *sum += loss,
                None => self.sums.push((name.clone(), loss)),
            }
        }
        self.calls += 1;
        if self.calls == self.interval {
            for (name, sum) in self.sums.drain(..) {
                event.scalar(format!("mean_loss/{name}"), sum / self.calls as f64);
            }
            self.calls = 0;
        }
        Ok(())
    }
}

pipe_plugin::export! { PluginName }

#[cfg(test)]
mod tests {
    use pipe_plugin::Action;
    use pipe_plugin::testing::handler;

    use super::*;

    #[test]
    fn means_are_recorded() {
        let mut built = handler::<PluginName>(json!({ "interval": 2 })).unwrap();
        let mut event = Event::new("engine.trainer".parse().unwrap(), "iteration_completed");
        assert!(built.call(&event).is_err());
        for loss in [1.0, 3.0] {
            let mut output = ModelOutput::default();
            output.losses.insert("l1".into(), Tensor::from(loss));
            event.output = Some((Batch::new(1), output));
            built.call(&event).unwrap();
        }
        let asked = event.asked();
        let Action::Emit(tag, RecordValue::Scalar(mean)) = &asked[0] else { panic!("{asked:?}") };
        assert_eq!((asked.len(), tag.as_str(), *mean), (1, "mean_loss/l1", 2.0));
    }
}
