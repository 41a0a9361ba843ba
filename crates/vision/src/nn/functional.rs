//! Layers without parameters.

use anyhow::{Context, Result};
use tch::{Device, Tensor};

/// Whether layers may round otherwise than torchvision's, to be faster: not where a pipeline is `deterministic`; and on the CPU not in
/// training, where the gradients of a deep network show it, as they show a GPU's TF32 much more.
pub fn rounds_freely(device: Device, train: bool) -> bool {
    !pipe_native::numeric::is_deterministic() && (!train || pipe_native::device::prefers_channels_last(device))
}

/// Values `[N, C, H, W]` as convolutions compute with them fastest, and give their own: in memory, the channels of a pixel lie side by
/// side. The input where [`rounds_freely`] says no, and on devices that do not care.
///
/// # Errors
/// The input has not four dimensions, or memory is short.
pub fn channels_last(input: &Tensor, train: bool) -> Result<Tensor> {
    let device = input.device();
    let cares = device == Device::Cpu || pipe_native::device::prefers_channels_last(device);
    match cares && rounds_freely(device, train) {
        true => Ok(input.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])?),
        false => Ok(input.shallow_clone()),
    }
}

/// Zeroes each element with probability `p` while training and scales the rest by `1 / (1 - p)`; elsewhere the input.
///
/// # Errors
/// `p` is outside `[0, 1]`.
pub fn dropout(input: &Tensor, p: f64, train: bool) -> Result<Tensor> {
    input.f_dropout(p, train).with_context(|| format!("dropout with p = {p}: it must lie in [0, 1]"))
}

/// `max_pool2d`, `[N, C, H, W]` → `[N, C, H', W']`, for a square window with `padding` on every side, in pixels.
///
/// # Errors
/// The window does not fit the input.
pub fn max_pool2d(input: &Tensor, kernel: i64, stride: i64, padding: i64) -> Result<Tensor> {
    pool(input, kernel, stride, padding, false)
}

/// Halves an image, with a row and a column more where its sides are odd: `MaxPool2d(2, 2, ceil_mode=True)`.
///
/// # Errors
/// The input has not four dimensions.
pub fn max_pool2d_ceil(input: &Tensor) -> Result<Tensor> {
    pool(input, 2, 2, 0, true)
}

fn pool(input: &Tensor, kernel: i64, stride: i64, padding: i64, ceil: bool) -> Result<Tensor> {
    input
        .f_max_pool2d([kernel, kernel], [stride, stride], [padding, padding], [1, 1], ceil)
        .with_context(|| format!("pooling {:?} with a window of {kernel}", input.size()))
}

/// The mean over each channel: `[N, C, H, W]` → `[N, C]`.
///
/// # Errors
/// The input has not four dimensions.
pub fn global_average(input: &Tensor) -> Result<Tensor> {
    let pooled = input.f_adaptive_avg_pool2d([1, 1]).with_context(|| format!("averaging {:?}", input.size()))?;
    Ok(pooled.f_flatten(1, -1)?)
}

/// Bilinear resize to `[height, width]` pixels as `interpolate(size=…, align_corners=False)`: `[N, C, H, W]` input.
///
/// # Errors
/// A size is not positive, or memory is short.
pub fn resize_bilinear(input: &Tensor, (height, width): (i64, i64)) -> Result<Tensor> {
    input
        .f_upsample_bilinear2d([height, width], false, None, None)
        .with_context(|| format!("resizing {:?} to {height}×{width}", input.size()))
}

/// Nearest-neighbour resize to `[height, width]` pixels as `interpolate(size=…)`: `[N, C, H, W]` input.
///
/// # Errors
/// A size is not positive, or memory is short.
pub fn resize_nearest(input: &Tensor, (height, width): (i64, i64)) -> Result<Tensor> {
    input
        .f_upsample_nearest2d([height, width], None, None)
        .with_context(|| format!("resizing {:?} to {height}×{width}", input.size()))
}
