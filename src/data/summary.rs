//! What the index of a dataset says of it.

use std::collections::BTreeMap;

use pipe_core::NodeId;
use pipe_core::facts::Anchors;
use pipe_plan::checks::data::Dataset;
use serde_json::{Value, json};

use crate::page::Bar;

/// Areas up to which COCO calls an object small and medium: sides in pixels of the image.
const COCO_SIDES: [f32; 2] = [32.0, 96.0];

/// An anchor finds boxes from half its side to twice as large.
const REACH: f64 = 2.0;

/// What there is in a dataset.
pub(super) struct Summary {
    samples: u64,
    /// Label, name, how many objects (or images of that class), most first.
    classes: Vec<(i64, String, u64)>,
    boxes: Option<Boxes>,
    objects: Option<PerImage>,
    report: Option<String>,
}

/// How many objects images have.
struct PerImage {
    empty: usize,
    median: u32,
    most: u32,
}

/// How large objects are.
struct Boxes {
    count: usize,
    outside: u64,
    /// Sides of squares of the same area in pixels: of five, fifty and ninety-five in a hundred none is larger.
    sides: [f32; 3],
    /// Parts that are small, medium and large to COCO.
    coco: [f64; 3],
    /// How many there are by size.
    octaves: Vec<(f64, u64)>,
    /// As each detector sees them.
    beside: Vec<Beside>,
}

/// How a detector sees objects.
struct Beside {
    model: NodeId,
    anchors: Anchors,
    octaves: Vec<(f64, u64)>,
    /// Parts that are smaller than half its smallest anchor and larger than twice its largest, in its images.
    missed: [f64; 2],
}

impl Summary {
    pub(super) fn of(known: &Dataset, detectors: &[(NodeId, Anchors)]) -> Summary {
        let counts = known.contents.as_ref().map(|contents| &contents.labels);
        let count = |label: &i64| counts.and_then(|counts| counts.get(label)).copied().unwrap_or(0);
        let mut classes: Vec<(i64, String, u64)> =
            known.class_names.iter().map(|(label, name)| (*label, name.clone(), count(label))).collect();
        let unnamed = counts.into_iter().flatten().filter(|(label, _)| !known.class_names.contains_key(label));
        classes.extend(unnamed.map(|(label, count)| (*label, format!("label {label}"), *count)));
        classes.sort_by_key(|(label, _, count)| (std::cmp::Reverse(*count), *label));
        let boxes = known.contents.as_ref().filter(|contents| !contents.boxes.is_empty()).map(|contents| {
            let mut sides: Vec<f32> = contents.boxes.iter().map(|size| size.side).collect();
            sides.sort_by(f32::total_cmp);
            let part = |of: &dyn Fn(f32) -> bool| share(sides.iter().filter(|side| of(**side)).count(), sides.len());
            let [small, medium] = COCO_SIDES;
            let beside = detectors.iter().map(|(id, anchors)| {
                let seen: Vec<f64> = contents.boxes.iter().map(|size| anchors.seen(size)).collect();
                let [low, high] = [anchors.sides[0] / REACH, anchors.sides[1] * REACH];
                let parts =
                    [seen.iter().filter(|side| **side < low).count(), seen.iter().filter(|side| **side > high).count()];
                let parts = parts.map(|count| share(count, seen.len()));
                Beside {
                    model: id.clone(),
                    anchors: anchors.clone(),
                    octaves: octaves(seen.into_iter()),
                    missed: parts,
                }
            });
            Boxes {
                count: sides.len(),
                outside: contents.outside,
                octaves: octaves(sides.iter().map(|side| f64::from(*side))),
                sides: [0.05, 0.5, 0.95].map(|part| quantile(&sides, part)),
                coco: [
                    part(&|side| side < small),
                    part(&|side| (small..medium).contains(&side)),
                    part(&|side| side >= medium),
                ],
                beside: beside.collect(),
            }
        });
        let mut objects = known.objects.clone();
        objects.sort_unstable();
        let objects = objects.last().map(|most| PerImage {
            empty: objects.iter().filter(|count| **count == 0).count(),
            median: objects[objects.len() / 2],
            most: *most,
        });
        Summary { samples: known.samples, classes, boxes, objects, report: known.report.clone() }
    }

