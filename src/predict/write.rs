//! What is written of what a model says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use pipe_coco::eval::{Detection, ResultEntry};
use pipe_data::{Image, Pixels};
use pipe_draw::{DrawOptions, Instance as Shown, MaskRef, RgbImage, draw_instances, encode_classes};
use serde_json::{Value, json};
use tch::Tensor;

use super::images::Picture;
use super::model::Found;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum As {
    /// One JSON file: of a detector COCO's results (boxes, scores, RLE masks, keypoints), of a classifier the likeliest classes of each image.
    Json,
    /// A folder with one text file an image, as YOLO: `class x y width height score`, in shares of the image, classes counted from 0;
    /// and `classes.txt`.
    Yolo,
    /// A folder with one NumPy archive an image: `boxes` (`[N, 4]` xyxy), `labels`, `scores`, `masks` (`[N, H, W]`), `keypoints` (`[N, K, 3]`); or
    /// `probabilities` (`[C]`); or `classes` (`[H, W]`).
    Npz,
    /// A folder with one PNG an image, with a palette: the class of each pixel. For segmentation.
    Png,
}

/// Takes what is found, image by image.
pub struct Writer {
    format: As,
    out: PathBuf,
    top_k: usize,
    threshold: f64,
    names: BTreeMap<i64, String>,
    /// The ids of categories in the results, where they are not the labels.
    ids: BTreeMap<i64, u32>,
    entries: Vec<Value>,
    /// Objects, or images of classes.
    pub count: usize,
}

impl Writer {
    /// Into a file or a folder, which is created.
    ///
    /// # Errors
    /// When the folder cannot be created.
    pub fn new(format: As, out: &Path, top_k: usize, threshold: f64, names: &BTreeMap<i64, String>) -> Result<Writer> {
        if format != As::Json {
            std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
        }
        let (out, names) = (out.to_owned(), names.clone());
        Ok(Writer { format, out, top_k, threshold, names, ids: BTreeMap::new(), entries: Vec::new(), count: 0 })
    }

    /// Has JSON results take the ids that annotations have for the classes.
    pub fn take_categories(&mut self, ids: &BTreeMap<String, u32>) {
        let known = self.names.iter().filter_map(|(label, name)| Some((*label, *ids.get(name)?)));
        self.ids = known.collect();
    }

    /// Writes or keeps what is found in an image.
    ///
    /// # Errors
    /// When a file cannot be written, or the format is not for such results.
    pub fn add(&mut self, picture: &Picture, image: &Image, found: &Found) -> Result<()> {
        match found {
            Found::Objects(objects) => {
                let kept: Vec<&Detection> = objects.iter().filter(|object| object.score >= self.threshold).collect();
                self.count += kept.len();
                self.objects(picture, image, &kept)
            }
            Found::Classes(probabilities) => {
                self.count += 1;
                self.classes(picture, probabilities)
            }
            Found::Pixels(classes) => {
                self.count += 1;
                self.pixels(picture, image, classes)
            }
        }
    }

