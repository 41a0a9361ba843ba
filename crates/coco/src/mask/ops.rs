//! Union, intersection and intersection over union.

use std::borrow::Borrow;

use super::{MaskError, Rle};

impl Rle {
    /// The pixels in any of the masks.
    ///
    /// # Errors
    /// Masks of different sizes, or none at all.
    pub fn union(masks: &[Self]) -> Result<Self, MaskError> {
        Self::merge(masks, |a, b| a | b)
    }

    /// The pixels in all of the masks.
    ///
    /// # Errors
    /// Masks of different sizes, or none at all.
    pub fn intersection(masks: &[Self]) -> Result<Self, MaskError> {
        Self::merge(masks, |a, b| a & b)
    }

    /// The pixels of this mask that are not in `other`.
    ///
    /// # Errors
    /// Masks of different sizes.
    pub fn minus(&self, other: &Self) -> Result<Self, MaskError> {
        same_size(self, other)?;
        Ok(self.combine(other, |a, b| a & !b))
    }

    /// Intersection over union with a ground truth; for a crowd, intersection over this mask's own area.
    ///
    /// # Errors
    /// Masks of different sizes.
    pub fn iou(&self, truth: &Self, crowd: bool) -> Result<f64, MaskError> {
        same_size(self, truth)?;
        let both = intersection_area(self, truth);
        let of = if crowd { self.area() } else { self.area() + truth.area() - both };
        Ok(if both == 0 { 0.0 } else { both as f64 / of as f64 })
    }

    fn merge(masks: &[Self], keep: fn(bool, bool) -> bool) -> Result<Self, MaskError> {
        let (first, rest) = masks.split_first().ok_or(MaskError::NoMasks)?;
        rest.iter().try_for_each(|mask| same_size(first, mask))?;
        if rest.is_empty() {
            return Ok(first.clone());
        }
        // In pairs, and the pairs again: one after the other would go over the first one's runs as often as there are masks.
        let pair = |pair: &[Self]| match pair {
            [left, right] => left.combine(right, keep),
            _ => pair[0].clone(),
        };
        let mut merged: Vec<Self> = masks.chunks(2).map(pair).collect();
        while merged.len() > 1 {
            merged = merged.chunks(2).map(pair).collect();
        }
        merged.pop().ok_or(MaskError::NoMasks)
    }

    /// Walks both run lists at once; sizes have been compared.
    fn combine(&self, other: &Self, keep: fn(bool, bool) -> bool) -> Self {
        let mut runs: Vec<u32> = Vec::with_capacity(self.counts.len() + other.counts.len());
        let mut last = false;
        walk(self, other, |length, a, b| {
            let value = keep(a, b);
            match runs.last_mut() {
                Some(run) if value == last => *run += length,
                None if value => runs.extend([0, length]),
                _ => runs.push(length),
            }
            last = value;
        });
        Self::from_runs(self.height, self.width, runs)
    }
}

/// Number of pixels in both masks, which have one size.
pub fn intersection_area(left: &Rle, right: &Rle) -> u64 {
    let (a, b) = (&left.counts[..], &right.counts[..]);
    let (Some(mut a_end), Some(mut b_end)) = (a.first().copied(), b.first().copied()) else { return 0 };
    // What lies before the first foreground of either, or behind the last, is passed over.
    let (mut i, mut j, mut at, mut both) = (0, 0, a_end.max(b_end), 0);
    let last = left.foreground_end().min(right.foreground_end());
    while a_end <= at && i + 1 < a.len() {
        i += 1;
        a_end += a[i];
    }
    while b_end <= at && j + 1 < b.len() {
        j += 1;
        b_end += b[j];
    }
    // Which run ends first is as good as random, so there is no branch on it.
    while at < last && i < a.len() && j < b.len() {
        let end = a_end.min(b_end);
        both += u64::from(end - at) * (i & j & 1) as u64;
        at = end;
        let (next_a, next_b) = (usize::from(a_end == end), usize::from(b_end == end));
        (i, j) = (i + next_a, j + next_b);
        a_end += a.get(i).copied().unwrap_or(0) * next_a as u32;
        b_end += b.get(j).copied().unwrap_or(0) * next_b as u32;
    }
    both
}

/// IoU of every detection with every ground truth, `[D, G]` row by row, as `pycocotools.mask.iou`: boxes are compared
/// first, masks only where they overlap. `crowd[g]` divides by the detection's area alone. What is less than `least` may be given as 0.
///
/// # Errors
/// Overlapping masks of different sizes.
pub fn iou_matrix<M: Borrow<Rle>>(
    detections: &[M],
    truths: &[Rle],
    crowd: &[bool],
    least: f64,
) -> Result<Vec<f64>, MaskError> {
    let of = |mask: &Rle| (mask.bbox(), mask.area());
    let dt: Vec<_> = detections.iter().map(|mask| of(mask.borrow())).collect();
    let gt: Vec<_> = truths.iter().map(of).collect();
    let ratio =
        |both: u64, d: usize, g: usize| both as f64 / if crowd[g] { dt[d].1 } else { dt[d].1 + gt[g].1 - both } as f64;
    let mut ious = vec![0.0; detections.len() * truths.len()];
    for (d, row) in ious.chunks_mut(truths.len().max(1)).enumerate() {
        for (g, iou) in row.iter_mut().enumerate() {
            let [w, h] = box_overlap(dt[d].0, gt[g].0);
            if !(w > 0.0 && h > 0.0) {
                continue;
            }
            let (detection, truth) = (detections[d].borrow(), &truths[g]);
            same_size(detection, truth)?;
            let most = dt[d].1.min(gt[g].1).min((w * h) as u64);
            if ratio(most, d, g) < least {
                continue;
            }
            let both = intersection_area(detection, truth);
            if both > 0 {
                *iou = ratio(both, d, g);
            }
        }
    }
    Ok(ious)
}

