//! A curve of some runs, by pixels: of each the smallest and the largest point, exactly.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use axum::Json;
use axum::extract::{Query, State as Shared};
use pipe_history::{Axis, Column, Point, Scalars, Span};
use pipe_runs::Run;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::run::steps_per_epoch;
use super::several;
use crate::problem::{Answer, aside};
use crate::state::State;

/// Curves of more points are smoothed by parts of them.
const WHOLE: u64 = 200_000;

/// Into so many parts.
const PARTS: u32 = 16_384;

/// Which curves, and which part of them.
#[derive(Deserialize)]
pub struct Wanted {
    /// Runs, with commas between them.
    runs: String,
    tag: String,
    /// Curves of the machine rather than of the run.
    #[serde(default)]
    machine: bool,
    #[serde(default)]
    axis: Over,
    from: Option<f64>,
    to: Option<f64>,
    /// How wide the drawing is.
    #[serde(default = "usual")]
    pixels: u32,
    /// How much a point owes to those before it, from 0 on, less than 1.
    #[serde(default)]
    smooth: f64,
}

fn usual() -> u32 {
    800
}

/// What curves are drawn over.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Over {
    /// Steps.
    #[default]
    Step,
    /// Steps divided by those of an epoch.
    Epoch,
    /// Seconds since the run was created.
    Relative,
    /// Seconds since 1970.
    Wall,
}

/// Points, column by column; times in seconds since the run's start.
#[derive(Serialize, Default)]
struct Points {
    step: Vec<u64>,
    time: Vec<f64>,
    value: Vec<f64>,
}

impl Points {
    fn pop(&mut self) {
        self.step.pop();
        self.time.pop();
        self.value.pop();
    }

    fn push(&mut self, point: &Point, start: f64) {
        self.step.push(point.step);
        self.time.push(((point.time - start) * 1e3).round() / 1e3);
        self.value.push(point.value);
    }
}

/// A run's curve, or why there is none.
#[derive(Serialize)]
#[serde(untagged)]
enum Found {
    Curve(Box<Shown>),
    Error { run: String, error: String },
}

/// A curve of a run by pixels, and what is known of it as a whole.
#[derive(Serialize)]
struct Shown {
    run: String,
    node: String,
    count: u64,
    non_finite: u64,
    steps: (u64, u64),
    /// Seconds since 1970; other times are seconds since then.
    start: f64,
    times: (f64, f64),
    steps_per_epoch: Option<f64>,
    last: Point,
    points: Points,
    /// Where on the axis of steps or times values are not finite, and how many.
    bad: Vec<(f64, u64)>,
    smooth: Option<Points>,
}

/// What is answered.
#[derive(Serialize)]
pub struct Series {
    tag: String,
    curves: Vec<Found>,
}

/// The curves, in the order of the runs; a run without one is left out.
pub async fn series(Shared(state): Shared<Arc<State>>, Query(wanted): Query<Wanted>) -> Answer<Json<Series>> {
    aside(move || {
        let chosen = several(&*state.runs()?, &wanted.runs)?;
        let each = |(id, run): &(String, Arc<Run>)| -> Result<Option<Found>> {
            state.with_curves(&below(run, wanted.machine), |scalars| one(id, run, scalars, &wanted))
        };
        // A run that cannot be read hides none of the others.
        let each = |chosen: &(String, Arc<Run>)| match each(chosen) {
            Ok(curve) => curve,
            Err(error) => Some(Found::Error { run: chosen.0.clone(), error: format!("{error:#}") }),
        };
        let halves = chosen.split_at(chosen.len() / 2);
        let curves = std::thread::scope(|scope| {
            let first = scope.spawn(|| halves.0.iter().filter_map(each).collect::<Vec<_>>());
            let second: Vec<Found> = halves.1.iter().filter_map(each).collect();
            first.join().map(|first| first.into_iter().chain(second).collect::<Vec<_>>())
        });
        let curves = curves.map_err(|_| anyhow::anyhow!("a curve met a fault of the program: please report it"))?;
        Ok(Json(Series { tag: wanted.tag, curves }))
    })
    .await
}

/// All of a curve, by so many pixels; `None` where the run has none.
pub fn whole(
    state: &State,
    (id, run): &(String, Arc<Run>),
    tag: &str,
    machine: bool,
    pixels: u32,
) -> Result<Option<Value>> {
    let wanted = Wanted {
        runs: String::new(),
        tag: tag.to_owned(),
        machine,
        axis: Over::Step,
        from: None,
        to: None,
        pixels,
        smooth: 0.0,
    };
    let curve = state.with_curves(&below(run, machine), |scalars| one(id, run, scalars, &wanted))?;
    Ok(curve.map(serde_json::to_value).transpose()?)
}

/// Where the curves of a run are, or those of its machine.
fn below(run: &Run, machine: bool) -> PathBuf {
    if machine { run.folder.join("machine") } else { run.folder.clone() }
}

