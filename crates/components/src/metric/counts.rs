//! Counting predicted and true classes on the device, without waiting for it.

use anyhow::{Result, bail, ensure};
use tch::{Device, Kind, Tensor};

use pipe_core::{ModelOutput, State};
use pipe_data::batch::most_likely;
use pipe_data::{Batch, fields};

/// Counts by class, kept in one i64 tensor on the device of the first update.
#[derive(Debug)]
pub struct Counts {
    form: Form,
    classes: i64,
    /// The counts, then one of labels outside `0..classes`.
    table: Option<Tensor>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `[C, C]`: true class, predicted class.
    Matrix,
    /// `[3, C]`: correct predictions, predictions, true labels of each class.
    PerClass,
}

impl Counts {
    /// No counts.
    pub fn new(form: Form) -> Counts {
        Counts { form, classes: 0, table: None }
    }

    /// Resets the counts.
    pub fn reset(&mut self) {
        self.classes = 0;
        self.table = None;
    }

    /// Counts predictions against labels, both i64 of one shape. Labels equal to `ignore` are skipped.
    ///
    /// # Errors
    /// When shapes differ, or `classes` differs from earlier batches.
    pub fn update(&mut self, predicted: &Tensor, label: &Tensor, classes: i64, ignore: Option<i64>) -> Result<()> {
        ensure!(
            predicted.size() == label.size(),
            "predictions have shape {:?}, labels have shape {:?}",
            predicted.size(),
            label.size()
        );
        ensure!(
            self.table.is_none() || self.classes == classes,
            "the model predicted {classes} classes, but {} in earlier batches",
            self.classes
        );
        let (predicted, label) = (predicted.reshape(-1), label.reshape(-1).to_kind(Kind::Int64));
        let width = match self.form {
            Form::Matrix => classes * classes,
            Form::PerClass => 3 * classes,
        };
        self.classes = classes;
        let mut table = match self.table.take() {
            Some(table) => table.to_device(label.device()),
            None => Tensor::zeros([width + 1], (Kind::Int64, label.device())),
        };
        let counted = match ignore {
            Some(ignored) => label.ne(ignored),
            None => label.ones_like().to_kind(Kind::Bool),
        };
        let inside = label.ge(0).logical_and(&label.lt(classes)).logical_and(&predicted.ge(0));
        let inside = inside.logical_and(&predicted.lt(classes));
        let ones = counted.to_kind(Kind::Int64);
        let outside = Tensor::full([0_i64; 0], width, (Kind::Int64, label.device()));
        let mut add = |index: Tensor, ones: &Tensor| {
            let _ = table.scatter_add_(0, &index.where_self(&inside, &outside), ones);
        };
        match self.form {
            Form::Matrix => add(&label * classes + &predicted, &ones),
            Form::PerClass => {
                let right = label.eq_tensor(&predicted).to_kind(Kind::Int64) * &ones;
                add(label.shallow_clone(), &right);
                add(&predicted + classes, &ones);
                add(&label + 2 * classes, &ones);
            }
        }
        self.table = Some(table);
        Ok(())
    }

    /// Adds saved counts of other samples.
    ///
    /// # Errors
    /// When they are of other classes.
    pub fn merge(&mut self, state: &State) -> Result<()> {
        let mut other = Counts::new(self.form);
        other.load_state(state)?;
        let Some(counts) = other.table else { return Ok(()) };
        self.table = Some(match self.table.take() {
            Some(own) => {
                let (own_classes, others) = (self.classes, other.classes);
                ensure!(own_classes == others, "counts of {own_classes} and of {others} classes do not add up");
                own.to_device(Device::Cpu) + counts.to_device(Device::Cpu)
            }
            None => counts,
        });
        self.classes = other.classes;
        Ok(())
    }

    /// The counts row by row, `None` when nothing was counted. This synchronizes with the device.
    ///
    /// # Errors
    /// When labels or predictions were outside the classes.
    pub fn rows(&self) -> Result<Option<Vec<Vec<f64>>>> {
        let Some(table) = &self.table else { return Ok(None) };
        let mut all: Vec<f64> = Vec::<f64>::try_from(table.to_kind(Kind::Double))?;
        let outside = all.pop().unwrap_or(0.0);
        if outside > 0.0 {
            bail!(
                "some labels are not in 0..{}, the model's classes: does its number of classes match the dataset?",
                self.classes
            );
        }
        Ok(Some(all.chunks(self.classes.max(1) as usize).map(<[f64]>::to_vec).collect()))
    }

    /// The counts for a checkpoint.
    pub fn state(&self) -> State {
        let mut state = State::default();
        if let Some(table) = &self.table {
            state.values.insert("classes".into(), self.classes.into());
            state.tensors.insert("counts".into(), table.shallow_clone());
        }
        state
    }

    /// Restores saved counts.
    ///
    /// # Errors
    /// When the state is invalid.
    pub fn load_state(&mut self, state: &State) -> Result<()> {
        self.reset();
        if let Some(table) = state.tensors.get("counts") {
            let classes = state.values.get("classes").and_then(serde_json::Value::as_i64).unwrap_or(0);
            let width = if self.form == Form::Matrix { classes * classes } else { 3 * classes };
            ensure!(table.size() == [width + 1], "the saved counts belong to another metric");
            self.classes = classes;
            self.table = Some(table.copy());
        }
        Ok(())
    }
}

/// The classifier's scores `[N, C]` and the labels `[N]`; of mixed images the label with the largest share.
///
/// # Errors
/// When one is missing or has another shape.
pub fn logits_and_labels<'a>(batch: &Batch, output: &'a ModelOutput) -> Result<(&'a Tensor, Tensor)> {
    let logits = output.outputs.stacked(fields::LOGITS)?;
    let label = most_likely(batch.stacked(fields::LABEL)?)?;
    match (logits.size().as_slice(), label.size().as_slice()) {
        ([n, _], [m]) if n == m => Ok((logits, label)),
        (logits, label) => {
            bail!("`logits` has shape {logits:?} and `label` has shape {label:?}; expected [N, C] and [N]")
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use pipe_data::BatchField;

    /// A batch of labels, and an output of logits.
    pub(crate) fn classified(logits: Tensor, label: Tensor) -> (Batch, ModelOutput) {
        let n = label.size()[0] as usize;
        let (mut batch, mut outputs) = (Batch::new(n), Batch::new(n));
        batch.set(fields::LABEL, BatchField::Stacked(label));
        outputs.set(fields::LOGITS, BatchField::Stacked(logits));
        (batch, ModelOutput { outputs, ..ModelOutput::default() })
    }

    #[test]
    fn labels_outside_the_classes_are_an_error_that_says_so() {
        let predicted = Tensor::from_slice(&[0_i64, 1, 2]);
        for form in [Form::Matrix, Form::PerClass] {
            let mut counts = Counts::new(form);
            counts.update(&predicted, &Tensor::from_slice(&[0_i64, 1, 255]), 3, Some(255)).unwrap();
            assert!(counts.rows().is_ok());
            counts.update(&predicted, &Tensor::from_slice(&[0_i64, 1, 7]), 3, Some(255)).unwrap();
            let error = counts.rows().unwrap_err().to_string();
            assert!(error.contains("0..3"), "{error}");
            assert!(counts.update(&predicted, &predicted, 4, None).is_err());
        }
    }
}
