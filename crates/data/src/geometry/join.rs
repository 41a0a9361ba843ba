//! Several samples laid out in one image.

use anyhow::{Context, Result, bail, ensure};

use super::fill::{OUTSIDE, per_channel};
use super::resize::check_size;
use crate::image::{Image, Pixels};
use crate::masks::{Mask, Masks};
use crate::sample::{Field, Sample};

/// A sample with the place of its upper left corner in the whole; it lies within it.
#[derive(Debug)]
pub struct Part {
    /// The sample.
    pub sample: Sample,
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
}

/// The parts as one sample of `height` by `width`, later ones over earlier ones, its instances those of all parts in turn. Fields
/// of the whole image, such as its id, are those of the first part. `fill` shows where no part lies, as in
/// [`crop`](fn@super::crop).
///
/// # Errors
/// When the parts have other fields or kinds of images than the first, or there are none.
pub fn join(parts: Vec<Part>, height: usize, width: usize, fill: &[f32]) -> Result<Sample> {
    check_size(height, width)?;
    let mut parts = parts.into_iter();
    let first = parts.next().context("there is nothing to join")?;
    let source = first.sample.source().to_owned();
    let mut whole = first.sample;
    for (_, field) in whole.iter_mut() {
        on_canvas(field, first.top, first.left, height, width, fill);
    }
    for mut part in parts {
        let of = format!("{} and {source} in one image", part.sample.source());
        for (name, field) in whole.iter_mut() {
            let other = part.sample.get_mut(name).with_context(|| format!("{of}: only one has the field `{name}`"))?;
            add(field, other, part.top, part.left).with_context(|| format!("{of}: field `{name}`"))?;
        }
    }
    Ok(whole)
}

/// The first part's field in the whole image.
fn on_canvas(field: &mut Field, top: usize, left: usize, height: usize, width: usize, fill: &[f32]) {
    match field {
        Field::Image(image) => {
            let channels = image.channels;
            let pixels = match &image.pixels {
                Pixels::U8(_) => {
                    let fill = per_channel(fill, channels, |v| v.round().clamp(0.0, 255.0) as u8);
                    Pixels::U8(fill.repeat(height * width))
                }
                Pixels::F32(_) => Pixels::F32(per_channel(fill, channels, |v| v).repeat(height * width)),
            };
            let part = std::mem::replace(image, Image { height, width, channels, pixels });
            lay(image, &part, top, left);
        }
        Field::Segmentation { height: h, width: w, classes } => {
            let part = std::mem::replace(classes, vec![OUTSIDE; height * width]);
            blit(classes, width, &part, *w, 1, top, left);
            (*h, *w) = (height, width);
        }
        Field::Masks(masks) => {
            let own = std::mem::replace(masks, Masks { height, width, instances: Vec::new() });
            masks.instances = moved(own, top, left);
        }
        field => shift(field, top as f32, left as f32),
    }
}

/// Adds another part's field to that of the whole.
fn add(field: &mut Field, other: &mut Field, top: usize, left: usize) -> Result<()> {
    shift(other, top as f32, left as f32);
    match (field, other) {
        (Field::Image(whole), Field::Image(part)) => {
            let alike = std::mem::discriminant(&whole.pixels) == std::mem::discriminant(&part.pixels);
            ensure!(
                alike && whole.channels == part.channels,
                "the images are of different kinds ({} and {} channels, bytes or floats)",
                whole.channels,
                part.channels
            );
            lay(whole, part, top, left);
        }
        (Field::Segmentation { width, classes, .. }, Field::Segmentation { width: of_part, classes: part, .. }) => {
            blit(classes, *width, part, *of_part, 1, top, left);
        }
        (Field::Masks(whole), Field::Masks(part)) => {
            whole.instances.extend(moved(std::mem::take(part), top, left));
        }
        (Field::Boxes(whole), Field::Boxes(part)) => whole.append(part),
        (Field::Keypoints(whole), Field::Keypoints(part)) => whole.append(part),
        (Field::Integers(whole), Field::Integers(part)) => whole.append(part),
        (Field::Numbers(whole), Field::Numbers(part)) => whole.append(part),
        (whole, part) if std::mem::discriminant(whole) != std::mem::discriminant(part) => {
            bail!("they are of different types")
        }
        // What is said of the image is said of the first.
        _ => {}
    }
    Ok(())
}

fn lay(whole: &mut Image, part: &Image, top: usize, left: usize) {
    let (width, channels) = (whole.width, whole.channels);
    match (&mut whole.pixels, &part.pixels) {
        (Pixels::U8(whole), Pixels::U8(pixels)) => blit(whole, width, pixels, part.width, channels, top, left),
        (Pixels::F32(whole), Pixels::F32(pixels)) => blit(whole, width, pixels, part.width, channels, top, left),
        _ => {}
    }
}

fn blit<T: Copy>(whole: &mut [T], width: usize, part: &[T], of_part: usize, channels: usize, top: usize, left: usize) {
    let rows = whole.chunks_exact_mut((width * channels).max(1)).skip(top);
    for (to, from) in rows.zip(part.chunks_exact((of_part * channels).max(1))) {
        to[left * channels..][..from.len()].copy_from_slice(from);
    }
}

fn moved(masks: Masks, top: usize, left: usize) -> Vec<Mask> {
    let moved = masks.instances.into_iter().map(|mut mask| {
        // An empty mask lies nowhere.
        if !mask.bits.is_empty() {
            (mask.top, mask.left) = (mask.top + top, mask.left + left);
        }
        mask
    });
    moved.collect()
}

fn shift(field: &mut Field, top: f32, left: f32) {
    match field {
        Field::Boxes(boxes) => {
            boxes.iter_mut().for_each(|b| *b = [b[0] + left, b[1] + top, b[2] + left, b[3] + top]);
        }
        Field::Keypoints(instances) => {
            let there = instances.iter_mut().flatten().filter(|point| point[2] > 0.0);
            there.for_each(|point| (point[0], point[1]) = (point[0] + left, point[1] + top));
        }
        _ => {}
    }
}
