//! The strokes of the ten digits, in the styles people write them.

use super::outline::{Point, sin_cos};
use crate::dice::Dice;

/// Points a pen passes, `[0, 1] × [0, 1]`, y down.
pub(super) type Stroke = Vec<Point>;

/// The strokes of a digit in one of its styles, its proportions varied.
pub(super) fn glyph(label: usize, dice: &mut Dice) -> Vec<Stroke> {
    let style = dice.below(3);
    // Where the waist of the digit is, and how far its parts reach.
    let waist = dice.between(0.42, 0.56);
    let reach = dice.between(0.85, 1.1);
    match label {
        0 => zero(style, reach),
        1 => one(style, reach),
        2 => two(style, waist),
        3 => three(style, waist, reach),
        4 => four(style, waist),
        5 => five(style, waist, reach),
        6 => vec![six(waist, reach)],
        7 => seven(style, waist),
        8 => vec![eight(waist, reach)],
        // A nine is a six turned around, or a loop with a straight leg.
        _ if style == 0 => vec![six(waist, reach).into_iter().map(|[x, y]| [1.0 - x, 1.0 - y]).collect()],
        _ => nine(style, waist, reach),
    }
}

/// Part of an ellipse, from one angle to another in full turns: 0 is right, 0.25 down, 0.5 left, 0.75 up.
fn arc(center: Point, radius: Point, from: f64, to: f64) -> Stroke {
    let steps = 4 + ((to - from).abs() * 16.0) as usize;
    (0..=steps)
        .map(|i| {
            let (sin, cos) = sin_cos(from + (to - from) * i as f64 / steps as f64);
            [center[0] + radius[0] * cos, center[1] + radius[1] * sin]
        })
        .collect()
}

fn join(parts: impl IntoIterator<Item = Stroke>) -> Stroke {
    parts.into_iter().flatten().collect()
}

fn zero(style: usize, reach: f64) -> Vec<Stroke> {
    let mut strokes = vec![arc([0.5, 0.5], [0.42 * reach, 0.5], 0.7, 1.7)];
    if style == 0 {
        strokes.push(vec![[0.7, 0.2], [0.3, 0.8]]);
    }
    strokes
}

fn one(style: usize, reach: f64) -> Vec<Stroke> {
    let stem = vec![[0.5, 0.0], [0.5, 1.0]];
    let flag = vec![[0.5 - 0.25 * reach, 0.22], [0.5, 0.0]];
    match style {
        0 => vec![stem],
        1 => vec![join([flag, stem])],
        _ => vec![join([flag, stem]), vec![[0.25, 1.0], [0.75, 1.0]]],
    }
}

fn two(style: usize, waist: f64) -> Vec<Stroke> {
    let bow = arc([0.5, 0.28], [0.38, 0.28], 0.5, 1.1);
    match style {
        // A loop at the foot.
        0 => vec![join([
            bow,
            vec![[0.6, 0.3 + 0.6 * waist], [0.25, 0.92]],
            arc([0.2, 0.88], [0.12, 0.1], 0.2, 0.9),
            vec![[0.9, 1.0]],
        ])],
        _ => vec![join([bow, vec![[0.7, 0.2 + 0.6 * waist], [0.1, 1.0], [0.9, 1.0]]])],
    }
}

fn three(style: usize, waist: f64, reach: f64) -> Vec<Stroke> {
    let low = arc([0.42, (1.0 + waist) / 2.0], [0.42 * reach, (1.0 - waist) / 2.0], 0.75, 1.42);
    if style == 0 {
        return vec![join([vec![[0.12, 0.0], [0.8, 0.0], [0.42, waist]], low])];
    }
    let high = arc([0.42, waist / 2.0], [0.36 * reach, waist / 2.0], 0.58, 1.25);
    vec![join([high, low])]
}

fn four(style: usize, waist: f64) -> Vec<Stroke> {
    let bar = waist + 0.16;
    match style {
        // Open at the top.
        0 => vec![vec![[0.15, 0.02], [0.1, bar], [0.9, bar]], vec![[0.7, 0.05], [0.68, 1.0]]],
        1 => vec![vec![[0.65, 0.0], [0.05, bar], [0.95, bar]], vec![[0.65, 0.0], [0.65, 1.0]]],
        _ => vec![vec![[0.55, 0.0], [0.08, bar], [0.92, bar]], vec![[0.7, 0.3], [0.66, 1.0]]],
    }
}

fn five(style: usize, waist: f64, reach: f64) -> Vec<Stroke> {
    let top = waist - 0.1;
    let bow = arc([0.4, (1.0 + top) / 2.0], [0.45 * reach, (1.0 - top) / 2.0], 0.68, 1.42);
    let back = vec![[0.22, 0.0], [0.16, top + 0.06]];
    match style {
        0 => vec![join([back, bow]), vec![[0.22, 0.0], [0.85, 0.02]]],
        _ => vec![join([vec![[0.85, 0.0]], back, bow])],
    }
}

fn six(waist: f64, reach: f64) -> Stroke {
    let low = (1.0 + waist) / 2.0;
    let radius = [0.36 * reach, (1.0 - waist) / 2.0];
    let back = arc([0.5 - radius[0] + 0.5, low], [0.5, low], 0.7, 0.5);
    join([back, arc([0.5, low], radius, 0.5, -0.52)])
}

fn seven(style: usize, waist: f64) -> Vec<Stroke> {
    let mut strokes = match style {
        0 => vec![vec![[0.1, 0.02], [0.9, 0.0], [0.6, waist], [0.42, 1.0]]],
        _ => vec![vec![[0.12, 0.12], [0.12, 0.0], [0.88, 0.0], [0.35, 1.0]]],
    };
    if style == 2 {
        strokes.push(vec![[0.35, waist], [0.8, waist]]);
    }
    strokes
}

fn eight(waist: f64, reach: f64) -> Stroke {
    let (high, low) = (waist / 2.0, (1.0 + waist) / 2.0);
    let top = arc([0.5, high], [0.33 * reach, high], 0.25, 1.25);
    let bottom = arc([0.5, low], [0.4 * reach, (1.0 - waist) / 2.0], 0.75, -0.25);
    join([top, bottom])
}

fn nine(style: usize, waist: f64, reach: f64) -> Vec<Stroke> {
    let right = 0.5 + 0.34 * reach;
    let height = (waist + 0.08) / 2.0;
    let circle = arc([0.5, height], [0.34 * reach, height], 0.0, -1.0);
    let leg = if style == 1 { vec![[right, 1.0]] } else { arc([0.45, 0.72], [right - 0.45, 0.28], 0.0, 0.4) };
    vec![join([circle, leg])]
}
