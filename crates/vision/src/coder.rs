//! Boxes as offsets from reference boxes: Ren et al., "Faster R-CNN" (2015), equation 2.

use anyhow::Result;
use tch::Tensor;

use super::boxes::{at_least_float, columns};

/// Encodes and decodes boxes relative to anchors or proposals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoxCoder {
    /// Factors of the offsets `dx, dy, dw, dh`, which bring them to a similar spread.
    pub weights: [f64; 4],
    /// Largest logarithm of a growth in size, against overflow; torchvision's `ln(1000 / 16)`.
    pub clip: f64,
}

impl BoxCoder {
    /// A coder with these weights and torchvision's clip.
    pub fn new(weights: [f64; 4]) -> Self {
        Self { weights, clip: (1000.0f64 / 16.0).ln() }
    }

    /// The offsets `[N, 4]` that lead from each of `proposals` `[N, 4]` to the same row of `boxes` `[N, 4]`.
    ///
    /// # Errors
    /// The shapes are others.
    pub fn encode(&self, boxes: &Tensor, proposals: &Tensor) -> Result<Tensor> {
        let [wx, wy, ww, wh] = self.weights;
        let (px, py, pw, ph) = centres(proposals)?;
        let (gx, gy, gw, gh) = centres(boxes)?;
        let offsets = [(gx - px) * wx / &pw, (gy - py) * wy / &ph, (gw / pw).log() * ww, (gh / ph).log() * wh];
        Ok(Tensor::f_stack(&offsets, 1)?)
    }

    /// The boxes `[N, C, 4]` that the offsets `[N, C · 4]` lead to from `proposals` `[N, 4]`, at least in single precision.
    ///
    /// # Errors
    /// The shapes are others.
    pub fn decode(&self, offsets: &Tensor, proposals: &Tensor) -> Result<Tensor> {
        let count = proposals.size().first().copied().unwrap_or(0);
        let per_box = offsets.size().last().copied().unwrap_or(0) / 4;
        let offsets = at_least_float(offsets)?.f_reshape([count, per_box, 4])?;
        let [wx, wy, ww, wh] = self.weights;
        let [dx, dy, dw, dh] = columns(&offsets)?;
        let (px, py, pw, ph) = centres(&proposals.f_to_kind(offsets.kind())?.f_unsqueeze(1)?)?;
        let x = dx / wx * &pw + px;
        let y = dy / wy * &ph + py;
        let half_w = (dw / ww).f_clamp_max(self.clip)?.exp() * pw * 0.5;
        let half_h = (dh / wh).f_clamp_max(self.clip)?.exp() * ph * 0.5;
        let corners = [&x - &half_w, &y - &half_h, x + half_w, y + half_h];
        Ok(Tensor::f_stack(&corners, 2)?)
    }
}

/// Centre, width and height of `[…, 4]` corners.
fn centres(boxes: &Tensor) -> Result<(Tensor, Tensor, Tensor, Tensor)> {
    let [x1, y1, x2, y2] = columns(boxes)?;
    let (w, h) = (x2 - &x1, y2 - &y1);
    Ok((x1 + &w * 0.5, y1 + &h * 0.5, w, h))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_undoes_encoding() {
        let boxes = Tensor::from_slice2(&[[12f32, 30.0, 64.0, 80.0], [0.0, 0.0, 10.0, 300.0]]);
        let proposals = Tensor::from_slice2(&[[10f32, 32.0, 60.0, 90.0], [1.0, 5.0, 12.0, 200.0]]);
        let coder = BoxCoder::new([10.0, 10.0, 5.0, 5.0]);
        let offsets = coder.encode(&boxes, &proposals).unwrap();
        let back = coder.decode(&offsets, &proposals).unwrap();
        assert_eq!(back.size(), [2, 1, 4]);
        assert!(f64::try_from((back.squeeze_dim(1) - boxes).abs().max()).unwrap() < 1e-4);
    }

    #[test]
    fn growth_is_limited() {
        let proposal = Tensor::from_slice2(&[[0f32, 0.0, 16.0, 16.0]]);
        let offsets = Tensor::from_slice2(&[[0f32, 0.0, 100.0, 0.0, 1.0, 0.0, 0.0, 0.0]]);
        let boxes = BoxCoder::new([1.0; 4]).decode(&offsets, &proposal).unwrap();
        assert_eq!(boxes.size(), [1, 2, 4]);
        let first: Vec<f32> = boxes.get(0).get(0).try_into().unwrap();
        assert!((first[2] - first[0] - 1000.0).abs() < 0.01, "{first:?}");
        assert_eq!(Vec::<f32>::try_from(boxes.get(0).get(1)).unwrap(), [16.0, 0.0, 32.0, 16.0]);
    }
}
