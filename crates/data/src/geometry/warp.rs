//! Rotation, scale, shear and translation.

use super::fill::{OUTSIDE, per_channel};
use super::resize::Interpolation;
use crate::image::{Image, Pixels};
use crate::masks::{Mask, Masks};

/// Height and width in pixels.
pub type Size = (usize, usize);

/// The sizes of an image before and after a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Before.
    pub from: Size,
    /// After.
    pub to: Size,
}

impl Frame {
    /// Of an image that keeps its size.
    pub fn same(size: Size) -> Frame {
        Frame { from: size, to: size }
    }
}

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

    /// The same map about another point than the middle, given relative to that.
    pub fn about(mut self, (x, y): (f64, f64)) -> Affine {
        let [a, b, _, d, e, _] = self.inverse;
        self.inverse[2] += x - a * x - b * y;
        self.inverse[5] += y - d * x - e * y;
        self
    }

    /// Height and width of an image that holds the whole of one of this size after a rotation, as torchvision's `rotate` with
    /// `expand` computes them.
    pub fn expanded(&self, (height, width): Size) -> Size {
        // Quarter turns make whole pixels of whole pixels.
        let none = |v: f64| v.abs() < 1e-9;
        if none(self.inverse[0]) && none(self.inverse[4]) {
            return (width, height);
        }
        if none(self.inverse[1]) && none(self.inverse[3]) {
            return (height, width);
        }
        let [a, b, c, d, e, f] = self.inverse.map(|v| v as f32);
        let (half_w, half_h) = (0.5 * width as f32, 0.5 * height as f32);
        let corners = [(-half_w, -half_h), (-half_w, half_h), (half_w, half_h), (half_w, -half_h)];
        let side = |half: f32, at: &dyn Fn((f32, f32)) -> f32| {
            // Of a corner that rounding moved over a pixel's border, nothing is made.
            let places = corners.map(|corner| ((at(corner) + half) * 1e4).trunc() * 1e-4);
            let (low, high) =
                places.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
            (high.ceil() - low.floor()) as usize
        };
        (side(half_h, &|(x, y)| d * x + e * y + f), side(half_w, &|(x, y)| a * x + b * y + c))
    }

    /// Where a point of an image comes to lie in the new one; their middles are the same.
    pub fn forward(&self, x: f32, y: f32, frame: Frame) -> (f32, f32) {
        let [a, b, c, d, e, f] = self.inverse;
        let ((height, width), (new_height, new_width)) = (frame.from, frame.to);
        let (x, y) = (f64::from(x) - width as f64 / 2.0 - c, f64::from(y) - height as f64 / 2.0 - f);
        let determinant = a * e - b * d;
        let (new_x, new_y) = ((e * x - b * y) / determinant, (a * y - d * x) / determinant);
        ((new_x + new_width as f64 / 2.0) as f32, (new_y + new_height as f64 / 2.0) as f32)
    }

    /// The upright box around a moved box.
    pub fn hull(&self, [x0, y0, x1, y1]: [f32; 4], frame: Frame) -> [f32; 4] {
        let corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)].map(|(x, y)| self.forward(x, y, frame));
        corners.iter().fold([f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY], |b, &(x, y)| {
            [b[0].min(x), b[1].min(y), b[2].max(x), b[3].max(y)]
        })
    }

    /// The place in the old image, in pixels from the centre of its first one, that a new pixel shows.
    fn source(&self, y: usize, x: usize, frame: Frame) -> (f64, f64) {
        let [a, b, c, d, e, f] = self.inverse;
        let ((height, width), (new_height, new_width)) = (frame.from, frame.to);
        let (dx, dy) = (x as f64 + 0.5 - new_width as f64 / 2.0, y as f64 + 0.5 - new_height as f64 / 2.0);
        (d * dx + e * dy + f + height as f64 / 2.0 - 0.5, a * dx + b * dy + c + width as f64 / 2.0 - 0.5)
    }

    /// The old pixel nearest to what a new one shows, if that lies inside.
    fn nearest(&self, y: usize, x: usize, frame: Frame) -> Option<(usize, usize)> {
        let (sy, sx) = self.source(y, x, frame);
        // Halves go to the even pixel, as grid_sample rounds.
        let (sy, sx) = (sy.round_ties_even(), sx.round_ties_even());
        let inside = (0.0..frame.from.0 as f64).contains(&sy) && (0.0..frame.from.1 as f64).contains(&sx);
        inside.then_some((sy as usize, sx as usize))
    }
}

