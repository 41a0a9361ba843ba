//! The values of a batch's ground truth, validated on the CPU: an invalid one would give meaningless losses, or fail deep inside
//! a GPU kernel.

use std::ops::RangeInclusive;

use anyhow::{Result, bail, ensure};
use tch::{Kind, Tensor};

use pipe_data::{Batch, BatchField, fields};

/// What to set in a pipeline whose dataset has more classes than its model.
pub(super) const NUM_CLASSES: &str =
    "set `num_classes` to the dataset's number, as in `num_classes = \"dataset.train:num_classes\"`";

/// An image of the batch, for messages: its file where that is known, and its place.
pub(super) fn image(batch: &Batch, index: usize) -> String {
    match batch.get(fields::SOURCE) {
        Some(BatchField::Text(texts)) if index < texts.len() => {
            format!("{} (image {index} of the batch)", texts[index])
        }
        _ => format!("image {index} of the batch"),
    }
}

/// The first of the integer `labels` that is neither `allowed` nor `ignored`: its index and its value.
fn wrong(labels: &Tensor, allowed: &RangeInclusive<i64>, ignored: i64) -> Result<Option<(usize, i64)>> {
    let wrong = labels.f_lt(*allowed.start())?.f_logical_or(&labels.f_gt(*allowed.end())?)?;
    let wrong = wrong.f_logical_and(&labels.f_ne(ignored)?)?;
    let places = wrong.f_flatten(0, -1)?.f_nonzero()?;
    if places.size()[0] == 0 {
        return Ok(None);
    }
    let place = places.f_int64_value(&[0, 0])?;
    Ok(Some((usize::try_from(place)?, labels.f_flatten(0, -1)?.f_int64_value(&[place])?)))
}

/// Rejects labels `[N, …]` outside the classes of a classifier, except those that are `ignored`. Soft labels (floats) are
/// not checked. `help` says what to set.
pub(super) fn check_classes(batch: &Batch, labels: &Tensor, classes: i64, ignored: i64, help: &str) -> Result<()> {
    if matches!(labels.kind(), Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16) {
        return Ok(());
    }
    let Some((place, label)) = wrong(labels, &(0..=classes - 1), ignored)? else { return Ok(()) };
    let of_one = labels.numel() / batch.size.max(1);
    refuse(&image(batch, place / of_one.max(1)), label, classes, ignored, help)
}

/// The same of the pixels of each image, `[H, W]`.
pub(super) fn check_pixel_classes(
    batch: &Batch,
    labels: &[Tensor],
    classes: i64,
    ignored: i64,
    help: &str,
) -> Result<()> {
    for (index, labels) in labels.iter().enumerate() {
        if let Some((_, label)) = wrong(labels, &(0..=classes - 1), ignored)? {
            refuse(&image(batch, index), label, classes, ignored, help)?;
        }
    }
    Ok(())
}

fn refuse(image: &str, label: i64, classes: i64, ignored: i64, help: &str) -> Result<()> {
    if label < 0 {
        bail!("{image} has label {label}; labels start at 0, and {ignored} is ignored by the loss: fix the dataset");
    }
    bail!("{image} has label {label}, but the model has {classes} classes (0 to {}): {help}", classes - 1)
}

/// Rejects labels `[N]` of one image's objects outside the classes of a detector.
pub(super) fn check_object_classes(labels: &Tensor, classes: i64) -> Result<()> {
    let last = classes - 1;
    // They are few, and the device may be waiting: no operators.
    let values: Vec<i64> = labels.f_to_kind(Kind::Int64)?.f_flatten(0, -1)?.try_into()?;
    match values.into_iter().enumerate().find(|(_, label)| !(1..=last).contains(label)) {
        None => Ok(()),
        Some((object, label)) if label < 1 => {
            bail!("object {object} has label {label}; labels start at 1, and 0 is the background: fix the dataset")
        }
        Some((object, label)) => bail!(
            "object {object} has label {label}, but the model has {classes} classes (1 to {last}, and 0 for the \
             background): {NUM_CLASSES}"
        ),
    }
}

