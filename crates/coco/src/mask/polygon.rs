//! Polygons to runs, as `rleFrPoly` of `maskApi.c` draws them.
//!
//! The outline lies on a grid five times finer than the pixels; where it passes from one fine column to the next at
//! the centre of a pixel column, the mask changes below that point. Which pixels on the border count is decided by the
//! truncations below, so each of them is part of the contract: areas and IoUs of a whole dataset hang on them.

use super::{MaskError, Rle, pixel_count};

/// Fine steps a pixel.
const SCALE: f64 = 5.0;
const STEPS: i32 = SCALE as i32;
/// Coordinates beyond this are damage, not annotation; it also keeps the walk within 32-bit integers.
const FAR: f64 = 1e6;
/// The fine column left of the centre of pixel column 0.
const CENTRE: i32 = 2;
/// A mask that changes more often than this is damage too.
const MAX_CHANGES: usize = 1 << 22;

impl Rle {
    /// The mask `[height, width]` of one polygon, given as `x, y, x, y, …` in pixels; parts outside are cut off.
    ///
    /// # Errors
    /// Fewer than three points, an odd number of coordinates, a coordinate that is not finite or absurdly far away, or an
    /// outline that crosses more than 4 million columns of pixels.
    pub fn from_polygon(polygon: &[f64], height: u32, width: u32) -> Result<Self, MaskError> {
        pixel_count(height, width)?;
        check(polygon)?;
        let mut changes = crossings(polygon, height, width)?;
        changes.sort_unstable();
        Ok(Self::from_changes(height, width, changes))
    }

    /// The union of several polygons, the way COCO stores an object in parts.
    ///
    /// # Errors
    /// As [`Rle::from_polygon`]; no polygons at all are [`MaskError::NoMasks`].
    pub fn from_polygons<'a>(
        polygons: impl IntoIterator<Item = &'a [f64]>,
        height: u32,
        width: u32,
    ) -> Result<Self, MaskError> {
        let mut parts = Vec::new();
        let mut changes = 0;
        for polygon in polygons {
            let part = Self::from_polygon(polygon, height, width)?;
            changes += part.counts.len();
            if changes > MAX_CHANGES {
                return Err(MaskError::Detail { limit: MAX_CHANGES });
            }
            parts.push(part);
        }
        Self::union(&parts)
    }

    /// The mask of a box `[x, y, width, height]` in pixels, drawn as a polygon of four points.
    ///
    /// # Errors
    /// A coordinate that is not finite or absurdly far away.
    pub fn from_bbox([x, y, w, h]: [f64; 4], height: u32, width: u32) -> Result<Self, MaskError> {
        let (right, bottom) = (x + w, y + h);
        Self::from_polygon(&[x, y, x, bottom, right, bottom, right, y], height, width)
    }
}

fn check(polygon: &[f64]) -> Result<(), MaskError> {
    if !polygon.len().is_multiple_of(2) {
        return Err(MaskError::OddPolygon { coordinates: polygon.len() });
    }
    if polygon.len() < 6 {
        return Err(MaskError::ShortPolygon { points: polygon.len() / 2 });
    }
    match polygon.iter().position(|v| !v.is_finite() || v.abs() > FAR) {
        Some(index) => Err(MaskError::Coordinate { index, value: polygon[index] }),
        None => Ok(()),
    }
}

/// Column-major positions at which the outline changes the mask, unsorted.
fn crossings(polygon: &[f64], height: u32, width: u32) -> Result<Vec<u32>, MaskError> {
    let points: Vec<[i32; 2]> = polygon.chunks_exact(2).map(|p| [fine(p[0]), fine(p[1])]).collect();
    let mut found = Vec::new();
    for (i, &from) in points.iter().enumerate() {
        let edge = Edge::new(from, points[(i + 1) % points.len()]);
        for column in edge.columns(width) {
            // maskApi's ⌈(y + 0.5) / 5 - 0.5⌉.
            let y = (edge.y_at(CENTRE + STEPS * column as i32) - 2 + STEPS - 1).div_euclid(STEPS);
            found.push(column * height + (y.max(0) as u32).min(height));
        }
        if found.len() > MAX_CHANGES {
            return Err(MaskError::Detail { limit: MAX_CHANGES });
        }
    }
    Ok(found)
}