fn one(id: &str, run: &Run, scalars: &Scalars, wanted: &Wanted) -> Result<Option<Found>> {
    let Some(curve) = scalars.curve(&wanted.tag)? else { return Ok(None) };
    let start = run.created.min(curve.times.0);
    let epoch = steps_per_epoch(run);
    let steps = |to: f64| (to * epoch.unwrap_or(1.0)).clamp(0.0, 1e18).round() as u64;
    let (from, to) = (wanted.from, wanted.to);
    let span = match wanted.axis {
        Over::Step => Span::steps(
            from.map_or(curve.steps.0, |from| from.max(0.0) as u64),
            to.map_or(curve.steps.1, |to| to.max(0.0) as u64),
        ),
        Over::Epoch => Span::steps(from.map_or(curve.steps.0, steps), to.map_or(curve.steps.1, steps)),
        Over::Relative => {
            Span::times(from.map_or(curve.times.0, |from| start + from), to.map_or(curve.times.1, |to| start + to))
        }
        Over::Wall => Span::times(from.unwrap_or(curve.times.0), to.unwrap_or(curve.times.1)),
    };
    let pixels = wanted.pixels.clamp(16, 8192);
    let view = scalars.view(&wanted.tag, span, pixels)?;
    let (mut points, mut bad) = (Points::default(), Vec::new());
    for column in &view.columns {
        pair(column).iter().for_each(|point| points.push(point, start));
        if column.non_finite > 0 {
            // Where in the pixel is not known, nor needed.
            let middle =
                span.from as f64 + (span.to - span.from) as f64 * (f64::from(column.pixel) + 0.5) / f64::from(pixels);
            let middle = if span.axis == Axis::Time { middle / 1e6 - start } else { middle };
            bad.push((middle, column.non_finite));
        }
    }
    let weight = wanted.smooth.clamp(0.0, 0.9999);
    let smooth = if weight > 0.0 {
        Some(smoothed(scalars, &curve.tag, curve.count, span, pixels, weight, start)?)
    } else {
        None
    };
    Ok(Some(Found::Curve(Box::new(Shown {
        run: id.to_owned(),
        node: curve.node,
        count: curve.count,
        non_finite: curve.non_finite,
        steps: curve.steps,
        start,
        times: (curve.times.0 - start, curve.times.1 - start),
        steps_per_epoch: epoch,
        last: curve.last,
        points,
        bad,
        smooth,
    }))))
}

/// The smallest and the largest of a pixel in the order in which they were measured.
fn pair(column: &Column) -> Vec<Point> {
    match (column.min, column.max) {
        (Some(min), Some(max)) if min == max => vec![min],
        (Some(min), Some(max)) if (min.step, min.time) <= (max.step, max.time) => vec![min, max],
        (Some(min), Some(max)) => vec![max, min],
        _ => Vec::new(),
    }
}

/// A curve's exponential average from its first point on, without the weight of the beginning, one point a pixel.
fn smoothed(
    scalars: &Scalars,
    tag: &str,
    count: u64,
    span: Span,
    pixels: u32,
    weight: f64,
    start: f64,
) -> Result<Points> {
    let mut average = Average { weight, sum: 0.0, left: 1.0 };
    let mut points = Points::default();
    let mut last = None;
    let mut enter = |point: Point, times: u64| {
        let value = average.add(point.value, times);
        let place = if span.axis == Axis::Time { point.time * 1e6 } else { point.step as f64 };
        if !point.value.is_finite() || place < span.from as f64 || place > span.to as f64 {
            return;
        }
        let pixel = ((place - span.from as f64) / ((span.to - span.from) as f64 + 1.0) * f64::from(pixels)) as u32;
        if last == Some(pixel) {
            points.pop();
        }
        last = Some(pixel);
        points.push(&Point { value, ..point }, start);
    };
    if count <= WHOLE {
        scalars.points(tag, 0..count)?.into_iter().for_each(|point| enter(point, 1));
    } else {
        let whole = scalars.curve(tag)?.map_or((0, 0), |curve| curve.steps);
        for column in scalars.view(tag, Span::steps(whole.0, whole.1), PARTS)?.columns {
            let both = pair(&column);
            let Some(later) = both.last().copied() else { continue };
            let value = both.iter().map(|point| point.value).sum::<f64>() / both.len() as f64;
            enter(Point { value, ..later }, column.count - column.non_finite);
        }
    }
    Ok(points)
}

struct Average {
    weight: f64,
    sum: f64,
    /// How much of the beginning, which is no value, is left in the sum.
    left: f64,
}

impl Average {
    /// The average with so many more of a value; one that is not finite changes nothing.
    fn add(&mut self, value: f64, times: u64) -> f64 {
        if value.is_finite() {
            let kept = self.weight.powf(times as f64);
            self.sum = kept * self.sum + (1.0 - kept) * value;
            self.left *= kept;
        }
        if self.left < 1.0 { self.sum / (1.0 - self.left) } else { value }
    }
}

#[cfg(test)]
mod tests {
    use super::Average;

    #[test]
    fn an_average_has_no_weight_of_its_beginning() {
        let mut average = Average { weight: 0.9, sum: 0.0, left: 1.0 };
        assert!((average.add(3.0, 1) - 3.0).abs() < 1e-12);
        assert!((average.add(3.0, 5) - 3.0).abs() < 1e-12);
        assert!((average.add(f64::NAN, 1) - 3.0).abs() < 1e-12);
        // As one after the other: 0.9 * (6 of 3, weighted) and 0.1 of the new one.
        let (mut one, mut many) =
            (Average { weight: 0.9, sum: 0.0, left: 1.0 }, Average { weight: 0.9, sum: 0.0, left: 1.0 });
        for _ in 0..4 {
            one.add(1.0, 1);
        }
        many.add(1.0, 4);
        assert!((one.add(2.0, 1) - many.add(2.0, 1)).abs() < 1e-12);
    }
}
