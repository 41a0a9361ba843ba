//! Circles, squares, triangles and stars as polygons.

/// A kind of shape, which is what a model learns to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Circle,
    Square,
    Triangle,
    Star,
}

/// The kinds with their category ids: with gaps, as COCO's are.
pub(super) const KINDS: [(Kind, u32, &str); 4] = [
    (Kind::Circle, 1, "circle"),
    (Kind::Square, 3, "square"),
    (Kind::Triangle, 4, "triangle"),
    (Kind::Star, 7, "star"),
];

/// A point `[x, y]` in pixels.
pub(super) type Point = [f64; 2];

/// The outline of a shape around a centre, turned by so many full turns.
pub(super) fn outline(kind: Kind, center: Point, radius: f64, turn: f64) -> Vec<Point> {
    let corners = match kind {
        Kind::Circle => 32,
        Kind::Square => 4,
        Kind::Triangle => 3,
        Kind::Star => 10,
    };
    (0..corners)
        .map(|i| {
            let (sin, cos) = sin_cos(turn + f64::from(i) / f64::from(corners));
            let inner = kind == Kind::Star && i % 2 == 1;
            let radius = if inner { radius * 0.42 } else { radius };
            [center[0] + radius * cos, center[1] + radius * sin]
        })
        .collect()
}

/// The part of a polygon inside `[0, width] × [0, height]` (Sutherland–Hodgman, an edge of the frame at a time),
/// coordinates rounded to hundredths as COCO writes them.
pub(super) fn clip(polygon: &[Point], width: f64, height: f64) -> Vec<Point> {
    let mut clipped = polygon.to_vec();
    for (axis, bound, keep_above) in [(0, 0.0, true), (0, width, false), (1, 0.0, true), (1, height, false)] {
        let inside = |p: &Point| if keep_above { p[axis] >= bound } else { p[axis] <= bound };
        let whole = std::mem::take(&mut clipped);
        for (i, to) in whole.iter().enumerate() {
            let from = &whole[(i + whole.len() - 1) % whole.len()];
            if inside(from) != inside(to) {
                let share = (bound - from[axis]) / (to[axis] - from[axis]);
                let other = 1 - axis;
                let mut cut = [bound; 2];
                cut[other] = from[other] + share * (to[other] - from[other]);
                clipped.push(cut);
            }
            if inside(to) {
                clipped.push(*to);
            }
        }
    }
    clipped.into_iter().map(|p| p.map(|v| (v * 100.0).round() / 100.0)).collect()
}

/// Sine and cosine of an angle in full turns: a Taylor series about the nearest quarter, so that every machine agrees.
pub(super) fn sin_cos(turns: f64) -> (f64, f64) {
    let quarter = (turns * 4.0).round();
    let angle = (turns - quarter / 4.0) * std::f64::consts::TAU;
    let square = angle * angle;
    // Nested: 1 - x²/(a·b) (1 - x²/(c·d) (…)).
    let series = |factors: [f64; 7]| factors.iter().rev().fold(1.0, |sum, factor| 1.0 - square / factor * sum);
    let sin = angle * series([6.0, 20.0, 42.0, 72.0, 110.0, 156.0, 210.0]);
    let cos = series([2.0, 12.0, 30.0, 56.0, 90.0, 132.0, 182.0]);
    match quarter.rem_euclid(4.0) as u8 {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sine_and_cosine() {
        for i in -200..200 {
            let turns = f64::from(i) / 37.0;
            let (sin, cos) = sin_cos(turns);
            let angle = turns * std::f64::consts::TAU;
            assert!((sin - angle.sin()).abs() < 1e-12 && (cos - angle.cos()).abs() < 1e-12, "{turns}");
        }
    }

    #[test]
    fn clipping_keeps_what_is_inside() {
        let square = [[-2.0, -2.0], [4.0, -2.0], [4.0, 4.0], [-2.0, 4.0]];
        let area = |p: &[Point]| {
            let cross = |i: usize| p[i][0] * p[(i + 1) % p.len()][1] - p[(i + 1) % p.len()][0] * p[i][1];
            (0..p.len()).map(cross).sum::<f64>().abs() / 2.0
        };
        assert_eq!(area(&clip(&square, 10.0, 3.0)), 12.0);
        assert!(clip(&[[-5.0, 1.0], [-3.0, 1.0], [-4.0, 2.0]], 9.0, 9.0).is_empty());
    }
}
