//! A step that was made again beside what the run recorded of it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use indexmap::IndexMap;
use pipe_core::NodeId;
use pipe_core::record::{number, read_number};
use pipe_vision::terms::Terms;
use serde_json::{Value, json};

use super::witness::{Seen, Step};
use crate::page::Page;
use crate::stages::{self, Way};

/// Images that the text lists, and objects of each.
const LISTED: [usize; 2] = [8, 3];

/// The terms of a loss may differ so much from it, in proportion, by rounding.
const ROUNDING: f64 = 1e-4;

/// What there is to say of a step.
pub(super) struct Report {
    /// Each value that the run recorded of this step, and as it was now.
    compared: Vec<(String, f64, Option<f64>)>,
    losses: Vec<Loss>,
    /// What each image added to the total, most first.
    images: Vec<Share>,
}

/// A loss.
struct Loss {
    name: String,
    value: f64,
    weight: f64,
    /// What is left of it after its terms, by rounding; none where its terms are unknown.
    rounding: Option<f64>,
}

/// What an image or an object added to the weighted losses.
struct Share {
    name: String,
    /// The image's place in the batch, or the object's number in the image.
    number: Option<usize>,
    total: f64,
    losses: IndexMap<String, f64>,
    objects: Vec<Share>,
}

impl Report {
    /// # Errors
    /// The run's records cannot be read.
    pub(super) fn of(seen: &Seen, run: &Path, step: u64, class: &dyn Fn(i64) -> String) -> Result<Report> {
        let seen = seen.take();
        let before = seen.engine.as_ref().map(|engine| recorded(run, step, engine)).transpose()?.unwrap_or_default();
        let now = seen.recorded.iter();
        let compared = now.map(|(tag, value)| (tag.clone(), *value, before.get(tag).copied())).collect();
        let losses = seen.losses.iter().map(|(name, value)| {
            let terms = seen.terms.iter().find(|terms| terms.loss == *name);
            let rounding = terms.map(|terms| value - terms.parts.iter().map(|part| part.value).sum::<f64>());
            let rounding = rounding.filter(|rest| rest.abs() <= ROUNDING * value.abs().max(1.0));
            Loss { name: name.clone(), value: *value, weight: weight(&seen, name), rounding }
        });
        let losses: Vec<Loss> = losses.collect();
        let known = |terms: &&Terms| losses.iter().any(|loss| loss.name == terms.loss && loss.rounding.is_some());
        let images = shares(&seen, seen.terms.iter().filter(known), class);
        Ok(Report { compared, losses, images })
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (tag, now, before) in &self.compared {
            let beside = match before {
                Some(before) if same(*now, *before) => "as recorded, to the bit".to_owned(),
                Some(before) => format!("recorded was {before}"),
                None => "not recorded in this step".to_owned(),
            };
            let _ = writeln!(text, "  {tag:<24} {now:<22} {beside}");
        }
        let unknown: Vec<&str> =
            self.losses.iter().filter(|loss| loss.rounding.is_none()).map(|loss| &*loss.name).collect();
        if !unknown.is_empty() {
            let _ = writeln!(text, "what images add to {} is not known: the model does not tell", unknown.join(", "));
        }
        if !self.images.is_empty() {
            let _ = writeln!(text, "images, by what they add to the loss{}", self.rounding());
        }
        for image in self.images.iter().take(LISTED[0]) {
            let _ = writeln!(text, "  {:8.4}  {}", image.total, image.line(false));
            for object in image.objects.iter().take(LISTED[1]) {
                let _ = writeln!(text, "      {:8.4}  {}", object.total, object.line(true));
            }
        }
        if let Some(more) = self.images.len().checked_sub(LISTED[0] + 1) {
            let _ = writeln!(text, "  … and {} more", more + 1);
        }
        text
    }

    /// What the sums leave of the total.
    fn rounding(&self) -> String {
        let rest: f64 = self.losses.iter().filter_map(|loss| Some(loss.rounding? * loss.weight)).sum();
        if rest == 0.0 { String::new() } else { format!(", but for {:.1e} of rounding", rest.abs()) }
    }

    pub(super) fn json(&self) -> Value {
        let compared = self.compared.iter().map(|(tag, now, before)| {
            json!({
                "tag": tag, "value": number(*now), "recorded": before.map(number),
                "same": before.map(|before| same(*now, before)),
            })
        });
        let losses = self.losses.iter().map(|loss| {
            json!({ "name": loss.name, "value": number(loss.value), "weight": loss.weight, "rounding": loss.rounding })
        });
        json!({
            "values": compared.collect::<Vec<_>>(), "losses": losses.collect::<Vec<_>>(),
            "images": self.images.iter().map(|image| image.json("place")).collect::<Vec<_>>(),
        })
    }

