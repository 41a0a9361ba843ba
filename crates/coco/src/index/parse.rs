//! COCO JSON to tables in one pass: nothing is held as a tree, coordinates go straight to their buffers.

use std::fmt;
use std::io::Read;

use anyhow::{Result, anyhow};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::keypoints::Points;
use super::loose::Loose;
use super::segments::{Segments, Slot};
use super::shape::{Scratch, Shape};
use super::{Annotation, Category, Image};

/// What a file says, before anything is resolved.
#[derive(Default)]
#[cfg_attr(test, derive(Debug))]
pub(super) struct Raw {
    pub images: Option<Vec<Image>>,
    pub categories: Option<Vec<Category>>,
    pub annotations: Option<Vec<Annotation>>,
    pub segments: Segments,
    /// Where they are wanted.
    pub keypoints: Option<Points>,
    /// Annotations without an `area`.
    pub without_area: Vec<i64>,
    /// Places, in their lists, of the annotations and of the images that lack what they are known by.
    pub odd_annotations: Vec<i64>,
    pub odd_images: Vec<i64>,
    progress: Progress,
    scratch: Scratch,
}

/// Where reading stands, for messages: the section and how many of its entries are done.
type Progress = Option<(&'static str, usize)>;

impl Raw {
    /// Of nothing yet.
    pub fn new(keypoints: bool) -> Self {
        Self { keypoints: keypoints.then(Points::default), ..Self::default() }
    }

    /// Reads a whole file; `name` is for messages.
    pub fn read(reader: impl Read, name: &str, keypoints: bool) -> Result<Self> {
        let mut raw = Self::new(keypoints);
        let mut json = serde_json::Deserializer::from_reader(reader);
        let read = Document(&mut raw).deserialize(&mut json).and_then(|()| json.end());
        read.map_err(|error| explain(&error, name, raw.progress))?;
        Ok(raw)
    }
}

/// A JSON error with the entry it is in and, for a file cut short, what to do.
pub(crate) fn explain(error: &serde_json::Error, name: &str, progress: Progress) -> anyhow::Error {
    let inside = progress.map_or(String::new(), |(section, done)| format!(", in {section}[{done}]"));
    if error.is_eof() {
        let (line, column) = (error.line(), error.column());
        return anyhow!(
            "{name} is truncated: it ends at line {line}, column {column}{inside}; the download or copy was incomplete, fetch the file again"
        );
    }
    anyhow!("{name}{inside}: {error}")
}

/// An integer; `7.0` is one, since some tools write ids so.
#[derive(Clone, Copy)]
pub(crate) struct Whole(pub i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = i64;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer")
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<i64, E> {
                Ok(value)
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<i64, E> {
                i64::try_from(value).map_err(|_| E::custom(format!("{value} is too large")))
            }
            fn visit_f64<E: Error>(self, value: f64) -> Result<i64, E> {
                // Up to 2⁵³ every integer is exact.
                if value.fract() == 0.0 && value.abs() < 9e15 {
                    Ok(value as i64)
                } else {
                    Err(E::custom(format!("{value} is not an integer")))
                }
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<i64, E> {
                Ok(i64::from(value))
            }
        }
        deserializer.deserialize_any(Number).map(Self)
    }
}

pub(super) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let Whole(number) = Whole::deserialize(deserializer)?;
    u32::try_from(number).map_err(|_| D::Error::custom(format!("{number} is out of range (0 to {})", u32::MAX)))
}

/// The whole file.
struct Document<'a>(&'a mut Raw);

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(field_identifier, rename_all = "lowercase")]
pub(super) enum Section {
    Images,
    Categories,
    Annotations,
    #[serde(other)]
    Other,
}

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `images`, `annotations` and `categories` (a list is a results file)")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(section) = map.next_key::<Section>()? {
            let given = match section {
                Section::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                Section::Images => self.0.images.replace(Vec::new()).is_some(),
                Section::Categories => self.0.categories.replace(Vec::new()).is_some(),
                Section::Annotations => self.0.annotations.replace(Vec::new()).is_some(),
            };
            if given {
                return Err(A::Error::custom("duplicate section"));
            }
            map.next_value_seed(List { raw: self.0, section })?;
            self.0.progress = None;
        }
        Ok(())
    }
}

