//! What came of one iteration, and how a checkpoint taken among its handlers keeps that.

use anyhow::{Context, Result, bail};
use indexmap::IndexMap;
use pipe_data::{Batch, BatchField, Detections};
use pipe_plugin::{ModelOutput, State};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Device, Tensor};

/// What came of one iteration.
#[derive(Debug, Default)]
pub struct Step {
    /// The batch, on the device.
    pub batch: Batch,
    /// What the model made of it.
    pub output: ModelOutput,
    /// Values worth showing beside a progress bar.
    pub values: Vec<(String, f64)>,
    /// Whether there are gradients of it: the optimizer's step comes next.
    pub backward: bool,
}

/// The form of a field of the output.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Form {
    Stacked,
    List(usize),
    Text(Vec<String>),
    /// Whether each has masks.
    Detections(Vec<bool>),
}

/// The plain part of a saved step.
#[derive(Serialize, Deserialize)]
struct Saved {
    losses: Vec<String>,
    size: usize,
    fields: Vec<(String, Form)>,
    values: Vec<(String, Value)>,
    backward: bool,
}

impl Step {
    /// What a resume among this iteration's handlers needs; the batch, which the loader makes again, is not in it.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn state(&self) -> Result<State> {
        let mut tensors = IndexMap::new();
        for (name, loss) in &self.output.losses {
            tensors.insert(format!("loss/{name}"), loss.detach());
        }
        let mut fields = Vec::new();
        for (name, field) in self.output.outputs.iter() {
            let form = match field {
                BatchField::Stacked(tensor) => {
                    tensors.insert(format!("output/{name}"), tensor.detach());
                    Form::Stacked
                }
                BatchField::List(all) => {
                    let named = all.iter().enumerate().map(|(i, t)| (format!("output/{name}/{i}"), t.detach()));
                    tensors.extend(named);
                    Form::List(all.len())
                }
                BatchField::Text(texts) => Form::Text(texts.clone()),
                BatchField::Detections(all) => {
                    for (i, found) in all.iter().enumerate() {
                        let named = |(part, t): (_, &Tensor)| (format!("output/{name}/{i}/{part}"), t.detach());
                        tensors.extend(found.parts().map(named));
                    }
                    Form::Detections(all.iter().map(|found| found.masks.is_some()).collect())
                }
            };
            fields.push((name.to_owned(), form));
        }
        let losses = self.output.losses.keys().cloned().collect();
        let values = self.values.iter().map(|(name, value)| (name.clone(), pipe_vocab::record::number(*value)));
        let (values, size, backward) = (values.collect(), self.output.outputs.size, self.backward);
        Ok(State { tensors, ..State::of(&Saved { losses, size, fields, values, backward })? })
    }

    /// A saved step of this batch.
    ///
    /// # Errors
    /// When the state is not a step's.
    pub fn restore(state: &State, batch: Batch, device: Device) -> Result<Step> {
        let saved: Saved = state.to().context("the saved output of the iteration")?;
        let get = |name: String| -> Result<Tensor> {
            let tensor = state.tensors.get(&name).with_context(|| format!("the checkpoint lacks {name}"))?;
            Ok(tensor.to_device(device))
        };
        let losses = saved.losses.iter().map(|name| Ok((name.clone(), get(format!("loss/{name}"))?)));
        let losses = losses.collect::<Result<_>>()?;
        let mut outputs = Batch::new(saved.size);
        for (name, form) in saved.fields {
            let field = match form {
                Form::Stacked => BatchField::Stacked(get(format!("output/{name}"))?),
                Form::List(count) => {
                    BatchField::List((0..count).map(|i| get(format!("output/{name}/{i}"))).collect::<Result<_>>()?)
                }
                Form::Text(texts) => BatchField::Text(texts),
                Form::Detections(masks) => {
                    let found = |(i, masks): (usize, bool)| {
                        let part = |part: &str| get(format!("output/{name}/{i}/{part}"));
                        let masks = if masks { Some(part("masks")?) } else { None };
                        let there = |part: &str| state.tensors.contains_key(&format!("output/{name}/{i}/{part}"));
                        let more = |name: &str| there(name).then(|| part(name)).transpose();
                        let (keypoints, keypoints_scores) = (more("keypoints")?, more("keypoints_scores")?);
                        let found = Detections::new(part("boxes")?, part("labels")?, part("scores")?);
                        Ok(Detections { masks, keypoints, keypoints_scores, ..found })
                    };
                    BatchField::Detections(masks.into_iter().enumerate().map(found).collect::<Result<_>>()?)
                }
            };
            outputs.set(&name, field);
        }
        let value = |(name, value): (String, Value)| match pipe_vocab::record::read_number(&value) {
            Some(number) => Ok((name, number)),
            None => bail!("{name} is {}, not a number", json!(value)),
        };
        let values = saved.values.into_iter().map(value).collect::<Result<_>>()?;
        Ok(Step { batch, output: ModelOutput { losses, outputs }, values, backward: saved.backward })
    }
}
