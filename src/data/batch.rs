//! Samples joined into tensors.

use anyhow::{Result, anyhow, bail, ensure};
use indexmap::IndexMap;
use tch::{Device, Kind, Tensor};

use super::fields;
use super::image::{Image, Pixels};
use super::sample::{Field, Sample};

/// The value of one field over a batch.
#[derive(Debug)]
pub enum BatchField {
    /// One tensor, samples along the first dimension.
    Stacked(Tensor),
    /// One tensor a sample, of differing shapes.
    List(Vec<Tensor>),
    /// One text a sample.
    Text(Vec<String>),
    /// Detections of each image.
    Detections(Vec<Detections>),
}

/// What a detection model found in one image.
#[derive(Debug)]
pub struct Detections {
    /// `[N, 4]` xyxy in pixels of the image given to the model.
    pub boxes: Tensor,
    /// `[N]` i64.
    pub labels: Tensor,
    /// `[N]`, falling.
    pub scores: Tensor,
    /// `[N, 1, H, W]` probabilities.
    pub masks: Option<Tensor>,
}

/// Samples joined: fields by name.
#[derive(Debug, Default)]
pub struct Batch {
    /// Number of samples.
    pub size: usize,
    fields: IndexMap<String, BatchField>,
}

impl Batch {
    /// A batch of `size` samples, without fields as yet.
    pub fn new(size: usize) -> Batch {
        Batch { size, fields: IndexMap::new() }
    }

    /// Joins samples. Images of one size become one `[N, C, H, W]` tensor of their own type, others a list.
    ///
    /// # Errors
    /// When samples have differing fields or types.
    pub fn collate(samples: Vec<Sample>) -> Result<Batch> {
        let mut batch = Batch::new(samples.len());
        let Some(first) = samples.first() else { return Ok(batch) };
        for (name, _) in first.iter() {
            let column: Vec<&Field> = samples
                .iter()
                .map(|sample| {
                    sample.get(name).ok_or_else(|| {
                        anyhow!("sample {} has no field `{name}`, but sample {} has", sample.source(), first.source())
                    })
                })
                .collect::<Result<_>>()?;
            let field = join(&column).map_err(|e| e.context(format!("joining field `{name}` of a batch")))?;
            batch.set(name, field);
        }
        Ok(batch)
    }

    /// Adds or replaces a field.
    pub fn set(&mut self, name: &str, field: BatchField) {
        self.fields.insert(name.to_owned(), field);
    }

    /// The field of that name.
    pub fn get(&self, name: &str) -> Option<&BatchField> {
        self.fields.get(name)
    }

    /// All fields with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &BatchField)> {
        self.fields.iter().map(|(name, field)| (name.as_str(), field))
    }

    /// A field that is one tensor.
    ///
    /// # Errors
    /// When it is missing or of another form.
    pub fn stacked(&self, name: &str) -> Result<&Tensor> {
        match self.get(name) {
            Some(BatchField::Stacked(tensor)) => Ok(tensor),
            Some(_) => {
                bail!("field `{name}` of the batch differs in shape from sample to sample; resize or crop to one size")
            }
            None => bail!("the batch has no field `{name}`"),
        }
    }

    /// A field as one tensor a sample.
    ///
    /// # Errors
    /// When it is missing or not made of tensors.
    pub fn list(&self, name: &str) -> Result<Vec<Tensor>> {
        match self.get(name) {
            Some(BatchField::Stacked(tensor)) => Ok(tensor.unbind(0)),
            Some(BatchField::List(tensors)) => Ok(tensors.iter().map(Tensor::shallow_clone).collect()),
            Some(_) => bail!("field `{name}` of the batch holds no tensors"),
            None => bail!("the batch has no field `{name}`"),
        }
    }

    /// The batch on another device.
    pub fn to_device(&self, device: Device) -> Batch {
        let mut batch = Batch::new(self.size);
        for (name, field) in self.iter() {
            let moved = match field {
                BatchField::Stacked(tensor) => BatchField::Stacked(tensor.to_device(device)),
                BatchField::List(tensors) => BatchField::List(tensors.iter().map(|t| t.to_device(device)).collect()),
                BatchField::Text(texts) => BatchField::Text(texts.clone()),
                BatchField::Detections(all) => {
                    BatchField::Detections(all.iter().map(|d| d.to_device(device)).collect())
                }
            };
            batch.set(name, moved);
        }
        batch
    }

    /// Where each sample came from, for messages.
    pub fn sources(&self) -> Vec<String> {
        match self.get(fields::SOURCE) {
            Some(BatchField::Text(texts)) => texts.clone(),
            _ => (0..self.size).map(|i| format!("sample {i} of the batch")).collect(),
        }
    }
}

