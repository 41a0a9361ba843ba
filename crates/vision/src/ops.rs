//! The operators that PyTorch itself lacks: non-maximum suppression and RoIAlign, from the native layer.

use anyhow::Result;
use tch::{Kind, Tensor};

pub use pipe_native::ops::{batched_nms, nms};

/// RoIAlign as the models use it (`aligned = false`): features `[N, C, H, W]` and boxes `[K, 5]` (image index, corners in
/// pixels) → `[K, C, side, side]`, with `scale` the features' size over the image's and `sampling_ratio` samples a bin and
/// axis (0 or less: as many as the bin has cells). Half precision is pooled in single and returned in half.
///
/// # Errors
/// The shapes are others, or torchvision's library is missing on a GPU.
pub fn roi_align(features: &Tensor, boxes: &Tensor, scale: f64, side: i64, sampling_ratio: i64) -> Result<Tensor> {
    let kind = features.kind();
    if matches!(kind, Kind::Half | Kind::BFloat16) {
        let wide = features.f_to_kind(Kind::Float)?;
        return Ok(roi_align(&wide, &boxes.f_to_kind(Kind::Float)?, scale, side, sampling_ratio)?.f_to_kind(kind)?);
    }
    pipe_native::ops::roi_align(features, boxes, scale, side, side, sampling_ratio, false)
}
