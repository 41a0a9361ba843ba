//! The losses of networks whose output is scores of classes or predicted numbers.

use anyhow::{Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind as Type, Reduction, Tensor};

use pipe_core::Contract;
use pipe_data::fields;
use pipe_vision::{divisors, terms};

/// The loss of a classifier.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ClassificationLoss {
    /// Cross-entropy loss of the logits.
    CrossEntropy {
        /// Label smoothing: fraction of the target distributed uniformly over all classes.
        #[schemars(range(min = 0, max = 1))]
        #[serde(default)]
        label_smoothing: f64,
        /// Weight of each class, by label, for imbalanced data; the mean over a batch is weighted too. Default: 1 for all.
        #[schemars(inner(range(min = 0)))]
        #[serde(default)]
        class_weights: Vec<f64>,
    },
    /// Focal loss of the logits (Lin et al. 2017): cross-entropy times `(1 - p)^gamma`, where `p` is the probability given to
    /// the label, so that what is well classified counts little.
    Focal {
        /// Exponent; with 0 it is cross-entropy.
        #[schemars(range(min = 0))]
        #[serde(default = "two")]
        gamma: f64,
        /// Weight of each class, by label, for imbalanced data; the mean over a batch is weighted too. Default: 1 for all.
        #[schemars(inner(range(min = 0)))]
        #[serde(default)]
        class_weights: Vec<f64>,
    },
}

fn two() -> f64 {
    2.0
}

impl Default for ClassificationLoss {
    fn default() -> Self {
        ClassificationLoss::CrossEntropy { label_smoothing: 0.0, class_weights: Vec::new() }
    }
}

impl ClassificationLoss {
    /// The loss at work, for a model of so many classes, where that is known, on a device.
    ///
    /// # Errors
    /// When there are not as many weights as classes.
    pub fn build(&self, classes: Option<i64>, device: Device) -> Result<ClassLoss> {
        let (ClassificationLoss::CrossEntropy { class_weights, .. } | ClassificationLoss::Focal { class_weights, .. }) =
            self;
        if let Some(classes) = classes {
            check_weights(class_weights.len(), classes)?;
        }
        let weights = (!class_weights.is_empty())
            .then(|| Tensor::from_slice(class_weights).f_to_kind(Type::Float)?.f_to_device(device))
            .transpose()?;
        Ok(match *self {
            ClassificationLoss::CrossEntropy { label_smoothing, .. } => {
                ClassLoss { label_smoothing, gamma: None, weights }
            }
            ClassificationLoss::Focal { gamma, .. } => ClassLoss { label_smoothing: 0.0, gamma: Some(gamma), weights },
        })
    }
}

fn check_weights(weights: usize, classes: i64) -> Result<()> {
    ensure!(
        weights == 0 || weights as i64 == classes,
        "loss.class_weights: {weights} weights for {classes} classes; give one for each class, by label"
    );
    Ok(())
}

/// A [`ClassificationLoss`] at work: its weights lie on the model's device.
#[derive(Debug)]
pub struct ClassLoss {
    label_smoothing: f64,
    /// Of focal loss.
    gamma: Option<f64>,
    /// `[classes]`.
    weights: Option<Tensor>,
}