impl Detections {
    /// The detections on another device.
    pub fn to_device(&self, device: Device) -> Detections {
        Detections {
            boxes: self.boxes.to_device(device),
            labels: self.labels.to_device(device),
            scores: self.scores.to_device(device),
            masks: self.masks.as_ref().map(|m| m.to_device(device)),
        }
    }
}

/// A picture as a `[C, H, W]` tensor of its own type.
pub fn image_tensor(image: &Image) -> Tensor {
    let shape = [image.height as i64, image.width as i64, image.channels as i64];
    let interleaved = match &image.pixels {
        Pixels::U8(bytes) => Tensor::from_slice(bytes),
        Pixels::F32(values) => Tensor::from_slice(values),
    };
    interleaved.view(shape).permute([2, 0, 1]).contiguous()
}

/// Images as floats in 0..1: bytes are divided by 255, floats stay.
pub fn to_float(images: &Tensor) -> Tensor {
    match images.kind() {
        Kind::Uint8 => images.to_kind(Kind::Float) / 255.0,
        _ => images.to_kind(Kind::Float),
    }
}

fn join(column: &[&Field]) -> Result<BatchField> {
    if let Some(texts) = column.iter().map(|f| if let Field::Text(t) = f { Some(t.clone()) } else { None }).collect() {
        return Ok(BatchField::Text(texts));
    }
    let tensors = column.iter().map(|field| tensor_of(field)).collect::<Result<Vec<_>>>()?;
    let kind = tensors[0].kind();
    ensure!(tensors.iter().all(|t| t.kind() == kind), "samples hold values of differing types");
    // Per-instance fields stay lists even when the counts happen to agree, so that the form never depends on luck.
    let per_instance = matches!(
        column[0],
        Field::Boxes(_) | Field::Masks(_) | Field::Keypoints(_) | Field::Integers(_) | Field::Numbers(_)
    );
    let same = tensors.iter().all(|t| t.size() == tensors[0].size());
    Ok(if same && !per_instance { BatchField::Stacked(Tensor::stack(&tensors, 0)) } else { BatchField::List(tensors) })
}

fn tensor_of(field: &Field) -> Result<Tensor> {
    Ok(match field {
        Field::Image(image) => image_tensor(image),
        Field::Boxes(boxes) => Tensor::from_slice(boxes.as_flattened()).view([boxes.len() as i64, 4]),
        Field::Masks(masks) => {
            let flat = masks.bitmaps.concat();
            Tensor::from_slice(&flat).view([masks.bitmaps.len() as i64, masks.height as i64, masks.width as i64])
        }
        Field::Keypoints(instances) => {
            let points = instances.first().map_or(0, Vec::len);
            let flat: Vec<f32> = instances.iter().flatten().flatten().copied().collect();
            ensure!(flat.len() == instances.len() * points * 3, "instances have differing numbers of keypoints");
            Tensor::from_slice(&flat).view([instances.len() as i64, points as i64, 3])
        }
        Field::Integers(values) => Tensor::from_slice(values),
        Field::Numbers(values) => Tensor::from_slice(values),
        Field::Integer(value) => Tensor::from(*value),
        Field::Scalar(value) => Tensor::from(*value).to_kind(Kind::Float),
        Field::Segmentation { height, width, classes } => {
            Tensor::from_slice(classes).view([*height as i64, *width as i64]).to_kind(Kind::Int64)
        }
        Field::Text(_) => bail!("some samples hold a text, others do not"),
    })
}
