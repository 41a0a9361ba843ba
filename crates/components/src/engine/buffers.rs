//! A model's buffers as they were before a batch, for a batch that is left out after all.

use anyhow::Result;
use pipe_core::Model;
use tch::{Tensor, no_grad};

/// A forward pass in training moves running statistics before its loss is known: these are the ones before it.
pub(super) struct Buffers {
    /// The model's own, and copies of their values.
    tensors: Vec<(Tensor, Tensor)>,
}

impl Buffers {
    /// Copies a model's buffers.
    ///
    /// # Errors
    /// When memory is short.
    pub(super) fn keep(model: &dyn Model) -> Result<Buffers> {
        let copy = |(_, own): (String, Tensor)| {
            let kept = own.f_detach_copy()?;
            Ok((own, kept))
        };
        Ok(Buffers { tensors: no_grad(|| model.buffers().into_iter().map(copy).collect::<Result<_>>())? })
    }

    /// Gives the model back what was copied.
    ///
    /// # Errors
    /// When a buffer has changed its shape.
    pub(super) fn put_back(self) -> Result<()> {
        no_grad(|| self.tensors.into_iter().try_for_each(|(mut own, kept)| Ok(own.f_copy_(&kept)?)))
    }
}
