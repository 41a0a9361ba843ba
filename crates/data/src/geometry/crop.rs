//! A window of an image, with padding where it reaches outside.

use super::fill::per_channel;
use crate::image::{Image, Pixels};

/// A window in pixels of an image; it may reach outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First row.
    pub top: i64,
    /// First column.
    pub left: i64,
    /// Number of rows.
    pub height: usize,
    /// Number of columns.
    pub width: usize,
}

/// The window of an image; see [`super::crop`](fn@super::crop).
pub fn cropped(image: &Image, window: Window, fill: &[f32]) -> Image {
    let size = (image.height, image.width);
    let pixels = match &image.pixels {
        Pixels::U8(values) => {
            let fill = per_channel(fill, image.channels, |v| v.round().clamp(0.0, 255.0) as u8);
            Pixels::U8(window_of(values, size, image.channels, window, &fill))
        }
        Pixels::F32(values) => {
            let fill = per_channel(fill, image.channels, |v| v);
            Pixels::F32(window_of(values, size, image.channels, window, &fill))
        }
    };
    Image { height: window.height, width: window.width, channels: image.channels, pixels }
}

/// The window of rows of pixels of `channels` values; `fill` is one pixel.
pub(super) fn window_of<T: Copy>(
    values: &[T],
    (height, width): (usize, usize),
    channels: usize,
    window: Window,
    fill: &[T],
) -> Vec<T> {
    let first = (-window.left).clamp(0, window.width as i64) as usize;
    let last = (width as i64 - window.left).clamp(first as i64, window.width as i64) as usize;
    let mut out = Vec::with_capacity(window.height * window.width * channels);
    let pad = |out: &mut Vec<T>, pixels: usize| (0..pixels).for_each(|_| out.extend_from_slice(fill));
    for y in 0..window.height as i64 {
        let row = window.top + y;
        if (0..height as i64).contains(&row) && first < last {
            pad(&mut out, first);
            let start = (row as usize * width) as i64 + window.left + first as i64;
            out.extend_from_slice(&values[start as usize * channels..][..(last - first) * channels]);
            pad(&mut out, window.width - last);
        } else {
            pad(&mut out, window.width);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_may_reach_outside_on_every_side() {
        let values = [1, 2, 3, 4, 5, 6];
        let window = |top, left, height, width| Window { top, left, height, width };
        let crop = |w| window_of(&values, (2, 3), 1, w, &[0]);
        assert_eq!(crop(window(0, 1, 2, 2)), [2, 3, 5, 6]);
        assert_eq!(crop(window(-1, -1, 4, 5)), [0, 0, 0, 0, 0, 0, 1, 2, 3, 0, 0, 4, 5, 6, 0, 0, 0, 0, 0, 0]);
        assert_eq!(crop(window(1, 2, 2, 2)), [6, 0, 0, 0]);
        assert_eq!(crop(window(5, 5, 1, 2)), [0, 0]);
        let image = Image::from_u8(1, 2, 3, vec![1, 2, 3, 4, 5, 6]);
        let filled = cropped(&image, window(0, 1, 1, 2), &[7.0, 8.0, 9.0]);
        assert_eq!(filled.pixels, Pixels::U8(vec![4, 5, 6, 7, 8, 9]));
    }
}
