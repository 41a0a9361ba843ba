//! [`Raw`] of a file in which nothing is wrong, in pieces on all cores.

use std::io::Read;

use serde::Deserialize;
use serde::de::DeserializeSeed;

use super::Category;
use super::parse::{List, Raw, Section};
use crate::pieces::{self, Lists};

/// What is left of a file without its images and annotations.
#[derive(Deserialize)]
struct Skeleton {
    images: Vec<u8>,
    annotations: Vec<u8>,
    categories: Vec<Category>,
}

impl Raw {
    /// What [`Raw::read`] reads, sooner. `None` where that one is to be asked, which can say what is wrong, and knows Python's words.
    pub fn read_quickly(reader: impl Read + Send, keypoints: bool) -> Option<Self> {
        let mut whole = Self::new(keypoints);
        let part = |list, text: &[u8]| {
            let mut part = Self::new(keypoints);
            let section = [Section::Images, Section::Annotations][list];
            let mut json = serde_json::Deserializer::from_slice(text);
            List { raw: &mut part, section }.deserialize(&mut json).and_then(|()| json.end()).ok()?;
            Some(part)
        };
        let lists = Lists::Keys(&["images", "annotations"]);
        let (skeleton, counts) = pieces::read(reader, lists, part, |part| whole.append(part))?;
        if !skeleton.trim_ascii_start().starts_with(b"{") {
            return None;
        }
        let Skeleton { images, annotations, categories } = serde_json::from_slice(&skeleton).ok()?;
        if [images.len(), annotations.len()] != counts[..] {
            return None;
        }
        whole.categories = Some(categories);
        whole.images.get_or_insert_default();
        whole.annotations.get_or_insert_default();
        Some(whole)
    }

    /// Adds what comes next in the file.
    fn append(&mut self, next: Self) -> Option<()> {
        let images = self.images.get_or_insert_default();
        let before = (images.len() + self.odd_images.len()) as i64;
        self.odd_images.extend(next.odd_images.iter().map(|place| before + place));
        images.extend(next.images.unwrap_or_default());

        let annotations = self.annotations.get_or_insert_default();
        let before = (annotations.len() + self.odd_annotations.len()) as i64;
        self.odd_annotations.extend(next.odd_annotations.iter().map(|place| before + place));
        self.without_area.extend(next.without_area);
        let firsts = self.segments.append(&next.segments).ok()?;
        annotations.extend(next.annotations.unwrap_or_default().into_iter().map(|mut annotation| {
            annotation.slot = annotation.slot.behind(firsts);
            annotation
        }));
        if let (Some(all), Some(next)) = (&mut self.keypoints, next.keypoints) {
            all.append(next);
        }
        Some(())
    }
}