    /// # Errors
    /// An image cannot be encoded.
    pub(super) fn page(&self, title: &str, ways: &[Way]) -> Result<String> {
        let mut page = Page::new(title);
        let beside =
            |before: &Option<f64>| before.map_or_else(|| "not recorded".into(), |before| format!("recorded: {before}"));
        let row =
            |(tag, now, before): &(String, f64, Option<f64>)| (tag.clone(), format!("{now} ({})", beside(before)));
        page.table(&self.compared.iter().map(row).collect::<Vec<_>>());
        if !self.images.is_empty() {
            page.section(&format!("images, by what they add to the loss{}", self.rounding()));
        }
        for image in &self.images {
            page.part(&format!("{:.4}  {}", image.total, image.line(false)));
            page.table(
                &image
                    .objects
                    .iter()
                    .map(|object| (format!("{:.4}  {}", object.total, object.heading(true)), object.parts()))
                    .collect::<Vec<_>>(),
            );
        }
        page.section("the batch, after every step");
        stages::show(ways, &mut page)?;
        Ok(page.finish())
    }
}

impl Share {
    /// The name, of an object with the number that it bears where it is drawn.
    fn heading(&self, numbered: bool) -> String {
        match self.number.filter(|_| numbered) {
            Some(number) => format!("{number} {}", self.name),
            None => self.name.clone(),
        }
    }

    /// The losses, where there are several.
    fn parts(&self) -> String {
        let parts: Vec<String> = self.losses.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
        if parts.len() > 1 { parts.join(", ") } else { String::new() }
    }

    fn line(&self, numbered: bool) -> String {
        let (heading, parts) = (self.heading(numbered), self.parts());
        if parts.is_empty() { heading } else { format!("{heading}: {parts}") }
    }

    fn json(&self, number: &str) -> Value {
        let mut json = json!({ "name": self.name, number: self.number, "total": self.total, "losses": self.losses });
        if !self.objects.is_empty() {
            json["objects"] = self.objects.iter().map(|object| object.json("object")).collect();
        }
        json
    }
}

/// To the bit, as numbers are recorded.
fn same(now: f64, before: f64) -> bool {
    now == before || now.is_nan() && before.is_nan()
}

fn weight(seen: &Step, loss: &str) -> f64 {
    seen.weights.get(loss).copied().unwrap_or(1.0)
}

/// What images, and the objects in them, add to the weighted losses; most first.
fn shares<'a>(seen: &Step, terms: impl Iterator<Item = &'a Terms>, class: &dyn Fn(i64) -> String) -> Vec<Share> {
    let mut of: BTreeMap<usize, BTreeMap<Option<usize>, IndexMap<String, f64>>> = BTreeMap::new();
    for Terms { loss, parts } in terms {
        for part in parts {
            let losses = of.entry(part.place.image).or_default().entry(part.place.object).or_default();
            *losses.entry(loss.clone()).or_default() += weight(seen, loss) * part.value;
        }
    }
    let share = |name: String, number, losses: IndexMap<String, f64>, objects| Share {
        name,
        number,
        total: losses.values().sum(),
        losses,
        objects,
    };
    let images = of.into_iter().map(|(image, parts)| {
        let mut whole: IndexMap<String, f64> = IndexMap::new();
        for (name, value) in parts.values().flatten() {
            *whole.entry(name.clone()).or_default() += value;
        }
        let labels = seen.labels.get(image).map_or(&[][..], |labels| labels);
        let has_objects = parts.keys().any(Option::is_some);
        let object = |(object, losses): (Option<usize>, _)| {
            let name = match object {
                Some(object) => labels.get(object).map_or_else(|| "object".into(), |label| class(*label)),
                None => "background".into(),
            };
            share(name, object, losses, Vec::new())
        };
        let mut objects: Vec<Share> = parts.into_iter().filter(|_| has_objects).map(object).collect();
        objects.sort_by(|a, b| b.total.total_cmp(&a.total));
        let source = seen.sources.get(image).cloned().unwrap_or_else(|| format!("image {image}"));
        // A classified image is its own object.
        let name = match labels {
            [label] if !has_objects => format!("{source} ({})", class(*label)),
            _ => source,
        };
        share(name, Some(image), whole, objects)
    });
    let mut images: Vec<Share> = images.collect();
    images.sort_by(|a, b| b.total.total_cmp(&a.total));
    images
}

/// The scalars of an engine that a run recorded in a step, by tag.
fn recorded(run: &Path, step: u64, engine: &NodeId) -> Result<BTreeMap<String, f64>> {
    let path = run.join("records.jsonl");
    let file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let (engine, mut found) = (engine.to_string(), BTreeMap::new());
    let mention = format!("\"step\":{step},");
    for line in BufReader::new(file).split(b'\n') {
        let line = line.with_context(|| format!("cannot read {}", path.display()))?;
        let Ok(text) = std::str::from_utf8(&line) else { continue };
        if !text.contains(&mention) {
            continue;
        }
        let Ok(record) = serde_json::from_str::<Value>(text) else { continue };
        if record["step"] == step && record["node"] == engine.as_str() && record["kind"] == "scalar" {
            let value = read_number(&record["value"]);
            found.extend(record["tag"].as_str().map(str::to_owned).zip(value));
        }
    }
    Ok(found)
}
