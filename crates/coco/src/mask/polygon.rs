//! Polygons to runs, as `rleFrPoly` of `maskApi.c` draws them.
//!
//! The outline is walked on a grid five times finer than the pixels; where it passes from one fine column to the next at
//! the centre of a pixel column, the mask changes below that point. Which pixels on the border count is decided by the
//! truncations below, so each of them is part of the contract: areas and IoUs of a whole dataset hang on them.

use super::{MaskError, Rle, pixel_count};

/// Fine steps a pixel.
const SCALE: f64 = 5.0;
/// Coordinates beyond this are damage, not annotation; it also keeps the walk within 32-bit integers.
const FAR: f64 = 1e6;

impl Rle {
    /// The mask `[height, width]` of one polygon, given as `x, y, x, y, …` in pixels; parts outside are cut off.
    ///
    /// # Errors
    /// Fewer than three points, an odd number of coordinates, or a coordinate that is not finite or absurdly far away.
    pub fn from_polygon(polygon: &[f64], height: u32, width: u32) -> Result<Self, MaskError> {
        pixel_count(height, width)?;
        check(polygon)?;
        let mut changes = crossings(polygon, height, width);
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
        let parts = polygons.into_iter().map(|polygon| Self::from_polygon(polygon, height, width));
        Self::union(&parts.collect::<Result<Vec<_>, _>>()?)
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
fn crossings(polygon: &[f64], height: u32, width: u32) -> Vec<u32> {
    let points: Vec<[i32; 2]> = polygon.chunks_exact(2).map(|p| [fine(p[0]), fine(p[1])]).collect();
    let mut found = Vec::new();
    let mut before: Option<[i32; 2]> = None;
    for (i, &from) in points.iter().enumerate() {
        let to = points[(i + 1) % points.len()];
        walk(from, to, |point| {
            if let Some(before) = before.replace(point) {
                found.extend(crossing(before, point, height, width));
            }
        });
    }
    found
}

/// To the fine grid. The cast truncates towards zero, also left of the image.
fn fine(coordinate: f64) -> i32 {
    (SCALE * coordinate + 0.5) as i32
}

/// Visits the fine points of one edge in order, both ends included.
///
/// The steeper axis is stepped, the other interpolated, always from its smaller end: an edge and its reverse then
/// visit the same points, and neighbors share a border without gap or overlap.
fn walk(from: [i32; 2], to: [i32; 2], mut visit: impl FnMut([i32; 2])) {
    let (dx, dy) = ((to[0] - from[0]).abs(), (to[1] - from[1]).abs());
    let axis = usize::from(dx < dy);
    let other = 1 - axis;
    let flip = from[axis] > to[axis];
    let (low, high) = if flip { (to, from) } else { (from, to) };
    let length = dx.max(dy);
    let slope = f64::from(high[other] - low[other]) / f64::from(length);
    for step in 0..=length {
        let step = if flip { length - step } else { step };
        let mut point = [0; 2];
        point[axis] = low[axis] + step;
        // A repeated point has no slope; its NaN truncates to 0 and is not used, since the column does not change there.
        point[other] = (f64::from(low[other]) + slope * f64::from(step) + 0.5) as i32;
        visit(point);
    }
}

/// Where the step between two fine points changes the mask, if it passes the centre of a pixel column inside the image.
fn crossing(before: [i32; 2], point: [i32; 2], height: u32, width: u32) -> Option<u32> {
    if point[0] == before[0] {
        return None;
    }
    let column = f64::from(if point[0] < before[0] { point[0] } else { point[0] - 1 });
    let x = (column + 0.5) / SCALE - 0.5;
    if x.floor() != x || x < 0.0 || x > f64::from(width) - 1.0 {
        return None;
    }
    let y = (f64::from(point[1].min(before[1])) + 0.5) / SCALE - 0.5;
    let y = y.clamp(0.0, f64::from(height)).ceil();
    Some(x as u32 * height + y as u32)
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

    proptest! {
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
