//! Rotation, scale, shear and translation.

use super::fill::{OUTSIDE, per_channel};
use super::resize::Interpolation;
use crate::image::{Image, Pixels};
use crate::masks::{Mask, Masks};

/// An affine map about the center of an image, built and applied as torchvision's `affine` does.
///
/// Points are taken relative to the middle, x to the right and y down. [`Affine::inverse`] is what pixels are looked up by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    /// From the new image to the old: `[a, b, c; d, e, f]`, `x = a·x' + b·y' + c`.
    pub inverse: [f64; 6],
}

impl Affine {
    /// The map that shears, scales, rotates (clockwise, in degrees) and translates (in pixels), in that order.
    ///
    /// The matrix is that of torchvision's `_get_inverse_affine_matrix`: inverse of `T · R(angle) · Shear · Scale`.
    pub fn new(angle: f64, translate: (f64, f64), scale: f64, shear: (f64, f64)) -> Affine {
        let (rotation, sx, sy) = (angle.to_radians(), shear.0.to_radians(), shear.1.to_radians());
        let a = (rotation - sy).cos() / sy.cos();
        let b = -(rotation - sy).cos() * sx.tan() / sy.cos() - rotation.sin();
        let c = (rotation - sy).sin() / sy.cos();
        let d = -(rotation - sy).sin() * sx.tan() / sy.cos() + rotation.cos();
        let [a, b, c, d] = [d / scale, -b / scale, -c / scale, a / scale];
        let (tx, ty) = translate;
        Affine { inverse: [a, b, -a * tx - b * ty, c, d, -c * tx - d * ty] }
    }

    /// Where a point of the old image of `height` by `width` comes to lie.
    pub fn forward(&self, x: f32, y: f32, height: usize, width: usize) -> (f32, f32) {
        let [a, b, c, d, e, f] = self.inverse;
        let (cx, cy) = (width as f64 / 2.0, height as f64 / 2.0);
        let (x, y) = (f64::from(x) - cx - c, f64::from(y) - cy - f);
        let determinant = a * e - b * d;
        (((e * x - b * y) / determinant + cx) as f32, ((a * y - d * x) / determinant + cy) as f32)
    }

    /// The upright box around a moved box.
    pub fn hull(&self, [x0, y0, x1, y1]: [f32; 4], height: usize, width: usize) -> [f32; 4] {
        let corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)].map(|(x, y)| self.forward(x, y, height, width));
        corners.iter().fold([f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY], |b, &(x, y)| {
            [b[0].min(x), b[1].min(y), b[2].max(x), b[3].max(y)]
        })
    }

    /// The place in the old image, in pixels from the centre of its first one, that a new pixel shows.
    fn source(&self, y: usize, x: usize, height: usize, width: usize) -> (f64, f64) {
        let [a, b, c, d, e, f] = self.inverse;
        let (half_w, half_h) = (width as f64 / 2.0, height as f64 / 2.0);
        let (dx, dy) = (x as f64 + 0.5 - half_w, y as f64 + 0.5 - half_h);
        (d * dx + e * dy + f + half_h - 0.5, a * dx + b * dy + c + half_w - 0.5)
    }

    /// The old pixel nearest to what a new one shows, if that lies inside.
    fn nearest(&self, y: usize, x: usize, height: usize, width: usize) -> Option<(usize, usize)> {
        let (sy, sx) = self.source(y, x, height, width);
        // Halves go to the even pixel, as grid_sample rounds.
        let (sy, sx) = (sy.round_ties_even(), sx.round_ties_even());
        let inside = (0.0..height as f64).contains(&sy) && (0.0..width as f64).contains(&sx);
        inside.then_some((sy as usize, sx as usize))
    }
}

