//! The model with what belongs to it, and what it says of images.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use pipe_coco::eval::Detection;
use pipe_components::dataset::image_folder::ImageFolderConfig;
use pipe_components::dataset::yolo::YoloConfig;
use pipe_components::detections;
use pipe_components::engine::evaluate::EvaluateConfig;
use pipe_core::{Config, Instance, Kind, Model, ModelOutput, NodeId, RunContext, Shared, Transform};
use pipe_data::batch::Detections;
use pipe_data::color::grayscale;
use pipe_data::random::{Purpose, stream};
use pipe_data::upload::to_device;
use pipe_data::{Batch, BatchField, Field, Image, Sample, collate, fields};
use pipe_plan::{Plan, PlanNode};
use pipe_run::labels;
use pipe_vision::checkpoint;
use pipe_vision::nn::StateDict;
use pipe_vision::nn::functional::resize_bilinear;
use pipe_vision::segmentation;
use pipe_vision::weights::{self, Weights};
use serde_json::Value;
use tch::{Device, Tensor};

use super::images::Picture;
use crate::partial::{Partial, load_weights, port_of};

/// What a model says of one image.
pub enum Found {
    /// Objects.
    Objects(Vec<Detection>),
    /// The probability of each class, `[C]`.
    Classes(Vec<f64>),
    /// The class of each pixel, row by row, at the size of the image.
    Pixels(Vec<u8>),
}

/// The kinds of models that can say something of an image alone, by the field that they add.
const PREDICTS: [&str; 3] = [fields::DETECTIONS, fields::LOGITS, fields::SEGMENTATION_LOGITS];

/// Whether a model can predict.
pub fn predicts(node: &PlanNode) -> bool {
    let adds = node.contract().adds;
    PREDICTS.iter().any(|field| adds.contains(*field))
}

/// A model that is ready.
pub struct Predictor {
    context: Rc<RunContext>,
    model: Shared<dyn Model>,
    /// What evaluation does to images before the model sees them.
    transform: Option<Arc<dyn Transform>>,
    /// Whether images are turned upright by their EXIF orientation, as the dataset of the evaluation does.
    pub exif: bool,
    /// Whether the first convolution takes one channel, so that images are made grey before all else, as those it was trained on.
    grey: bool,
    /// Names of classes by label, as far as they are known.
    pub names: BTreeMap<i64, String>,
}

impl Predictor {
    /// Builds a model of the pipeline, with the weights that are given.
    ///
    /// # Errors
    /// When it cannot be built, or the weights do not match.
    pub fn build(plan: &mut Plan, partial: &Partial, id: &NodeId, weights: Weights) -> Result<Predictor> {
        let Weights { tensors, metadata, .. } = weights;
        let names = match labels::of_weights(&metadata) {
            Some(names) => names,
            None => class_names(plan, partial, id),
        };
        // The last layer of a ResNet, a VGG, a MobileNet.
        let last = ["fc.weight", "classifier.6.weight", "classifier.3.weight"];
        let of_classifier = || last.iter().find_map(|name| tensors.get(*name)?.size().first().copied());
        let of_others = checkpoint::num_classes(&tensors).or_else(|| segmentation::num_classes(&tensors));
        if let Some(classes) = of_others.or_else(of_classifier) {
            take_number(plan, id, "num_classes", classes)?;
        }
        if let Some(keypoints) = checkpoint::num_keypoints(&tensors) {
            take_number(plan, id, "num_keypoints", keypoints)?;
        }
        let Instance::Model(model) = partial.build(plan, id)? else { bail!("{id} is not a model") };
        load_weights(&partial.graph, id, tensors)?;
        model.borrow_mut().set_training(false);
        let transform = match evaluation_transform(plan, id) {
            Some(node) => match partial.build(plan, node)? {
                Instance::Transform(transform) => Some(transform),
                _ => bail!("{node} is not a transform"),
            },
            None => None,
        };
        let grey = takes_grey(&*model.borrow());
        let exif = evaluation_loader(plan, id).and_then(|loader| port_of(plan, loader, Kind::Dataset));
        let exif = exif.is_some_and(|dataset| turns_upright(plan, dataset));
        Ok(Predictor { context: partial.graph.run.clone(), model, transform, exif, grey, names })
    }

