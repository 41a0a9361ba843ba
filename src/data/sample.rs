//! One sample: named, typed fields, so that transforms act by type.

use anyhow::{Result, anyhow};
use indexmap::IndexMap;

use super::fields;
use super::image::Image;

/// The value of one field.
#[derive(Debug, Clone, PartialEq)]
pub enum Field {
    /// A picture.
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
        classes: Vec<u8>,
    },
}

/// Instance masks of one image, one byte (0 or 1) a pixel, row by row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Masks {
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// One buffer of `height * width` an instance.
    pub bitmaps: Vec<Vec<u8>>,
}

/// One sample: fields by name, in the order in which they were added.
#[derive(Debug, Clone, PartialEq, Default)]
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

    /// The picture.
    ///
    /// # Errors
    /// When the sample has none.
    pub fn image(&self) -> Result<&Image> {
        match self.get(fields::IMAGE) {
            Some(Field::Image(image)) => Ok(image),
            _ => Err(anyhow!("the sample {} has no image", self.source())),
        }
    }

    /// The picture, to be changed.
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

    /// Where the sample came from, for messages.
    pub fn source(&self) -> &str {
        match self.get(fields::SOURCE) {
            Some(Field::Text(text)) => text,
            _ => "(unnamed)",
        }
    }
}
