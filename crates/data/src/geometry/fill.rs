//! What comes in from outside an image.

/// The class of pixels outside the original image: ignored by losses and metrics.
pub const OUTSIDE: u8 = 255;

/// One fill value a channel; zero when none is given.
pub(super) fn per_channel<T>(fill: &[f32], channels: usize, convert: impl Fn(f32) -> T) -> Vec<T> {
    let last = fill.last().copied().unwrap_or(0.0);
    (0..channels).map(|c| convert(fill.get(c).copied().unwrap_or(last))).collect()
}