impl ClassLoss {
    /// What the loss is called among a model's losses.
    pub fn name(&self) -> &'static str {
        if self.gamma.is_some() { "focal" } else { "cross_entropy" }
    }

    /// The loss of scores `[N, classes, …]` against labels `[N, …]`, of which those equal to `ignored` do not count, or against
    /// probabilities `[N, classes, …]` (mixup): the mean over labels, weighted by their classes; the plain mean of probabilities.
    ///
    /// # Errors
    /// When the shapes do not match.
    pub fn of(&self, logits: &Tensor, labels: &Tensor, ignored: i64) -> Result<Tensor> {
        let logits = logits.to_kind(Type::Float);
        let soft = labels.is_floating_point();
        ensure!(
            !soft || labels.size() == logits.size(),
            "the probabilities of classes have shape {:?} and the scores {:?}: set the same number of classes in both",
            labels.size(),
            logits.size()
        );
        if let (Some(weights), Some(classes)) = (&self.weights, logits.size().get(1)) {
            check_weights(weights.size()[0] as usize, *classes)?;
        }
        let Some(gamma) = self.gamma else {
            // Probabilities have no label to ignore, and libtorch wants none named.
            let ignored = if soft { -100 } else { ignored };
            let (weights, smoothing) = (self.weights.as_ref(), self.label_smoothing);
            return Ok(logits.f_cross_entropy_loss(labels, weights, Reduction::Mean, ignored, smoothing)?);
        };
        let lost = lost(&logits, gamma)?;
        if !soft {
            return Ok(lost.f_nll_loss_nd(labels, self.weights.as_ref(), Reduction::Mean, ignored)?);
        }
        Ok(self.of_probabilities(&lost, labels)?.f_mean(Type::Float)?)
    }

    /// Focal loss against probabilities, `[N, …]`.
    fn of_probabilities(&self, lost: &Tensor, probabilities: &Tensor) -> Result<Tensor> {
        let mut lost = lost.f_mul(&probabilities.f_to_kind(Type::Float)?)?;
        if let Some(weights) = &self.weights {
            let shape: Vec<i64> = (0..lost.dim()).map(|d| if d == 1 { -1 } else { 1 }).collect();
            lost = lost.f_mul(&weights.f_view(shape.as_slice())?)?;
        }
        Ok(lost.f_sum_dim_intlist(1, false, Type::Float)?.f_neg()?)
    }

    /// Tells what each image adds to a loss of that name, which is [`Self::of`] times `factor`, and what it was divided by, where somebody wants to
    /// know.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn tell(&self, (name, factor): (&str, f64), logits: &Tensor, labels: &Tensor, ignored: i64) -> Result<()> {
        let (soft, weights) = (labels.is_floating_point(), self.weights.as_ref());
        let divisor = || -> Result<Tensor> {
            let counted = labels.f_ne(ignored)?;
            Ok(match weights {
                _ if soft => Tensor::from(labels.numel() as f64 / labels.size()[1] as f64),
                None => counted.f_sum(Type::Double)?,
                Some(weights) => weights.f_index_select(0, &labels.f_masked_select(&counted)?)?.f_sum(Type::Double)?,
            })
        };
        divisors::tell(&[name], 0.0, divisor)?;
        terms::tell(name, || {
            let logits = logits.to_kind(Type::Float);
            let ignored = if soft { -100 } else { ignored };
            let each = match self.gamma {
                None => {
                    let smoothing = self.label_smoothing;
                    logits.f_cross_entropy_loss(labels, weights, Reduction::None, ignored, smoothing)?
                }
                Some(gamma) if soft => self.of_probabilities(&lost(&logits, gamma)?, labels)?,
                Some(gamma) => lost(&logits, gamma)?.f_nll_loss_nd(labels, weights, Reduction::None, ignored)?,
            };
            let count = divisor()?.double_value(&[]);
            let images = each.size()[0];
            let each = each.f_view([images, -1])?.f_sum_dim_intlist(1, false, Type::Double)?;
            Ok((each * factor / count, terms::of_images((0..images).map(|_| 1))))
        })
    }
}

/// What each class would lose if it were the label, negative: `[N, classes, …]`.
fn lost(logits: &Tensor, gamma: f64) -> Result<Tensor> {
    let log_p = logits.f_log_softmax(1, Type::Float)?;
    Ok(log_p.f_exp()?.f_rsub_scalar(1)?.f_pow_tensor_scalar(gamma)?.f_mul(&log_p)?)
}

/// The loss of a network: of class scores, or of predicted numbers, which are compared with the batch's field `target`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Loss {
    /// Cross-entropy loss of the logits.
    CrossEntropy {
        /// Label smoothing: fraction of the target distributed uniformly over all classes.
        #[schemars(range(min = 0, max = 1))]
        #[serde(default)]
        label_smoothing: f64,
        /// Weight of each class, by label, for imbalanced data; the mean over a batch is weighted too. Default: 1 for all.
        #[schemars(inner(range(min = 0)))]
        #[serde(default)]
        class_weights: Vec<f64>,
    },
    /// Focal loss of the logits (Lin et al. 2017): cross-entropy times `(1 - p)^gamma`, where `p` is the probability given to
    /// the label, so that what is well classified counts little.
    Focal {
        /// Exponent; with 0 it is cross-entropy.
        #[schemars(range(min = 0))]
        #[serde(default = "two")]
        gamma: f64,
        /// Weight of each class, by label, for imbalanced data; the mean over a batch is weighted too. Default: 1 for all.
        #[schemars(inner(range(min = 0)))]
        #[serde(default)]
        class_weights: Vec<f64>,
    },
    /// Mean squared error of the output, which is then `prediction` instead of `logits`.
    Mse {
        /// The field with the true numbers; `label` takes the label as a number.
        #[serde(default = "target")]
        target: String,
    },
    /// Mean absolute error of the output, which is then `prediction` instead of `logits`.
    L1 {
        /// The field with the true numbers; `label` takes the label as a number.
        #[serde(default = "target")]
        target: String,
    },
    /// Smooth L1 loss of the output, which is then `prediction` instead of `logits`: squared below `beta`, absolute above.
    SmoothL1 {
        /// The field with the true numbers; `label` takes the label as a number.
        #[serde(default = "target")]
        target: String,
        /// The error from which on the loss is a straight line.
        #[schemars(extend("exclusiveMinimum" = 0))]
        #[serde(default = "one")]
        beta: f64,
    },
}

