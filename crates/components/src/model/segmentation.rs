//! Shared parts of the segmentation networks: their options, batches in, losses and scores of each pixel out.

use std::path::Path;

use anyhow::{Context, Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use super::choice::Choice;
use super::ground_truth::{NUM_CLASSES, check_pixel_classes};
use super::loss::{ClassLoss, ClassificationLoss};
use super::weights;
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Contract, Instance, PathValue, Problems, Property, PropertyType, State, Stateful};
use pipe_core::{Model, ModelOutput};
use pipe_data::batch::to_float;
use pipe_data::{Batch, BatchField, fields};
use pipe_vision::nn::{LoadOptions, LoadReport, StateDict};
use pipe_vision::{HeadKind, ResNetKind, SegmentationNet, SegmentationOptions};

/// The label of pixels that do not count.
pub(super) const IGNORED: i64 = 255;
/// How much the auxiliary classifier's loss counts.
const AUX_WEIGHT: f64 = 0.5;

/// The options of a segmentation network, with torchvision's names.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct SegmentationConfig {
    /// The backbone's architecture. `layer3` and `layer4` dilate instead of striding, so that they see the image at 1/8 of its size; those
    /// of `resnet18` and `resnet34` cannot, as in torchvision, and see it at 1/16 and 1/32.
    pub backbone: Choice<ResNetKind>,
    /// Number of classes, including the background.
    #[schemars(range(min = 1, max = 255))]
    pub num_classes: i64,
    /// Whether to train with an auxiliary classifier on the layer before the last. Default: whether there are `weights`, as in
    /// torchvision.
    pub aux_loss: Option<bool>,
    /// The backbone's layer whose features are classified; later layers are left out.
    #[schemars(range(min = 2, max = 4))]
    pub out_layer: usize,
    /// Weights: a `.pth` or `.safetensors` file, a run's folder (its best checkpoint), or torchvision's by name, such as
    /// `torchvision:deeplabv3_resnet50`. The last layers are reinitialized if the number of classes differs.
    #[schemars(extend("x-reload" = "hot"))]
    pub weights: Option<PathValue>,
    /// Whether an edit of `weights` in a run at work also takes the state of the optimizer (momentum, averages of gradients) and of
    /// averages of this model from the checkpoint that the weights lie in. It means nothing at the beginning of a run.
    #[schemars(extend("x-reload" = "hot"))]
    pub optimizer_state: bool,
    /// Pretrained classifier weights for the backbone: a file, or torchvision's by name, such as `torchvision:resnet50.imagenet1k_v1`.
    pub weights_backbone: Option<PathValue>,
    /// The loss, over the pixels whose class is not 255.
    pub loss: ClassificationLoss,
}

impl Default for SegmentationConfig {
    fn default() -> Self {
        Self {
            backbone: Choice(ResNetKind::ResNet50),
            num_classes: 21,
            aux_loss: None,
            out_layer: 4,
            weights: None,
            optimizer_state: false,
            weights_backbone: None,
            loss: ClassificationLoss::default(),
        }
    }
}

/// What a segmentation network offers to the rest of a pipeline.
pub(super) const PROPERTIES: &[Property] =
    &[Property { name: "num_classes", ty: PropertyType::Integer, doc: "Number of classes, including the background." }];

/// The fields that a segmentation network reads and writes. Labels are only read for losses.
pub(super) fn contract() -> Contract {
    Contract::default().needs([fields::IMAGE, fields::SEGMENTATION]).adds([fields::SEGMENTATION_LOGITS])
}

impl SegmentationConfig {
    pub(super) fn facts(&self) -> Facts {
        let (own, of_backbone) = (self.weights.as_ref(), self.weights_backbone.as_ref());
        Facts {
            weights: own.map(|_| "weights").or(of_backbone.map(|_| "weights_backbone")),
            // Of other files it is not known how they were trained.
            wants_normalized: weights::named(own.or(of_backbone)).is_some(),
            batch_norm: true,
            classes: Some((self.num_classes.unsigned_abs(), "num_classes")),
            ..Facts::default()
        }
    }

