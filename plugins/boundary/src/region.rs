//! Overlaps and boundary regions of masks, bool `[H, W]`.

use pipe_plugin::anyhow::Result;
use pipe_plugin::tch::{Kind, Tensor};

fn count(mask: &Tensor) -> Result<f64> {
    Ok(f64::try_from(mask.f_sum(Kind::Double)?)?)
}

/// Intersection over union; 0 where both are empty.
///
/// # Errors
/// When the shapes differ.
pub fn iou(a: &Tensor, b: &Tensor) -> Result<f64> {
    let (both, either) = (count(&a.f_logical_and(b)?)?, count(&a.f_logical_or(b)?)?);
    Ok(if either == 0.0 { 0.0 } else { both / either })
}

/// Dice's coefficient, 2 |A ∩ B| / (|A| + |B|); 0 where both are empty.
///
/// # Errors
/// When the shapes differ.
pub fn dice(a: &Tensor, b: &Tensor) -> Result<f64> {
    let (both, sum) = (count(&a.f_logical_and(b)?)?, count(a)? + count(b)?);
    Ok(if sum == 0.0 { 0.0 } else { 2.0 * both / sum })
}

/// How many pixels from the edge inwards are the boundary: a part of the image's diagonal, at least one.
pub fn boundary_width(height: i64, width: i64, ratio: f64) -> i64 {
    let diagonal = ((height * height + width * width) as f64).sqrt();
    ((ratio * diagonal).round() as i64).max(1)
}

/// The pixels of a mask that are at most `reach` steps (to the eight neighbours) away from what is not the mask; beyond the
/// image is not the mask.
///
/// # Errors
/// When it is no `[H, W]`.
pub fn boundary(mask: &Tensor, reach: i64) -> Result<Tensor> {
    let outside = mask.f_logical_not()?.f_to_kind(Kind::Float)?;
    let outside = outside.f_constant_pad_nd([reach; 4])?.f_sub_(&padding(mask, reach)?)?;
    // What is outside grows inwards, first along the columns, then along the rows.
    let side = 2 * reach + 1;
    let planes = outside.f_unsqueeze(0)?.f_unsqueeze(0)?;
    let planes = planes.f_max_pool2d([side, 1], [1, 1], [0, 0], [1, 1], false)?;
    let grown = planes.f_max_pool2d([1, side], [1, 1], [0, 0], [1, 1], false)?;
    Ok(mask.f_logical_and(&grown.f_squeeze()?.f_reshape(mask.size())?.f_gt(0.5)?)?)
}

/// −1 in the margin of `reach` pixels around the image and 0 inside it: subtracted, it makes the margin outside.
fn padding(mask: &Tensor, reach: i64) -> Result<Tensor> {
    let inside = mask.f_ones_like()?.f_to_kind(Kind::Float)?;
    Ok(inside.f_constant_pad_nd([reach; 4])?.f_sub_scalar(1.0)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipe_plugin::tch::Device;

    /// By the definition: one step inwards at a time.
    fn eroded(mask: &[bool], height: i64, width: i64, steps: i64) -> Vec<bool> {
        let mut now = mask.to_vec();
        for _ in 0..steps {
            let at =
                |y: i64, x: i64| (0..height).contains(&y) && (0..width).contains(&x) && now[(y * width + x) as usize];
            let keep = |i: i64| {
                let (y, x) = (i / width, i % width);
                (-1..=1).all(|dy| (-1..=1).all(|dx| at(y + dy, x + dx)))
            };
            now = (0..height * width).map(keep).collect();
        }
        now
    }

    #[test]
    fn the_boundary_is_the_mask_without_what_is_left_of_it_after_eroding() {
        let (height, width) = (24, 31);
        for seed in 0..6i64 {
            let inside = |i: i64| {
                let (y, x) = (i / width - 10 - seed, i % width - 12);
                y * y + x * x < 90 && (i * 7 + seed) % 41 != 0
            };
            let bits: Vec<bool> = (0..height * width).map(inside).collect();
            let mask = Tensor::from_slice(&bits).view([height, width]);
            for reach in 1..5 {
                let left = eroded(&bits, height, width, reach);
                let expected: Vec<bool> = bits.iter().zip(left).map(|(&bit, left)| bit && !left).collect();
                let got: Vec<bool> = boundary(&mask, reach).unwrap().flatten(0, -1).try_into().unwrap();
                assert_eq!(got, expected, "seed {seed}, reach {reach}");
            }
        }
    }

    #[test]
    fn a_full_picture_has_a_boundary_at_its_sides() {
        let mask = Tensor::ones([5, 7], (Kind::Bool, Device::Cpu));
        assert_eq!(count(&boundary(&mask, 1).unwrap()).unwrap(), 35.0 - 15.0);
        assert_eq!(count(&boundary(&mask, 9).unwrap()).unwrap(), 35.0);
        let none = Tensor::zeros([5, 7], (Kind::Bool, Device::Cpu));
        assert_eq!(
            (iou(&none, &none).unwrap(), dice(&none, &none).unwrap(), dice(&mask, &mask).unwrap()),
            (0.0, 0.0, 1.0)
        );
        assert_eq!((boundary_width(480, 640, 0.02), boundary_width(9, 9, 0.02)), (16, 1));
    }
}
