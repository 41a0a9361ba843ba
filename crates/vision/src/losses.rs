//! Losses that PyTorch itself lacks, as in `torchvision.ops`, for each element.

use anyhow::Result;
use tch::{Reduction, Tensor};

use super::boxes::columns;

/// Keeps the quotient of an empty box finite.
const EPS: f64 = 1e-7;

/// The focal loss with α = 0.25 and γ = 2 of logits and as many targets, 0 or 1: Lin et al., "Focal Loss" (2017), equation 5;
/// `sigmoid_focal_loss`.
///
/// # Errors
/// The shapes differ, or memory is short.
pub fn sigmoid_focal(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    const ALPHA: f64 = 0.25;
    let p = logits.f_sigmoid()?;
    let loss = logits.f_binary_cross_entropy_with_logits::<Tensor>(targets, None, None, Reduction::None)?;
    // Of targets that are 0 or 1 the probability of being wrong is their distance.
    let wrong = p.f_sub(targets)?;
    let alpha = targets * (2.0 * ALPHA - 1.0) + (1.0 - ALPHA);
    Ok(loss.f_mul(&wrong.f_square()?)?.f_mul(&alpha)?)
}

/// One less the generalized overlap of boxes and as many others, `[N, 4]` → `[N]`: Rezatofighi et al., "Generalized Intersection over
/// Union" (2019); `generalized_box_iou_loss`.
///
/// # Errors
/// The shapes differ.
pub fn generalized_iou(boxes: &Tensor, truth: &Tensor) -> Result<Tensor> {
    let [x1, y1, x2, y2] = columns(boxes)?;
    let [tx1, ty1, tx2, ty2] = columns(truth)?;
    let width = x2.f_minimum(&tx2)?.f_sub(&x1.f_maximum(&tx1)?)?;
    let height = y2.f_minimum(&ty2)?.f_sub(&y1.f_maximum(&ty1)?)?;
    // A gradient flows only where they overlap.
    let overlap = width.f_gt(0.0)?.f_logical_and(&height.f_gt(0.0)?)?;
    let inter = (width * height).f_masked_fill(&overlap.f_logical_not()?, 0.0)?;
    let union = (&x2 - &x1) * (&y2 - &y1) + (&tx2 - &tx1) * (&ty2 - &ty1) - &inter;
    let around = (x2.f_maximum(&tx2)? - x1.f_minimum(&tx1)?) * (y2.f_maximum(&ty2)? - y1.f_minimum(&ty1)?);
    let overlap = inter / (&union + EPS) - (&around - &union) / (&around + EPS);
    Ok(1.0 - overlap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_apart_lose_more_than_one() {
        let boxes = Tensor::from_slice2(&[[0f32, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 2.0, 2.0]]);
        let truth = Tensor::from_slice2(&[[0f32, 0.0, 2.0, 2.0], [2.0, 0.0, 3.0, 1.0], [1.0, 0.0, 3.0, 2.0]]);
        let loss = Vec::<f32>::try_from(generalized_iou(&boxes, &truth).unwrap()).unwrap();
        for (loss, wanted) in loss.iter().zip([0.0, 4.0 / 3.0, 2.0 / 3.0]) {
            assert!((loss - wanted).abs() < 1e-5, "{loss} instead of {wanted}");
        }
    }

    #[test]
    fn what_is_easy_counts_little() {
        let logits = Tensor::from_slice(&[0f32, 0.0, 4.0]);
        let targets = Tensor::from_slice(&[0f32, 1.0, 1.0]);
        let loss = Vec::<f32>::try_from(sigmoid_focal(&logits, &targets).unwrap()).unwrap();
        let ln2 = std::f32::consts::LN_2;
        assert!((loss[0] - 0.75 * 0.25 * ln2).abs() < 1e-6 && (loss[1] - 0.25 * 0.25 * ln2).abs() < 1e-6, "{loss:?}");
        assert!(loss[2] < 1e-5, "{loss:?}");
    }
}
