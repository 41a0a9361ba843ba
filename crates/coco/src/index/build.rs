//! An [`Index`] of annotations that come in another format.

use anyhow::Result;

use super::parse::Raw;
use super::segments::Slot;
use super::{Annotation, Category, Image, Index, LoadOptions};

/// Collects images and objects.
#[derive(Default)]
pub struct Builder {
    raw: Raw,
}

/// One object to be added.
#[derive(Debug, Clone, Default)]
pub struct Object {
    /// Its category's id.
    pub category: u32,
    /// `[x, y, width, height]` in pixels.
    pub bbox: [f64; 4],
    /// Neither trained on nor counted in an evaluation, whatever is detected there.
    pub crowd: bool,
    /// The object's parts, each `x, y, x, y, …` in pixels; none where only the box is known.
    pub polygons: Vec<Vec<f64>>,
}

impl Builder {
    /// For these categories, by id.
    pub fn new(categories: impl IntoIterator<Item = (u32, String)>) -> Builder {
        let categories =
            categories.into_iter().map(|(id, name)| Category { id, name, keypoints: Vec::new() }).collect();
        let mut raw = Raw::default();
        raw.categories = Some(categories);
        (raw.images, raw.annotations) = (Some(Vec::new()), Some(Vec::new()));
        Builder { raw }
    }

    /// Adds an image of `[height, width]` pixels.
    pub fn image(&mut self, id: i64, file_name: &str, [height, width]: [u32; 2]) {
        self.raw.images.get_or_insert_default().push(Image { id, height, width, file_name: file_name.into() });
    }

    /// Adds an object of an image. Its area is that of its polygons, else of its box.
    ///
    /// # Errors
    /// When the coordinates do not fit (4 billion).
    pub fn object(&mut self, image: i64, object: &Object) -> Result<()> {
        let values: Vec<f64> = object.polygons.concat();
        let ends: Vec<usize> = object.polygons.iter().scan(0, |end, part| Some(add(end, part.len()))).collect();
        let slot = self.raw.segments.push_polygons(&values, &ends)?;
        let [_, _, width, height] = object.bbox;
        let area = if ends.is_empty() { width * height } else { object.polygons.iter().map(|part| area(part)).sum() };
        let annotations = self.raw.annotations.get_or_insert_default();
        annotations.push(Annotation {
            id: annotations.len() as i64 + 1,
            image_id: image,
            category_id: object.category,
            bbox: object.bbox,
            area,
            crowd: object.crowd,
            box_usable: true,
            mask_usable: slot != Slot::None,
            slot,
        });
        Ok(())
    }

    /// The index, checked like one from a file.
    ///
    /// # Errors
    /// Those of [`Index::open`].
    pub fn finish(self, options: &LoadOptions) -> Result<Index> {
        Index::resolve(self.raw, options)
    }
}

fn add(sum: &mut usize, more: usize) -> usize {
    *sum += more;
    *sum
}

/// Of a polygon, by the shoelace formula.
fn area(polygon: &[f64]) -> f64 {
    let points = polygon.as_chunks::<2>().0;
    let next = points.iter().cycle().skip(1);
    let twice: f64 = points.iter().zip(next).map(|([x, y], [u, v])| x * v - u * y).sum();
    twice.abs() / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_again() {
        let mut builder = Builder::new([(1, "cat".to_owned()), (2, "dog".to_owned())]);
        builder.image(7, "b.jpg", [10, 20]);
        builder.image(3, "a.jpg", [10, 20]);
        let square = vec![1.0, 1.0, 5.0, 1.0, 5.0, 5.0, 1.0, 5.0];
        let object = Object { category: 2, bbox: [1.0, 1.0, 4.0, 4.0], polygons: vec![square], ..Object::default() };
        builder.object(3, &object).unwrap();
        builder.object(7, &Object { category: 1, bbox: [0.0, 0.0, 2.5, 2.0], ..Object::default() }).unwrap();
        let index = builder.finish(&LoadOptions::default()).unwrap();
        assert_eq!(index.images().iter().map(|image| &*image.file_name).collect::<Vec<_>>(), ["a.jpg", "b.jpg"]);
        let (first, second) = (&index.annotations(0)[0], &index.annotations(1)[0]);
        assert_eq!((first.area, first.mask_usable), (16.0, true));
        assert_eq!((second.area, second.mask_usable), (5.0, false));
        assert_eq!(index.mask(first).unwrap().area(), 16);
    }
}
