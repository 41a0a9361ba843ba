//! Normalisation layers, and the choice between them.

use anyhow::{Context, Result, ensure};
use tch::{Kind, Tensor, no_grad};

use super::conv::Conv2d;
use super::functional::rounds_freely;
use super::init;
use super::store::Scope;

/// PyTorch's default for `eps`, added to the variance.
pub const EPS: f64 = 1e-5;
/// PyTorch's default weight of a new batch in the running statistics.
pub const MOMENTUM: f64 = 0.1;

/// Which normalisation a network is built with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NormKind {
    /// [`FrozenBatchNorm2d`]: for small batches on trained weights.
    Frozen {
        /// Added to the variance; torchvision sets 0 for its own `COCO_V1` detection weights, 1e-5 elsewhere.
        eps: f64,
    },
    /// [`BatchNorm2d`].
    Batch,
    /// The same with other numbers than PyTorch's own.
    BatchOf {
        /// Added to the variance.
        eps: f64,
        /// Weight of a new batch in the running statistics.
        momentum: f64,
    },
    /// [`GroupNorm`]: independent of the batch size.
    Group {
        /// Groups the channels are divided into; 32 is customary.
        groups: i64,
    },
}

/// A normalisation layer of any [`NormKind`].
#[derive(Debug)]
pub enum Norm {
    /// See [`FrozenBatchNorm2d`].
    Frozen(FrozenBatchNorm2d),
    /// See [`BatchNorm2d`].
    Batch(BatchNorm2d),
    /// See [`GroupNorm`].
    Group(GroupNorm),
}

impl Norm {
    /// Makes a layer of this kind for `channels` channels under `scope`.
    ///
    /// # Errors
    /// The names are taken, or the groups do not divide the channels.
    pub fn new(scope: &Scope, kind: NormKind, channels: i64) -> Result<Self> {
        Ok(match kind {
            NormKind::Frozen { eps } => Self::Frozen(FrozenBatchNorm2d::new(scope, channels, eps)?),
            NormKind::Batch => Self::Batch(BatchNorm2d::new(scope, channels)?),
            NormKind::BatchOf { eps, momentum } => Self::Batch(BatchNorm2d::with(scope, channels, eps, momentum)?),
            NormKind::Group { groups } => Self::Group(GroupNorm::new(scope, groups, channels)?),
        })
    }

    /// `[N, C, H, W]` → the same shape; `train` only matters to [`BatchNorm2d`].
    ///
    /// # Errors
    /// The input has other channels, or memory is short.
    pub fn forward(&self, input: &Tensor, train: bool) -> Result<Tensor> {
        match self {
            Self::Frozen(norm) => norm.forward(input),
            Self::Batch(norm) => norm.forward(input, train),
            Self::Group(norm) => norm.forward(input),
        }
    }

    /// What `conv` gives, normalised. Fixed statistics go into the convolution's weight instead of over its output, where that may round
    /// otherwise: see [`rounds_freely`].
    ///
    /// # Errors
    /// As [`Self::forward`] and [`Conv2d::forward`].
    pub fn after(&self, conv: &Conv2d, input: &Tensor, train: bool) -> Result<Tensor> {
        let (scale, shift) = match self {
            _ if !rounds_freely(input.device(), train) => return self.forward(&conv.forward(input)?, train),
            Self::Frozen(norm) => affine(&norm.weight, &norm.bias, &norm.running_mean, &norm.running_var, norm.eps)?,
            // In training its statistics are the batch's.
            Self::Batch(_) if train => return self.forward(&conv.forward(input)?, train),
            Self::Batch(norm) => affine(&norm.weight, &norm.bias, &norm.running_mean, &norm.running_var, norm.eps)?,
            Self::Group(_) => return self.forward(&conv.forward(input)?, train),
        };
        conv.forward_affine(input, &scale, &shift)
    }

    /// The scale `[C]`: a parameter, or a buffer when frozen.
    pub fn weight(&self) -> &Tensor {
        match self {
            Self::Frozen(norm) => &norm.weight,
            Self::Batch(norm) => &norm.weight,
            Self::Group(norm) => &norm.weight,
        }
    }
}

/// `torch.nn.BatchNorm2d`: statistics of the batch while training, running statistics elsewhere. All tensors `[C]`.
#[derive(Debug)]
pub struct BatchNorm2d {
    /// The scale.
    pub weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    /// Batches seen, an int64 scalar.
    num_batches_tracked: Tensor,
    eps: f64,
    momentum: f64,
}

impl BatchNorm2d {
    /// Makes the layer's parameters and buffers under `scope`.
    ///
    /// # Errors
    /// The names are taken.
    pub fn new(scope: &Scope, channels: i64) -> Result<Self> {
        Self::with(scope, channels, EPS, MOMENTUM)
    }