/// IoU of two boxes `[x, y, width, height]`; for a crowd, intersection over the detection's area (`bbIou` in `maskApi.c`).
pub fn box_iou(detection: [f64; 4], truth: [f64; 4], crowd: bool) -> f64 {
    let [w, h] = box_overlap(detection, truth);
    // Written so that a NaN is no overlap.
    if !(w > 0.0 && h > 0.0) {
        return 0.0;
    }
    let (both, own) = (w * h, detection[2] * detection[3]);
    both / if crowd { own } else { own + truth[2] * truth[3] - both }
}

/// Width and height of what two boxes have in common, not above 0 where there is nothing.
fn box_overlap(left: [f64; 4], right: [f64; 4]) -> [f64; 2] {
    [0, 1].map(|axis| {
        let end = (left[axis + 2] + left[axis]).min(right[axis + 2] + right[axis]);
        end - left[axis].max(right[axis])
    })
}

fn same_size(left: &Rle, right: &Rle) -> Result<(), MaskError> {
    let (l, r) = ([left.height, left.width], [right.height, right.width]);
    if l == r { Ok(()) } else { Err(MaskError::Sizes { left: l, right: r }) }
}

/// Calls `visit(length, left, right)` for each stretch over which neither mask changes.
fn walk(left: &Rle, right: &Rle, mut visit: impl FnMut(u32, bool, bool)) {
    let (mut a, mut b) = (left.counts.iter().copied(), right.counts.iter().copied());
    let (mut left_run, mut right_run) = (a.next(), b.next());
    let (mut left_on, mut right_on) = (false, false);
    while let (Some(l), Some(r)) = (left_run, right_run) {
        let length = l.min(r);
        if length > 0 {
            visit(length, left_on, right_on);
        }
        left_run = if l > length { Some(l - length) } else { a.next().inspect(|_| left_on = !left_on) };
        right_run = if r > length { Some(r - length) } else { b.next().inspect(|_| right_on = !right_on) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn masks() -> impl Strategy<Value = (u32, u32, Vec<u8>, Vec<u8>)> {
        (1u32..14, 1u32..14).prop_flat_map(|(h, w)| {
            let pixels = || proptest::collection::vec(0u8..2, (h * w) as usize);
            (Just(h), Just(w), pixels(), pixels())
        })
    }

    proptest! {
        #[test]
        fn operations_equal_those_on_pixels((h, w, left, right) in masks()) {
            let (a, b) = (Rle::encode(&left, h, w).unwrap(), Rle::encode(&right, h, w).unwrap());
            let by = |f: fn(u8, u8) -> u8| left.iter().zip(&right).map(|(&a, &b)| f(a, b)).collect::<Vec<_>>();
            let of = |pixels: &[u8]| Rle::encode(pixels, h, w).unwrap();
            let pair = [a.clone(), b.clone()];
            prop_assert_eq!(Rle::union(&pair).unwrap(), of(&by(|a, b| a | b)));
            prop_assert_eq!(Rle::intersection(&pair).unwrap(), of(&by(|a, b| a & b)));
            prop_assert_eq!(a.minus(&b).unwrap(), of(&by(|a, b| a & (1 - b))));

            let count = |pixels: Vec<u8>| pixels.iter().map(|&p| u64::from(p)).sum::<u64>();
            let (both, any) = (count(by(|a, b| a & b)), count(by(|a, b| a | b)));
            let ratio = |of: u64| if both == 0 { 0.0 } else { both as f64 / of as f64 };
            prop_assert_eq!(a.iou(&b, false).unwrap(), ratio(any));
            prop_assert_eq!(a.iou(&b, true).unwrap(), ratio(a.area()));
            let matrix = iou_matrix(std::slice::from_ref(&a), &[b.clone(), b.clone()], &[false, true], 0.0).unwrap();
            prop_assert_eq!(&matrix, &[ratio(any), ratio(a.area())]);
            let least = iou_matrix(std::slice::from_ref(&a), &[b.clone(), b.clone()], &[false, true], 0.5).unwrap();
            prop_assert!(matrix.iter().zip(&least).all(|(all, some)| all == some || (*some == 0.0 && *all < 0.5)));
        }
    }

    #[test]
    fn sizes_must_agree() {
        let (a, b) =
            (Rle::from_bbox([0.0, 0.0, 2.0, 2.0], 4, 4).unwrap(), Rle::from_bbox([0.0, 0.0, 2.0, 2.0], 4, 5).unwrap());
        let text = Rle::union(&[a.clone(), b.clone()]).unwrap_err().to_string();
        assert!(text.contains("4 × 4 and 4 × 5"), "{text}");
        assert!(a.iou(&b, false).is_err() && a.minus(&b).is_err());
        assert!(iou_matrix(&[a], &[b], &[false], 0.0).is_err());
        assert_eq!(Rle::union(&[]), Err(MaskError::NoMasks));
    }

    #[test]
    fn boxes() {
        assert_eq!(box_iou([0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 2.0, 2.0], false), 2.0 / 6.0);
        assert_eq!(box_iou([0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 2.0, 2.0], true), 0.5);
        assert_eq!(box_iou([0.0, 0.0, 2.0, 2.0], [2.0, 0.0, 2.0, 2.0], false), 0.0);
        assert_eq!(box_iou([0.0, 0.0, 0.0, 2.0], [0.0, 0.0, 2.0, 2.0], false), 0.0);
    }
}
