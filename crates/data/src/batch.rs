//! Collating samples into batches.

use std::mem::MaybeUninit;

use anyhow::{Result, anyhow, bail, ensure};
use tch::{Kind, Tensor};

pub use pipe_plugin::data::batch::{Batch, BatchField, Detections, to_float};

use super::fields;
use super::image::{Image, Pixels};
use super::sample::{Field, Sample};

/// The masks of one image as planes take no more bytes: 8 GiB.
const MAX_PLANES: i64 = 8 << 30;

/// A sample as tensors, which is what each takes for itself on the way into a batch.
pub struct Prepared {
    source: String,
    fields: Vec<(String, Value)>,
}

enum Value {
    Text(String),
    /// One value of a sample, or one for each of its instances.
    Tensor {
        tensor: Tensor,
        per_instance: bool,
    },
}

/// Makes tensors of a sample's fields.
///
/// # Errors
/// When one is too large, or inconsistent.
pub fn prepare(sample: &Sample) -> Result<Prepared> {
    let value = |name: &str, field: &Field| -> Result<Value> {
        Ok(match field {
            Field::Text(text) => Value::Text(text.clone()),
            // Per-instance fields stay lists even when the counts happen to agree, so that the form never depends on luck.
            other => Value::Tensor {
                tensor: tensor_of(other).map_err(|e| e.context(format!("collating field `{name}` of a batch")))?,
                // The numbers of a label are probabilities of classes (mixup).
                per_instance: name != fields::LABEL
                    && matches!(
                        other,
                        Field::Boxes(_)
                            | Field::Masks(_)
                            | Field::Keypoints(_)
                            | Field::Integers(_)
                            | Field::Numbers(_)
                    ),
            },
        })
    };
    let fields =
        sample.iter().map(|(name, field)| Ok((name.to_owned(), value(name, field)?))).collect::<Result<_>>()?;
    Ok(Prepared { source: sample.source().to_owned(), fields })
}

/// Collates samples. Images of one size become one `[N, C, H, W]` tensor of their own type, others a list.
///
/// # Errors
/// When samples have different fields or types.
pub fn collate(samples: Vec<Sample>) -> Result<Batch> {
    join(&samples.iter().map(prepare).collect::<Result<Vec<_>>>()?)
}

/// As [`collate`], of samples that are prepared.
///
/// # Errors
/// As [`collate`].
pub fn join(samples: &[Prepared]) -> Result<Batch> {
    let mut batch = Batch::new(samples.len());
    let Some(first) = samples.first() else { return Ok(batch) };
    for (name, _) in &first.fields {
        let column: Vec<&Value> = samples
            .iter()
            .map(|sample| {
                let found = sample.fields.iter().find(|(other, _)| other == name);
                found.map(|(_, value)| value).ok_or_else(|| {
                    anyhow!("sample {} has no field `{name}`, but sample {} has", sample.source, first.source)
                })
            })
            .collect::<Result<_>>()?;
        let field = column_of(&column).map_err(|e| e.context(format!("collating field `{name}` of a batch")))?;
        batch.set(name, field);
    }
    Ok(batch)
}

fn column_of(column: &[&Value]) -> Result<BatchField> {
    let text = |value: &&Value| if let Value::Text(text) = value { Some(text.clone()) } else { None };
    if let Some(texts) = column.iter().map(text).collect() {
        return Ok(BatchField::Text(texts));
    }
    let mut tensors = Vec::with_capacity(column.len());
    let mut lists = false;
    for value in column {
        let Value::Tensor { tensor, per_instance } = value else { bail!("some samples have a string, others do not") };
        lists |= per_instance;
        tensors.push(tensor);
    }
    let (kind, size) = (tensors[0].kind(), tensors[0].size());
    ensure!(tensors.iter().all(|t| t.kind() == kind), "samples have values of different types");
    Ok(match !lists && tensors.iter().all(|t| t.size() == size) {
        true => BatchField::Stacked(Tensor::f_stack(&tensors, 0)?),
        false => BatchField::List(tensors.into_iter().map(Tensor::shallow_clone).collect()),
    })
}

/// Labels `[N, …]` of classes; of probabilities `[N, classes]` the most likely.
///
/// # Errors
/// When libtorch fails.
pub fn most_likely(labels: &Tensor) -> Result<Tensor> {
    Ok(if labels.is_floating_point() && labels.dim() == 2 {
        labels.f_argmax(1, false)?
    } else {
        labels.shallow_clone()
    })
}

/// An image as a `[C, H, W]` tensor of its own type.
///
/// # Errors
/// When libtorch has no memory for it.
pub fn image_tensor(image: &Image) -> Result<Tensor> {
    let size = [image.channels, image.height, image.width].map(|n| n as i64);
    let plane = image.height * image.width;
    match &image.pixels {
        Pixels::U8(pixels) => {
            pipe_native::buffer::filled(&size, |values| write_planes(pixels, image.channels, plane, values))
        }
        Pixels::F32(pixels) => {
            pipe_native::buffer::filled(&size, |values| write_planes(pixels, image.channels, plane, values))
        }
    }
}

/// Pixels (HWC) to planes (CHW).
fn write_planes<T: Copy>(pixels: &[T], channels: usize, plane: usize, planes: &mut [MaybeUninit<T>]) {
    if channels == 3 {
        let (red, rest) = planes.split_at_mut(plane);
        let (green, blue) = rest.split_at_mut(plane);
        let targets = red.iter_mut().zip(green).zip(blue);
        for (&[r, g, b], ((red, green), blue)) in pixels.as_chunks::<3>().0.iter().zip(targets) {
            red.write(r);
            green.write(g);
            blue.write(b);
        }
    } else {
        for (c, target) in planes.chunks_exact_mut(plane.max(1)).enumerate() {
            target.iter_mut().zip(pixels[c..].iter().step_by(channels)).for_each(|(to, from)| {
                to.write(*from);
            });
        }
    }
}