    pub(super) fn check(&self, head: HeadKind, problems: &mut Problems) {
        if self.weights.is_some() && self.weights_backbone.is_some() {
            let help = "keep one of them: a network's weights include its backbone's";
            problems.at("weights_backbone", "`weights` would overwrite these", help);
        }
        let backbone = self.backbone.0.to_string();
        let own = format!("{head}_{backbone}");
        weights::check("weights", self.weights.as_ref(), problems, |named| match named.is_segmentation() {
            true => (named.model != own).then(|| format!("this one is a {own}: `torchvision:{own}`, if there is one")),
            false => Some("a classifier's weights are for `weights_backbone`".into()),
        });
        weights::check("weights_backbone", self.weights_backbone.as_ref(), problems, |named| {
            (named.model != backbone).then(|| format!("the backbone is {backbone}: `torchvision:{backbone}`"))
        });
    }

    /// Builds the node: created on the CPU so that its initial weights depend on the seed alone, loaded from files, then moved to the
    /// device.
    pub(super) fn build(self, head: HeadKind, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        ctx.offer("num_classes", self.num_classes);
        let options = SegmentationOptions {
            head,
            backbone: self.backbone.0,
            out_layer: self.out_layer,
            aux: self.aux_loss.unwrap_or(self.weights.is_some()),
            num_classes: self.num_classes,
        };
        let network = SegmentationNet::new(options, Device::Cpu)?;
        let wanted = ctx.initial_weights;
        if let Some(value) = self.weights.as_ref().filter(|_| wanted) {
            let (weights, path) = weights::read(value, ctx.node)?;
            let report = load(&network, &weights.tensors, &path)?;
            weights::remember_classes(&weights, &report, ctx);
            tracing::info!("{}: loading weights from {}: {report}", ctx.node, path.display());
        }
        if let Some(value) = self.weights_backbone.as_ref().filter(|_| wanted) {
            let (weights, path) = weights::read(value, ctx.node)?;
            let report = network.load_backbone(&weights.tensors);
            let report = report.with_context(|| format!("loading {} into the backbone", path.display()))?;
            tracing::info!("{}: loading backbone weights from {}: {report}", ctx.node, path.display());
        }
        network.store().to(ctx.device)?;
        let loss = self.loss.build(Some(self.num_classes), ctx.device)?;
        Ok(Instance::model(Segmentation { network, loss, training: true }))
    }
}

fn load(network: &SegmentationNet, tensors: &StateDict, path: &Path) -> Result<LoadReport> {
    let has = |prefix: &str| tensors.keys().any(|name| name.starts_with(prefix));
    if !has("classifier.") && has("layer1.") {
        bail!(
            "{} has the weights of a classifier, not of a segmentation network: set it as `weights_backbone`",
            path.display()
        );
    }
    network.load(tensors).with_context(|| format!("loading {}", path.display()))
}

/// The running model.
struct Segmentation {
    network: SegmentationNet,
    loss: ClassLoss,
    training: bool,
}

impl Stateful for Segmentation {
    fn state(&self) -> Result<State> {
        Ok(State { tensors: self.network.store().state_dict(), ..State::default() })
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.network.store().load_state_dict(&state.tensors, &LoadOptions::default()).map(|_| ())
    }
}

impl Model for Segmentation {
    fn set_training(&mut self, training: bool) {
        self.training = training;
    }

    fn check(&self, batch: &Batch) -> Result<()> {
        if batch.get(fields::SEGMENTATION).is_none() {
            return Ok(());
        }
        let labels = batch.list(fields::SEGMENTATION)?;
        check_pixel_classes(batch, &labels, self.network.options().num_classes, IGNORED, NUM_CLASSES)
    }

