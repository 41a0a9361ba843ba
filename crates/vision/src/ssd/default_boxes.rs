//! Default boxes: section 2.2 of the paper. torchvision's `DefaultBoxGenerator`.

use std::cell::RefCell;

use anyhow::{Result, ensure};
use tch::{Device, Tensor};

use crate::ImageSize;

/// Boxes of several sizes and shapes at every place of every feature map.
#[derive(Debug)]
pub struct DefaultBoxes {
    /// For each map the widths and heights, as parts of the image's.
    shapes: Vec<Vec<[f32; 2]>>,
    steps: Option<Vec<f64>>,
    /// Those that were wanted last: an upload in every step would wait each time.
    last: RefCell<Option<Made>>,
}

#[derive(Debug)]
struct Made {
    of: (ImageSize, Vec<ImageSize>, Device),
    boxes: Tensor,
}

impl DefaultBoxes {
    /// See [`super::SsdOptions`].
    ///
    /// # Errors
    /// The lists have other lengths, or a number is not positive.
    pub fn new(aspect_ratios: &[Vec<f64>], scales: &[f64], steps: Option<Vec<f64>>) -> Result<Self> {
        let maps = aspect_ratios.len();
        ensure!(scales.len() == maps + 1, "there are {} scales for {maps} feature maps; give one more", scales.len());
        let stepped = steps.as_ref().is_none_or(|steps| steps.len() == maps);
        ensure!(stepped, "there must be as many steps as feature maps, {maps}");
        let mut numbers = aspect_ratios.iter().flatten().chain(scales).chain(steps.iter().flatten());
        ensure!(numbers.all(|number| *number > 0.0), "aspect ratios, scales and steps must be positive");
        let of_map = |(map, ratios): (usize, &Vec<f64>)| {
            let (scale, between) = (scales[map], (scales[map] * scales[map + 1]).sqrt());
            let turned = ratios.iter().flat_map(|ratio| {
                let (w, h) = (scale * ratio.sqrt(), scale / ratio.sqrt());
                [[w, h], [h, w]]
            });
            let all = [[scale, scale], [between, between]].into_iter().chain(turned);
            all.map(|shape| shape.map(|side| (side as f32).clamp(0.0, 1.0))).collect()
        };
        let shapes = aspect_ratios.iter().enumerate().map(of_map).collect();
        Ok(Self { shapes, steps, last: RefCell::new(None) })
    }

    /// Boxes at each place of each map.
    pub fn per_place(&self) -> Vec<i64> {
        self.shapes.iter().map(|shapes| shapes.len() as i64).collect()
    }

    /// The boxes of all maps, `[A, 4]` in pixels of images of that size; within a map row by row, those of a place together.
    ///
    /// # Errors
    /// There are not as many maps as there are boxes for.
    pub fn boxes(&self, image: ImageSize, maps: &[Tensor]) -> Result<Tensor> {
        ensure!(maps.len() == self.shapes.len(), "{} feature maps, but boxes for {}", maps.len(), self.shapes.len());
        let mut sizes = Vec::with_capacity(maps.len());
        for map in maps {
            let (_, _, height, width) = map.size4()?;
            sizes.push((height, width));
        }
        let of = (image, sizes, maps[0].device());
        let mut last = self.last.borrow_mut();
        let made = match last.take() {
            Some(made) if made.of == of => made,
            _ => {
                let corners = self.corners(image, &of.1);
                let boxes = Tensor::f_from_slice(&corners)?.f_view([-1, 4])?.f_to_device(of.2)?;
                Made { of, boxes }
            }
        };
        Ok(last.insert(made).boxes.shallow_clone())
    }

    /// In single precision, as torchvision computes them.
    fn corners(&self, image: ImageSize, maps: &[ImageSize]) -> Vec<f32> {
        let (image_h, image_w) = (image.0 as f32, image.1 as f32);
        let mut corners = Vec::new();
        for (map, (shapes, (height, width))) in self.shapes.iter().zip(maps).enumerate() {
            let places = |count: i64, image: i64| match &self.steps {
                Some(steps) => (image as f64 / steps[map]) as f32,
                None => count as f32,
            };
            let (rows, columns) = (places(*height, image.0), places(*width, image.1));
            for row in 0..*height {
                for column in 0..*width {
                    let (x, y) = ((column as f32 + 0.5) / columns, (row as f32 + 0.5) / rows);
                    for [w, h] in shapes {
                        let (w, h) = (0.5 * w, 0.5 * h);
                        corners.extend([(x - w) * image_w, (y - h) * image_h, (x + w) * image_w, (y + h) * image_h]);
                    }
                }
            }
        }
        corners
    }
}
