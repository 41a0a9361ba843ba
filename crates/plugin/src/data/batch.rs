//! Samples joined into tensors: what models and metrics see.

use anyhow::{Result, bail};
use indexmap::IndexMap;
use tch::{Kind, Tensor};

use super::fields;

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
    /// `[N, K, 3]` x and y in pixels of the image given to the model, and 1.
    pub keypoints: Option<Tensor>,
    /// `[N, K]`, how sure each keypoint is; of any scale.
    pub keypoints_scores: Option<Tensor>,
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

    /// The same batch, its tensors shared.
    pub fn shallow_clone(&self) -> Batch {
        let mut batch = Batch::new(self.size);
        for (name, field) in self.iter() {
            let same = match field {
                BatchField::Stacked(tensor) => BatchField::Stacked(tensor.shallow_clone()),
                BatchField::List(tensors) => BatchField::List(tensors.iter().map(Tensor::shallow_clone).collect()),
                BatchField::Text(texts) => BatchField::Text(texts.clone()),
                BatchField::Detections(all) => {
                    BatchField::Detections(all.iter().map(Detections::shallow_clone).collect())
                }
            };
            batch.set(name, same);
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
    /// Objects without masks and keypoints.
    pub fn new(boxes: Tensor, labels: Tensor, scores: Tensor) -> Detections {
        Detections { boxes, labels, scores, masks: None, keypoints: None, keypoints_scores: None }
    }

    /// What there is, by name.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, &Tensor)> {
        let boxes = [("boxes", &self.boxes), ("labels", &self.labels), ("scores", &self.scores)];
        let more =
            [("masks", &self.masks), ("keypoints", &self.keypoints), ("keypoints_scores", &self.keypoints_scores)];
        boxes.into_iter().chain(more.into_iter().filter_map(|(name, part)| Some((name, part.as_ref()?))))
    }

    /// The same detections, their tensors shared.
    pub fn shallow_clone(&self) -> Detections {
        Detections {
            boxes: self.boxes.shallow_clone(),
            labels: self.labels.shallow_clone(),
            scores: self.scores.shallow_clone(),
            masks: self.masks.as_ref().map(Tensor::shallow_clone),
            keypoints: self.keypoints.as_ref().map(Tensor::shallow_clone),
            keypoints_scores: self.keypoints_scores.as_ref().map(Tensor::shallow_clone),
        }
    }
}

/// Images as floats in 0..1: bytes are divided by 255, floats stay.
pub fn to_float(images: &Tensor) -> Tensor {
    match images.kind() {
        Kind::Uint8 => images.to_kind(Kind::Float) / 255.0,
        _ => images.to_kind(Kind::Float),
    }
}
