//! One sample: named, typed fields, so that transforms act by type.

use anyhow::{Result, anyhow, ensure};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::fields;
use super::image::{Image, Pixels};
use super::masks::Masks;

/// The value of one field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Field {
    /// An image.
    Image(Image),
    /// Boxes, xyxy in pixels.
    Boxes(Vec<[f32; 4]>),
    /// Instance masks, all of the image's size.
    Masks(Masks),
    /// Per instance: x, y, visibility of each keypoint, all instances having as many.
    Keypoints(Vec<Vec<[f32; 3]>>),
    /// Whole numbers, one an instance.
    Integers(Vec<i64>),
    /// Numbers, one an instance.
    Numbers(Vec<f32>),
    /// Height and width of an image.
    Size([usize; 2]),
    /// One whole number.
    Integer(i64),
    /// One number.
    Scalar(f64),
    /// A text.
    Text(String),
    /// Classes of all pixels, row by row.
    Segmentation {
        /// Height in pixels.
        height: usize,
        /// Width in pixels.
        width: usize,
        /// `height * width` classes.
        #[serde(with = "serde_bytes")]
        classes: Vec<u8>,
    },
}

impl Field {
    /// Number of instances, in a field of instances.
    pub fn instances(&self) -> Option<usize> {
        match self {
            Field::Boxes(boxes) => Some(boxes.len()),
            Field::Masks(masks) => Some(masks.instances.len()),
            Field::Keypoints(instances) => Some(instances.len()),
            Field::Integers(values) => Some(values.len()),
            Field::Numbers(values) => Some(values.len()),
            _ => None,
        }
    }

    /// Whether sizes and numbers of values agree; what was made elsewhere is not trusted to.
    fn check(&self) -> Result<()> {
        match self {
            Field::Image(image) => {
                let values = match &image.pixels {
                    Pixels::U8(bytes) => bytes.len(),
                    Pixels::F32(values) => values.len(),
                };
                let (height, width, channels) = (image.height, image.width, image.channels);
                ensure!(
                    values == height * width * channels,
                    "a picture of {height} by {width} with {channels} channels has {values} values"
                );
            }
            Field::Masks(masks) => {
                for mask in &masks.instances {
                    let inside = mask.left + mask.width <= masks.width && mask.top + mask.height <= masks.height;
                    ensure!(
                        inside && mask.bits.len() == mask.width * mask.height,
                        "a mask's window does not fit its values or the picture"
                    );
                }
            }
            Field::Segmentation { height, width, classes } => {
                ensure!(classes.len() == height * width, "{} classes for {height} by {width} pixels", classes.len());
            }
            _ => {}
        }
        Ok(())
    }

    fn keep_instances(&mut self, keep: &[bool]) {
        match self {
            Field::Boxes(boxes) => retain(boxes, keep),
            Field::Masks(masks) => retain(&mut masks.instances, keep),
            Field::Keypoints(instances) => retain(instances, keep),
            Field::Integers(values) => retain(values, keep),
            Field::Numbers(values) => retain(values, keep),
            _ => {}
        }
    }
}

fn retain<T>(values: &mut Vec<T>, keep: &[bool]) {
    let mut keep = keep.iter();
    values.retain(|_| keep.next().copied().unwrap_or(true));
}

/// One sample: fields by name, in the order in which they were added.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Sample {
    fields: IndexMap<String, Field>,
}

impl Sample {
    /// A sample without fields.
    pub fn new() -> Sample {
        Sample::default()
    }

    /// The sample with one more field, or with that field replaced.
    pub fn with(mut self, name: &str, field: Field) -> Sample {
        self.set(name, field);
        self
    }

    /// Adds or replaces a field.
    pub fn set(&mut self, name: &str, field: Field) {
        self.fields.insert(name.to_owned(), field);
    }

    /// The field of that name.
    pub fn get(&self, name: &str) -> Option<&Field> {
        self.fields.get(name)
    }

    /// The field of that name, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Field> {
        self.fields.get_mut(name)
    }

    /// Takes a field out.
    pub fn remove(&mut self, name: &str) -> Option<Field> {
        self.fields.shift_remove(name)
    }

    /// All fields with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Field)> {
        self.fields.iter().map(|(name, field)| (name.as_str(), field))
    }

    /// All fields, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Field)> {
        self.fields.iter_mut().map(|(name, field)| (name.as_str(), field))
    }

    /// The image.
    ///
    /// # Errors
    /// When the sample has none.
    pub fn image(&self) -> Result<&Image> {
        match self.get(fields::IMAGE) {
            Some(Field::Image(image)) => Ok(image),
            _ => Err(anyhow!("the sample {} has no image", self.source())),
        }
    }

    /// The image, to be changed.
    ///
    /// # Errors
    /// When the sample has none.
    pub fn image_mut(&mut self) -> Result<&mut Image> {
        let source = self.source().to_owned();
        match self.get_mut(fields::IMAGE) {
            Some(Field::Image(image)) => Ok(image),
            _ => Err(anyhow!("the sample {source} has no image")),
        }
    }

    /// Number of instances (boxes, masks, keypoints, or numbers one an instance), when there are such fields.
    pub fn instances(&self) -> Option<usize> {
        self.iter().find_map(|(_, field)| field.instances())
    }

    /// Drops the instances for which `keep` is false from every field of instances.
    pub fn keep_instances(&mut self, keep: &[bool]) {
        if keep.iter().all(|&k| k) {
            return;
        }
        for (_, field) in self.iter_mut() {
            if field.instances() == Some(keep.len()) {
                field.keep_instances(keep);
            }
        }
    }

    /// Whether the fields are whole: images with as many values as pixels, masks inside them.
    ///
    /// # Errors
    /// The first field that is not.
    pub fn check(&self) -> Result<()> {
        self.iter().try_for_each(|(name, field)| {
            field.check().map_err(|e| e.context(format!("field `{name}` of sample {}", self.source())))
        })
    }

    /// Where the sample came from, for messages.
    pub fn source(&self) -> &str {
        match self.get(fields::SOURCE) {
            Some(Field::Text(text)) => text,
            _ => "(unnamed)",
        }
    }
}
