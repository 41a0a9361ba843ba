//! Non-maximum suppression of a whole batch.

use anyhow::Result;
use pipe_native::kernels;
use tch::{Device, Kind, Tensor};

use super::boxes::{indices, read_counts};
use super::ops;

/// From so many boxes on they are suppressed image by image also on a GPU, whose memory for it grows with their square: half a gigabyte here.
const MANY: i64 = 65_536;

/// Boxes of all images of a batch, M of them.
pub struct Candidates<'a> {
    /// `[M, 4]`.
    pub boxes: &'a Tensor,
    /// `[M]`.
    pub scores: &'a Tensor,
    /// The image that each is in, ascending: i64 `[M]`.
    pub image: &'a Tensor,
    /// Boxes of one image compete within a group: i64 `[M]`, at least 0.
    pub group: &'a Tensor,
    /// Those that count: bool `[M]`.
    pub valid: &'a Tensor,
}

impl Candidates<'_> {
    /// For each of `images` images the places among the M of the boxes that stay, best first, at most `most`. A box goes where a
    /// better one of its group overlaps it by more than `threshold`.
    ///
    /// # Errors
    /// The shapes are others, or torchvision's library is missing.
    pub fn suppress(&self, images: i64, threshold: f64, most: i64) -> Result<Vec<Tensor>> {
        if kernels::ready(&[self.boxes]) {
            return self.of_groups(images, most, |boxes, keys| kernels::suppress(boxes, keys, threshold));
        }
        if self.boxes.device() == Device::Cpu || self.boxes.size()[0] > MANY {
            return (0..images).map(|image| self.of_image(image, threshold, most)).collect();
        }
        self.of_batch(images, threshold, most)
    }

    /// On the CPU nothing waits, and the time grows with the square of the number of boxes. Elsewhere for the very many of a one-stage
    /// detector that has learnt nothing.
    fn of_image(&self, image: i64, threshold: f64, most: i64) -> Result<Tensor> {
        let chosen = indices(&self.image.f_eq(image)?.f_logical_and(self.valid)?)?;
        let of = |tensor: &Tensor| tensor.f_index_select(0, &chosen);
        let keep = ops::batched_nms(&of(self.boxes)?, &of(self.scores)?, &of(self.group)?, threshold)?;
        Ok(chosen.f_index_select(0, &keep.f_narrow(0, 0, most.min(keep.size()[0]))?)?)
    }

    /// All images at once, one wait for the device. `within` says of boxes, sorted by their keys and within a key by score, which stay.
    fn of_groups(
        &self,
        images: i64,
        most: i64,
        within: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Vec<Tensor>> {
        if self.boxes.numel() == 0 {
            return Ok((0..images).map(|_| self.image.shallow_clone()).collect());
        }
        let (_, by_score) = self.scores.f_sort_stable(true, 0, true)?;
        let of = |tensor: &Tensor| tensor.f_index_select(0, &by_score);
        let image = of(self.image)?;
        let keys = image.f_mul(&(self.group.f_max()? + 1))?.f_add(&of(self.group)?)?;
        let (keys, order) = keys.f_masked_fill(&of(self.valid)?.f_logical_not()?, -1)?.f_sort_stable(true, 0, false)?;
        let sorted = within(&of(self.boxes)?.f_index_select(0, &order)?, &keys)?;
        let stays = sorted.f_zeros_like()?.f_scatter(0, &order, &sorted)?;
        // By image, and within one by score; those that go are of no image, behind all others.
        let (image, order) = image.f_masked_fill(&stays.f_logical_not()?, images)?.f_sort_stable(true, 0, false)?;
        let counts = read_counts(&count_by(&image, &stays.f_ones_like()?, images)?)?;
        let kept = by_score.f_index_select(0, &order)?;
        let mut first = 0;
        let of_image = |count: i64| {
            let of_image = kept.f_narrow(0, first, most.min(count))?;
            first += count;
            Ok(of_image)
        };
        counts.into_iter().map(of_image).collect()
    }

    /// All images at once, which are shifted apart like groups: two waits for the device, however many images.
    fn of_batch(&self, images: i64, threshold: f64, most: i64) -> Result<Vec<Tensor>> {
        if self.boxes.numel() == 0 {
            return Ok((0..images).map(|_| self.image.shallow_clone()).collect());
        }
        // Double precision keeps all that single precision knows of a box after the shift. Those that do not count come last, where
        // they touch no other.
        let boxes = self.boxes.f_to_kind(Kind::Double)?;
        let scores =
            self.scores.f_to_kind(Kind::Double)?.f_masked_fill(&self.valid.f_logical_not()?, f64::NEG_INFINITY)?;
        let apart = self.image.f_mul(&(self.group.f_max()? + 1))?.f_add(self.group)?;
        let step = boxes.f_max()? - boxes.f_min()? + 1;
        let shifted = boxes.f_add(&apart.f_to_kind(Kind::Double)?.f_mul(&step)?.f_unsqueeze(1)?)?;
        let keep = ops::nms(&shifted, &scores, threshold)?;
        // By image, and within one by score.
        let (image, order) = self.image.f_index_select(0, &keep)?.f_sort_stable(true, 0, false)?;
        let keep = keep.f_index_select(0, &order)?;
        let valid = self.valid.f_index_select(0, &keep)?;
        let counts = [Tensor::f_ones_like(&valid)?, valid];
        let counts = counts.iter().map(|counted| count_by(&image, counted, images)).collect::<Result<Vec<_>>>()?;
        let counts = read_counts(&Tensor::f_cat(&counts, 0)?)?;
        let (all, valid) = counts.split_at(images as usize);
        let mut first = 0;
        let of_image = |(all, valid): (&i64, &i64)| {
            let kept = keep.f_narrow(0, first, most.min(*valid))?;
            first += all;
            Ok(kept)
        };
        all.iter().zip(valid).map(of_image).collect()
    }
}