fn tensor_of(field: &Field) -> Result<Tensor> {
    Ok(match field {
        Field::Image(image) => image_tensor(image)?,
        Field::Boxes(boxes) => Tensor::from_slice(boxes.as_flattened()).view([boxes.len() as i64, 4]),
        Field::Masks(masks) => {
            let size = [masks.instances.len() as i64, masks.height as i64, masks.width as i64];
            let bytes =
                size.iter().try_fold(1i64, |all, side| all.checked_mul(*side)).filter(|bytes| *bytes <= MAX_PLANES);
            ensure!(
                bytes.is_some(),
                "{} masks of {} × {} pixels take more than {} GiB; resize the images in the loader's transform, or leave masks out",
                size[0],
                size[1],
                size[2],
                MAX_PLANES >> 30
            );
            pipe_native::buffer::written(&size, |planes| masks.paint(planes))?
        }
        Field::Keypoints(instances) => {
            let points = instances.first().map_or(0, Vec::len);
            let flat: Vec<f32> = instances.iter().flatten().flatten().copied().collect();
            ensure!(flat.len() == instances.len() * points * 3, "instances have different numbers of keypoints");
            Tensor::from_slice(&flat).view([instances.len() as i64, points as i64, 3])
        }
        Field::Integers(values) => Tensor::from_slice(values),
        Field::Numbers(values) => Tensor::from_slice(values),
        Field::Size([height, width]) => Tensor::from_slice(&[*height as i64, *width as i64]),
        Field::Integer(value) => Tensor::from(*value),
        Field::Scalar(value) => Tensor::from(*value).to_kind(Kind::Float),
        Field::Segmentation { height, width, classes } => {
            Tensor::from_slice(classes).view([*height as i64, *width as i64]).to_kind(Kind::Int64)
        }
        Field::Text(_) => bail!("some samples have a string, others do not"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Masks;

    fn sample(size: (usize, usize), instances: usize) -> Sample {
        let (height, width) = size;
        let pixels = (0..height * width * 3).map(|v| v as u8).collect();
        let planes: Vec<Vec<u8>> = (0..instances).map(|i| vec![(i % 2) as u8; height * width]).collect();
        Sample::new()
            .with(fields::IMAGE, Field::Image(Image::from_u8(height, width, 3, pixels)))
            .with(fields::LABEL, Field::Integer(instances as i64))
            .with(fields::LABELS, Field::Integers(vec![1; instances]))
            .with(fields::BOXES, Field::Boxes(vec![[0.0, 1.0, 2.0, 3.0]; instances]))
            .with(fields::MASKS, Field::Masks(Masks::from_bitmaps(height, width, planes.iter().map(Vec::as_slice))))
            .with(fields::ORIGINAL_SIZE, Field::Size([height, width]))
            .with(fields::SOURCE, Field::Text(format!("{instances} instances")))
    }

    #[test]
    fn alike_pictures_are_stacked_and_instances_listed() {
        let batch = collate(vec![sample((2, 3), 2), sample((2, 3), 0)]).unwrap();
        let images = batch.stacked(fields::IMAGE).unwrap();
        assert_eq!((images.size(), images.kind()), (vec![2, 3, 2, 3], Kind::Uint8));
        let green = Vec::<u8>::try_from(images.get(1).get(1).flatten(0, -1)).unwrap();
        assert_eq!(green, [1, 4, 7, 10, 13, 16]);
        assert_eq!(batch.stacked(fields::LABEL).unwrap().size(), [2]);
        assert_eq!(batch.stacked(fields::ORIGINAL_SIZE).unwrap().size(), [2, 2]);
        let sizes = |name| batch.list(name).unwrap().iter().map(Tensor::size).collect::<Vec<_>>();
        assert_eq!(sizes(fields::BOXES), [[2, 4], [0, 4]]);
        assert_eq!(sizes(fields::MASKS), [[2, 2, 3], [0, 2, 3]]);
        assert_eq!(batch.list(fields::MASKS).unwrap()[0].sum(Kind::Int64).int64_value(&[]), 6);
        assert_eq!(batch.sources(), ["2 instances", "0 instances"]);
    }

    #[test]
    fn differing_pictures_are_listed_and_say_so() {
        let batch = collate(vec![sample((2, 3), 1), sample((3, 2), 1)]).unwrap();
        assert_eq!(batch.list(fields::IMAGE).unwrap()[1].size(), [3, 3, 2]);
        assert!(batch.stacked(fields::IMAGE).unwrap_err().to_string().contains("resize or crop to one size"));
        assert!(matches!(batch.get(fields::LABELS), Some(BatchField::List(_))), "also when the numbers agree");
    }

    #[test]
    fn fields_that_are_missing_or_of_another_type_are_named() {
        let mut other = sample((2, 3), 1);
        other.remove(fields::AREA);
        other.set(fields::LABEL, Field::Scalar(0.5));
        let error = format!("{:#}", collate(vec![sample((2, 3), 1), other.clone()]).unwrap_err());
        assert!(error.contains("`label`") && error.contains("different types"), "{error}");
        other.remove(fields::LABEL);
        let error = collate(vec![sample((2, 3), 1), other]).unwrap_err().to_string();
        assert!(error.contains("has no field `label`"), "{error}");
    }
}
