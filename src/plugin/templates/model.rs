use pipe_plugin::vars;
use pipe_plugin::prelude::*;
use pipe_plugin::tch::{Kind as Type, Reduction, nn::self};
use pipe_plugin::tch::nn::{ModuleT, VarStore};

/// Two linear layers from pixels to classes.
///
/// Outputs are the logits `[N, num_classes]`; the loss is their cross entropy.
#[config]
pub struct PluginName {
    /// Pixels of an image, over all channels.
    #[schemars(range(min = 1))]
    pub inputs: i64,
    /// Numbers between the layers.
    #[serde(default = "hidden")]
    #[schemars(range(min = 1))]
    pub hidden: i64,
    /// Number of classes.
    #[schemars(range(min = 1))]
    pub num_classes: i64,
}

fn hidden() -> i64 {
    64
}

impl Config for PluginName {
    const KIND: Kind = Kind::Model;
    const TYPE: &'static str = "plugin_name";
    const EXAMPLE: &'static str = r#"
[model.mine]
type = "plugin_name"
inputs = 784
num_classes = 10
"#;

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE, fields::LABEL]).adds([fields::LOGITS])
    }
}

impl Component for PluginName {
    fn build(self, ctx: &mut Build) -> Result<Instance> {
        let vars = VarStore::new(ctx.device());
        let first = nn::linear(vars.root() / "first", self.inputs, self.hidden, Default::default());
        let last = nn::linear(vars.root() / "last", self.hidden, self.num_classes, Default::default());
        let network = nn::seq_t().add(first).add_fn(|x| x.relu()).add(last);
        Ok(Instance::model(Network { vars, network, training: true }))
    }
}

struct Network {
    vars: VarStore,
    network: nn::SequentialT,
    training: bool,
}

impl Stateful for Network {
    fn state(&self) -> Result<State> {
        Ok(vars::state(&self.vars))
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        vars::load_state(&self.vars, state)
    }
}

impl Model for Network {
    fn set_training(&mut self, training: bool) {
        self.training = training;
    }

    fn forward(&mut self, batch: &Batch) -> Result<ModelOutput> {
        let images = pipe_plugin::data::batch::to_float(batch.stacked(fields::IMAGE)?).f_flatten(1, -1)?;
        let logits = self.network.forward_t(&images, self.training);
        let mut output = ModelOutput { outputs: Batch::new(batch.size), ..ModelOutput::default() };
        if batch.get(fields::LABEL).is_some() {
            let labels = batch.stacked(fields::LABEL)?;
            let scores = logits.to_kind(Type::Float);
            let loss = scores.f_cross_entropy_loss(labels, None::<Tensor>, Reduction::Mean, -100, 0.0)?;
            output.losses.insert("cross_entropy".into(), loss);
        }
        output.outputs.set(fields::LOGITS, BatchField::Stacked(logits));
        Ok(output)
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        vars::parameters(&self.vars)
    }
}

pipe_plugin::export! { PluginName }

#[cfg(test)]
mod tests {
    use pipe_plugin::testing::model;

    use super::*;

    #[test]
    fn every_parameter_gets_a_gradient() {
        let mut built = model::<PluginName>(json!({ "inputs": 12, "hidden": 5, "num_classes": 3 })).unwrap();
        let mut batch = Batch::new(2);
        batch.set(fields::IMAGE, BatchField::Stacked(Tensor::rand([2, 3, 2, 2], (Type::Float, Device::Cpu))));
        batch.set(fields::LABEL, BatchField::Stacked(Tensor::from_slice(&[0i64, 2])));
        let output = built.forward(&batch).unwrap();
        assert_eq!(output.outputs.stacked(fields::LOGITS).unwrap().size(), [2, 3]);
        output.losses["cross_entropy"].backward();
        let parameters = built.parameters();
        assert_eq!(parameters.len(), 4);
        assert!(parameters.iter().all(|(_, parameter)| parameter.grad().defined()));
    }
}