/// To the fine grid. The cast truncates towards zero, also left of the image.
fn fine(coordinate: f64) -> i32 {
    (SCALE * coordinate + 0.5) as i32
}

/// One edge on the fine grid.
///
/// maskApi steps along the steeper axis and interpolates the other, always from the smaller end: an edge and its reverse then
/// visit the same points, and neighbors share a border without gap or overlap. A step changes the mask where it passes
/// from the fine column at the centre of a pixel column to the next. Only those steps are looked for here, so that what lies
/// outside the image costs nothing.
struct Edge {
    low: [i32; 2],
    high: [i32; 2],
    /// The axis that is stepped: 0 for x.
    axis: usize,
    slope: f64,
}

impl Edge {
    fn new(from: [i32; 2], to: [i32; 2]) -> Self {
        let (dx, dy) = ((to[0] - from[0]).abs(), (to[1] - from[1]).abs());
        let axis = usize::from(dx < dy);
        let (low, high) = if from[axis] > to[axis] { (to, from) } else { (from, to) };
        let slope = f64::from(high[1 - axis] - low[1 - axis]) / f64::from(dx.max(dy));
        Self { low, high, axis, slope }
    }

    /// The pixel columns whose centre the edge passes, within an image of this width.
    fn columns(&self, width: u32) -> std::ops::Range<u32> {
        let (left, right) = (self.low[0].min(self.high[0]), self.low[0].max(self.high[0]));
        // Column c has its centre between the fine columns 5c + 2 and 5c + 3.
        let first_from = |x: i32| (x - CENTRE + STEPS - 1).div_euclid(STEPS).max(0) as u32;
        let end = first_from(right).min(width);
        first_from(left).min(end)..end
    }

    /// The upper of the two points between which the edge passes from the fine column `x` to the next.
    fn y_at(&self, x: i32) -> i32 {
        if self.axis == 0 {
            let step = x - self.low[0];
            return self.other_at(step).min(self.other_at(step + 1));
        }
        // The first step on the far side: the interpolated x never turns back.
        let rising = self.slope > 0.0;
        let passed = |step: i32| (self.other_at(step) > x) == rising;
        let last = self.high[1] - self.low[1];
        // Right but for the last bits, on which it hangs.
        let mut behind = ((f64::from(x - self.low[0]) + 0.5) / self.slope).clamp(1.0, f64::from(last)) as i32;
        while behind > 1 && passed(behind - 1) {
            behind -= 1;
        }
        while behind < last && !passed(behind) {
            behind += 1;
        }
        self.low[1] + behind - 1
    }

