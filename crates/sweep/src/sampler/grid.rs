//! All values there are: the last parameter changes fastest.

use crate::space::{Space, Values};
use crate::study::{State, Study};

/// All points of a space; nothing where a parameter has infinitely many values.
pub fn points(space: &Space) -> Option<Vec<Values>> {
    let mut points = vec![Values::new()];
    for parameter in &space.parameters {
        let all = parameter.distribution.all()?;
        let mut next = Vec::new();
        for point in points {
            if !space.is_active(parameter, &point) {
                next.push(point);
                continue;
            }
            next.extend(all.iter().map(|value| {
                let mut point = point.clone();
                point.insert(parameter.name.clone(), *value);
                point
            }));
        }
        points = next;
    }
    Some(points)
}

/// The first point that no trial has but such as failed.
pub(super) fn next(study: &Study, space: &Space) -> Option<Values> {
    let taken: Vec<&Values> =
        study.trials.iter().filter(|trial| trial.state != State::Failed).map(|trial| &trial.params).collect();
    let failed: Vec<&Values> = study.in_state(State::Failed).map(|trial| &trial.params).collect();
    let points = points(space)?;
    let is_new = |point: &&Values| !taken.contains(point) && !failed.contains(point);
    let again = |point: &&Values| !taken.contains(point);
    points.iter().find(is_new).or_else(|| points.iter().find(again)).cloned()
}
