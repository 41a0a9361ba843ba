//! Modules of TorchScript files (`torch.jit.save`): their parameters and buffers by name, training mode, calls.

use std::ffi::{CString, c_void};
use std::path::Path;
use std::ptr::null_mut;

use anyhow::{Context, Result, bail};
use tch::{Device, Tensor};

use crate::ffi;

/// A module of a TorchScript file.
///
/// It runs operator by operator, as eager PyTorch does, so a run gives the same numbers however often it was begun anew.
#[derive(Debug)]
pub struct ScriptModule {
    module: *mut c_void,
}

impl ScriptModule {
    /// Loads a module onto the CPU, wherever it was saved. Loading runs no code of the file; calling it does.
    ///
    /// # Errors
    /// When the file is not there or is no TorchScript file.
    pub fn load(path: &Path) -> Result<Self> {
        let said = || format!("{} cannot be read as a TorchScript file (made by `torch.jit.save`)", path.display());
        if !path.is_file() {
            bail!("there is no file {}", path.display());
        }
        let name = CString::new(path.as_os_str().as_encoded_bytes()).with_context(said)?;
        let mut module = null_mut();
        // SAFETY: the name is ended by zero and `module` outlives the call.
        ffi::check(unsafe { ffi::pn_script_load(name.as_ptr(), &mut module) }).with_context(said)?;
        Ok(Self { module })
    }

    /// Parameters by name, sharing memory with the module. A frozen module has none.
    ///
    /// # Errors
    /// None that is known: what libtorch says.
    pub fn parameters(&self) -> Result<Vec<(String, Tensor)>> {
        // SAFETY: the module lives as long as `self`.
        ffi::named_tensors(|context, take| unsafe { ffi::pn_script_tensors(self.module, false, context, take) })
    }

    /// Buffers by name, sharing memory with the module: every tensor that it holds besides its parameters.
    ///
    /// # Errors
    /// As [`Self::parameters`].
    pub fn buffers(&self) -> Result<Vec<(String, Tensor)>> {
        // SAFETY: the module lives as long as `self`.
        ffi::named_tensors(|context, take| unsafe { ffi::pn_script_tensors(self.module, true, context, take) })
    }

    /// Switches dropout, batch norm and the like. A traced module may have its mode baked in and then does not change.
    ///
    /// # Errors
    /// As [`Self::parameters`].
    pub fn set_training(&mut self, training: bool) -> Result<()> {
        // SAFETY: the module lives as long as `self`, and `&mut` keeps others away.
        ffi::check(unsafe { ffi::pn_script_train(self.module, training) })
    }

    /// Moves every tensor to `device`; those that were asked for before move with them.
    ///
    /// # Errors
    /// When the device is not there or out of memory.
    pub fn to(&mut self, device: Device) -> Result<()> {
        let device = ffi::device_number(device)?;
        // SAFETY: the module lives as long as `self`, and `&mut` keeps others away.
        ffi::check(unsafe { ffi::pn_script_to(self.module, device) })
    }

    /// Calls the module. What it returns comes by name: a tensor alone under the empty name, the tensors of a tuple or list
    /// as `0`, `1`, …, those of a dictionary under their keys, deeper ones joined by dots.
    ///
    /// # Errors
    /// What goes wrong inside, with the place in the module's code; an output that is no tensor.
    pub fn forward(&mut self, inputs: &[Tensor]) -> Result<Vec<(String, Tensor)>> {
        let inputs = ffi::handles(inputs);
        // SAFETY: the module and the handles live for the call; the length is that of the list.
        ffi::named_tensors(|context, take| unsafe {
            ffi::pn_script_forward(self.module, inputs.as_ptr(), inputs.len(), context, take)
        })
    }
}

impl Drop for ScriptModule {
    fn drop(&mut self) {
        // SAFETY: made by `pn_script_load`, owned by `self` alone and not used afterwards.
        unsafe { ffi::pn_script_delete(self.module) }
    }
}
