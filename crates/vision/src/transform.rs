//! What happens to images before a detector and to detections after it: torchvision's `GeneralizedRCNNTransform`.

use std::cell::{Cell, RefCell};

use anyhow::{Context, Result, bail, ensure};
use tch::{Device, Kind, Tensor};

use super::types::{Detections, Target};
use super::{ImageSize, boxes, keypoints, masks};
use crate::nn::functional::{resize_bilinear, resize_nearest};

/// How images become a batch. Sizes in pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct TransformOptions {
    /// Images are resized so that the short side has one of these lengths (drawn while training, the last elsewhere) …
    pub min_size: Vec<i64>,
    /// … unless the long side would exceed this.
    pub max_size: i64,
    /// Resize to exactly this `(height, width)` instead.
    pub fixed_size: Option<ImageSize>,
    /// Leave the size as it is while training: for data that is already resized.
    pub skip_resize: bool,
    /// Batches are padded to multiples of this.
    pub size_divisible: i64,
    /// Mean of each channel; pixels are in 0 to 1.
    pub image_mean: [f64; 3],
    /// Standard deviation of each channel.
    pub image_std: [f64; 3],
}

impl Default for TransformOptions {
    /// Those of torchvision's detectors with a ResNet; the statistics are ImageNet's.
    fn default() -> Self {
        Self {
            min_size: vec![800],
            max_size: 1333,
            fixed_size: None,
            skip_resize: false,
            size_divisible: 32,
            image_mean: [0.485, 0.456, 0.406],
            image_std: [0.229, 0.224, 0.225],
        }
    }
}

/// Normalises, resizes and batches.
#[derive(Debug)]
pub struct Transform {
    options: TransformOptions,
    /// Whether the largest size is taken in place of the one drawn.
    largest: Cell<bool>,
    /// Mean and standard deviation where the last images were and of their type: each upload of them waits for the device.
    statistics: RefCell<Option<Statistics>>,
}

/// Numbers of the three channels, each `[3, 1, 1]`.
#[derive(Debug)]
struct Statistics {
    of: (Kind, Device),
    mean: Tensor,
    std: Tensor,
}

/// Images of one size, with what they were before.
#[derive(Debug)]
pub struct ImageBatch {
    /// `[N, 3, H, W]`, zeros where an image is smaller.
    pub tensors: Tensor,
    /// The size of each image within, in pixels.
    pub sizes: Vec<ImageSize>,
    /// The size each image had before it was resized.
    pub original_sizes: Vec<ImageSize>,
}

impl Transform {
    /// As the options say.
    ///
    /// # Errors
    /// A size is not positive, or there is none.
    pub fn new(options: &TransformOptions) -> Result<Self> {
        let o = options;
        ensure!(!o.min_size.is_empty(), "min_size needs at least one length");
        let lengths = o.min_size.iter().copied().chain([o.max_size, o.size_divisible]);
        let lengths = lengths.chain(o.fixed_size.iter().flat_map(|(height, width)| [*height, *width]));
        ensure!(lengths.min() > Some(0), "min_size, max_size, fixed_size and size_divisible must be positive");
        ensure!(o.image_std.iter().all(|std| *std > 0.0), "image_std must be positive");
        Ok(Self { options: o.clone(), largest: Cell::new(false), statistics: RefCell::new(None) })
    }

    /// A batch on `device` of images `[3, H, W]`, floats from 0 to 1; with `train`, sizes are drawn where there is a choice.
    ///
    /// # Errors
    /// There are no images, or one has another shape or type; the message gives its place.
    pub fn batch(&self, images: &[Tensor], train: bool, device: Device) -> Result<ImageBatch> {
        ensure!(!images.is_empty(), "the model was called without images");
        let (mut resized, mut original_sizes) = (Vec::new(), Vec::new());
        for (index, image) in images.iter().enumerate() {
            let size = check_image(image).with_context(|| format!("image {index} of the batch"))?;
            let normal = self.normal(image, device)?;
            let new = self.new_size(size, train)?;
            resized.push(if new == size {
                normal
            } else {
                resize_bilinear(&normal.f_unsqueeze(0)?, new)?.f_squeeze_dim(0)?
            });
            original_sizes.push(size);
        }
        let sizes = resized.iter().map(size_of).collect::<Result<Vec<_>>>()?;
        let tensors = self.pad(&resized, &sizes)?;
        Ok(ImageBatch { tensors, sizes, original_sizes })
    }

    /// An image on `device`, less the mean, by the standard deviation.
    fn normal(&self, image: &Tensor, device: Device) -> Result<Tensor> {
        let of = (image.kind(), device);
        let mut kept = self.statistics.borrow_mut();
        let statistics = match kept.take() {
            Some(statistics) if statistics.of == of => statistics,
            _ => self.upload(of)?,
        };
        let Statistics { mean, std, .. } = kept.insert(statistics);
        Ok(image.f_to_device(device)?.f_sub(mean)?.f_div_(std)?)
    }

