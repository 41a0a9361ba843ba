//! A mask back to polygons along the edges of its pixels.

use crate::mask::Rle;

/// Steps to the right, down, left, up.
const STEPS: [[i32; 2]; 4] = [[1, 0], [0, 1], [-1, 0], [0, -1]];

/// The outlines of a mask's parts, `x, y, x, y, …` at whole pixels. `None` when polygons cannot say it: a part has a hole.
pub(super) fn trace(mask: &Rle) -> Option<Vec<Vec<f64>>> {
    let (height, width) = (mask.height() as usize, mask.width() as usize);
    let stride = width + 1;
    let mut edges = border(&mask.decode(), height, width);
    let mut polygons = Vec::new();
    for start in 0..edges.len() {
        while edges[start] != 0 {
            let polygon = follow(&mut edges, stride, start);
            if signed_area(&polygon) < 0.0 {
                return None;
            }
            polygons.push(polygon);
        }
    }
    // Exactness is the point: what a reader rasterizes must be this mask.
    let drawn = Rle::from_polygons(polygons.iter().map(Vec::as_slice), mask.height(), mask.width()).ok()?;
    (drawn == *mask).then_some(polygons)
}

/// For each corner of the pixel grid, a bit a direction in which a border leaves it, foreground on its right.
fn border(pixels: &[u8], height: usize, width: usize) -> Vec<u8> {
    let stride = width + 1;
    let mut edges = vec![0u8; stride * (height + 1)];
    let set = |x: usize, y: usize| x < width && y < height && pixels[y * width + x] != 0;
    for y in 0..height {
        for x in (0..width).filter(|&x| set(x, y)) {
            let corner = y * stride + x;
            if y == 0 || !set(x, y - 1) {
                edges[corner] |= 1;
            }
            if !set(x + 1, y) {
                edges[corner + 1] |= 1 << 1;
            }
            if !set(x, y + 1) {
                edges[corner + stride + 1] |= 1 << 2;
            }
            if x == 0 || !set(x - 1, y) {
                edges[corner + stride] |= 1 << 3;
            }
        }
    }
    edges
}

/// Follows one border until it closes, removing its edges; corners only where it turns. Where two pixels touch at a
/// corner it turns right, staying with its pixel.
fn follow(edges: &mut [u8], stride: usize, start: usize) -> Vec<f64> {
    let mut polygon = Vec::new();
    let mut at = start;
    let mut heading = usize::MAX;
    loop {
        let choices = if heading == usize::MAX { [0, 1, 2, 3] } else { [1, 0, 3, 2].map(|turn| (heading + turn) % 4) };
        let Some(next) = choices.into_iter().find(|&direction| edges[at] & 1 << direction != 0) else { break };
        edges[at] &= !(1 << next);
        if next != heading {
            polygon.extend([(at % stride) as f64, (at / stride) as f64]);
        }
        heading = next;
        let [dx, dy] = STEPS[next];
        at = (at as i64 + i64::from(dx) + i64::from(dy) * stride as i64) as usize;
        if at == start {
            break;
        }
    }
    polygon
}

/// Twice the enclosed area; negative around a hole.
fn signed_area(polygon: &[f64]) -> f64 {
    let next = polygon.iter().skip(2).chain(polygon);
    let pairs: Vec<&f64> = next.take(polygon.len()).collect();
    polygon.chunks(2).zip(pairs.chunks(2)).map(|(a, b)| a[0] * b[1] - b[0] * a[1]).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_and_holes() {
        let two = Rle::encode(&[1, 0, 0, 0, 1, 1, 0, 1, 1], 3, 3).unwrap();
        assert_eq!(
            trace(&two).unwrap(),
            [vec![0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0], vec![1.0, 1.0, 3.0, 1.0, 3.0, 3.0, 1.0, 3.0]]
        );
        assert!(trace(&Rle::encode(&[1, 1, 1, 1, 0, 1, 1, 1, 1], 3, 3).unwrap()).is_none());
    }

    proptest! {
        #[test]
        fn polygons_draw_the_mask(pixels in proptest::collection::vec(0u8..2, 54)) {
            let mask = Rle::encode(&pixels, 6, 9).unwrap();
            if let Some(polygons) = trace(&mask).filter(|polygons| !polygons.is_empty()) {
                let drawn = Rle::from_polygons(polygons.iter().map(Vec::as_slice), 6, 9).unwrap();
                prop_assert_eq!(drawn, mask);
            }
        }
    }
}
