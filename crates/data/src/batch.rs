//! Collating samples into batches.

use std::mem::MaybeUninit;

use anyhow::{Result, anyhow, bail, ensure};
use tch::{Kind, Tensor};

pub use pipe_plugin::data::batch::{Batch, BatchField, Detections, to_float};

use super::image::{Image, Pixels};
use super::sample::{Field, Sample};

/// The masks of one image as planes take no more bytes: 8 GiB.
const MAX_PLANES: i64 = 8 << 30;

/// Collates samples. Images of one size become one `[N, C, H, W]` tensor of their own type, others a list.
///
/// # Errors
/// When samples have different fields or types.
pub fn collate(samples: Vec<Sample>) -> Result<Batch> {
    let mut batch = Batch::new(samples.len());
    let Some(first) = samples.first() else { return Ok(batch) };
    for (name, _) in first.iter() {
        let column: Vec<&Field> = samples
            .iter()
            .map(|sample| {
                sample.get(name).ok_or_else(|| {
                    anyhow!("sample {} has no field `{name}`, but sample {} has", sample.source(), first.source())
                })
            })
            .collect::<Result<_>>()?;
        let field = join(&column).map_err(|e| e.context(format!("collating field `{name}` of a batch")))?;
        batch.set(name, field);
    }
    Ok(batch)
}

/// An image as a `[C, H, W]` tensor of its own type.
///
/// # Errors
/// When libtorch has no memory for it.
pub fn image_tensor(image: &Image) -> Result<Tensor> {
    Ok(stack_images(&[image])?.squeeze_dim(0))
}

/// Images of one size and type as `[N, C, H, W]`.
fn stack_images(images: &[&Image]) -> Result<Tensor> {
    let first = images[0];
    let size = [images.len(), first.channels, first.height, first.width].map(|n| n as i64);
    let plane = first.height * first.width;
    let picture = (plane * first.channels).max(1);
    match &first.pixels {
        Pixels::U8(_) => pipe_native::buffer::filled(&size, |values| {
            for (image, values) in images.iter().zip(values.chunks_exact_mut(picture)) {
                if let Pixels::U8(pixels) = &image.pixels {
                    write_planes(pixels, image.channels, plane, values);
                }
            }
        }),
        Pixels::F32(_) => pipe_native::buffer::filled(&size, |values| {
            for (image, values) in images.iter().zip(values.chunks_exact_mut(picture)) {
                if let Pixels::F32(pixels) = &image.pixels {
                    write_planes(pixels, image.channels, plane, values);
                }
            }
        }),
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

fn join(column: &[&Field]) -> Result<BatchField> {
    if let Some(texts) = column.iter().map(|f| if let Field::Text(t) = f { Some(t.clone()) } else { None }).collect() {
        return Ok(BatchField::Text(texts));
    }
    if let Some(images) = alike_images(column) {
        return Ok(BatchField::Stacked(stack_images(&images)?));
    }
    let tensors = column.iter().map(|field| tensor_of(field)).collect::<Result<Vec<_>>>()?;
    let kind = tensors[0].kind();
    ensure!(tensors.iter().all(|t| t.kind() == kind), "samples have values of different types");
    // Per-instance fields stay lists even when the counts happen to agree, so that the form never depends on luck.
    let per_instance = matches!(
        column[0],
        Field::Boxes(_) | Field::Masks(_) | Field::Keypoints(_) | Field::Integers(_) | Field::Numbers(_)
    );
    let same = tensors.iter().all(|t| t.size() == tensors[0].size());
    Ok(if same && !per_instance { BatchField::Stacked(Tensor::stack(&tensors, 0)) } else { BatchField::List(tensors) })
}

/// The images of a field, when they are all of one size and type.
fn alike_images<'a>(column: &[&'a Field]) -> Option<Vec<&'a Image>> {
    let images: Vec<&Image> = column
        .iter()
        .map(|field| if let Field::Image(image) = field { Some(image) } else { None })
        .collect::<Option<_>>()?;
    let shape = |image: &Image| (image.height, image.width, image.channels, std::mem::discriminant(&image.pixels));
    images.windows(2).all(|pair| shape(pair[0]) == shape(pair[1])).then_some(images)
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
    use crate::{Masks, fields};

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