fn target() -> String {
    fields::TARGET.into()
}

fn one() -> f64 {
    1.0
}

impl Default for Loss {
    fn default() -> Self {
        Loss::CrossEntropy { label_smoothing: 0.0, class_weights: Vec::new() }
    }
}

impl Loss {
    /// The fields that a network with this loss reads and writes.
    pub fn contract(&self) -> Contract {
        match self.target() {
            None => Contract::default().needs([fields::IMAGE, fields::LABEL]).adds([fields::LOGITS]),
            Some(target) => Contract::default().needs([fields::IMAGE, target]).adds([fields::PREDICTION]),
        }
    }

    /// The field with the true numbers, where the output is predicted numbers.
    pub fn target(&self) -> Option<&str> {
        match self {
            Loss::CrossEntropy { .. } | Loss::Focal { .. } => None,
            Loss::Mse { target } | Loss::L1 { target } | Loss::SmoothL1 { target, .. } => Some(target),
        }
    }

    /// The loss of scores at work, for a network of so many classes, where that is known, on a device; `None` where the output is
    /// predicted numbers.
    ///
    /// # Errors
    /// As [`ClassificationLoss::build`].
    pub fn of_classes(&self, classes: Option<i64>, device: Device) -> Result<Option<ClassLoss>> {
        let loss = match self.clone() {
            Loss::CrossEntropy { label_smoothing, class_weights } => {
                ClassificationLoss::CrossEntropy { label_smoothing, class_weights }
            }
            Loss::Focal { gamma, class_weights } => ClassificationLoss::Focal { gamma, class_weights },
            _ => return Ok(None),
        };
        loss.build(classes, device).map(Some)
    }