    /// Images of several sizes are evaluated one by one, as torchvision's references do; training needs one size.
    fn forward(&mut self, batch: &Batch) -> Result<ModelOutput> {
        let labelled = batch.get(fields::SEGMENTATION).is_some();
        let mut output = ModelOutput { outputs: Batch::new(batch.size), ..ModelOutput::default() };
        let mut add = |name: &str, loss: Tensor| output.losses.insert(name.into(), loss);
        let loss = &self.loss;
        let (name, aux_name) = (loss.name(), format!("aux_{}", loss.name()));
        if self.training || matches!(batch.get(fields::IMAGE), Some(BatchField::Stacked(_))) {
            let logits = self.network.forward(&to_float(batch.stacked(fields::IMAGE)?), self.training, labelled)?;
            if labelled {
                let labels = batch.stacked(fields::SEGMENTATION)?;
                loss.tell((name, 1.0), &logits.out, labels, IGNORED)?;
                add(name, loss.of(&logits.out, labels, IGNORED)?);
                if let Some(aux) = &logits.aux {
                    loss.tell((&aux_name, AUX_WEIGHT), aux, labels, IGNORED)?;
                    add(&aux_name, loss.of(aux, labels, IGNORED)? * AUX_WEIGHT);
                }
            }
            output.outputs.set(fields::SEGMENTATION_LOGITS, BatchField::Stacked(logits.out));
            return Ok(output);
        }
        let images = batch.list(fields::IMAGE)?;
        let each = images.iter().map(|image| self.network.forward(&to_float(image).unsqueeze(0), false, labelled));
        let (out, aux): (Vec<Tensor>, Vec<Option<Tensor>>) =
            each.collect::<Result<Vec<_>>>()?.into_iter().map(|logits| (logits.out, logits.aux)).unzip();
        if labelled {
            let labels: Vec<Tensor> =
                batch.list(fields::SEGMENTATION)?.iter().map(|labels| labels.flatten(0, -1)).collect();
            let labels = Tensor::f_cat(&labels, 0)?;
            // The mean over all pixels, as that of one tensor.
            let mean = |all: &[Tensor]| -> Result<Tensor> {
                let rows: Vec<Tensor> = all.iter().map(|one| one.squeeze_dim(0).flatten(1, -1).tr()).collect();
                loss.of(&Tensor::f_cat(&rows, 0)?, &labels, IGNORED)
            };
            add(name, mean(&out)?);
            if let Some(aux) = aux.into_iter().collect::<Option<Vec<_>>>() {
                add(&aux_name, mean(&aux)? * AUX_WEIGHT);
            }
        }
        let out = out.into_iter().map(|logits| logits.squeeze_dim(0)).collect();
        output.outputs.set(fields::SEGMENTATION_LOGITS, BatchField::List(out));
        Ok(output)
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.network.store().trainable()
    }