/// Rejects keypoints `[N, K, 3]` of one image that are not finite.
pub(super) fn check_keypoints(keypoints: &Tensor) -> Result<()> {
    let values: Vec<f32> = keypoints.f_to_kind(Kind::Float)?.f_flatten(0, -1)?.try_into()?;
    let each = values.len() / usize::try_from(keypoints.size()[0])?.max(1);
    if let Some(place) = values.iter().position(|value| !value.is_finite()) {
        let (object, point) = (place / each, &values[place / 3 * 3..][..3]);
        bail!(
            "a keypoint of object {object} is {point:?} (x, y, visibility); it must be of numbers: fix the annotation, or \
             the transform that produced it"
        );
    }
    Ok(())
}

/// Rejects boxes `[N, 4]` of one image that are not finite or degenerate.
pub(super) fn check_boxes(boxes: &Tensor) -> Result<()> {
    let values: Vec<f32> = boxes.f_to_kind(Kind::Float)?.f_flatten(0, -1)?.try_into()?;
    for (object, corners) in values.chunks_exact(4).enumerate() {
        // Written so that NaN fails as well.
        let sound = corners.iter().all(|v| v.is_finite()) && corners[2] > corners[0] && corners[3] > corners[1];
        ensure!(
            sound,
            "the box of object {object} is {corners:?} (x1, y1, x2, y2); it must have a positive width and height: fix \
             the annotation, or the transform that produced it"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn error(result: Result<()>) -> String {
        result.map_or_else(|error| format!("{error:#}"), |()| String::new())
    }

    fn named() -> Batch {
        let mut batch = Batch::new(2);
        batch.set(fields::SOURCE, BatchField::Text(vec!["a.png".into(), "b.png".into()]));
        batch
    }

    #[test]
    fn labels_without_a_score_are_named_with_their_image() {
        let check = |labels: &[i64]| error(check_classes(&named(), &Tensor::from_slice(labels), 3, -100, "set it"));
        assert_eq!(check(&[0, 2]), "");
        assert_eq!(check(&[-100, 1]), "", "left out of the loss");
        let text = "b.png (image 1 of the batch) has label 5, but the model has 3 classes (0 to 2): set it";
        assert_eq!(check(&[0, 5]), text);
        assert!(check(&[-1, 0]).starts_with("a.png (image 0 of the batch) has label -1"), "{}", check(&[-1, 0]));
        let nameless = error(check_classes(&Batch::new(1), &Tensor::from_slice(&[3i64]), 3, -100, "set it"));
        assert!(nameless.starts_with("image 0 of the batch has label 3"), "{nameless}");
        let shares = Tensor::from_slice2(&[[0.5f32, 0.5], [9.0, -3.0]]);
        assert_eq!(error(check_classes(&named(), &shares, 2, -100, "set it")), "");
    }

    #[test]
    fn labels_of_pixels_belong_to_their_image() {
        let labels = Tensor::zeros([2, 4, 4], (Kind::Int64, Device::Cpu));
        let _ = labels.get(1).get(2).fill_(255);
        assert_eq!(error(check_classes(&named(), &labels, 2, 255, "set it")), "");
        let _ = labels.get(1).get(3).get(0).fill_(7);
        let text = error(check_classes(&named(), &labels, 2, 255, "set it"));
        assert!(text.starts_with("b.png (image 1 of the batch) has label 7"), "{text}");
    }

    #[test]
    fn objects_need_a_class_and_an_area() {
        let labels = |labels: &[i64]| error(check_object_classes(&Tensor::from_slice(labels), 4));
        assert_eq!(labels(&[1, 3]), "");
        assert!(labels(&[1, 4]).starts_with("object 1 has label 4, but the model has 4 classes (1 to 3"));
        assert!(labels(&[0]).contains("0 is the background"));
        let boxes = |corners: [f32; 4]| error(check_boxes(&Tensor::from_slice2(&[[0.0, 0.0, 1.0, 1.0], corners])));
        assert_eq!(boxes([1.0, 2.0, 3.0, 4.0]), "");
        for corners in
            [[1.0, 2.0, 1.0, 4.0], [1.0, 2.0, 3.0, 1.0], [f32::NAN, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, f32::INFINITY]]
        {
            assert!(boxes(corners).contains("box of object 1"), "{corners:?}");
        }
        assert_eq!(error(check_boxes(&Tensor::zeros([0, 4], (Kind::Float, Device::Cpu)))), "");
    }
}