    /// Its name, and its value for predicted numbers against the true ones.
    ///
    /// # Errors
    /// When the shapes do not match.
    pub fn of_numbers(&self, predicted: &Tensor, truth: &Tensor) -> Result<(&'static str, Tensor)> {
        let (predicted, truth) = (predicted.to_kind(Type::Float), truth.to_kind(Type::Float));
        let truth = if truth.dim() == 1 { truth.unsqueeze(1) } else { truth };
        // Of two shapes libtorch would make one, and the loss would be of pairs that do not belong together.
        ensure!(
            predicted.size() == truth.size(),
            "the network predicts {:?} and `{}` has shape {:?}: the last layer needs as many outputs as there are numbers",
            predicted.size(),
            self.target().unwrap_or_default(),
            truth.size()
        );
        let of = |reduction| match *self {
            Loss::Mse { .. } => predicted.f_mse_loss(&truth, reduction),
            Loss::SmoothL1 { beta, .. } => predicted.f_smooth_l1_loss(&truth, reduction, beta),
            _ => predicted.f_l1_loss(&truth, reduction),
        };
        let name = match self {
            Loss::Mse { .. } => "mse",
            Loss::SmoothL1 { .. } => "smooth_l1",
            _ => "l1",
        };
        terms::tell(name, || {
            let (each, images) = (of(Reduction::None)?, predicted.size()[0]);
            let of_images = each.f_view([images, -1])?.f_sum_dim_intlist(1, false, Type::Double)?;
            Ok((of_images / each.numel() as f64, terms::of_images((0..images).map(|_| 1))))
        })?;
        Ok((name, of(Reduction::Mean)?))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use pipe_run::testing::{assert_close, numbers, parity};

    /// By hand: errors of 0.5 and 2.
    #[test]
    fn losses_of_numbers() {
        let (predicted, truth) = (Tensor::from_slice(&[1.5f32, 4.0]).unsqueeze(1), Tensor::from_slice(&[1i64, 2]));
        for (table, name, value) in [
            (json!({ "type": "mse" }), "mse", 2.125),
            (json!({ "type": "l1" }), "l1", 1.25),
            (json!({ "type": "smooth_l1" }), "smooth_l1", (0.125 + 1.5) / 2.0),
            (json!({ "type": "smooth_l1", "beta": 4.0 }), "smooth_l1", (0.25 / 8.0 + 4.0 / 8.0) / 2.0),
        ] {
            let loss: Loss = serde_json::from_value(table).unwrap();
            let (called, loss) = loss.of_numbers(&predicted, &truth).unwrap();
            assert_eq!(called, name);
            assert_close(name, &[loss.double_value(&[])], &[value], 1e-6);
        }
        let error = Loss::Mse { target: target() }.of_numbers(&predicted.tile([1, 2]), &truth).unwrap_err().to_string();
        assert!(error.contains("[2, 2]") && error.contains("`target`"), "{error}");
    }

    fn scores(shape: &[i64]) -> Tensor {
        let count = shape.iter().product::<i64>();
        let wave = (Tensor::arange(count, (Type::Float, Device::Cpu)) * 0.7 + 0.3).sin() * 2.0;
        wave.view(shape).set_requires_grad(true)
    }

    fn class_loss(table: Value) -> ClassLoss {
        let loss: Loss = serde_json::from_value(table).unwrap();
        loss.of_classes(Some(4), Device::Cpu).unwrap().unwrap()
    }

    #[test]
    fn losses_of_classes_are_those_of_torch() {
        for case in parity("losses/expected.json")["classes"].as_array().unwrap() {
            let shape: Vec<i64> = numbers(&case["shape"]).into_iter().map(|side| side as i64).collect();
            let scores = scores(&shape);
            let labels = match &case["probabilities"] {
                Value::Null => Tensor::from_slice(&numbers(&case["labels"])).to_kind(Type::Int64),
                probabilities => Tensor::from_slice(&numbers(probabilities)).to_kind(Type::Float),
            };
            let mut of = shape.clone();
            if !labels.is_floating_point() {
                of.remove(1);
            }
            let (class_loss, labels) = (class_loss(case["loss"].clone()), labels.view(of.as_slice()));
            let loss = class_loss.of(&scores, &labels, 255).unwrap();
            terms::listen();
            class_loss.tell(("loss", 0.5), &scores, &labels, 255).unwrap();
            let parts = terms::heard().remove(0).parts;
            assert_eq!(parts.len() as i64, shape[0]);
            let halves: f64 = parts.iter().map(|part| part.value).sum();
            assert_close("terms", &[2.0 * halves], &numbers(&case["value"]), 1e-6);
            let what = case["loss"].to_string();
            assert_close(&what, &[loss.double_value(&[])], &numbers(&case["value"]), 1e-6);
            loss.backward();
            let gradient: Vec<f64> = scores.grad().to_kind(Type::Double).flatten(0, -1).try_into().unwrap();
            assert_close(&what, &gradient, &numbers(&case["gradient"]), 1e-6);
        }
    }

    #[test]
    fn weights_and_probabilities_of_other_classes_are_refused() {
        let loss: Loss = serde_json::from_value(json!({ "type": "focal", "class_weights": [1, 2] })).unwrap();
        let error = loss.of_classes(Some(4), Device::Cpu).unwrap_err().to_string();
        assert_eq!(error, "loss.class_weights: 2 weights for 4 classes; give one for each class, by label");
        let late = loss.of_classes(None, Device::Cpu).unwrap().unwrap();
        let labels = Tensor::from_slice(&[0i64, 1, 2]);
        assert!(late.of(&scores(&[3, 4]), &labels, -100).unwrap_err().to_string().contains("2 weights for 4 classes"));
        let probabilities = Tensor::zeros([3, 5], (Type::Float, Device::Cpu));
        let error = class_loss(json!({ "type": "focal" })).of(&scores(&[3, 4]), &probabilities, -100).unwrap_err();
        assert!(error.to_string().contains("[3, 5]"), "{error}");
    }
}