/// The moved image; see [`super::warp`](fn@super::warp).
pub fn warped(image: &Image, affine: &Affine, to: Size, interpolation: Interpolation, fill: &[f32]) -> Image {
    let channels = image.channels;
    let frame = Frame { from: (image.height, image.width), to };
    let pixels = match (&image.pixels, interpolation) {
        (Pixels::U8(values), Interpolation::Nearest) => {
            let fill = per_channel(fill, channels, |v| v.round().clamp(0.0, 255.0) as u8);
            Pixels::U8(nearest_pixels(values, channels, affine, frame, &fill))
        }
        (Pixels::F32(values), Interpolation::Nearest) => {
            Pixels::F32(nearest_pixels(values, channels, affine, frame, &per_channel(fill, channels, |v| v)))
        }
        (Pixels::U8(values), _) => {
            let fill = per_channel(fill, channels, |v| v);
            let blended = blended(channels, affine, frame, &fill, |i| f32::from(values[i]));
            Pixels::U8(blended.map(|v| v.round_ties_even().clamp(0.0, 255.0) as u8).collect())
        }
        (Pixels::F32(values), _) => {
            Pixels::F32(blended(channels, affine, frame, &per_channel(fill, channels, |v| v), |i| values[i]).collect())
        }
    };
    Image { height: to.0, width: to.1, channels, pixels }
}

/// The moved classes of pixels.
pub fn warp_classes(classes: &[u8], affine: &Affine, frame: Frame) -> Vec<u8> {
    let at = |y, x| affine.nearest(y, x, frame).map_or(OUTSIDE, |(y, x)| classes[y * frame.from.1 + x]);
    let (height, width) = frame.to;
    (0..height * width).map(|i| at(i / width, i % width)).collect()
}

/// Moves masks, within the windows that can hold them afterwards.
pub fn warp_masks(masks: &mut Masks, affine: &Affine, to: Size) {
    let frame = Frame { from: (masks.height, masks.width), to };
    let (height, width) = to;
    (masks.height, masks.width) = to;
    for mask in &mut masks.instances {
        if mask.bits.is_empty() {
            continue;
        }
        let (left, top) = (mask.left as f32, mask.top as f32);
        let hull = affine.hull([left, top, left + mask.width as f32, top + mask.height as f32], frame);
        // One pixel more on each side for rounding.
        let from = |v: f32, end: usize| ((v.floor() as i64 - 1).clamp(0, end as i64)) as usize;
        let to = |v: f32, end: usize| ((v.ceil() as i64 + 1).clamp(0, end as i64)) as usize;
        let (left, top, right, bottom) =
            (from(hull[0], width), from(hull[1], height), to(hull[2], width), to(hull[3], height));
        let at = |y, x| affine.nearest(y, x, frame).map_or(0, |(y, x)| mask.at(y, x));
        let bits = (top..bottom).flat_map(|y| (left..right).map(move |x| (y, x))).map(|(y, x)| at(y, x)).collect();
        *mask = Mask { left, top, width: right - left, height: bottom - top, bits }.trimmed();
    }
}

fn nearest_pixels<T: Copy>(values: &[T], channels: usize, affine: &Affine, frame: Frame, fill: &[T]) -> Vec<T> {
    let (height, width) = frame.to;
    let mut out = Vec::with_capacity(height * width * channels);
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        out.extend_from_slice(match affine.nearest(y, x, frame) {
            Some((y, x)) => &values[(y * frame.from.1 + x) * channels..][..channels],
            None => fill,
        });
    }
    out
}

/// Bilinear values; the fill shines through where the four neighbors lie outside.
fn blended<'a>(
    channels: usize,
    affine: &'a Affine,
    frame: Frame,
    fill: &'a [f32],
    value: impl Fn(usize) -> f32 + Copy + 'a,
) -> impl Iterator<Item = f32> + 'a {
    let ((height, width), (new_height, new_width)) = (frame.from, frame.to);
    (0..new_height * new_width).flat_map(move |i| {
        let (sy, sx) = affine.source(i / new_width, i % new_width, frame);
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
