//! What the handlers that record how a model's tensors are distributed share.

use anyhow::{Context, Result};
use tch::{Device, Kind as Type, Tensor};

use pipe_core::{BuildContext, EventContext, Handler, Instance, Model, NodeId, RecordValue, Ref, Shared, Stateful};

/// The group of the gradients' histograms.
pub(super) const GRADIENTS: &str = "gradients";

/// Records the distribution of a tensor of each parameter, as `<group>/<parameter>`.
pub(super) struct Histograms {
    node: NodeId,
    model: Shared<dyn Model>,
    prefixes: Vec<String>,
    group: &'static str,
    of: fn(&Tensor) -> Tensor,
    gradients: bool,
}

impl Histograms {
    /// For the parameters whose name starts with one of `prefixes`, all when there are none. `of` gives a parameter's tensor;
    /// one that is undefined is left out.
    pub(super) fn build(
        ctx: &BuildContext<'_>,
        model: &Ref<dyn Model>,
        prefixes: Vec<String>,
        group: &'static str,
        of: fn(&Tensor) -> Tensor,
    ) -> Result<Instance> {
        let model = ctx.get(model)?;
        let (node, gradients) = (ctx.node.clone(), group == GRADIENTS);
        Ok(Instance::handler(Histograms { node, model, prefixes, group, of, gradients }))
    }
}

impl Stateful for Histograms {}

impl Handler for Histograms {
    fn call(&mut self, ctx: &EventContext<'_>) -> Result<()> {
        let parameters = self.model.try_borrow().context("the model is in use")?.parameters();
        let chosen =
            |name: &str| self.prefixes.is_empty() || self.prefixes.iter().any(|p| name.starts_with(p.as_str()));
        for (name, parameter) in parameters.into_iter().filter(|(name, _)| chosen(name)) {
            let tensor = (self.of)(&parameter);
            if !tensor.defined() {
                continue;
            }
            let values = tensor.detach().to_device(Device::Cpu).to_kind(Type::Float).flatten(0, -1);
            let values = RecordValue::Histogram(Vec::try_from(values)?);
            ctx.run.emit(&self.node, format!("{}/{name}", self.group), values)?;
        }
        Ok(())
    }

    fn reads_gradients(&self) -> bool {
        self.gradients
    }
}
