//! How the vocabulary crosses the border.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use indexmap::IndexMap;
use rand::SeedableRng;
use serde_json::Value;
use tch::Tensor;

use crate::data::{Batch, BatchField, Detections, Sample, SampleRng};
use crate::kinds::metric::MetricReport;
use crate::kinds::model::ModelOutput;
use crate::message::{Message, Reader, Wire};
use crate::record::{Evaluation, Progress, Record, RecordValue, Summary};
use crate::state::State;

impl Wire for Sample {
    fn pack(&self, to: &mut Message) -> Result<()> {
        to.put(self)
    }

    fn unpack(from: &mut Reader<'_>) -> Result<Self> {
        let sample: Sample = from.get()?;
        sample.check()?;
        Ok(sample)
    }
}

/// The generator with its place in the stream, so that draws go on on the other side where they stopped on this.
impl Wire for SampleRng {
    fn pack(&self, to: &mut Message) -> Result<()> {
        to.put(&(self.get_seed(), self.get_stream(), self.get_word_pos()))
    }

    fn unpack(from: &mut Reader<'_>) -> Result<Self> {
        let (seed, stream, position): ([u8; 32], u64, u128) = from.get()?;
        let mut rng = SampleRng::from_seed(seed);
        rng.set_stream(stream);
        rng.set_word_pos(position);
        Ok(rng)
    }
}

impl Wire for Detections {
    fn pack(&self, to: &mut Message) -> Result<()> {
        [&self.boxes, &self.labels, &self.scores].into_iter().try_for_each(|tensor| tensor.pack(to))?;
        for part in [&self.masks, &self.keypoints, &self.keypoints_scores] {
            to.put(&part.is_some())?;
            part.iter().try_for_each(|part| part.pack(to))?;
        }
        Ok(())
    }

    fn unpack(from: &mut Reader<'_>) -> Result<Self> {
        let (boxes, labels, scores) = (Tensor::unpack(from)?, Tensor::unpack(from)?, Tensor::unpack(from)?);
        let (masks, keypoints) = (Option::unpack(from)?, Option::unpack(from)?);
        Ok(Detections { boxes, labels, scores, masks, keypoints, keypoints_scores: Option::unpack(from)? })
    }
}

impl Wire for BatchField {
    fn pack(&self, to: &mut Message) -> Result<()> {
        match self {
            BatchField::Stacked(tensor) => {
                to.put(&0u8)?;
                tensor.pack(to)
            }
            BatchField::List(tensors) => {
                to.put(&1u8)?;
                tensors.pack(to)
            }
            BatchField::Text(texts) => {
                to.put(&2u8)?;
                to.put(texts)
            }
            BatchField::Detections(found) => {
                to.put(&3u8)?;
                found.pack(to)
            }
        }
    }

    fn unpack(from: &mut Reader<'_>) -> Result<Self> {
        Ok(match from.get::<u8>()? {
            0 => BatchField::Stacked(Tensor::unpack(from)?),
            1 => BatchField::List(Vec::unpack(from)?),
            2 => BatchField::Text(from.get()?),
            3 => BatchField::Detections(Vec::unpack(from)?),
            other => bail!("there is no form {other} of a batch's field"),
        })
    }
}

impl Wire for Batch {
    fn pack(&self, to: &mut Message) -> Result<()> {
        to.put(&(self.size, self.iter().count()))?;
        for (name, field) in self.iter() {
            to.put(name)?;
            field.pack(to)?;
        }
        Ok(())
    }

    fn unpack(from: &mut Reader<'_>) -> Result<Self> {
        let (size, fields): (usize, usize) = from.get()?;
        let mut batch = Batch::new(size);
        for _ in 0..fields {
            let name: String = from.get()?;
            batch.set(&name, BatchField::unpack(from)?);
        }
        Ok(batch)
    }
}

impl Wire for IndexMap<String, Tensor> {
    fn pack(&self, to: &mut Message) -> Result<()> {
        to.put(&self.keys().collect::<Vec<_>>())?;
        self.values().try_for_each(|tensor| tensor.pack(to))
    }

    fn unpack(from: &mut Reader<'_>) -> Result<Self> {
        from.get::<Vec<String>>()?.into_iter().map(|name| Ok((name, Tensor::unpack(from)?))).collect()
    }
}

impl Wire for ModelOutput {
    fn pack(&self, to: &mut Message) -> Result<()> {
        self.losses.pack(to)?;
        self.outputs.pack(to)
    }

    fn unpack(from: &mut Reader<'_>) -> Result<Self> {
        Ok(ModelOutput { losses: IndexMap::unpack(from)?, outputs: Batch::unpack(from)? })
    }
}

impl Wire for MetricReport {
    fn pack(&self, to: &mut Message) -> Result<()> {
        to.put(&(&self.values, &self.text, self.records.len()))?;
        self.records.iter().try_for_each(|(tag, value)| {
            to.put(tag)?;
            value.pack(to)
        })
    }

