//! Initial values of parameters, as `torch.nn.init` makes them.
//!
//! Every function fills a tensor in place, drawing from torch's own generator; called in PyTorch's order they give
//! PyTorch's numbers. Kaiming: He et al., "Delving deep into rectifiers" (2015), equations 10 and 14.

use anyhow::Result;
use tch::{Tensor, no_grad};

/// Which side of a weight `[out, in, …]` keeps its variance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fan {
    /// The forward pass: dimension 1 times the receptive field.
    In,
    /// The backward pass: dimension 0 times the receptive field.
    Out,
}

/// The fan of a weight of this shape; 1 for shapes without two dimensions.
fn fan(shape: &[i64], side: Fan) -> f64 {
    let field: i64 = shape.iter().skip(2).product();
    let channels = match side {
        Fan::In => shape.get(1),
        Fan::Out => shape.first(),
    };
    (channels.copied().unwrap_or(1) * field).max(1) as f64
}

/// Sets every element to `value`.
pub fn constant(tensor: &Tensor, value: f64) -> Result<()> {
    let _ = no_grad(|| tensor.shallow_clone().f_fill_(value))?;
    Ok(())
}

/// Draws from the normal distribution of mean 0 and standard deviation `std`.
pub fn normal(tensor: &Tensor, std: f64) -> Result<()> {
    let _ = no_grad(|| tensor.shallow_clone().f_normal_(0.0, std))?;
    Ok(())
}

/// Draws uniformly from `[-bound, bound)`.
pub fn uniform(tensor: &Tensor, bound: f64) -> Result<()> {
    let _ = no_grad(|| tensor.shallow_clone().f_uniform_(-bound, bound))?;
    Ok(())
}

/// `kaiming_normal_(weight, mode=side, nonlinearity="relu")`.
pub fn kaiming_normal(weight: &Tensor, side: Fan) -> Result<()> {
    normal(weight, 2f64.sqrt() / fan(&weight.size(), side).sqrt())
}

/// `kaiming_uniform_(weight, a=negative_slope)` over the incoming fan, with the gain of a leaky ReLU.
pub fn kaiming_uniform(weight: &Tensor, negative_slope: f64) -> Result<()> {
    let gain = (2.0 / (1.0 + negative_slope * negative_slope)).sqrt();
    uniform(weight, 3f64.sqrt() * (gain / fan(&weight.size(), Fan::In).sqrt()))
}

/// `xavier_uniform_(weight)`: Glorot and Bengio (2010), equation 16.
pub fn xavier_uniform(weight: &Tensor) -> Result<()> {
    let shape = weight.size();
    uniform(weight, 3f64.sqrt() * (2.0 / (fan(&shape, Fan::In) + fan(&shape, Fan::Out))).sqrt())
}

/// What `torch.nn.Conv2d`, `ConvTranspose2d` and `Linear` do to themselves when made.
pub fn torch_default(weight: &Tensor, bias: Option<&Tensor>) -> Result<()> {
    kaiming_uniform(weight, 5f64.sqrt())?;
    if let Some(bias) = bias {
        uniform(bias, 1.0 / fan(&weight.size(), Fan::In).sqrt())?;
    }
    Ok(())
}
