//! Operators of detection: non-maximum suppression and RoIAlign.

use anyhow::{Result, bail, ensure};
use tch::{Device, Kind, Tensor};

use crate::ffi;
use crate::library::load_torchvision;
use crate::numeric::is_deterministic;

/// Above this many numbers in `boxes` one pass over each class is cheaper than one over all (torchvision's bounds).
const TRICK_LIMIT_CPU: usize = 4_000;
const TRICK_LIMIT_GPU: usize = 100_000;

/// Non-maximum suppression: indices (i64 `[K]`, by falling score) of the boxes that stay when each box that overlaps a
/// better one by more than `iou_threshold` is dropped.
///
/// `boxes`: `[N, 4]` as x1, y1, x2, y2; `scores`: `[N]`, of the same type and device.
///
/// # Errors
/// When torchvision's library is not found, or the shapes do not fit.
pub fn nms(boxes: &Tensor, scores: &Tensor, iou_threshold: f64) -> Result<Tensor> {
    load_torchvision()?;
    let (b, s) = (ffi::handle(boxes), ffi::handle(scores));
    // SAFETY: both handles live as long as their tensors; the shim only reads them.
    ffi::new_tensor(|out| unsafe { ffi::pn_nms(b, s, iou_threshold, out) })
}

/// Non-maximum suppression within each class: indices (i64 `[K]`, by falling score) of the boxes that stay.
///
/// `boxes`: `[N, 4]`, `scores`: `[N]`, `classes`: i64 `[N]`. Few boxes are shifted apart by class and treated at once,
/// many are treated class by class, as torchvision does.
///
/// # Errors
/// As [`nms`].
pub fn batched_nms(boxes: &Tensor, scores: &Tensor, classes: &Tensor, iou_threshold: f64) -> Result<Tensor> {
    let n = boxes.size().first().copied().unwrap_or(0);
    ensure!(
        boxes.size() == [n, 4] && scores.size() == [n] && classes.size() == [n],
        "batched_nms: the boxes must be [N, 4] and the scores and classes [N], got {:?}, {:?} and {:?}",
        boxes.size(),
        scores.size(),
        classes.size()
    );
    if boxes.numel() == 0 {
        return Ok(Tensor::zeros([0], (Kind::Int64, boxes.device())));
    }
    let limit = if boxes.device() == Device::Cpu { TRICK_LIMIT_CPU } else { TRICK_LIMIT_GPU };
    tch::no_grad(|| {
        if boxes.numel() > limit {
            nms_by_class(boxes, scores, classes, iou_threshold)
        } else {
            let step = boxes.f_max()?.f_add_scalar(1)?;
            let offsets = classes.f_to_kind(boxes.kind())?.f_mul(&step)?;
            nms(&boxes.f_add(&offsets.f_unsqueeze(1)?)?, scores, iou_threshold)
        }
    })
}

fn nms_by_class(boxes: &Tensor, scores: &Tensor, classes: &Tensor, iou_threshold: f64) -> Result<Tensor> {
    let (present, _, _) = classes.f_unique_dim(0, true, false, false)?;
    let mut kept = Vec::new();
    for class in Vec::<i64>::try_from(&present.f_to_kind(Kind::Int64)?)? {
        let of_class = classes.f_eq(class)?.f_nonzero()?.f_squeeze_dim(1)?;
        let keep = nms(&boxes.f_index_select(0, &of_class)?, &scores.f_index_select(0, &of_class)?, iou_threshold)?;
        kept.push(of_class.f_index_select(0, &keep)?);
    }
    // Ascending indices first, so that equal scores come out in torchvision's order.
    let (kept, _) = Tensor::f_cat(&kept, 0)?.f_sort(0, false)?;
    let (_, order) = scores.f_index_select(0, &kept)?.f_sort(0, true)?;
    Ok(kept.f_index_select(0, &order)?)
}

/// RoIAlign (He et al. 2017, Mask R-CNN, section 3): `[K, C, pooled_h, pooled_w]`, the features of each box averaged over
/// a grid of bilinear samples. Gradients flow to `input`.
///
/// `input`: `[N, C, H, W]`; `rois`: `[K, 5]`, rows of image index, x1, y1, x2, y2 in units of the image; `spatial_scale`:
/// features per unit of the image; `sampling_ratio`: samples a bin and axis, 0 or less for as many as a bin has cells;
/// `aligned`: shift by half a cell, so that cell centres lie at +0.5.
///
/// On the CPU this is our own kernel (parallel in both passes, the same result on every run); on a GPU it is torchvision's, with
/// a gradient of our own where [`is_deterministic`] asks for the same numbers on every run.
///
/// # Errors
/// Shapes that do not fit; an image index outside the batch; on a GPU, torchvision's library not found.
pub fn roi_align(
    input: &Tensor,
    rois: &Tensor,
    spatial_scale: f64,
    pooled_h: i64,
    pooled_w: i64,
    sampling_ratio: i64,
    aligned: bool,
) -> Result<Tensor> {
    if input.device() != rois.device() {
        bail!("roi_align: the input is on {:?}, the boxes on {:?}", input.device(), rois.device());
    }
    let call = if input.device() == Device::Cpu {
        ffi::pn_roi_align_cpu
    } else {
        load_torchvision()?;
        if is_deterministic() { ffi::pn_roi_align_ordered } else { ffi::pn_roi_align }
    };
    let rois = if rois.kind() == input.kind() || input.device() == Device::Cpu {
        rois.shallow_clone()
    } else {
        rois.f_to_kind(input.kind())?
    };
    let (x, r) = (ffi::handle(input), ffi::handle(&rois));
    // SAFETY: both handles live as long as their tensors; the shim only reads them.
    ffi::new_tensor(|out| unsafe { call(x, r, spatial_scale, pooled_h, pooled_w, sampling_ratio, aligned, out) })
}

/// [`roi_align`] as a GPU does it where the same numbers are asked for on every run: torchvision's, its gradient summed in a fixed
/// order. On any device.
///
/// # Errors
/// As [`roi_align`].
pub fn roi_align_ordered(
    input: &Tensor,
    rois: &Tensor,
    spatial_scale: f64,
    (pooled_h, pooled_w): (i64, i64),
    sampling_ratio: i64,
    aligned: bool,
) -> Result<Tensor> {
    load_torchvision()?;
    let (x, r) = (ffi::handle(input), ffi::handle(rois));
    // SAFETY: both handles live as long as their tensors; the shim only reads them.
    ffi::new_tensor(|out| unsafe {
        ffi::pn_roi_align_ordered(x, r, spatial_scale, pooled_h, pooled_w, sampling_ratio, aligned, out)
    })
}
