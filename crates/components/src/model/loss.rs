//! The losses of networks whose output is scores of classes or predicted numbers.

use anyhow::{Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind as Type, Reduction, Tensor};

use pipe_core::Contract;
use pipe_data::fields;

/// The loss of a classifier.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ClassificationLoss {
    /// Cross-entropy loss of the logits.
    CrossEntropy {
        /// Label smoothing: fraction of the target distributed uniformly over all classes.
        #[schemars(range(min = 0, max = 1))]
        #[serde(default)]
        label_smoothing: f64,
    },
}

impl ClassificationLoss {
    /// The loss of scores `[N, classes, …]` against labels `[N, …]`; `ignored` labels do not count.
    ///
    /// # Errors
    /// When the shapes do not match.
    pub fn of(self, logits: &Tensor, labels: &Tensor, ignored: i64) -> Result<Tensor> {
        match self {
            ClassificationLoss::CrossEntropy { label_smoothing } => Ok(logits
                .to_kind(Type::Float)
                .f_cross_entropy_loss(labels, None::<Tensor>, Reduction::Mean, ignored, label_smoothing)?),
        }
    }
}

impl Default for ClassificationLoss {
    fn default() -> Self {
        ClassificationLoss::CrossEntropy { label_smoothing: 0.0 }
    }
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
        Loss::CrossEntropy { label_smoothing: 0.0 }
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
            Loss::CrossEntropy { .. } => None,
            Loss::Mse { target } | Loss::L1 { target } | Loss::SmoothL1 { target, .. } => Some(target),
        }
    }

    /// Its name, and its value for an output against labels or numbers; labels equal to `ignored` do not count.
    ///
    /// # Errors
    /// When the shapes do not match.
    pub fn of(&self, output: &Tensor, truth: &Tensor, ignored: i64) -> Result<(&'static str, Tensor)> {
        if let Loss::CrossEntropy { label_smoothing } = *self {
            let loss = ClassificationLoss::CrossEntropy { label_smoothing };
            return Ok(("cross_entropy", loss.of(output, truth, ignored)?));
        }
        let (predicted, truth) = (output.to_kind(Type::Float), truth.to_kind(Type::Float));
        let truth = if truth.dim() == 1 { truth.unsqueeze(1) } else { truth };
        // Of two shapes libtorch would make one, and the loss would be of pairs that do not belong together.
        ensure!(
            predicted.size() == truth.size(),
            "the network predicts {:?} and `{}` has shape {:?}: the last layer needs as many outputs as there are numbers",
            predicted.size(),
            self.target().unwrap_or_default(),
            truth.size()
        );
        Ok(match *self {
            Loss::Mse { .. } => ("mse", predicted.f_mse_loss(&truth, Reduction::Mean)?),
            Loss::SmoothL1 { beta, .. } => ("smooth_l1", predicted.f_smooth_l1_loss(&truth, Reduction::Mean, beta)?),
            Loss::L1 { .. } | Loss::CrossEntropy { .. } => ("l1", predicted.f_l1_loss(&truth, Reduction::Mean)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use pipe_run::testing::assert_close;

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
            let (called, loss) = loss.of(&predicted, &truth, -100).unwrap();
            assert_eq!(called, name);
            assert_close(name, &[loss.double_value(&[])], &[value], 1e-6);
        }
        let error = Loss::Mse { target: target() }.of(&predicted.tile([1, 2]), &truth, -100).unwrap_err().to_string();
        assert!(error.contains("[2, 2]") && error.contains("`target`"), "{error}");
    }
}