    /// The interpolated coordinate; the cast truncates as maskApi's does.
    fn other_at(&self, step: i32) -> i32 {
        (f64::from(self.low[1 - self.axis]) + self.slope * f64::from(step) + 0.5) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whole_boxes_cover_their_pixels() {
        let mask = Rle::from_bbox([2.0, 1.0, 3.0, 4.0], 8, 9).unwrap();
        assert_eq!((mask.area(), mask.bbox()), (12, [2.0, 1.0, 3.0, 4.0]));
        let outside = Rle::from_bbox([-5.0, -5.0, 100.0, 100.0], 8, 9).unwrap();
        assert_eq!(outside.area(), 72);
    }

    #[test]
    fn bad_polygons_are_told_apart() {
        let refuse = |polygon: &[f64]| Rle::from_polygon(polygon, 10, 10).unwrap_err();
        assert_eq!(refuse(&[1.0; 7]), MaskError::OddPolygon { coordinates: 7 });
        assert_eq!(refuse(&[1.0; 4]), MaskError::ShortPolygon { points: 2 });
        assert_eq!(refuse(&[]), MaskError::ShortPolygon { points: 0 });
        assert!(matches!(refuse(&[0.0, 0.0, 1.0, f64::NAN, 1.0, 1.0]), MaskError::Coordinate { index: 3, .. }));
        assert!(matches!(refuse(&[0.0, 0.0, 1e9, 0.0, 1.0, 1.0]), MaskError::Coordinate { index: 2, .. }));
        assert_eq!(Rle::from_polygons([], 10, 10).unwrap_err(), MaskError::NoMasks);
    }

    /// The outline walked step by step, as maskApi does it.
    fn walked(polygon: &[f64], height: u32, width: u32) -> Vec<u32> {
        let points: Vec<[i32; 2]> = polygon.chunks_exact(2).map(|p| [fine(p[0]), fine(p[1])]).collect();
        let mut outline: Vec<[i32; 2]> = Vec::new();
        for (i, &from) in points.iter().enumerate() {
            let to = points[(i + 1) % points.len()];
            let (dx, dy) = ((to[0] - from[0]).abs(), (to[1] - from[1]).abs());
            let axis = usize::from(dx < dy);
            let flip = from[axis] > to[axis];
            let (low, high) = if flip { (to, from) } else { (from, to) };
            let length = dx.max(dy);
            let slope = f64::from(high[1 - axis] - low[1 - axis]) / f64::from(length);
            for step in 0..=length {
                let step = if flip { length - step } else { step };
                let mut point = [0; 2];
                point[axis] = low[axis] + step;
                point[1 - axis] = (f64::from(low[1 - axis]) + slope * f64::from(step) + 0.5) as i32;
                outline.push(point);
            }
        }
        let crossing = |pair: &[[i32; 2]]| {
            let [before, point] = [pair[0], pair[1]];
            let column = f64::from(if point[0] < before[0] { point[0] } else { point[0] - 1 });
            let x = (column + 0.5) / SCALE - 0.5;
            if point[0] == before[0] || x.floor() != x || x < 0.0 || x > f64::from(width) - 1.0 {
                return None;
            }
            let y = (f64::from(point[1].min(before[1])) + 0.5) / SCALE - 0.5;
            Some(x as u32 * height + y.clamp(0.0, f64::from(height)).ceil() as u32)
        };
        let mut found: Vec<u32> = outline.windows(2).filter_map(crossing).collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn what_lies_outside_costs_nothing() {
        let far = 999_999.0;
        let polygon = [-far, -far, far, -far + 1.0, far, far, -far, far - 1.0, 3.0, far, 5.0, -far].repeat(2_000);
        let mask = Rle::from_polygon(&polygon, 20, 30).unwrap();
        assert_eq!((mask.height(), mask.width()), (20, 30));
        // A few thousand bytes whose outline crosses a billion columns.
        let error = Rle::from_polygon(&polygon, 20, 100_000_000).unwrap_err();
        assert_eq!(error, MaskError::Detail { limit: MAX_CHANGES });
    }

    proptest! {
        #[test]
        fn only_the_steps_that_count_are_found(
            near in proptest::collection::vec(-20.0f64..60.0, 6..24),
            far in proptest::collection::vec(-3e3f64..3e3, 6..12),
        ) {
            for points in [&near, &far, &[&near[..4], &far[..4]].concat()] {
                let points = &points[..points.len() / 2 * 2];
                let mut found = crossings(points, 40, 50).unwrap();
                found.sort_unstable();
                prop_assert_eq!(found, walked(points, 40, 50));
            }
        }

        #[test]
        fn a_polygon_stays_near_its_points(points in proptest::collection::vec(-20.0f64..60.0, 6..24)) {
            let points = &points[..points.len() / 2 * 2];
            let mask = Rle::from_polygon(points, 40, 50).unwrap();
            let [x, y, w, h] = mask.bbox();
            if mask.area() > 0 {
                let of = |axis: usize| points.iter().skip(axis).step_by(2).copied();
                prop_assert!(x + 1.0 >= of(0).fold(f64::MAX, f64::min) && x + w - 1.0 <= of(0).fold(f64::MIN, f64::max));
                prop_assert!(y + 1.0 >= of(1).fold(f64::MAX, f64::min) && y + h - 1.0 <= of(1).fold(f64::MIN, f64::max));
            }
            let mut twice = points.to_vec();
            twice.extend([points[points.len() - 2], points[points.len() - 1]]);
            prop_assert_eq!(Rle::from_polygon(&twice, 40, 50).unwrap(), mask, "a repeated point changes nothing");
        }
    }
}
