//! The samples of a batch on their way into it, drawn after every step.

use std::collections::BTreeMap;

use anyhow::Result;
use pipe_core::{Instance, Loader, NodeId, Stage, Which};
use pipe_data::{Field, Image, Pixels, Sample, fields};
use pipe_draw::{DrawOptions, MaskRef, RgbImage, Tile, Verdict, draw_instances, grid};
use pipe_run::Graph;

use crate::page::Page;

/// A sample on its way.
pub struct Way {
    /// Where it comes from.
    source: String,
    /// What it was after the dataset and after each step.
    stages: Vec<(String, RgbImage)>,
}

/// How samples are drawn.
pub struct Drawing<'a> {
    /// So many of a batch.
    pub most: usize,
    /// The name of a class.
    pub class: &'a dyn Fn(i64) -> String,
    /// Whether objects bear their number, too.
    pub numbered: bool,
}

/// Makes a batch of a loader again and draws it. Samples without an image are left out.
///
/// # Errors
/// There is no such batch, or it cannot be made or drawn.
pub fn ways(loader: &mut dyn Loader, which: Which, drawing: &Drawing<'_>) -> Result<Vec<Way>> {
    let mut ways: Vec<Way> = Vec::new();
    let mut failed = None;
    loader.trace(which, &mut |Stage { place, after, sample }| {
        if place >= drawing.most || failed.is_some() {
            return;
        }
        if place == ways.len() {
            ways.push(Way { source: sample.source().to_owned(), stages: Vec::new() });
        }
        match drawn(sample, drawing) {
            Ok(image) => ways[place].stages.extend(image.map(|image| (after.to_owned(), image))),
            Err(error) => failed = Some(error),
        }
    })?;
    match failed {
        Some(error) => Err(error),
        None => Ok(ways),
    }
}

/// Puts samples on a page.
///
/// # Errors
/// An image cannot be encoded.
pub fn show(ways: &[Way], page: &mut Page) -> Result<()> {
    for Way { source, stages } in ways {
        page.part(source);
        page.images(stages.iter().map(|(name, image)| (name.as_str(), image)))?;
    }
    Ok(())
}

/// The classes of a dataset that is built.
pub fn class_names(dataset: Option<&NodeId>, graph: &Graph) -> BTreeMap<i64, String> {
    match dataset.and_then(|id| graph.node(id).ok()) {
        Some(Instance::Dataset(dataset)) => dataset.class_names().into_iter().collect(),
        _ => BTreeMap::new(),
    }
}

fn drawn(sample: &Sample, drawing: &Drawing<'_>) -> Result<Option<RgbImage>> {
    let Some(Field::Image(image)) = sample.get(fields::IMAGE) else { return Ok(None) };
    let Some(image) = rgb(image)? else { return Ok(None) };
    if let Some(Field::Integer(label)) = sample.get(fields::LABEL) {
        return Ok(Some(grid(&[Tile { image, caption: (drawing.class)(*label), verdict: Verdict::Neutral }], 0)));
    }
    let size = [image.height(), image.width()];
    let objects = Objects::of(sample, size, drawing);
    let keypoints = match sample.get(fields::KEYPOINTS) {
        Some(Field::Keypoints(keypoints)) => &keypoints[..],
        _ => &[],
    };
    let instances = (0..objects.labels.len().max(objects.boxes.len())).map(|index| {
        let plane = objects.planes.get(index * size[0] * size[1]..(index + 1) * size[0] * size[1]);
        Ok(pipe_draw::Instance {
            bbox: objects.boxes.get(index).copied(),
            mask: plane.map(|plane| MaskRef::new(plane, size[0], size[1])).transpose()?,
            keypoints: keypoints.get(index).map_or(&[], Vec::as_slice),
            label: objects.names.get(index).map_or("", String::as_str),
            class_id: objects.labels.get(index).copied().unwrap_or_default(),
            score: None,
            crowd: objects.crowd.get(index) == Some(&1),
        })
    });
    Ok(Some(draw_instances(&image, &instances.collect::<Result<Vec<_>>>()?, &DrawOptions::default())))
}

/// What there is to draw on an image.
#[derive(Default)]
struct Objects {
    boxes: Vec<[f32; 4]>,
    labels: Vec<i64>,
    names: Vec<String>,
    crowd: Vec<i64>,
    /// Masks `[N, H, W]`, of all or of none.
    planes: Vec<u8>,
}

impl Objects {
    fn of(sample: &Sample, size: [usize; 2], drawing: &Drawing<'_>) -> Objects {
        if let Some(Field::Segmentation { height, width, classes }) = sample.get(fields::SEGMENTATION) {
            return if [*height, *width] == size { Objects::regions(classes, drawing) } else { Objects::default() };
        }
        let integers = |name: &str| match sample.get(name) {
            Some(Field::Integers(values)) => values.clone(),
            _ => Vec::new(),
        };
        let labels = integers(fields::LABELS);
        let name = |(index, label): (usize, &i64)| match drawing.numbered {
            true => format!("{index} {}", (drawing.class)(*label)),
            false => (drawing.class)(*label),
        };
        Objects {
            boxes: match sample.get(fields::BOXES) {
                Some(Field::Boxes(boxes)) => boxes.clone(),
                _ => Vec::new(),
            },
            names: labels.iter().enumerate().map(name).collect(),
            labels,
            crowd: integers(fields::ISCROWD),
            planes: match sample.get(fields::MASKS) {
                Some(Field::Masks(masks)) if [masks.height, masks.width] == size => masks.to_planes(),
                _ => Vec::new(),
            },
        }
    }

    /// The regions of the classes, but for the background and what has no class.
    fn regions(classes: &[u8], drawing: &Drawing<'_>) -> Objects {
        const NO_CLASS: u8 = 255;
        let mut present: Vec<u8> = classes.iter().copied().filter(|class| !matches!(*class, 0 | NO_CLASS)).collect();
        present.sort_unstable();
        present.dedup();
        let planes = present.iter().flat_map(|class| classes.iter().map(move |at| u8::from(at == class))).collect();
        let labels: Vec<i64> = present.into_iter().map(i64::from).collect();
        Objects {
            names: labels.iter().map(|label| (drawing.class)(*label)).collect(),
            labels,
            planes,
            ..Objects::default()
        }
    }
}

/// An image with 8 bits a channel; values beyond 0 to 1, normalized ones, are rescaled. Nothing for other than 1 or 3 channels, or
/// without pixels.
fn rgb(image: &Image) -> Result<Option<RgbImage>> {
    let Image { height, width, channels, pixels } = image;
    if !matches!(channels, 1 | 3) || height * width == 0 {
        return Ok(None);
    }
    let bytes: Vec<u8> = match pixels {
        Pixels::U8(bytes) => bytes.clone(),
        Pixels::F32(values) => {
            let finite = values.iter().copied().filter(|value| value.is_finite());
            let (low, high) = finite.fold((0f32, 1f32), |(low, high), value| (low.min(value), high.max(value)));
            values.iter().map(|value| ((value - low) / (high - low) * 255.0).round() as u8).collect()
        }
    };
    let bytes = if *channels == 3 { bytes } else { bytes.into_iter().flat_map(|gray| [gray; 3]).collect() };
    Ok(Some(RgbImage::from_data(*height, *width, bytes)?))
}