/// How many of `counted` (bool `[M]`) each of `count` values has among `values` (i64 `[M]`): i64 `[count]`, without a wait.
pub(super) fn count_by(values: &Tensor, counted: &Tensor, count: i64) -> Result<Tensor> {
    let each = Tensor::f_arange(count, (Kind::Int64, values.device()))?.f_unsqueeze(1)?;
    let hits = values.f_unsqueeze(0)?.f_eq_tensor(&each)?.f_logical_and(&counted.f_unsqueeze(0)?)?;
    Ok(hits.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Int64)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boxes::iou;

    /// `count` boxes of objects that overlap, in `images` images.
    fn batch(count: i64, images: i64) -> [Tensor; 5] {
        let options = (Kind::Float, Device::Cpu);
        let corner = Tensor::rand([count, 2], options) * 100.0;
        let boxes = Tensor::cat(&[&corner, &(&corner + Tensor::rand([count, 2], options) * 60.0)], 1);
        let (image, _) = Tensor::randint(images, [count], (Kind::Int64, Device::Cpu)).sort(0, false);
        let group = Tensor::randint(3, [count], (Kind::Int64, Device::Cpu));
        [boxes, Tensor::rand([count], options), image, group, Tensor::rand([count], options).ge(0.2)]
    }

    /// What the kernel does, box by box.
    fn greedy(boxes: &Tensor, keys: &Tensor) -> Tensor {
        let overlaps = iou(boxes, boxes).unwrap();
        let keys = Vec::<i64>::try_from(keys).unwrap();
        let mut stays: Vec<bool> = keys.iter().map(|key| *key >= 0).collect();
        for i in 0..keys.len() {
            for j in i + 1..keys.len() {
                let over = || overlaps.double_value(&[i as i64, j as i64]) > 0.5;
                stays[j] &= !(stays[i] && keys[i] == keys[j] && over());
            }
        }
        Tensor::from_slice(&stays)
    }

    #[test]
    fn a_batch_gives_what_its_images_give() {
        tch::manual_seed(3);
        for round in 0..1000 {
            let images = 1 + round % 4;
            let [boxes, scores, image, group, valid] = batch(1 + round % 90, images);
            let all = Candidates { boxes: &boxes, scores: &scores, image: &image, group: &group, valid: &valid };
            let most = if round % 3 == 0 { 4 } else { 1000 };
            let whole = all.of_batch(images, 0.5, most).unwrap();
            let grouped = all.of_groups(images, most, |boxes, keys| Ok(greedy(boxes, keys))).unwrap();
            assert_eq!(whole.len() as i64, images);
            for (index, kept) in whole.iter().enumerate() {
                let alone = all.of_image(index as i64, 0.5, most).unwrap();
                assert_eq!(Vec::<i64>::try_from(kept).unwrap(), Vec::<i64>::try_from(&alone).unwrap(), "round {round}");
                let grouped = Vec::<i64>::try_from(&grouped[index]).unwrap();
                assert_eq!(grouped, Vec::<i64>::try_from(alone).unwrap(), "round {round}");
            }
        }
    }

    #[test]
    fn nothing_gives_nothing() {
        let [boxes, scores, image, group, _] = batch(5, 2);
        let valid = Tensor::zeros([5], (Kind::Bool, Device::Cpu));
        let all = Candidates { boxes: &boxes, scores: &scores, image: &image, group: &group, valid: &valid };
        assert!(all.of_batch(2, 0.5, 10).unwrap().iter().all(|kept| kept.numel() == 0));
    }
}
