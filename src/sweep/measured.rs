//! What a run has measured of an objective or a constraint.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use pipe_history::{Curve, Scalars};
use pipe_plan::sweep::{Direction, Which};
use pipe_vocab::ValueRef;
use serde_json::Value;

/// The numbers of a run, looked at again and again.
pub(super) struct Measured {
    scalars: Scalars,
}

impl Measured {
    pub fn of(run: &Path) -> Result<Measured> {
        Ok(Measured { scalars: Scalars::open(run)? })
    }

    /// Reads what has come since.
    pub fn refresh(&mut self) -> Result<()> {
        self.scalars.refresh().map(drop)
    }

    /// The curve of a metric; none where it was not measured yet.
    fn curve(&self, metric: &str) -> Result<Option<Curve>> {
        let named: Option<ValueRef> = serde_json::from_value(Value::from(metric)).ok();
        let Some(ValueRef { node, value }) = named else { return self.scalars.curve(metric) };
        // As metrics and engines name what they record: by the value alone where it is called as the node is.
        let long = format!("{}/{value}", node.name);
        let ends = |tag: &str, ending: &str| {
            tag.strip_suffix(ending).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
        };
        let own = |tag: &str| {
            ends(tag, &long) || ends(tag, &value) && (value == *node.name || node.kind.as_str() == "engine")
        };
        let mut found: Vec<Curve> = self.scalars.curves()?;
        found.retain(|curve| curve.node == node.to_string() && own(&curve.tag));
        ensure!(
            found.len() < 2,
            "`{metric}` is measured under several tags: give one, such as `{}`, in place of it",
            found[0].tag
        );
        Ok(found.pop())
    }

    /// The values of a metric from the `seen`th on.
    pub fn reports(&self, metric: &str, seen: u64) -> Result<Vec<f64>> {
        let Some(curve) = self.curve(metric)? else { return Ok(Vec::new()) };
        let points = self.scalars.points(&curve.tag, seen..curve.count)?;
        Ok(points.into_iter().map(|point| point.value).collect())
    }

    /// How many values of a metric were measured up to a step.
    pub fn reports_by(&self, metric: &str, step: u64) -> Result<u64> {
        let Some(curve) = self.curve(metric)? else { return Ok(0) };
        let points = self.scalars.points(&curve.tag, 0..curve.count)?;
        Ok(points.into_iter().filter(|point| point.step <= step).count() as u64)
    }

    /// What a metric came to.
    pub fn value(&self, metric: &str, which: Which, direction: Direction) -> Result<f64> {
        let curve = self.curve(metric)?.with_context(|| format!("`{metric}` was never measured"))?;
        let point = match (which, direction) {
            (Which::Last, _) => Some(curve.last),
            (Which::Best, Direction::Min) => curve.min,
            (Which::Best, Direction::Max) => curve.max,
        };
        let value = point.map_or(f64::NAN, |point| point.value);
        ensure!(value.is_finite(), "`{metric}` came to {value}");
        Ok(value)
    }
}