/// The moved image; see [`super::warp`](fn@super::warp).
pub fn warped(image: &Image, affine: &Affine, interpolation: Interpolation, fill: &[f32]) -> Image {
    let channels = image.channels;
    let pixels = match (&image.pixels, interpolation) {
        (Pixels::U8(values), Interpolation::Nearest) => {
            let fill = per_channel(fill, channels, |v| v.round().clamp(0.0, 255.0) as u8);
            Pixels::U8(nearest_pixels(values, image, affine, &fill))
        }
        (Pixels::F32(values), Interpolation::Nearest) => {
            Pixels::F32(nearest_pixels(values, image, affine, &per_channel(fill, channels, |v| v)))
        }
        (Pixels::U8(values), _) => {
            let fill = per_channel(fill, channels, |v| v);
            let blended = blended(image, affine, &fill, |i| f32::from(values[i]));
            Pixels::U8(blended.map(|v| v.round_ties_even().clamp(0.0, 255.0) as u8).collect())
        }
        (Pixels::F32(values), _) => {
            Pixels::F32(blended(image, affine, &per_channel(fill, channels, |v| v), |i| values[i]).collect())
        }
    };
    Image { height: image.height, width: image.width, channels, pixels }
}

/// The moved classes of pixels.
pub fn warp_classes(classes: &[u8], height: usize, width: usize, affine: &Affine) -> Vec<u8> {
    let at = |y, x| affine.nearest(y, x, height, width).map_or(OUTSIDE, |(y, x)| classes[y * width + x]);
    (0..height * width).map(|i| at(i / width, i % width)).collect()
}

/// Moves masks, within the windows that can hold them afterwards.
pub fn warp_masks(masks: &mut Masks, affine: &Affine) {
    let (height, width) = (masks.height, masks.width);
    for mask in &mut masks.instances {
        if mask.bits.is_empty() {
            continue;
        }
        let (left, top) = (mask.left as f32, mask.top as f32);
        let hull = affine.hull([left, top, left + mask.width as f32, top + mask.height as f32], height, width);
        // One pixel more on each side for rounding.
        let from = |v: f32, end: usize| ((v.floor() as i64 - 1).clamp(0, end as i64)) as usize;
        let to = |v: f32, end: usize| ((v.ceil() as i64 + 1).clamp(0, end as i64)) as usize;
        let (left, top, right, bottom) =
            (from(hull[0], width), from(hull[1], height), to(hull[2], width), to(hull[3], height));
        let at = |y, x| affine.nearest(y, x, height, width).map_or(0, |(y, x)| mask.at(y, x));
        let bits = (top..bottom).flat_map(|y| (left..right).map(move |x| (y, x))).map(|(y, x)| at(y, x)).collect();
        *mask = Mask { left, top, width: right - left, height: bottom - top, bits }.trimmed();
    }
}

fn nearest_pixels<T: Copy>(values: &[T], image: &Image, affine: &Affine, fill: &[T]) -> Vec<T> {
    let (height, width, channels) = (image.height, image.width, image.channels);
    let mut out = Vec::with_capacity(values.len());
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        out.extend_from_slice(match affine.nearest(y, x, height, width) {
            Some((y, x)) => &values[(y * width + x) * channels..][..channels],
            None => fill,
        });
    }
    out
}

/// Bilinear values; the fill shines through where the four neighbors lie outside.
fn blended<'a>(
    image: &'a Image,
    affine: &'a Affine,
    fill: &'a [f32],
    value: impl Fn(usize) -> f32 + Copy + 'a,
) -> impl Iterator<Item = f32> + 'a {
    let (height, width, channels) = (image.height, image.width, image.channels);
    (0..height * width).flat_map(move |i| {
        let (sy, sx) = affine.source(i / width, i % width, height, width);
        let (fy, fx) = ((sy - sy.floor()) as f32, (sx - sx.floor()) as f32);
        let neighbours =
            [(0, 0, (1.0 - fy) * (1.0 - fx)), (0, 1, (1.0 - fy) * fx), (1, 0, fy * (1.0 - fx)), (1, 1, fy * fx)];
        let neighbours = neighbours.map(|(dy, dx, weight)| {
            let (y, x) = (sy.floor() as i64 + dy, sx.floor() as i64 + dx);
            let inside = (0..height as i64).contains(&y) && (0..width as i64).contains(&x);
            (inside.then(|| (y as usize * width + x as usize) * channels), weight)
        });
        (0..channels).map(move |c| neighbours.iter().map(|(at, w)| w * at.map_or(fill[c], |at| value(at + c))).sum())
    })
}