    /// What the model says of each image, at the image's own size. `number` is the batch's; raw outputs go into the folder `raw`.
    ///
    /// # Errors
    /// When a transform or the model fails, or raw outputs cannot be written.
    pub fn run(&self, pictures: &[&Picture], images: &[Image], number: u64, raw: Option<&Path>) -> Result<Vec<Found>> {
        let samples = pictures.iter().zip(images).enumerate().map(|(i, (picture, image))| {
            let mut image = image.clone();
            if self.grey {
                grayscale(&mut image, 1);
            }
            let size = [image.height, image.width];
            let sample = Sample::new()
                .with(fields::IMAGE, Field::Image(image))
                .with(fields::IMAGE_ID, Field::Integer(picture.id))
                .with(fields::ORIGINAL_SIZE, Field::Size(size))
                .with(fields::SOURCE, Field::Text(picture.path.display().to_string()));
            let mut rng = stream(self.context.seed, Purpose::Sample, number, i as u64);
            match &self.transform {
                Some(transform) => transform
                    .apply(sample, &mut rng)
                    .with_context(|| format!("transforming {}", picture.path.display())),
                None => Ok(sample),
            }
        });
        let batch = to_device(&collate(samples.collect::<Result<Vec<_>>>()?)?, self.context.device)?;
        let mut model = self.model.borrow_mut();
        let output = tch::no_grad(|| self.context.autocast(|| model.forward(&batch)))??;
        found(pictures, images, &batch, &output, raw)
    }
}

fn found(
    pictures: &[&Picture],
    images: &[Image],
    batch: &Batch,
    output: &ModelOutput,
    raw: Option<&Path>,
) -> Result<Vec<Found>> {
    if let Some(BatchField::Detections(found)) = output.outputs.get(fields::DETECTIONS) {
        if let Some(folder) = raw {
            pictures
                .iter()
                .zip(found)
                .try_for_each(|(picture, found)| write_raw(folder, picture, &found.parts().collect::<Vec<_>>()))?;
        }
        let given = batch.list(fields::IMAGE)?;
        return found
            .iter()
            .zip(&given)
            .zip(images)
            .map(|((found, given), image)| objects(found, given, image))
            .collect();
    }
    let of = |field: &str| output.outputs.get(field).is_some().then(|| output.outputs.list(field)).transpose();
    if let Some(logits) = of(fields::LOGITS)? {
        return pictures.iter().zip(&logits).map(|(picture, logits)| classes(picture, logits, raw)).collect();
    }
    let Some(logits) = of(fields::SEGMENTATION_LOGITS)? else {
        bail!("the model returned neither objects nor classes")
    };
    pictures
        .iter()
        .zip(images)
        .zip(&logits)
        .map(|((picture, image), logits)| pixels(picture, image, logits, raw))
        .collect()
}

fn objects(found: &Detections, given: &Tensor, image: &Image) -> Result<Found> {
    let (_, height, width) = given.size3()?;
    let original = [image.height as i64, image.width as i64];
    detections::to_coco(found, [height, width], original, found.masks.is_some()).map(Found::Objects)
}

fn classes(picture: &Picture, logits: &Tensor, raw: Option<&Path>) -> Result<Found> {
    if let Some(folder) = raw {
        write_raw(folder, picture, &[("logits", logits)])?;
    }
    let logits = logits.to_device(Device::Cpu).f_to_kind(tch::Kind::Double)?.f_flatten(0, -1)?;
    // One number is the logit of the second of two classes.
    let probabilities = match logits.size()[..] {
        [1] => Tensor::f_cat(&[1.0 - logits.f_sigmoid()?, logits.f_sigmoid()?], 0)?,
        _ => logits.f_softmax(0, None::<tch::Kind>)?,
    };
    Ok(Found::Classes(probabilities.try_into()?))
}

