//! What is refused unless it is accepted by name.

use std::fmt;

/// A refusal's code, and what accepting it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// The name, as in `--accept NAME` and `accept = ["NAME"]`.
    pub name: &'static str,
    /// What is refused without it.
    pub about: &'static str,
}

/// An edit under `--watch` that removes a model and adds another: the trained weights would be lost.
pub const WEIGHTS_LOST: Code =
    Code { name: "weights-lost", about: "an edit of a run that loses the weights of a model" };

/// A resume with another seed than the checkpoint's: the data would come in another order.
pub const SEED_CHANGED: Code = Code { name: "seed-changed", about: "a resume with another seed than the checkpoint's" };

/// A resume with other data than the run's: samples of an epoch at work would be left out or come twice.
pub const DATA_CHANGED: Code =
    Code { name: "data-changed", about: "a resume with other data than those that the run was trained on" };

/// Datasets of one model whose labels mean other classes: values would be measured of the wrong ones.
pub const LABELS_DIFFER: Code =
    Code { name: "labels-differ", about: "datasets that meet in one model and whose labels mean other classes" };

/// Every code.
pub const CODES: [Code; 4] = [WEIGHTS_LOST, SEED_CHANGED, DATA_CHANGED, LABELS_DIFFER];

/// Why something is not done until it is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The name by which it can be accepted.
    pub code: &'static str,
    /// What would happen.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { code, message } = self;
        write!(f, "{message} (`--accept {code}`, or `accept = [\"{code}\"]` in `[pipeline]`, lets it pass)")
    }
}

impl std::error::Error for Refusal {}

impl Code {
    /// Refuses, unless this code is among those accepted.
    ///
    /// # Errors
    /// The refusal.
    pub fn refuse(self, accepted: &[String], message: impl Into<String>) -> Result<(), Refusal> {
        match accepted.iter().any(|name| name == self.name) {
            true => Ok(()),
            false => Err(Refusal { code: self.name, message: message.into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_by_name_passes() {
        let refused = WEIGHTS_LOST.refuse(&["seed-changed".into()], "the weights of model.net would be lost");
        assert_eq!(
            refused.unwrap_err().to_string(),
            "the weights of model.net would be lost (`--accept weights-lost`, or `accept = [\"weights-lost\"]` in `[pipeline]`, \
             lets it pass)"
        );
        assert_eq!(WEIGHTS_LOST.refuse(&["weights-lost".into()], ""), Ok(()));
    }
}
