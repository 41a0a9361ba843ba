//! Geometry of every field of a sample at once.

use anyhow::Result;

use super::crop::{Window, cropped, window_of};
use super::fill::OUTSIDE;
use super::resize::{Interpolation, check_size, resized};
use super::warp::{Affine, Frame, Size, warp_classes, warp_masks, warped};
use crate::fields;
use crate::image::{Image, Pixels};
use crate::masks::nearest;
use crate::sample::{Field, Sample};

/// Resizes a sample to `height` by `width`.
///
/// # Errors
/// When it has no image or one of zero size, or too many pixels are asked for.
pub fn resize(sample: &mut Sample, height: usize, width: usize, interpolation: Interpolation) -> Result<()> {
    let (old_height, old_width) = size(sample)?;
    if (old_height, old_width) == (height, width) {
        return Ok(());
    }
    check_size(height, width)?;
    let (y, x) = (height as f32 / old_height as f32, width as f32 / old_width as f32);
    for (name, field) in sample.iter_mut() {
        match field {
            Field::Image(image) => *image = resized(image, height, width, interpolation)?,
            Field::Masks(masks) => masks.resize(height, width),
            Field::Segmentation { height: h, width: w, classes } => {
                let (rows, columns) = (nearest(*h, height), nearest(*w, width));
                let taken = rows.iter().flat_map(|row| {
                    let row = &classes[row * *w..][..*w];
                    columns.iter().map(|&column| row[column])
                });
                *classes = taken.collect();
                (*h, *w) = (height, width);
            }
            Field::Numbers(areas) if name == fields::AREA => areas.iter_mut().for_each(|area| *area *= x * y),
            field => move_points(field, |px, py| (px * x, py * y)),
        }
    }
    Ok(())
}

/// Turns left and right round.
///
/// # Errors
/// When the sample has no image.
pub fn flip_horizontal(sample: &mut Sample) -> Result<()> {
    let width = size(sample)?.1;
    for (_, field) in sample.iter_mut() {
        match field {
            Field::Image(image) => flip_rows(image),
            Field::Masks(masks) => masks.flip_horizontal(),
            Field::Segmentation { width, classes, .. } => classes.chunks_exact_mut(*width).for_each(<[u8]>::reverse),
            field => move_points(field, |x, y| (width as f32 - x, y)),
        }
    }
    Ok(())
}

/// Turns top and bottom round.
///
/// # Errors
/// When the sample has no image.
pub fn flip_vertical(sample: &mut Sample) -> Result<()> {
    let height = size(sample)?.0;
    for (_, field) in sample.iter_mut() {
        match field {
            Field::Image(image) => {
                let row = image.width * image.channels;
                match &mut image.pixels {
                    Pixels::U8(values) => reverse_rows(values, row),
                    Pixels::F32(values) => reverse_rows(values, row),
                }
            }
            Field::Masks(masks) => masks.flip_vertical(),
            Field::Segmentation { width, classes, .. } => reverse_rows(classes, *width),
            field => move_points(field, |x, y| (x, height as f32 - y)),
        }
    }
    Ok(())
}

/// Keeps a window of the sample. What lies outside the image becomes `fill` (one value for all channels, or one each;
/// 0..255 for bytes, 0..1 for floats).
///
/// # Errors
/// When the sample has no image, or the window too many pixels.
pub fn crop(sample: &mut Sample, window: Window, fill: &[f32]) -> Result<()> {
    size(sample)?;
    check_size(window.height, window.width)?;
    let before = extents(sample);
    for (_, field) in sample.iter_mut() {
        match field {
            Field::Image(image) => *image = cropped(image, window, fill),
            Field::Masks(masks) => masks.crop(window.top, window.left, window.height, window.width),
            Field::Segmentation { height, width, classes } => {
                *classes = window_of(classes, (*height, *width), 1, window, &[OUTSIDE]);
                (*height, *width) = (window.height, window.width);
            }
            field => move_points(field, |x, y| (x - window.left as f32, y - window.top as f32)),
        }
    }
    clip(sample, window.height, window.width);
    drop_vanished(sample, &before);
    Ok(())
}

/// Moves the sample by an affine map about its middle; the size stays. `fill` as in [`crop`](fn@crop).
///
/// # Errors
/// When the sample has no image.
pub fn warp(sample: &mut Sample, affine: &Affine, interpolation: Interpolation, fill: &[f32]) -> Result<()> {
    let size = size(sample)?;
    warp_to(sample, affine, size, interpolation, fill)
}

/// As [`warp`](fn@warp), into an image of another height and width, the middles of both on each other.
///
/// # Errors
/// When the sample has no image, or too many pixels are asked for.
pub fn warp_to(
    sample: &mut Sample,
    affine: &Affine,
    to: Size,
    interpolation: Interpolation,
    fill: &[f32],
) -> Result<()> {
    let frame = Frame { from: size(sample)?, to };
    check_size(to.0, to.1)?;
    let before = extents(sample);
    for (_, field) in sample.iter_mut() {
        match field {
            Field::Image(image) => *image = warped(image, affine, to, interpolation, fill),
            Field::Masks(masks) => warp_masks(masks, affine, to),
            Field::Segmentation { height, width, classes } => {
                *classes = warp_classes(classes, affine, frame);
                (*height, *width) = to;
            }
            Field::Boxes(boxes) => boxes.iter_mut().for_each(|b| *b = affine.hull(*b, frame)),
            field => move_points(field, |x, y| affine.forward(x, y, frame)),
        }
    }
    clip(sample, to.0, to.1);
    drop_vanished(sample, &before);
    Ok(())
}

