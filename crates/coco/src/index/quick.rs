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

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor};

    use super::*;
    use crate::index::PythonJson;
    use crate::pieces::tests::damaged;

    const FILE: &str = r#"{"info": {"year": [2017, {"a": "]}"}]},
        "images": [{"id": 9, "width": 10, "height": 8, "file_name": "n\"{.jpg"}, {"id": "x"}, {"id": 5, "width": 8, "height": 8, "file_name": "f.jpg"},
            {"id": 7, "width": 8, "height": 8}],
        "annotations": [{"id": 1, "image_id": 9, "category_id": 90, "bbox": [1, 2, 3.5, 4], "segmentation": [[1.25, 2, 4.5, 2, 4.5, 6], [1, 2]]},
            {"id": 2, "image_id": 5, "category_id": 3, "bbox": [0, 0, 2, 2], "area": 4, "segmentation": {"counts": [0, 2, 6, 2, 54], "size": [8, 8]}},
            {"id": null}, {"id": 3, "image_id": 9, "area": 1e0, "category_id": 3, "bbox": [0, 0, 2, 2], "keypoints": [1, 2, 2]},
            {"id": 4, "image_id": 9, "iscrowd": 1, "category_id": 3, "bbox": null, "area": 1, "segmentation": {"size": [8, 10], "counts": "0260P2"}},
            {"id": 5, "image_id": 9, "category_id": 3, "bbox": [0, 0, 2, 2], "area": 1, "segmentation": [[0.001, 0.001, 1, 0, 1, 1]]}],
        "categories": [{"id": 90, "name": "b"}, {"id": 3, "name": "c"}]}"#;

    /// But for where it stands.
    fn all(raw: &Raw) -> String {
        let text = format!("{raw:?}");
        text[..text.find("progress").unwrap()].to_owned()
    }

    fn slowly(text: &[u8]) -> anyhow::Result<Raw> {
        Raw::read(BufReader::new(PythonJson::new(text)), "f.json", true)
    }

    #[test]
    fn what_is_right_is_read_alike() {
        let quick = Raw::read_quickly(Cursor::new(FILE), true).unwrap();
        assert_eq!((quick.odd_images.as_slice(), quick.odd_annotations.as_slice()), (&[1][..], &[2][..]));
        assert_eq!(all(&quick), all(&slowly(FILE.as_bytes()).unwrap()));
    }

    #[test]
    fn what_is_wrong_is_left_to_the_other_reader() {
        let mut right = 0;
        for text in damaged(FILE) {
            let Some(quick) = Raw::read_quickly(Cursor::new(&text), true) else { continue };
            let slow = slowly(&text).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&text)));
            assert_eq!(all(&quick), all(&slow), "{}", String::from_utf8_lossy(&text));
            right += 1;
        }
        assert!(right > 1000, "{right}");
    }
}
