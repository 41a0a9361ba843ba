//! Shared parts of the detection models.
//!
//! - [`options`]: the types of their options
//! - [`config`]: the options that several have, with torchvision's names and defaults; [`rcnn`]: those of the R-CNNs
//! - [`node`]: batches in, losses or detections out
//! - here: the fields they read and write, weights from files

pub mod config;
mod node;
pub mod options;
pub mod rcnn;

use std::path::Path;

use anyhow::{Context, Result, bail};
use tch::Device;

pub(super) use config::{DetectorConfig, PyramidConfig, check_levels, check_returned, check_thresholds};
pub(super) use options::Version;
pub(super) use rcnn::RcnnConfig;

use self::node::DetectionModel;
use super::weights;
use pipe_core::{BuildContext, Contract, Instance, Property, PropertyType};
use pipe_data::fields;
use pipe_vision::Detector;
use pipe_vision::checkpoint::Classes;
use pipe_vision::nn::{LoadReport, StateDict};

/// The fields that a detector reads and writes. Ground truth is only read in training, not for inference; but a
/// pipeline declares the fields of its data for both.
pub(super) fn contract(masks: bool) -> Contract {
    let contract = Contract::default().needs([fields::IMAGE, fields::BOXES, fields::LABELS]).adds([fields::DETECTIONS]);
    if masks { contract.needs([fields::MASKS]).adds([fields::DETECTION_MASKS]) } else { contract }
}

/// What a detector offers to the rest of a pipeline.
pub(super) const PROPERTIES: &[Property] =
    &[Property { name: "num_classes", ty: PropertyType::Integer, doc: "Number of classes, including the background." }];

/// Builds the node of a detector. `make` creates it on the given device, the CPU, so that its initial weights depend on the seed alone;
/// then it is loaded from files and moved to the run's device.
pub(super) fn build<D: Detector + 'static>(
    config: &DetectorConfig,
    make: impl FnOnce(Device) -> Result<D>,
    ctx: &mut BuildContext<'_>,
) -> Result<Instance> {
    ctx.offer("num_classes", config.num_classes);
    let detector = make(Device::Cpu)?;
    let wanted = ctx.initial_weights;
    if let Some(value) = config.weights.as_ref().filter(|_| wanted) {
        let (weights, path) = weights::read(value, ctx.node)?;
        let report = load_detector(&detector, &weights.tensors, &path)?;
        weights::remember_classes(&weights, &report, ctx);
        tracing::info!("{}: loading weights from {}: {report}", ctx.node, path.display());
    }
    if let Some(value) = config.weights_backbone.as_ref().filter(|_| wanted) {
        let (weights, path) = weights::read(value, ctx.node)?;
        let report = detector.load_backbone(&weights.tensors);
        let report = report.with_context(|| format!("loading {} into the backbone", path.display()))?;
        tracing::info!("{}: loading backbone weights from {}: {report}", ctx.node, path.display());
    }
    detector.store().to(ctx.device)?;
    let (trainable, all) = detector.store().parameter_count();
    tracing::info!(
        "{}: {} of {} parameters are trainable",
        ctx.node,
        pipe_vocab::units::grouped(trainable),
        pipe_vocab::units::grouped(all)
    );
    Ok(Instance::model(DetectionModel::new(Box::new(detector), ctx.seed)))
}