    /// Writes what is one file for all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(self) -> Result<()> {
        match self.format {
            As::Json => pipe_vocab::atomic::write(&self.out, &serde_json::to_vec(&self.entries)?),
            As::Yolo => {
                let last = self.names.keys().last().copied().unwrap_or_default();
                let name = |label: i64| self.names.get(&label).cloned().unwrap_or_else(|| format!("class {label}"));
                let names: String = (1..=last).map(|label| name(label) + "\n").collect();
                pipe_vocab::atomic::write(&self.out.join("classes.txt"), names.as_bytes())
            }
            As::Npz | As::Png => Ok(()),
        }
    }

    fn file(&self, picture: &Picture, ending: &str) -> PathBuf {
        self.out.join(format!("{}.{ending}", picture.name()))
    }

    fn objects(&mut self, picture: &Picture, image: &Image, objects: &[&Detection]) -> Result<()> {
        match self.format {
            As::Json => {
                let path = picture.file_name();
                let entry = |object: &&Detection| {
                    let label = i64::from(object.category_id);
                    let name = self.names.get(&label).map(String::as_str);
                    let category_id = self.ids.get(&label).copied().unwrap_or(object.category_id);
                    let object = Detection { category_id, ..(*object).clone() };
                    ResultEntry::to_json(picture.id, &object, &path, name)
                };
                self.entries.extend(objects.iter().map(entry));
                Ok(())
            }
            As::Yolo => {
                let (height, width) = (image.height as f64, image.width as f64);
                let line = |object: &&Detection| {
                    let [x, y, w, h] = object.bbox;
                    let (x, y, w, h) = ((x + w / 2.0) / width, (y + h / 2.0) / height, w / width, h / height);
                    let class = object.category_id.checked_sub(1).context("label 0 is the background")?;
                    Ok(format!("{class} {x:.6} {y:.6} {w:.6} {h:.6} {:.6}\n", object.score))
                };
                let lines: Result<String> = objects.iter().map(line).collect();
                pipe_vocab::atomic::write(&self.file(picture, "txt"), lines?.as_bytes())
            }
            As::Npz => {
                let corners = |object: &&Detection| {
                    let [x, y, w, h] = object.bbox;
                    [x, y, x + w, y + h].map(|side| side as f32)
                };
                let count = objects.len() as i64;
                let boxes: Vec<f32> = objects.iter().flat_map(corners).collect();
                let labels: Vec<i64> = objects.iter().map(|object| i64::from(object.category_id)).collect();
                let scores: Vec<f32> = objects.iter().map(|object| object.score as f32).collect();
                let mut arrays = vec![
                    ("boxes", Tensor::from_slice(&boxes).f_view([count, 4])?),
                    ("labels", Tensor::from_slice(&labels)),
                    ("scores", Tensor::from_slice(&scores)),
                ];
                let masks: Option<Vec<Vec<u8>>> =
                    objects.iter().map(|object| object.mask.as_ref().map(|mask| mask.decode())).collect();
                if let Some(masks) = masks.filter(|masks| !masks.is_empty()) {
                    let size = [count, image.height as i64, image.width as i64];
                    arrays.push(("masks", Tensor::from_slice(&masks.concat()).f_view(size)?));
                }
                if let Some(each) = objects.first().map(|object| object.keypoints.len()).filter(|each| *each > 0) {
                    let points: Vec<[f64; 3]> = objects.iter().flat_map(|object| object.keypoints.clone()).collect();
                    let points: Vec<f32> = points.as_flattened().iter().map(|number| *number as f32).collect();
                    arrays.push(("keypoints", Tensor::from_slice(&points).f_view([count, each as i64, 3])?));
                }
                Ok(Tensor::write_npz(&arrays, self.file(picture, "npz"))?)
            }
            As::Png => bail!("`--as png` is for segmentation; a detector's results are `json`, `yolo` or `npz`"),
        }
    }

    fn classes(&mut self, picture: &Picture, probabilities: &[f64]) -> Result<()> {
        match self.format {
            As::Json => {
                let mut ranked: Vec<usize> = (0..probabilities.len()).collect();
                ranked.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
                let top = ranked.into_iter().take(self.top_k).map(|label| {
                    let name = self.names.get(&(label as i64));
                    json!({ "label": label, "name": name, "probability": probabilities[label] })
                });
                let top: Vec<Value> = top.collect();
                self.entries.push(json!({ "file_name": picture.file_name(), "image_id": picture.id, "top": top }));
                Ok(())
            }
            As::Npz => Ok(Tensor::write_npz(
                &[("probabilities", Tensor::from_slice(probabilities))],
                self.file(picture, "npz"),
            )?),
            As::Yolo | As::Png => bail!("a classifier's results are `json` or `npz`"),
        }
    }

    fn pixels(&self, picture: &Picture, image: &Image, classes: &[u8]) -> Result<()> {
        match self.format {
            As::Png => {
                let png = encode_classes(classes, image.height, image.width)?;
                pipe_vocab::atomic::write(&self.file(picture, "png"), &png)
            }
            As::Npz => {
                let size = [image.height as i64, image.width as i64];
                let arrays = [("classes", Tensor::from_slice(classes).f_view(size)?)];
                Ok(Tensor::write_npz(&arrays, self.file(picture, "npz"))?)
            }
            As::Json | As::Yolo => bail!("masks of classes are `png` or `npz`, in a folder"),
        }
    }
}

