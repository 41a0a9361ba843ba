//! Boxes as distances of their sides from a place, in strides of its map: torchvision's `BoxLinearCoder`. The stride is the side of a
//! square around the place.

use anyhow::Result;
use tch::Tensor;

use crate::boxes::columns;

/// The middle and the sides of squares `[N, 4]`.
pub(super) fn middles(squares: &Tensor) -> Result<[Tensor; 4]> {
    let [x1, y1, x2, y2] = columns(squares)?;
    let (w, h) = (&x2 - &x1, &y2 - &y1);
    Ok([(x1 + x2) * 0.5, (y1 + y2) * 0.5, w, h])
}

/// The boxes `[N, 4]` whose left, upper, right and lower sides have these distances `[N, 4]` from the middles of squares `[N, 4]`.
pub(super) fn decode(distances: &Tensor, squares: &Tensor) -> Result<Tensor> {
    let [left, top, right, bottom] = columns(distances)?;
    let [x, y, w, h] = middles(squares)?;
    let corners = [&x - left * &w, &y - top * &h, x + right * w, y + bottom * h];
    Ok(Tensor::f_stack(&corners, 1)?)
}

/// How central the middles of squares `[N, 4]` are within boxes `[N, 4]`, 0 to 1: `[N]`, the paper's equation 3.
pub(super) fn centerness(boxes: &Tensor, squares: &Tensor) -> Result<Tensor> {
    let [x1, y1, x2, y2] = columns(boxes)?;
    let [x, y, w, h] = middles(squares)?;
    let ratio = |low: Tensor, high: Tensor| -> Result<Tensor> { Ok(low.f_minimum(&high)? / low.f_maximum(&high)?) };
    let across = ratio((&x - x1) / &w, (x2 - &x) / &w)?;
    let down = ratio((&y - y1) / &h, (y2 - &y) / &h)?;
    Ok((across * down).f_sqrt()?)
}