fn load_detector(detector: &dyn Detector, tensors: &StateDict, path: &Path) -> Result<LoadReport> {
    let has = |prefix: &str| tensors.keys().any(|name| name.starts_with(prefix));
    if !has("backbone.") && !has("head.") {
        bail!("{} has no weights of a detector; those of a classifier are for `weights_backbone`", path.display());
    }
    detector.load(tensors, Classes::MayDiffer).with_context(|| format!("loading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};
    use tch::{Kind, Tensor, no_grad};

    use super::*;
    use crate::metric::coco_ap::CocoApConfig;
    use pipe_core::Config;
    use pipe_core::Model;
    use pipe_core::Shared;
    use pipe_data::{Batch, BatchField};
    use pipe_run::testing::{TestRun, stored};
    use pipe_vision::divisors;

    fn table(kind: &str, more: Value) -> Value {
        let mut table = json!({
            "type": kind, "num_classes": 4, "backbone": "resnet18", "min_size": 64, "max_size": 64,
            "returned_layers": [3, 4], "anchor_sizes": [[16], [32], [64]], "box_representation_size": 32,
            "rpn_post_nms_top_n_train": 20, "rpn_post_nms_top_n_test": 5,
        });
        if kind == "mask_rcnn" {
            table["mask_layers"] = json!([8]);
            table["mask_hidden"] = json!(8);
        }
        if kind == "keypoint_rcnn" {
            table["keypoint_layers"] = json!([8]);
            table["num_keypoints"] = json!(2);
        }
        table.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        table
    }

    fn model(table: Value) -> Result<Shared<dyn Model>> {
        tch::manual_seed(1);
        match TestRun::new().try_build("model.net", table)? {
            Instance::Model(model) => Ok(model),
            _ => panic!("no model"),
        }
    }

    fn batch() -> Batch {
        images(&[0, 1])
    }

    /// Of two images, the second without objects.
    fn images(which: &[usize]) -> Batch {
        let mut batch = Batch::new(which.len());
        let mut set = |name: &str, each: [Tensor; 2]| {
            batch.set(name, BatchField::List(which.iter().map(|at| each[*at].shallow_clone()).collect()));
        };
        set(fields::IMAGE, [64, 48].map(|side| Tensor::full([3, side, 64], 100, (Kind::Uint8, Device::Cpu))));
        let boxes = Tensor::from_slice2(&[[4f32, 4.0, 30.0, 30.0]]);
        set(fields::BOXES, [boxes, Tensor::zeros([0, 4], (Kind::Float, Device::Cpu))]);
        set(fields::LABELS, [Tensor::from_slice(&[2i64]), Tensor::zeros([0], (Kind::Int64, Device::Cpu))]);
        let masks = Tensor::zeros([1, 64, 64], (Kind::Uint8, Device::Cpu));
        let _ = masks.narrow(1, 4, 26).narrow(2, 4, 26).fill_(1);
        set(fields::MASKS, [masks, Tensor::zeros([0, 48, 64], (Kind::Uint8, Device::Cpu))]);
        let points = Tensor::from_slice(&[8f32, 9.0, 2.0, 0.0, 0.0, 0.0]).view([1, 2, 3]);
        set(fields::KEYPOINTS, [points, Tensor::zeros([0, 2, 3], (Kind::Float, Device::Cpu))]);
        batch
    }

    /// With norms of each image, and so few anchors that all are sampled: ranks with `sync_loss_counts` rely on it.
    #[test]
    fn losses_of_parts_are_by_what_divides_them_that_of_the_whole() {
        let group = json!({ "norm": "group" });
        let kinds = ["mask_rcnn", "keypoint_rcnn"].map(|kind| table(kind, group.clone()));
        for table in kinds.into_iter().chain([one_stage("fcos", group)]) {
            let model = model(table.clone()).unwrap();
            model.borrow_mut().set_training(true);
            let losses = |batch: &Batch| {
                let (output, told) = divisors::heard(|| model.borrow_mut().forward(batch).unwrap());
                // Where there is nothing to mask, nothing is told.
                let of = |name: &String| {
                    let divisor = told.iter().find(|(told, _)| told == name).map(|(_, divisor)| divisor);
                    divisor.map_or((0.0, 0.0), |divisor| (divisor.count(), divisor.of(divisor.count())))
                };
                output.losses.iter().map(|(name, loss)| (loss.double_value(&[]), of(name))).collect::<Vec<_>>()
            };
            let (whole, parts) = (losses(&batch()), [0, 1].map(|at| losses(&images(&[at]))));
            for (at, (loss, (count, divisor))) in whole.into_iter().enumerate() {
                let [(one, (few, by)), (other, (more, and))] = parts.each_ref().map(|part| part[at]);
                assert!(count > 0.0 && count == few + more, "{at} of {table}: {count}");
                let (sum, expected) = (one * by + other * and, loss * divisor);
                assert!((sum - expected).abs() < 1e-4 * expected, "{at} of {table}: {sum}, not {expected}");
            }
        }
    }

    #[test]
    fn training_gives_losses_and_evaluation_detections() {
        for (kind, losses) in [("faster_rcnn", 4), ("mask_rcnn", 5), ("keypoint_rcnn", 5)] {
            let model = model(table(kind, json!({}))).unwrap();
            model.borrow_mut().set_training(true);
            let output = model.borrow_mut().forward(&batch()).unwrap();
            assert_eq!(output.losses.len(), losses, "{kind}");
            assert!(output.losses.values().all(|loss| f64::try_from(loss).unwrap().is_finite()));
            model.borrow_mut().set_training(false);
            let output = no_grad(|| model.borrow_mut().forward(&batch())).unwrap();
            let Some(BatchField::Detections(found)) = output.outputs.get(fields::DETECTIONS) else { panic!("{kind}") };
            assert_eq!(found.len(), 2);
            let masks = found[1].masks.as_ref().map(|masks| masks.size()[1..].to_vec());
            assert_eq!(masks, (kind == "mask_rcnn").then(|| vec![1, 48, 64]));
            let points = found[1].keypoints.as_ref().map(|points| points.size()[1..].to_vec());
            assert_eq!(points, (kind == "keypoint_rcnn").then(|| vec![2, 3]));
        }
    }

    /// A small detector of one stage.
    fn one_stage(kind: &str, more: Value) -> Value {
        let mut table = match kind {
            "ssd" => json!({ "backbone": "resnet18", "size": 64 }),
            "ssdlite" => json!({ "size": 96 }),
            "retinanet" => json!({ "backbone": "resnet18", "min_size": 64, "max_size": 64, "returned_layers": [3, 4],
                "anchor_sizes": [[8], [16], [32], [64]] }),
            _ => json!({ "backbone": "resnet18", "min_size": 64, "max_size": 64, "returned_layers": [3, 4] }),
        };
        table["type"] = kind.into();
        table["num_classes"] = 4.into();
        table.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        table
    }

    #[test]
    fn detectors_of_one_stage_train_and_find() {
        let dense = ["classification", "bbox_regression"];
        for (kind, losses) in [
            ("retinanet", &dense[..]),
            ("fcos", &["classification", "bbox_regression", "bbox_ctrness"]),
            ("ssd", &["bbox_regression", "classification"]),
            ("ssdlite", &["bbox_regression", "classification"]),
        ] {
            let model = model(one_stage(kind, json!({ "score_thresh": 0.0 }))).unwrap();
            model.borrow_mut().set_training(true);
            let output = model.borrow_mut().forward(&batch()).unwrap();
            assert_eq!(output.losses.keys().collect::<Vec<_>>(), losses, "{kind}");
            assert!(output.losses.values().all(|loss| f64::try_from(loss).unwrap().is_finite()), "{kind}");
            model.borrow_mut().set_training(false);
            let output = no_grad(|| model.borrow_mut().forward(&batch())).unwrap();
            let Some(BatchField::Detections(found)) = output.outputs.get(fields::DETECTIONS) else { panic!("{kind}") };
            assert!(found.len() == 2 && found.iter().all(|found| found.masks.is_none()), "{kind}");
            assert!(found[0].scores.numel() > 0, "{kind}");
        }
    }

    #[test]
    fn weights_of_one_stage_fill_all_but_the_classes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weights.safetensors");
        for (kind, kept) in [
            ("retinanet", "head.regression_head.bbox_reg.weight"),
            ("fcos", "head.regression_head.bbox_ctrness.weight"),
            ("ssd", "head.regression_head.module_list.0.weight"),
            ("ssdlite", "head.regression_head.module_list.0.1.weight"),
        ] {
            let state = stored(&model(one_stage(kind, json!({}))).unwrap().borrow().state().unwrap());
            pipe_vision::weights::write(&file, &state.tensors, &BTreeMap::new()).unwrap();
            assert_eq!(pipe_vision::checkpoint::num_classes(&state.tensors), Some(4), "{kind}");
            let other = model(one_stage(kind, json!({ "num_classes": 7, "weights": file }))).unwrap();
            let other = other.borrow().state().unwrap();
            assert_eq!(pipe_vision::checkpoint::num_classes(&other.tensors), Some(7), "{kind}");
            assert_eq!(other.tensors[kept], state.tensors[kept], "{kind}");
            let error = model(table("faster_rcnn", json!({ "weights": file }))).err().unwrap();
            assert!(format!("{error:#}").contains("do not match"), "{kind}: {error:#}");
        }
    }

    #[test]
    fn options_of_one_stage_are_checked() {
        let error = |kind, more| model(one_stage(kind, more)).err().unwrap().to_string();
        assert!(error("ssd", json!({ "backbone": "vgg16" })).contains("the size is 300 or 512"));
        assert!(error("ssd", json!({ "scales": [0.1, 0.2] })).contains("there are 4 feature maps"));
        assert!(error("ssd", json!({ "aspect_ratios": [[2.0]] })).contains("there are 4 feature maps"));
        assert!(error("retinanet", json!({ "anchor_sizes": [[8], [16]] })).contains("the FPN has 4"));
        assert!(error("retinanet", json!({ "bg_iou_thresh": 0.9 })).contains("background threshold is above"));
        assert!(error("fcos", json!({ "returned_layers": [4, 3] })).contains("ascending order"));
        let foreign = json!({ "weights": "torchvision:retinanet_resnet50_fpn" });
        assert!(error("fcos", foreign).contains("`retinanet_resnet50_fpn` is not for this model"));
    }

    #[test]
    fn ground_truth_that_is_missing_is_named() {
        let model = model(table("mask_rcnn", json!({}))).unwrap();
        model.borrow_mut().set_training(true);
        let mut without = batch();
        without.set(fields::MASKS, BatchField::Text(vec!["a".into(), "b".into()]));
        let error = format!("{:#}", model.borrow_mut().forward(&without).unwrap_err());
        assert!(error.contains("`masks`"), "{error}");
    }

    #[test]
    fn ground_truth_is_checked_before_it_goes_to_the_device() {
        for kind in ["faster_rcnn", "mask_rcnn", "keypoint_rcnn"] {
            let model = model(table(kind, json!({}))).unwrap();
            let check = |training, change: &dyn Fn(&mut Batch)| {
                let mut batch = batch();
                batch.set(fields::SOURCE, BatchField::Text(vec!["a.png".into(), "b.png".into()]));
                change(&mut batch);
                model.borrow_mut().set_training(training);
                let checked = model.borrow().check(&batch);
                checked.map_or_else(|error| format!("{error:#}"), |()| String::new())
            };
            let first = |name: &'static str, tensor: fn() -> Tensor| {
                move |batch: &mut Batch| {
                    let mut both = batch.list(name).unwrap();
                    both[0] = tensor();
                    batch.set(name, BatchField::List(both));
                }
            };
            assert_eq!(check(true, &|_| {}), "");
            let labels = first(fields::LABELS, || Tensor::from_slice(&[4i64]));
            let said =
                "ground truth of a.png (image 0 of the batch): object 0 has label 4, but the model has 4 classes";
            assert!(check(true, &labels).starts_with(said), "{}", check(true, &labels));
            assert_eq!(check(false, &labels), "", "{kind}: ground truth is not read in evaluation");
            let boxes = first(fields::BOXES, || Tensor::from_slice2(&[[4f32, 4.0, 4.0, 30.0]]));
            assert!(check(true, &boxes).contains("box of object 0"), "{}", check(true, &boxes));
            let masks = first(fields::MASKS, || Tensor::zeros([1, 9, 9], (Kind::Uint8, Device::Cpu)));
            assert_eq!(check(true, &masks).contains("must be [1, 64, 64]"), kind == "mask_rcnn");
            let points = first(fields::KEYPOINTS, || Tensor::zeros([1, 3, 3], (Kind::Float, Device::Cpu)));
            assert_eq!(check(true, &points).contains("must be floats of shape [1, 2, 3]"), kind == "keypoint_rcnn");
            let points = first(fields::KEYPOINTS, || Tensor::from_slice(&[f32::NAN; 6]).view([1, 2, 3]));
            assert_eq!(check(true, &points).contains("a keypoint of object 0 is"), kind == "keypoint_rcnn");
        }
    }

    #[test]
    fn weights_of_other_classes_leave_only_the_predictors_anew() {
        let first = model(table("mask_rcnn", json!({}))).unwrap();
        let state = stored(&first.borrow().state().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weights.safetensors");
        pipe_vision::weights::write(&file, &state.tensors, &BTreeMap::new()).unwrap();
        let other = table("mask_rcnn", json!({ "num_classes": 7, "weights": file, "norm": "batch" }));
        let second = model(other).unwrap().borrow().state().unwrap();
        let name = "backbone.body.layer4.0.conv1.weight";
        assert_eq!(second.tensors[name], state.tensors[name]);
        assert_eq!(second.tensors["roi_heads.box_predictor.cls_score.weight"].size(), [7, 32]);

        let backbone = second.tensors.iter().filter_map(|(name, tensor)| {
            Some((name.strip_prefix("backbone.body.")?.to_owned(), tensor.shallow_clone()))
        });
        pipe_vision::weights::write(&file, &backbone.collect(), &BTreeMap::new()).unwrap();
        let loaded = model(table("mask_rcnn", json!({ "weights_backbone": file, "norm": "batch" }))).unwrap();
        assert_eq!(loaded.borrow().state().unwrap().tensors[name], state.tensors[name]);
        let error = model(table("mask_rcnn", json!({ "weights": file }))).err().unwrap();
        assert!(format!("{error:#}").contains("`weights_backbone`"), "{error:#}");
    }

    #[test]
    fn a_state_goes_back_into_the_model() {
        let (first, second) = (model(table("faster_rcnn", json!({}))), model(table("faster_rcnn", json!({}))));
        let (first, second) = (first.unwrap(), second.unwrap());
        let mut state = stored(&first.borrow().state().unwrap());
        state.tensors.values_mut().for_each(|tensor| *tensor = tensor.ones_like());
        second.borrow_mut().load_state(&state).unwrap();
        let name = "rpn.head.bbox_pred.weight";
        assert_eq!(second.borrow().state().unwrap().tensors[name], state.tensors[name]);
        state.tensors.shift_remove(name);
        let error = format!("{:#}", first.borrow_mut().load_state(&state).unwrap_err());
        assert!(error.contains("rpn.head.bbox_pred"), "{error}");
    }

    #[test]
    fn options_are_torchvisions_and_mistakes_are_found() {
        let error = |more| model(table("mask_rcnn", more)).err().unwrap().to_string();
        assert!(error(json!({ "anchor_sizes": [[16], [32]] })).contains("anchors for 2 levels"));
        assert!(error(json!({ "anchor_sizes": [[16], [32], [64, 128]] })).contains("same number of sizes"));
        assert!(error(json!({ "rpn_bg_iou_thresh": 0.9 })).contains("background threshold is above"));
        assert!(error(json!({ "backbone": "vgg" })).contains("vgg"));
        assert!(error(json!({ "weights": "a", "weights_backbone": "b" })).contains("would overwrite"));
        let second = model(table("keypoint_rcnn", json!({ "version": "v2" }))).err().unwrap().to_string();
        assert!(second.contains("one variant of Keypoint R-CNN"), "{second}");
        assert_eq!(contract(true).adds.len(), 2);
        // What the metric needs of a model is what the model says it adds.
        let metric: CocoApConfig =
            serde_json::from_value(json!({ "dataset": "dataset.a", "iou_types": ["segm"] })).unwrap();
        let metric = metric.contract();
        assert!(
            contract(true).adds.iter().all(|field| metric.needs.contains(field) || metric.wants.contains_key(field))
        );
    }
}