/// The list of one section.
pub(super) struct List<'a> {
    pub raw: &'a mut Raw,
    pub section: Section,
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let raw = self.raw;
        match self.section {
            Section::Images => {
                let images: Vec<LooseImage> = entries(&mut seq, "images", &mut raw.progress)?;
                let mut right = Vec::with_capacity(images.len());
                for (place, image) in images.into_iter().enumerate() {
                    match image.right() {
                        Some(image) => right.push(image),
                        None => raw.odd_images.push(place as i64),
                    }
                }
                raw.images = Some(right);
            }
            Section::Categories => raw.categories = Some(entries(&mut seq, "categories", &mut raw.progress)?),
            Section::Annotations => {
                let mut annotations = Vec::new();
                raw.progress = Some(("annotations", 0));
                let mut done = 0;
                while let Some(annotation) = seq.next_element_seed(Entry(raw))? {
                    match annotation {
                        Some(annotation) => annotations.push(annotation),
                        None => raw.odd_annotations.push(done as i64),
                    }
                    done += 1;
                    raw.progress = Some(("annotations", done));
                }
                raw.annotations = Some(annotations);
            }
            Section::Other => {}
        }
        Ok(())
    }
}

/// A plain list, counted.
fn entries<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(
    seq: &mut A,
    section: &'static str,
    progress: &mut Progress,
) -> Result<Vec<T>, A::Error> {
    let mut list = Vec::new();
    *progress = Some((section, 0));
    while let Some(entry) = seq.next_element()? {
        list.push(entry);
        *progress = Some((section, list.len()));
    }
    Ok(list)
}

/// One image, as far as it is right.
#[derive(Deserialize)]
struct LooseImage {
    #[serde(default = "null")]
    id: Loose<i64>,
    #[serde(default = "null")]
    height: Loose<i64>,
    #[serde(default = "null")]
    width: Loose<i64>,
    #[serde(default = "null")]
    file_name: Loose<Box<str>>,
}

fn null<T>() -> Loose<T> {
    Loose::Null
}

impl LooseImage {
    /// `None` for one without an id, or with something else than a number or a text where there is one. What is missing is looked at
    /// where it is needed.
    fn right(self) -> Option<Image> {
        let side = |side: Loose<i64>| match side {
            Loose::Right(side) => u32::try_from(side).ok(),
            Loose::Null => Some(0),
            Loose::Odd => None,
        };
        let file_name = match self.file_name {
            Loose::Right(name) => name,
            Loose::Null => Box::default(),
            Loose::Odd => return None,
        };
        Some(Image { id: self.id.right()?, height: side(self.height)?, width: side(self.width)?, file_name })
    }
}

/// One annotation.
struct Entry<'a>(&'a mut Raw);

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Id,
    ImageId,
    CategoryId,
    Bbox,
    Area,
    Iscrowd,
    Segmentation,
    Keypoints,
    #[serde(other)]
    Other,
}

impl<'de> DeserializeSeed<'de> for Entry<'_> {
    type Value = Option<Annotation>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entry<'_> {
    type Value = Option<Annotation>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an annotation (an object)")
    }

    /// `None` for one without a number by which it, its image or its category is known.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut id, mut image_id, mut category, mut bbox) = (None, None, None, None);
        let (mut area, mut crowd, mut slot, mut points) = (None, Loose::Right(0), Slot::None, None);
        while let Some(field) = map.next_key::<Field>()? {
            match field {
                Field::Id => id = map.next_value::<Loose<i64>>()?.right(),
                Field::ImageId => image_id = map.next_value::<Loose<i64>>()?.right(),
                Field::CategoryId => category = map.next_value::<Loose<i64>>()?.right(),
                Field::Bbox => bbox = map.next_value::<Loose<[f64; 4]>>()?.right(),
                Field::Area => area = map.next_value::<Loose<f64>>()?.right(),
                Field::Iscrowd => crowd = map.next_value::<Loose<i64>>()?,
                Field::Segmentation => {
                    let Raw { segments, scratch, .. } = &mut *self.0;
                    slot = map.next_value_seed(Shape { keep: segments, scratch })?;
                }
                Field::Keypoints if self.0.keypoints.is_some() => points = Some(map.next_value::<serde_json::Value>()?),
                Field::Keypoints | Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        // A box that is none is told with its id once all are read, or left out.
        let bbox = bbox.unwrap_or([f64::NAN; 4]);
        let category = category.and_then(|category| u32::try_from(category).ok());
        let (Some(id), Some(image_id), Some(category_id), true) = (id, image_id, category, crowd != Loose::Odd) else {
            return Ok(None);
        };
        if let (Some(points), Some(all)) = (points, &mut self.0.keypoints) {
            all.add(id, &points);
        }
        if area.is_none() {
            self.0.without_area.push(id);
        }
        Ok(Some(Annotation {
            id,
            image_id,
            category_id,
            bbox,
            area: area.unwrap_or(bbox[2] * bbox[3]),
            crowd: crowd.right().is_some_and(|crowd| crowd != 0),
            box_usable: true,
            mask_usable: slot != Slot::None,
            slot,
        }))
    }
}