    fn upload(&self, of: (Kind, Device)) -> Result<Statistics> {
        let upload = |values: &[f64; 3]| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(values)?.f_to_kind(of.0)?.f_to_device(of.1)?.f_view([3, 1, 1])?)
        };
        Ok(Statistics { of, mean: upload(&self.options.image_mean)?, std: upload(&self.options.image_std)? })
    }

    /// Whether from now on each image gets the largest of the sizes from which one is drawn.
    pub fn take_largest(&self, on: bool) {
        self.largest.set(on);
    }

    /// The size of a batch of images at most.
    pub fn padded(&self, images: &[ImageSize]) -> ImageSize {
        let scaled =
            images.iter().map(|size| if self.options.skip_resize { *size } else { self.scaled(*size, self.longest()) });
        let (height, width) = scaled.fold((0, 0), |(height, width), new| (height.max(new.0), width.max(new.1)));
        let step = self.options.size_divisible;
        ((height + step - 1) / step * step, (width + step - 1) / step * step)
    }

    /// The greatest length of the shorter side.
    fn longest(&self) -> i64 {
        self.options.min_size.iter().copied().max().unwrap_or(self.options.max_size)
    }

    /// The size an image gets.
    fn new_size(&self, (height, width): ImageSize, train: bool) -> Result<ImageSize> {
        let index = match train {
            true if self.options.skip_resize => return Ok((height, width)),
            // Drawn even without a choice: torchvision does, and later random numbers shall be the same.
            true => {
                let drawn = Tensor::f_zeros([1], (Kind::Float, Device::Cpu))?
                    .f_uniform_(0.0, self.options.min_size.len() as f64)?;
                (f64::try_from(drawn)? as usize).min(self.options.min_size.len() - 1)
            }
            false => self.options.min_size.len() - 1,
        };
        let short = if self.largest.get() { self.longest() } else { self.options.min_size[index] };
        Ok(self.scaled((height, width), short))
    }

    /// The size of an image whose shorter side shall have that length.
    fn scaled(&self, (height, width): ImageSize, wanted: i64) -> ImageSize {
        if let Some(size) = self.options.fixed_size {
            return size;
        }
        let (short, long) = (height.min(width) as f64, height.max(width) as f64);
        let scale = (wanted as f64 / short).min(self.options.max_size as f64 / long);
        let length = |side: i64| ((side as f64 * scale).floor() as i64).max(1);
        (length(height), length(width))
    }

    /// One tensor for images `[3, H, W]` of several sizes.
    fn pad(&self, images: &[Tensor], sizes: &[ImageSize]) -> Result<Tensor> {
        let step = self.options.size_divisible;
        let multiple = |side: Option<i64>| (side.unwrap_or(0) + step - 1) / step * step;
        let height = multiple(sizes.iter().map(|(height, _)| *height).max());
        let width = multiple(sizes.iter().map(|(_, width)| *width).max());
        let options = (images[0].kind(), images[0].device());
        let batch = Tensor::f_zeros([images.len() as i64, 3, height, width], options)?;
        for (index, (image, (height, width))) in images.iter().zip(sizes).enumerate() {
            batch.f_select(0, index as i64)?.f_narrow(1, 0, *height)?.f_narrow(2, 0, *width)?.f_copy_(image)?;
        }
        Ok(batch)
    }

    /// Ground truth moved to the batch's device and resized with its images.
    ///
    /// # Errors
    /// A tensor has another shape than [`Target`] says.
    pub fn targets(&self, targets: &[Target], batch: &ImageBatch) -> Result<Vec<Target>> {
        let device = batch.tensors.device();
        let sizes = batch.original_sizes.iter().zip(&batch.sizes);
        let resize = |(target, (from, to)): (&Target, (&ImageSize, &ImageSize))| {
            let boxes = boxes::resize(&target.boxes.f_to_device(device)?.f_to_kind(Kind::Float)?, *from, *to)?;
            let masks = target.masks.as_ref().map(|masks| {
                let masks = masks.f_to_device(device)?;
                let none = masks.size()[0] == 0;
                if from == to || none {
                    return anyhow::Ok(masks);
                }
                Ok(resize_nearest(&masks.f_unsqueeze(1)?, *to)?.f_squeeze_dim(1)?)
            });
            let points =
                target.keypoints.as_ref().map(|points| keypoints::resize(&points.f_to_device(device)?, *from, *to));
            Ok(Target {
                boxes,
                labels: target.labels.f_to_device(device)?,
                masks: masks.transpose()?,
                keypoints: points.transpose()?,
            })
        };
        targets.iter().zip(sizes).map(resize).collect()
    }

    /// Detections in the pixels of the images as they were given; masks pasted into them if so wanted.
    ///
    /// # Errors
    /// Memory for the masks is short.
    pub fn restore(&self, found: Vec<Detections>, batch: &ImageBatch, paste: bool) -> Result<Vec<Detections>> {
        let sizes = batch.sizes.iter().zip(&batch.original_sizes);
        let restore = |(found, (from, to)): (Detections, (&ImageSize, &ImageSize))| {
            let boxes = boxes::resize(&found.boxes, *from, *to)?;
            let masks = match found.masks {
                Some(cropped) if paste => Some(masks::paste(&cropped, &boxes, *to)?),
                masks => masks,
            };
            let points = found.keypoints.map(|points| keypoints::resize(&points, *from, *to)).transpose()?;
            Ok(Detections { boxes, masks, keypoints: points, ..found })
        };
        found.into_iter().zip(sizes).map(restore).collect()
    }
}

/// The size of an image that is as it should be.
fn check_image(image: &Tensor) -> Result<ImageSize> {
    let kind = image.kind();
    if !matches!(kind, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16) {
        bail!("has type {kind:?}; images must be floats from 0 to 1");
    }
    match image.size()[..] {
        [3, height, width] if height > 0 && width > 0 => Ok((height, width)),
        ref other => bail!("has shape {other:?}; images must be [3, H, W]"),
    }
}

fn size_of(image: &Tensor) -> Result<ImageSize> {
    let (_, height, width) = image.size3()?;
    Ok((height, width))
}
