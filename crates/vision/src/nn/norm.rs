//! Normalisation layers, and the choice between them.

use anyhow::{Context, Result, ensure};
use pipe_native::distributed::{Group, joint};
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
            if let Some(group) = joint() {
                let normalized = self.joint(input, &group);
                return normalized.with_context(|| format!("normalizing {size:?} over all ranks"));
            }
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

impl BatchNorm2d {
    /// As in training, by the statistics of all ranks' batches together, which may differ in size: sums and counts are added up, then the
    /// squared distances from the common mean.
    fn joint(&self, input: &Tensor, group: &Group) -> Result<Tensor> {
        let (channels, over) = ([1, -1, 1, 1], [0_i64, 2, 3]);
        let sum = |tensor: &Tensor| tensor.f_sum_dim_intlist(over.as_slice(), false, Kind::Float);
        let x = input.f_to_kind(Kind::Float)?;
        let own = sum(&x)?;
        let count = x.numel() as f64 / own.numel().max(1) as f64;
        let sums = group.shared_sum(&Tensor::f_cat(
            &[own.shallow_clone(), Tensor::f_full([1], count, (Kind::Float, own.device()))?],
            0,
        )?)?;
        let (sums, count) = (sums.f_narrow(0, 0, own.numel() as i64)?, sums.f_narrow(0, own.numel() as i64, 1)?);
        let mean = sums.f_div(&count)?;
        let centred = x.f_sub(&mean.f_view(channels)?)?;
        let squares = group.shared_sum(&sum(&centred.f_square()?)?)?;
        let var = squares.f_div(&count)?;
        let scale = var.f_add_scalar(self.eps)?.f_rsqrt()?.f_mul(&self.weight)?;
        no_grad(|| {
            // Running statistics are of the unbiased variance, as torch's.
            let unbiased = squares.f_div(&count.f_sub_scalar(1.0)?)?;
            for (running, new) in [(&self.running_mean, &mean), (&self.running_var, &unbiased)] {
                let _ = running.shallow_clone().f_mul_scalar_(1.0 - self.momentum)?;
                let _ = running.shallow_clone().f_add_(&new.f_mul_scalar(self.momentum)?)?;
            }
            anyhow::Ok(())
        })?;
        let normalized = centred.f_mul(&scale.f_view(channels)?)?.f_add(&self.bias.f_view(channels)?)?;
        Ok(normalized.f_to_kind(input.kind())?)
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

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use pipe_native::distributed::{Store, jointly};

    use super::*;
    use crate::nn::ParameterStore;

    const SOON: Duration = Duration::from_secs(30);

    /// What a norm makes of a batch, what backward gives for it, then for the norm's scale and shift, and the running statistics.
    fn trained(input: &Tensor, asked: &Tensor, group: Option<&Rc<Group>>) -> [Tensor; 6] {
        let store = ParameterStore::new();
        let norm = BatchNorm2d::new(&store.root().sub("norm"), 5).unwrap();
        no_grad(|| norm.weight.shallow_clone().copy_(&Tensor::arange(5, (Kind::Float, input.device()))));
        let input = input.copy().set_requires_grad(true);
        let forward = || norm.forward(&input, true).unwrap();
        let output = group.map_or_else(forward, |group| jointly(group, forward));
        (&output * asked).sum(Kind::Float).backward();
        let gradients = [&input, &norm.weight, &norm.bias].map(Tensor::grad);
        let [of_input, of_weight, of_bias] = gradients;
        [output.detach(), of_input, of_weight, of_bias, norm.running_mean.copy(), norm.running_var.copy()]
    }

    #[test]
    fn ranks_normalize_as_one_that_has_the_whole_batch() {
        let float = (Kind::Float, tch::Device::Cpu);
        let input = Tensor::randn([7, 5, 3, 4], float) * 3.0 + 20.0;
        let asked = Tensor::randn([7, 5, 3, 4], float);
        let whole = trained(&input, &asked, None);
        // Unequal parts.
        let sizes = [4, 2, 1];
        let server = Store::connect("127.0.0.1", 0, true, SOON).unwrap();
        let port = server.port();
        let count = sizes.len();
        let one = move |rank: usize, input: Tensor, asked: Tensor| {
            let store = Store::connect("127.0.0.1", port, false, SOON).unwrap();
            let group = Group::gloo(&store, (rank, count), None, Some("127.0.0.1"), SOON).unwrap();
            trained(&input, &asked, Some(&Rc::new(group)))
        };
        let parts: Vec<[Tensor; 6]> = std::thread::scope(|scope| {
            let parts = input.split_with_sizes(sizes, 0).into_iter().zip(asked.split_with_sizes(sizes, 0));
            let begin = |(rank, (input, asked))| scope.spawn(move || one(rank, input, asked));
            let ranks: Vec<_> = parts.enumerate().map(begin).collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        });
        let of = |what: usize| parts.iter().map(|part| part[what].shallow_clone()).collect::<Vec<_>>();
        let joined = [
            Tensor::cat(&of(0), 0),
            Tensor::cat(&of(1), 0),
            // What is reduced with the other gradients.
            Tensor::stack(&of(2), 0).sum_dim_intlist(0, false, Kind::Float),
            Tensor::stack(&of(3), 0).sum_dim_intlist(0, false, Kind::Float),
            parts[0][4].shallow_clone(),
            parts[2][5].shallow_clone(),
        ];
        for (what, (joined, whole)) in joined.iter().zip(&whole).enumerate() {
            let gap = (joined - whole).abs().max().double_value(&[]);
            assert!(gap < 2e-5, "{what}: {gap}");
        }
    }
}
