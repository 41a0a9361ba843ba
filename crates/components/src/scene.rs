//! Images with what is to be seen on them, drawn for those who show nothing but images.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};

use anyhow::{Context, Result};
use pipe_draw::{DrawOptions, Instance, MaskRef, RgbImage, draw_instances, side_by_side};
use pipe_vocab::objects::{Object, Objects, plane};

/// Opacity of masks drawn alone: where they overlap, both are visible.
const MASK_ALPHA: f32 = 0.6;

/// So many images wait at most to be drawn.
const WAITING: usize = 8;

/// An image with its objects: the ground truth beside what was found, where there are both.
///
/// # Errors
/// Never but for a fault of this program.
pub fn drawn(image: &RgbImage, objects: &Objects) -> Result<RgbImage> {
    let options = match objects.only_masks {
        true => DrawOptions { boxes: false, labels: false, mask_alpha: MASK_ALPHA, ..DrawOptions::default() },
        false => DrawOptions::default(),
    };
    let found: Option<Vec<&Object>> = objects.found.as_ref().map(|_| objects.drawn().collect());
    let truth = objects.truth.as_ref().map(|truth| draw(image, truth.iter(), &options)).transpose()?;
    let predicted = found.as_ref().map(|found| draw(image, found.iter().copied(), &options)).transpose()?;
    Ok(match (truth, predicted) {
        (Some(truth), Some(predicted)) => {
            let title = match objects.threshold {
                Some(threshold) if found.is_some_and(|found| found.is_empty()) => {
                    format!("no prediction with score ≥ {threshold}")
                }
                _ => "prediction".to_owned(),
            };
            side_by_side(&truth, &predicted, ["ground truth", &title])
        }
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => draw(image, std::iter::empty(), &options)?,
    })
}

fn draw<'a>(image: &RgbImage, objects: impl Iterator<Item = &'a Object>, options: &DrawOptions) -> Result<RgbImage> {
    let (height, width) = (image.height(), image.width());
    let objects: Vec<&Object> = objects.collect();
    let has_mask = |object: &&Object| (!object.mask.is_empty()).then(|| plane(&object.mask, height * width)).flatten();
    let planes: Vec<Option<Vec<u8>>> = objects.iter().map(has_mask).collect();
    let mut instances = Vec::with_capacity(objects.len());
    for (object, plane) in objects.iter().zip(&planes) {
        instances.push(Instance {
            bbox: object.bbox,
            mask: plane.as_ref().map(|plane| MaskRef::new(plane, height, width)).transpose()?,
            keypoints: &object.points,
            label: &object.name,
            class_id: object.class,
            score: object.score,
            crowd: object.crowd,
        });
    }
    Ok(draw_instances(image, &instances, options))
}

/// An image that a run has kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Its file.
    pub path: PathBuf,
    /// What is to be seen on it.
    pub objects: Option<Box<Objects>>,
}

impl Kept {
    /// The image as PNG, with what is to be seen on it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn png(&self) -> Result<Vec<u8>> {
        let bytes = std::fs::read(&self.path).with_context(|| format!("cannot read {}", self.path.display()))?;
        let Some(objects) = &self.objects else { return Ok(bytes) };
        let image = RgbImage::decode_png(&bytes).with_context(|| self.path.display().to_string())?;
        drawn(&image, objects)?.encode_png()
    }
}

/// An image on its way to a file.
pub struct Job {
    /// Its tag.
    pub tag: String,
    /// Its step.
    pub step: i64,
    /// Seconds since 1970.
    pub time: f64,
    /// The image.
    pub image: RgbImage,
    /// What is to be seen on it.
    pub objects: Option<Box<Objects>>,
}

/// One that is drawn.
pub struct Painted {
    /// Its tag.
    pub tag: String,
    /// Its step.
    pub step: i64,
    /// Seconds since 1970.
    pub time: f64,
    /// Height and width.
    pub size: [usize; 2],
    /// The file.
    pub png: Vec<u8>,
}

/// A thread that draws and encodes images, beside the training.
pub struct Painter {
    jobs: SyncSender<Job>,
    done: Receiver<Result<Painted>>,
    waiting: usize,
}

impl Painter {
    /// Starts the thread, which ends with this.
    ///
    /// # Errors
    /// When there is none to be had.
    pub fn start() -> Result<Painter> {
        let ((jobs, todo), (finished, done)) = (sync_channel::<Job>(WAITING), channel());
        let work = move || {
            while let Ok(job) = todo.recv() {
                if finished.send(paint(job)).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("painter".into()).spawn(work).context("cannot start a thread that draws")?;
        Ok(Painter { jobs, done, waiting: 0 })
    }

    /// Takes an image; waits only where many wait already.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn add(&mut self, job: Job) -> Result<()> {
        self.jobs.send(job).ok().context("the thread that draws images met a fault")?;
        self.waiting += 1;
        Ok(())
    }

    /// What is finished in the order in which it was added; with `all` what was added, once it is finished.
    ///
    /// # Errors
    /// When one could not be drawn, or the thread is gone.
    pub fn take(&mut self, all: bool) -> Result<Vec<Painted>> {
        let mut taken = Vec::new();
        while self.waiting > 0 {
            let next = match all {
                true => self.done.recv().ok().context("the thread that draws images met a fault")?,
                false => match self.done.try_recv() {
                    Ok(next) => next,
                    Err(_) => break,
                },
            };
            self.waiting -= 1;
            taken.push(next?);
        }
        Ok(taken)
    }
}

fn paint(Job { tag, step, time, image, objects }: Job) -> Result<Painted> {
    let image = objects.map_or(Ok(image.clone()), |objects| drawn(&image, &objects))?;
    Ok(Painted { tag, step, time, size: [image.height(), image.width()], png: image.encode_png()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(mask: Vec<u32>, score: Option<f32>) -> Object {
        Object { class: 1, name: "cat".into(), bbox: Some([1.0, 1.0, 5.0, 5.0]), mask, score, ..Object::default() }
    }

    #[test]
    fn truth_and_prediction_stand_beside_each_other() {
        let image = RgbImage::filled(8, 8, [40; 3]);
        let truth = Objects { truth: Some(vec![object(vec![0, 8, 56], None)]), ..Objects::default() };
        let one = drawn(&image, &truth).unwrap();
        assert_ne!(one, drawn(&image, &Objects { truth: Some(Vec::new()), ..Objects::default() }).unwrap());
        let found = Some(vec![object(Vec::new(), Some(0.3))]);
        let both = Objects { found: found.clone(), threshold: Some(0.5), ..truth.clone() };
        assert!(drawn(&image, &both).unwrap().width() > 2 * one.width());
        // A mask of another size, as a damaged file may have, is none.
        let odd = Objects { truth: Some(vec![object(vec![1, 2], None)]), ..Objects::default() };
        let without = Objects { truth: Some(vec![object(Vec::new(), None)]), ..Objects::default() };
        assert_eq!(drawn(&image, &odd).unwrap(), drawn(&image, &without).unwrap());
    }

    #[test]
    fn the_painter_keeps_the_order() {
        let mut painter = Painter::start().unwrap();
        for step in 0..20 {
            let image = RgbImage::filled(4, 4, [step as u8; 3]);
            painter.add(Job { tag: "a".into(), step, time: 0.0, image, objects: None }).unwrap();
        }
        let mut steps: Vec<i64> = painter.take(false).unwrap().iter().map(|painted| painted.step).collect();
        steps.extend(painter.take(true).unwrap().iter().map(|painted| painted.step));
        assert_eq!(steps, (0..20).collect::<Vec<_>>());
    }
}