/// Height and width of the sample's image.
///
/// # Errors
/// When it has none.
pub fn size(sample: &Sample) -> Result<(usize, usize)> {
    sample.image().map(|image| (image.height, image.width))
}

/// Moves boxes (by two corners, put in order afterwards) and the keypoints that are there.
fn move_points(field: &mut Field, to: impl Fn(f32, f32) -> (f32, f32)) {
    match field {
        Field::Boxes(boxes) => {
            for b in boxes {
                let ((x0, y0), (x1, y1)) = (to(b[0], b[1]), to(b[2], b[3]));
                *b = [x0.min(x1), y0.min(y1), x0.max(x1), y0.max(y1)];
            }
        }
        Field::Keypoints(instances) => {
            for point in instances.iter_mut().flatten().filter(|point| point[2] > 0.0) {
                (point[0], point[1]) = to(point[0], point[1]);
            }
        }
        _ => {}
    }
}

/// Clips boxes to the image borders; keypoints beyond them are no longer there.
fn clip(sample: &mut Sample, height: usize, width: usize) {
    let (h, w) = (height as f32, width as f32);
    for (_, field) in sample.iter_mut() {
        match field {
            Field::Boxes(boxes) => {
                for b in boxes {
                    *b = [b[0].clamp(0.0, w), b[1].clamp(0.0, h), b[2].clamp(0.0, w), b[3].clamp(0.0, h)];
                }
            }
            Field::Keypoints(instances) => {
                let outside = |p: &&mut [f32; 3]| !(0.0..=w).contains(&p[0]) || !(0.0..=h).contains(&p[1]);
                instances.iter_mut().flatten().filter(outside).for_each(|point| *point = [0.0; 3]);
            }
            _ => {}
        }
    }
}

/// How large each instance is: pixels of its mask, square pixels of its box.
struct Extents {
    masks: Option<Vec<f32>>,
    boxes: Option<Vec<f32>>,
}

fn extents(sample: &Sample) -> Extents {
    let find = |f: fn(&Field) -> Option<Vec<f32>>| sample.iter().find_map(|(_, field)| f(field));
    Extents {
        masks: find(|field| match field {
            Field::Masks(masks) => Some(masks.instances.iter().map(|mask| mask.area() as f32).collect()),
            _ => None,
        }),
        boxes: find(|field| match field {
            Field::Boxes(boxes) => {
                Some(boxes.iter().map(|b| (b[2] - b[0]).max(0.0) * (b[3] - b[1]).max(0.0)).collect())
            }
            _ => None,
        }),
    }
}

/// Scales areas by what happened to each instance, and drops those of which nothing is left.
fn drop_vanished(sample: &mut Sample, before: &Extents) {
    let after = extents(sample);
    let pairs = |before: &Option<Vec<f32>>, after: &Option<Vec<f32>>| match (before, after) {
        (Some(before), Some(after)) => Some(before.iter().copied().zip(after.iter().copied()).collect::<Vec<_>>()),
        _ => None,
    };
    let masks = pairs(&before.masks, &after.masks);
    let boxes = pairs(&before.boxes, &after.boxes);
    if let (Some(Field::Numbers(areas)), Some(extents)) =
        (sample.get_mut(fields::AREA), masks.as_ref().or(boxes.as_ref()))
    {
        for (area, (before, after)) in areas.iter_mut().zip(extents) {
            *area *= if *before > 0.0 { after / before } else { 0.0 };
        }
    }
    let count = masks.as_ref().or(boxes.as_ref()).map_or(0, Vec::len);
    let keep: Vec<bool> = (0..count)
        .map(|i| {
            // An instance without a mask from the start is judged by its box alone.
            let mask_gone = masks.as_ref().is_some_and(|m| m[i].0 > 0.0 && m[i].1 == 0.0);
            let box_gone = boxes.as_ref().is_some_and(|b| b[i].1 == 0.0);
            !(mask_gone || box_gone)
        })
        .collect();
    sample.keep_instances(&keep);
}

fn flip_rows(image: &mut Image) {
    fn flip<T: Copy>(values: &mut [T], width: usize, channels: usize) {
        for row in values.chunks_exact_mut((width * channels).max(1)) {
            match channels {
                1 => row.reverse(),
                3 => row.as_chunks_mut::<3>().0.reverse(),
                _ => {
                    row.reverse();
                    row.chunks_exact_mut(channels).for_each(<[T]>::reverse);
                }
            }
        }
    }
    let (width, channels) = (image.width, image.channels);
    match &mut image.pixels {
        Pixels::U8(values) => flip(values, width, channels),
        Pixels::F32(values) => flip(values, width, channels),
    }
}

fn reverse_rows<T: Copy>(values: &mut Vec<T>, row: usize) {
    *values = values.rchunks_exact(row.max(1)).flatten().copied().collect();
}