    fn buffers(&self) -> Vec<(String, Tensor)> {
        self.network.store().buffers()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tch::Kind;

    use super::*;
    use pipe_core::Shared;
    use pipe_run::testing::{TestRun, stored};

    fn table(more: Value) -> Value {
        let mut table =
            json!({ "type": "fcn", "backbone": "resnet18", "out_layer": 2, "aux_loss": true, "num_classes": 3 });
        table.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        table
    }

    fn model(table: Value) -> Shared<dyn Model> {
        match TestRun::new().try_build("model.net", table).unwrap() {
            Instance::Model(model) => model,
            _ => panic!("no model"),
        }
    }

    fn error(table: Value) -> String {
        format!("{:#}", TestRun::new().try_build("model.net", table).err().unwrap())
    }

    /// Two images of one size, as one tensor or as a list.
    fn batch(listed: bool) -> Batch {
        let image = Tensor::arange(2 * 3 * 32 * 24, (Kind::Float, Device::Cpu)).sin().reshape([2, 3, 32, 24]);
        let labels = Tensor::arange(2 * 32 * 24, (Kind::Int64, Device::Cpu)).remainder(3).reshape([2, 32, 24]);
        let _ = labels.get(0).narrow(0, 0, 9).fill_(IGNORED);
        let field = |tensor: Tensor| match listed {
            true => BatchField::List(tensor.unbind(0)),
            false => BatchField::Stacked(tensor),
        };
        let mut batch = Batch::new(2);
        batch.set(fields::IMAGE, field(image));
        batch.set(fields::SEGMENTATION, field(labels));
        batch
    }

    fn losses(output: &ModelOutput) -> Vec<(&str, f64)> {
        output.losses.iter().map(|(name, loss)| (name.as_str(), loss.double_value(&[]))).collect()
    }

    #[test]
    fn images_of_several_sizes_are_evaluated_one_by_one_with_the_same_numbers() {
        let net = model(table(json!({})));
        net.borrow_mut().set_training(false);
        let of = |listed| net.borrow_mut().forward(&batch(listed)).unwrap();
        let (stacked, listed) = (of(false), of(true));
        let logits =
            |output: &ModelOutput| Tensor::stack(&output.outputs.list(fields::SEGMENTATION_LOGITS).unwrap(), 0);
        assert_eq!(logits(&stacked).size(), [2, 3, 32, 24]);
        assert!(logits(&stacked).allclose(&logits(&listed), 1e-4, 1e-5, false));
        for ((name, a), (_, b)) in losses(&stacked).into_iter().zip(losses(&listed)) {
            assert!((a - b).abs() < 1e-5, "{name}: {a} and {b}");
        }
        assert_eq!(
            losses(&stacked).iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            ["cross_entropy", "aux_cross_entropy"]
        );
        net.borrow_mut().set_training(true);
        let error = format!("{:#}", net.borrow_mut().forward(&batch(true)).unwrap_err());
        assert!(error.contains("resize or crop to one size"), "{error}");
    }

    /// Uniform scores would lose ln 3; the auxiliary classifier's count half.
    #[test]
    fn pixels_without_a_class_do_not_count() {
        let net = model(table(json!({})));
        net.borrow_mut().set_training(false);
        let mut state = net.borrow().state().unwrap();
        for (name, tensor) in &mut state.tensors {
            if name.contains("classifier.4.") {
                let _ = tensor.zero_();
            }
        }
        net.borrow_mut().load_state(&stored(&state)).unwrap();
        let mut batch = batch(false);
        let output = net.borrow_mut().forward(&batch).unwrap();
        let (whole, half) = (3f64.ln(), 3f64.ln() / 2.0);
        for ((name, loss), wanted) in losses(&output).into_iter().zip([whole, half]) {
            assert!((loss - wanted).abs() < 1e-6, "{name}: {loss}");
        }
        net.borrow().check(&batch).unwrap();
        let labels = batch.stacked(fields::SEGMENTATION).unwrap().copy();
        let _ = labels.get(1).get(3).fill_(7);
        batch.set(fields::SEGMENTATION, BatchField::Stacked(labels));
        let error = net.borrow().check(&batch).unwrap_err().to_string();
        assert!(error.starts_with("image 1 of the batch has label 7, but the model has 3 classes (0 to 2)"), "{error}");
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let deeplab = |more: Value| {
            let mut table = table(more);
            table["type"] = "deeplabv3".into();
            table
        };
        let other = error(table(json!({ "backbone": "resnet50", "weights": "torchvision:deeplabv3_resnet50" })));
        assert!(other.contains("weights: `deeplabv3_resnet50` is not for this model"), "{other}");
        let classifier = error(deeplab(json!({ "backbone": "resnet50", "weights": "torchvision:resnet50" })));
        assert!(classifier.contains("weights: `resnet50` is not for this model"), "{classifier}");
        let both = error(table(json!({ "weights": "a.pth", "weights_backbone": "b.pth" })));
        assert!(both.contains("`weights` would overwrite these"), "{both}");
        let backbone = error(table(json!({ "weights_backbone": "torchvision:resnet50" })));
        assert!(backbone.contains("weights_backbone: `resnet50` is not for this model"), "{backbone}");
        let layer = error(table(json!({ "out_layer": 1 })));
        assert!(layer.contains("out_layer"), "{layer}");
        let one = model(deeplab(json!({})));
        let mut single = Batch::new(1);
        single.set(fields::IMAGE, BatchField::Stacked(Tensor::zeros([1, 3, 32, 32], (Kind::Float, Device::Cpu))));
        let error = format!("{:#}", one.borrow_mut().forward(&single).unwrap_err());
        assert!(error.contains("use a larger batch"), "{error}");
    }
}