    /// The same with other numbers: see [`NormKind::BatchOf`].
    ///
    /// # Errors
    /// The names are taken.
    pub fn with(scope: &Scope, channels: i64, eps: f64, momentum: f64) -> Result<Self> {
        let weight = scope.parameter("weight", &[channels])?;
        let bias = scope.parameter("bias", &[channels])?;
        init::constant(&weight, 1.0)?;
        let running_mean = scope.buffer("running_mean", Tensor::f_zeros([channels], (Kind::Float, scope.device()))?)?;
        let running_var = scope.buffer("running_var", Tensor::f_ones([channels], (Kind::Float, scope.device()))?)?;
        let empty: [i64; 0] = [];
        let num_batches_tracked =
            scope.buffer("num_batches_tracked", Tensor::f_zeros(empty, (Kind::Int64, scope.device()))?)?;
        Ok(Self { weight, bias, running_mean, running_var, num_batches_tracked, eps, momentum })
    }

    /// `[N, C, H, W]` → the same shape; while training the running statistics move towards the batch's.
    ///
    /// # Errors
    /// The input has other channels; while training, the batch has a single value per channel.
    pub fn forward(&self, input: &Tensor, train: bool) -> Result<Tensor> {
        if train {
            let size = input.size();
            let values: i64 = size.iter().product::<i64>() / size.get(1).copied().unwrap_or(1).max(1);
            ensure!(
                values != 1,
                "batch normalization cannot train on one value per channel (input {size:?}): \
                 use a larger batch or image, or another norm"
            );
            let _ = no_grad(|| self.num_batches_tracked.shallow_clone().f_add_scalar_(1))?;
        }
        input
            .f_batch_norm(
                Some(&self.weight),
                Some(&self.bias),
                Some(&self.running_mean),
                Some(&self.running_var),
                train,
                self.momentum,
                self.eps,
                true,
            )
            .with_context(|| format!("normalizing {:?} over {:?} channels", input.size(), self.weight.size()))
    }
}

/// `torchvision.ops.FrozenBatchNorm2d`: fixed statistics and fixed affine, all buffers `[C]`.
#[derive(Debug)]
pub struct FrozenBatchNorm2d {
    /// The scale.
    pub weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    eps: f64,
}

impl FrozenBatchNorm2d {
    /// Makes the layer's buffers under `scope`.
    ///
    /// # Errors
    /// The names are taken.
    pub fn new(scope: &Scope, channels: i64, eps: f64) -> Result<Self> {
        let options = (Kind::Float, scope.device());
        Ok(Self {
            weight: scope.buffer("weight", Tensor::f_ones([channels], options)?)?,
            bias: scope.buffer("bias", Tensor::f_zeros([channels], options)?)?,
            running_mean: scope.buffer("running_mean", Tensor::f_zeros([channels], options)?)?,
            running_var: scope.buffer("running_var", Tensor::f_ones([channels], options)?)?,
            eps,
        })
    }

    /// `[N, C, H, W]` → the same shape: `(x - mean) · weight / √(var + eps) + bias`.
    ///
    /// # Errors
    /// The input has other channels, or memory is short.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let channels = [1, -1, 1, 1];
        let (scale, shift) = affine(&self.weight, &self.bias, &self.running_mean, &self.running_var, self.eps)?;
        input
            .f_mul(&scale.f_view(channels)?)
            .and_then(|mut scaled| scaled.f_add_(&shift.f_view(channels)?))
            .with_context(|| format!("normalizing {:?} over {:?} channels", input.size(), self.weight.size()))
    }
}

/// What fixed statistics do to each channel: a scale and a shift, both `[C]`.
fn affine(weight: &Tensor, bias: &Tensor, mean: &Tensor, var: &Tensor, eps: f64) -> Result<(Tensor, Tensor)> {
    let scale = var.f_add_scalar(eps)?.f_rsqrt()?.f_mul(weight)?;
    let shift = bias.f_sub(&mean.f_mul(&scale)?)?;
    Ok((scale, shift))
}

/// `torch.nn.GroupNorm`: statistics of each sample over groups of channels. Tensors `[C]`.
#[derive(Debug)]
pub struct GroupNorm {
    /// The scale.
    pub weight: Tensor,
    bias: Tensor,
    groups: i64,
}

impl GroupNorm {
    /// Makes the layer's parameters under `scope`.
    ///
    /// # Errors
    /// The names are taken, or the groups do not divide the channels.
    pub fn new(scope: &Scope, groups: i64, channels: i64) -> Result<Self> {
        ensure!(
            groups > 0 && channels % groups == 0,
            "group normalization at `{}`: {groups} groups do not divide {channels} channels",
            scope.name()
        );
        let weight = scope.parameter("weight", &[channels])?;
        let bias = scope.parameter("bias", &[channels])?;
        init::constant(&weight, 1.0)?;
        Ok(Self { weight, bias, groups })
    }

    /// `[N, C, H, W]` → the same shape.
    ///
    /// # Errors
    /// The input has other channels, or memory is short.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        input
            .f_group_norm(self.groups, Some(&self.weight), Some(&self.bias), EPS, true)
            .with_context(|| format!("normalizing {:?} over {:?} channels", input.size(), self.weight.size()))
    }
}