/// Draws what is found into an image, and writes it into a folder.
///
/// # Errors
/// When it cannot be written.
pub fn draw(
    folder: &Path,
    picture: &Picture,
    image: &Image,
    found: &Found,
    threshold: f64,
    names: &BTreeMap<i64, String>,
) -> Result<()> {
    let Pixels::U8(pixels) = &image.pixels else { bail!("a decoded image has bytes") };
    let canvas = RgbImage::from_data(image.height, image.width, pixels.clone())?;
    let whole = [0.0, 0.0, image.width as f32, image.height as f32];
    let (labels, masks): (Vec<Drawn>, Vec<Option<Vec<u8>>>) = match found {
        Found::Objects(objects) => {
            let shown = objects.iter().filter(|object| object.score >= threshold);
            shown.map(|object| (Drawn::of(object), object.mask.as_ref().map(|mask| mask.decode()))).unzip()
        }
        Found::Classes(probabilities) => {
            let best = (0..probabilities.len()).max_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b]));
            let best = best.map(|label| Drawn {
                class: label as i64,
                bbox: whole,
                score: Some(probabilities[label] as f32),
                keypoints: Vec::new(),
            });
            (best.into_iter().collect(), vec![None])
        }
        Found::Pixels(classes) => {
            ensure!(classes.len() == image.height * image.width, "a class for each pixel");
            let mut present: Vec<u8> = classes.clone();
            present.sort_unstable();
            present.dedup();
            let region = |class: &u8| {
                let mask = classes.iter().map(|own| u8::from(own == class)).collect();
                (Drawn { class: i64::from(*class), bbox: whole, score: None, keypoints: Vec::new() }, Some(mask))
            };
            present.iter().filter(|class| **class > 0).map(region).unzip()
        }
    };
    let texts: Vec<String> = labels
        .iter()
        .map(|drawn| names.get(&drawn.class).cloned().unwrap_or_else(|| format!("class {}", drawn.class)))
        .collect();
    let instances = labels.iter().zip(&masks).zip(&texts).map(|((drawn, mask), label)| {
        let mask = mask.as_ref().map(|mask| MaskRef::new(mask, image.height, image.width)).transpose()?;
        let (bbox, keypoints) = (Some(drawn.bbox), &drawn.keypoints[..]);
        Ok(Shown { bbox, mask, keypoints, label, class_id: drawn.class, score: drawn.score, crowd: false })
    });
    let instances = instances.collect::<Result<Vec<_>>>()?;
    // Around a region there is no box: it would be one around the image.
    let boxes = !matches!(found, Found::Pixels(_));
    let png = draw_instances(&canvas, &instances, &DrawOptions { boxes, ..DrawOptions::default() }).encode_png()?;
    pipe_vocab::atomic::write(&folder.join(format!("{}.png", picture.name())), &png)
}

struct Drawn {
    class: i64,
    /// xyxy in pixels.
    bbox: [f32; 4],
    score: Option<f32>,
    keypoints: Vec<[f32; 3]>,
}

impl Drawn {
    fn of(object: &Detection) -> Drawn {
        let [x, y, width, height] = object.bbox.map(|side| side as f32);
        let bbox = [x, y, x + width, y + height];
        let keypoints = object.keypoints.iter().map(|point| point.map(|number| number as f32)).collect();
        Drawn { class: i64::from(object.category_id), bbox, score: Some(object.score as f32), keypoints }
    }
}
