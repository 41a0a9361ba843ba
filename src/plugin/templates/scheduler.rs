use pipe_plugin::prelude::*;

/// A learning rate that falls as `lr / (1 + decay * step)`.
#[config]
pub struct PluginName {
    /// The optimizer whose rate is driven.
    pub optimizer: Ref<dyn Optimizer>,
    /// How fast it falls.
    #[serde(default = "tenth")]
    #[schemars(range(min = 0))]
    pub decay: f64,
}

fn tenth() -> f64 {
    0.1
}

impl Config for PluginName {
    const KIND: Kind = Kind::Scheduler;
    const TYPE: &'static str = "plugin_name";
    const EXAMPLE: &'static str = r#"
[model.net]
type = "sequential"
layers = [{ type = "flatten" }, { type = "linear", in_features = 784, out_features = 10 }]

[optimizer.sgd]
type = "sgd"
model = "model.net"

[scheduler.mine]
type = "plugin_name"
optimizer = "optimizer.sgd"
decay = 0.01
"#;
}

impl Component for PluginName {
    fn build(self, _ctx: &mut Build) -> Result<Instance> {
        Ok(Instance::scheduler(Falling { decay: self.decay, step: 0 }))
    }
}

struct Falling {
    decay: f64,
    step: u64,
}

impl Stateful for Falling {
    fn state(&self) -> Result<State> {
        State::of(&json!({ "step": self.step }))
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.step = state.values["step"].as_u64().context("there is no `step`")?;
        Ok(())
    }
}

impl Scheduler for Falling {
    fn step(&mut self, _values: &Values) -> Result<()> {
        self.step += 1;
        Ok(())
    }

    fn lr(&self, base: f64) -> f64 {
        base / (1.0 + self.decay * self.step as f64)
    }
}

pipe_plugin::export! { PluginName }

#[cfg(test)]
mod tests {
    use pipe_plugin::testing::scheduler;

    use super::*;

    #[test]
    fn the_rate_falls() {
        let built = scheduler::<PluginName>(json!({ "optimizer": "optimizer.sgd", "decay": 1.0 })).unwrap();
        assert_eq!(built.rates(&[0.5]).unwrap().0, [0.5]);
        built.step(&Values::default()).unwrap();
        assert_eq!(built.rates(&[0.5, 2.0]).unwrap().0, [0.25, 1.0]);
    }
}
