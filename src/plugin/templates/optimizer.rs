use pipe_plugin::prelude::*;

/// Steps of one length against the sign of each gradient (Bernstein et al. 2018, "signSGD").
#[config]
pub struct PluginName {
    /// The model whose parameters are changed.
    pub model: Ref<dyn Model>,
    /// Learning rate: the length of a step.
    #[serde(default = "rate")]
    #[schemars(range(min = 0))]
    pub lr: f64,
}

fn rate() -> f64 {
    1e-3
}

impl Config for PluginName {
    const KIND: Kind = Kind::Optimizer;
    const TYPE: &'static str = "plugin_name";
    const EXAMPLE: &'static str = r#"
[model.net]
type = "sequential"
layers = [{ type = "flatten" }, { type = "linear", in_features = 784, out_features = 10 }]

[optimizer.mine]
type = "plugin_name"
model = "model.net"
lr = 0.001
"#;
}

impl Component for PluginName {
    fn build(self, ctx: &mut Build) -> Result<Instance> {
        let (names, params) = ctx.parameters(&self.model)?.into_iter().unzip();
        Ok(Instance::optimizer(Signs { names, params, lr: self.lr }))
    }
}

struct Signs {
    names: Vec<String>,
    params: Vec<Tensor>,
    lr: f64,
}

impl Stateful for Signs {}

impl Optimizer for Signs {
    fn groups(&self) -> Vec<ParamGroup> {
        let params = self.params.iter().map(Tensor::shallow_clone).collect();
        let settings = GroupSettings { lr: self.lr, weight_decay: 0.0, momentum: None };
        vec![ParamGroup { names: self.names.clone(), params, settings }]
    }

    fn step(&mut self, settings: &[GroupSettings]) -> Result<()> {
        // Not `self.lr`: schedulers change the rate.
        let lr = settings.first().context("there is no group")?.lr;
        for param in self.params.iter_mut().filter(|param| param.grad().defined()) {
            let _ = param.f_sub_(&(param.grad().f_sign()? * lr))?;
        }
        Ok(())
    }
}

pipe_plugin::export! { PluginName }

#[cfg(test)]
mod tests {
    use pipe_plugin::testing::optimizer;

    use super::*;

    #[test]
    fn a_step_goes_against_the_sign() {
        let weight = Tensor::from_slice(&[1.0f32, -2.0]).set_requires_grad(true);
        let parameters = vec![("weight".to_owned(), weight.shallow_clone())];
        let built = optimizer::<PluginName>(json!({ "model": "model.test", "lr": 0.5 }), parameters).unwrap();
        (&weight * &weight).sum(pipe_plugin::tch::Kind::Float).backward();
        let settings = built.groups().unwrap().remove(0).settings;
        built.step(&[settings]).unwrap();
        assert_eq!(Vec::<f32>::try_from(weight.detach()).unwrap(), [0.5, -1.5]);
    }
}