    fn unpack(from: &mut Reader<'_>) -> Result<Self> {
        let (values, text, count): (_, _, usize) = from.get()?;
        let records = (0..count).map(|_| Ok((from.get()?, RecordValue::unpack(from)?))).collect::<Result<_>>()?;
        Ok(MetricReport { values, text, records })
    }
}

impl Wire for State {
    fn pack(&self, to: &mut Message) -> Result<()> {
        to.put(&serde_json::to_string(&self.values)?)?;
        self.tensors.pack(to)
    }

    fn unpack(from: &mut Reader<'_>) -> Result<Self> {
        let values = serde_json::from_str(&from.get::<String>()?)?;
        Ok(State { values, tensors: IndexMap::unpack(from)? })
    }
}

impl Wire for RecordValue {
    fn pack(&self, to: &mut Message) -> Result<()> {
        to.put(self.kind())?;
        match self {
            RecordValue::Scalar(value) => to.put(value),
            RecordValue::Image { height, width, rgb, objects } => {
                to.put(&(height, width, serde_bytes::Bytes::new(rgb)))?;
                to.put(&serde_json::to_string(objects)?)
            }
            RecordValue::Text(text) => to.put(text),
            RecordValue::Histogram(values) => to.put(values),
            RecordValue::PrCurve { true_positives, false_positives, positives } => {
                to.put(&(true_positives, false_positives, positives))
            }
            RecordValue::Confusion { names, cells } => to.put(&(names, cells)),
            RecordValue::HParams { settings, metrics } => {
                to.put(&serde_json::to_string(settings)?)?;
                to.put(metrics)
            }
            RecordValue::Artifact(path) => to.put(path),
        }
    }

    fn unpack(from: &mut Reader<'_>) -> Result<Self> {
        Ok(match from.get::<String>()?.as_str() {
            "scalar" => RecordValue::Scalar(from.get()?),
            "image" => {
                let (height, width, rgb): (usize, usize, serde_bytes::ByteBuf) = from.get()?;
                let objects = serde_json::from_str(&from.get::<String>()?)?;
                RecordValue::Image { height, width, rgb: rgb.into_vec(), objects }
            }
            "text" => RecordValue::Text(from.get()?),
            "histogram" => RecordValue::Histogram(from.get()?),
            "pr_curve" => {
                let (true_positives, false_positives, positives) = from.get()?;
                RecordValue::PrCurve { true_positives, false_positives, positives }
            }
            "confusion" => {
                let (names, cells) = from.get()?;
                RecordValue::Confusion { names, cells }
            }
            "hparams" => {
                let settings: Vec<(String, Value)> = serde_json::from_str(&from.get::<String>()?)?;
                RecordValue::HParams { settings, metrics: from.get()? }
            }
            "artifact" => RecordValue::Artifact(from.get()?),
            other => bail!("there is no kind of record `{other}`"),
        })
    }
}

impl Wire for Record {
    fn pack(&self, to: &mut Message) -> Result<()> {
        to.put(&(&self.tag, self.step, self.epoch, &self.node, self.time))?;
        self.value.pack(to)
    }

    fn unpack(from: &mut Reader<'_>) -> Result<Self> {
        let (tag, step, epoch, node, time) = from.get()?;
        Ok(Record { tag, value: RecordValue::unpack(from)?, step, epoch, node, time })
    }
}

impl Wire for Progress {
    fn pack(&self, to: &mut Message) -> Result<()> {
        to.put(&(&self.engine, self.outermost, self.epoch, self.max_epochs, self.epoch_iteration, self.epoch_length))?;
        to.put(&(self.iteration, self.max_iterations, self.samples, &self.values))
    }

    fn unpack(from: &mut Reader<'_>) -> Result<Self> {
        let (engine, outermost, epoch, max_epochs, epoch_iteration, epoch_length) = from.get()?;
        let (iteration, max_iterations, samples, values) = from.get()?;
        Ok(Progress {
            engine,
            outermost,
            epoch,
            max_epochs,
            epoch_iteration,
            epoch_length,
            iteration,
            max_iterations,
            samples,
            values,
        })
    }
}

impl Wire for Summary {
    fn pack(&self, to: &mut Message) -> Result<()> {
        to.put(&(&self.status, &self.folder, self.elapsed, &self.values, &self.checkpoint, &self.error))?;
        to.put(&self.best)
    }

    fn unpack(from: &mut Reader<'_>) -> Result<Self> {
        type Fields = (String, PathBuf, Duration, Vec<(String, f64)>, Option<PathBuf>, Option<String>);
        let (status, folder, elapsed, values, checkpoint, error): Fields = from.get()?;
        Ok(Summary { status, folder, elapsed, values, checkpoint, best: from.get()?, error })
    }
}

impl Wire for Evaluation {
    fn pack(&self, to: &mut Message) -> Result<()> {
        to.put(&(&self.engine, self.step, self.epoch, &self.values, &self.best))
    }

    fn unpack(from: &mut Reader<'_>) -> Result<Self> {
        let (engine, step, epoch, values, best) = from.get()?;
        Ok(Evaluation { engine, step, epoch, values, best })
    }
}