    /// Names and values for people; `listed` classes are listed, of 0 nothing is said.
    pub(super) fn lines(&self, listed: usize) -> Vec<(String, String)> {
        let mut lines = vec![("images".to_owned(), self.samples.to_string())];
        let mut line = |name: &str, value: String| lines.push((name.to_owned(), value));
        if let Some(objects) = &self.objects {
            let PerImage { empty, median, most } = objects;
            line("objects of an image", format!("{median} in the middle, {most} at most; {empty} images have none"));
        }
        let all: u64 = self.classes.iter().map(|(_, _, count)| count).sum();
        let present = self.classes.iter().filter(|(_, _, count)| *count > 0).count();
        if all > 0 {
            line("classes", format!("{}, of which {present} occur, {all} times", self.classes.len()));
            for (_, name, count) in self.classes.iter().take(listed).filter(|(_, _, count)| *count > 0) {
                line(&format!("  {name}"), format!("{count} ({})", percent(share(*count as usize, all as usize))));
            }
            let rest = present.saturating_sub(listed);
            if let Some((_, name, count)) = self.classes[..present].last().filter(|_| rest > 0 && listed > 0) {
                line("  …", format!("{rest} more, the rarest {name}, {count}"));
            }
            let missing: Vec<&str> = self.classes[present..].iter().map(|(_, name, _)| name.as_str()).collect();
            if !missing.is_empty() {
                line("  never", enumerated(&missing, listed));
            }
        }
        if let Some(boxes) = &self.boxes {
            let [low, median, high] = boxes.sides;
            line(
                "sizes of objects",
                format!("side {median:.0} px in the middle, 5 % below {low:.0}, 5 % above {high:.0}"),
            );
            let [small, medium, large] = boxes.coco.map(percent);
            line("  by COCO's areas", format!("{small} small, {medium} medium, {large} large"));
            for Beside { model: id, anchors, missed: [small, large], .. } in &boxes.beside {
                let [smallest, largest] = anchors.sides;
                let text = format!(
                    "{} below half its smallest anchor ({smallest} px), {} above twice its largest ({largest} px)",
                    percent(*small),
                    percent(*large)
                );
                line(&format!("  as {id} sees"), text);
            }
            if boxes.outside > 0 {
                line("odd", format!("{} of {} boxes reach out of their image", boxes.outside, boxes.count));
            }
        }
        if let Some(report) = &self.report {
            line("said by itself", report.replace('\n', "; "));
        }
        lines
    }

    /// Classes, most frequent first, for a chart.
    pub(super) fn classes(&self) -> Vec<Bar> {
        let known = self.classes.iter().any(|(_, _, count)| *count > 0);
        self.classes
            .iter()
            .filter(|_| known)
            .map(|(_, name, count)| Bar { name: name.clone(), count: *count, marked: false })
            .collect()
    }

    /// Sizes of objects for charts, each with its title: as they are, and as each detector sees them, where those that its anchors reach are
    /// marked.
    pub(super) fn sizes(&self) -> Vec<(String, Vec<Bar>)> {
        let Some(boxes) = &self.boxes else { return Vec::new() };
        let row = |(from, count): &(f64, u64), marked| Bar {
            name: format!("{from}–{} px", 2.0 * from),
            count: *count,
            marked,
        };
        let own = boxes.octaves.iter().map(|octave| row(octave, false)).collect();
        let mut charts = vec![("sides of objects, in the images as they are".to_owned(), own)];
        for Beside { model: id, anchors, octaves, .. } in &boxes.beside {
            let [low, high] = [anchors.sides[0] / REACH, anchors.sides[1] * REACH];
            let reached = |from: f64| 2.0 * from > low && from < high;
            let rows = octaves.iter().map(|octave| row(octave, reached(octave.0))).collect();
            charts.push((format!("sides of objects as {id} sees them; its anchors reach the marked ones"), rows));
        }
        charts
    }

    pub(super) fn json(&self) -> Value {
        let classes: Vec<Value> = self
            .classes
            .iter()
            .map(|(label, name, count)| json!({ "label": label, "name": name, "count": count }))
            .collect();
        let boxes = self.boxes.as_ref().map(|boxes| {
            let beside: Vec<Value> = boxes
                .beside
                .iter()
                .map(|Beside { model: id, anchors, missed: [small, large], .. }| {
                    json!({
                        "model": id.to_string(), "anchor_sides": anchors.sides, "too_small": small, "too_large": large,
                    })
                })
                .collect();
            json!({
                "count": boxes.count, "outside": boxes.outside,
                "side_quantiles": { "0.05": boxes.sides[0], "0.5": boxes.sides[1], "0.95": boxes.sides[2] },
                "coco_areas": { "small": boxes.coco[0], "medium": boxes.coco[1], "large": boxes.coco[2] },
                "anchors": beside,
            })
        });
        let objects = self
            .objects
            .as_ref()
            .map(|objects| json!({ "without": objects.empty, "median": objects.median, "most": objects.most }));
        json!({
            "images": self.samples, "objects_per_image": objects, "classes": classes, "boxes": boxes, "report": self.report,
        })
    }
}

/// A few names, and how many more there are.
fn enumerated(names: &[&str], listed: usize) -> String {
    let text = names.iter().take(listed).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(listed) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

/// How many sides are between each power of two and the next, without gaps.
fn octaves(sides: impl Iterator<Item = f64>) -> Vec<(f64, u64)> {
    let mut counts: BTreeMap<i32, u64> = BTreeMap::new();
    for side in sides {
        *counts.entry(side.max(1.0).log2().floor() as i32).or_default() += 1;
    }
    let (Some(first), Some(last)) = (counts.keys().next(), counts.keys().next_back()) else { return Vec::new() };
    (*first..=*last).map(|power| (f64::from(power).exp2(), counts.get(&power).copied().unwrap_or(0))).collect()
}

fn quantile(sorted: &[f32], part: f64) -> f32 {
    sorted[((sorted.len() - 1) as f64 * part).round() as usize]
}

fn share(count: usize, all: usize) -> f64 {
    count as f64 / all.max(1) as f64
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