fn pixels(picture: &Picture, image: &Image, logits: &Tensor, raw: Option<&Path>) -> Result<Found> {
    if let Some(folder) = raw {
        write_raw(folder, picture, &[("logits", logits)])?;
    }
    let classes = logits.size()[0];
    ensure!(classes <= 256, "{classes} classes are too many for a mask of bytes");
    let size = (image.height as i64, image.width as i64);
    let logits = resize_bilinear(&logits.f_to_kind(tch::Kind::Float)?.f_unsqueeze(0)?, size)?;
    let best = logits.f_argmax(1, false)?.f_to_kind(tch::Kind::Uint8)?.to_device(Device::Cpu);
    Ok(Found::Pixels(best.f_flatten(0, -1)?.try_into()?))
}

/// The model's raw output for an image, as tensors.
fn write_raw(folder: &Path, picture: &Picture, tensors: &[(&str, &Tensor)]) -> Result<()> {
    let tensors: StateDict =
        tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.to_device(Device::Cpu))).collect();
    weights::write(&folder.join(format!("{}.safetensors", picture.name())), &tensors, &BTreeMap::new())
}

/// Whether the first convolution has one input channel.
fn takes_grey(model: &dyn Model) -> bool {
    let parameters = model.parameters();
    let first = parameters.iter().map(|(_, tensor)| tensor.size()).find(|size| size.len() == 4);
    first.is_some_and(|size| size[1] == 1)
}

/// Lets the model have as many classes or keypoints as its weights, so that it does not need the dataset it was trained on.
fn take_number(plan: &mut Plan, model: &NodeId, property: &str, number: i64) -> Result<()> {
    let from_dataset = |edge: &&pipe_plan::PropertyEdge| edge.to == *model && edge.property == property;
    let Some(option) = plan.property_edges.iter().find(from_dataset).map(|edge| edge.option.clone()) else {
        return Ok(());
    };
    let set = plan.set_option(model, &option, number.into());
    set.map_err(|problem| anyhow!("`{property}` of these weights: {problem}"))
}

/// What the classes are called, where the dataset that the model's number of classes comes from is there.
fn class_names(plan: &Plan, partial: &Partial, model: &NodeId) -> BTreeMap<i64, String> {
    let Some(edge) = plan.property_edges.iter().find(|edge| edge.to == *model) else { return BTreeMap::new() };
    match partial.build(plan, &edge.from) {
        Ok(Instance::Dataset(dataset)) => dataset.class_names().into_iter().collect(),
        Ok(_) => BTreeMap::new(),
        Err(error) => {
            tracing::info!("class names are not available, numbers stand for them: {error:#}");
            BTreeMap::new()
        }
    }
}

/// Whether a dataset turns images upright by their EXIF orientation.
fn turns_upright(plan: &Plan, dataset: &NodeId) -> bool {
    let Some(node) = plan.nodes.get(dataset) else { return false };
    match node.descriptor.name {
        ImageFolderConfig::TYPE => node.config.get("exif").and_then(Value::as_bool).unwrap_or(true),
        name => name == YoloConfig::TYPE,
    }
}

/// The transform of the loader with which the model is evaluated.
fn evaluation_transform<'p>(plan: &'p Plan, model: &NodeId) -> Option<&'p NodeId> {
    port_of(plan, evaluation_loader(plan, model)?, Kind::Transform)
}

/// The loader with which the model is evaluated.
fn evaluation_loader<'p>(plan: &'p Plan, model: &NodeId) -> Option<&'p NodeId> {
    let evaluates = |node: &&PlanNode| {
        node.descriptor.name == EvaluateConfig::TYPE && port_of(plan, &node.id, Kind::Model) == Some(model)
    };
    let engine = plan.nodes.values().find(evaluates)?;
    port_of(plan, &engine.id, Kind::Loader)
}
