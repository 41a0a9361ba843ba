//! The gradients of all ranks as one.

use std::ffi::c_void;
use std::ptr::null_mut;

use anyhow::Result;
use tch::Tensor;

use crate::ffi;

/// Bytes of the first bucket, which is sent while most of backward is still to come; as torch's `DistributedDataParallel`.
const FIRST: usize = 1 << 20;
/// Bytes of the others.
const BUCKET: usize = 25 << 20;

/// Adds up the gradients of all ranks while backward goes on.
#[derive(Debug)]
pub struct Reducer {
    raw: *mut c_void,
    params: Vec<Tensor>,
}

impl Reducer {
    pub(super) fn new(params: &[Tensor], group: *const c_void) -> Result<Reducer> {
        let list = ffi::handles(params);
        let mut raw = null_mut();
        // SAFETY: the parameters and the group outlive the call; what is made of them holds on to them by itself.
        ffi::check(unsafe { ffi::pn_reducer_new(list.as_ptr(), list.len(), group, FIRST, BUCKET, &mut raw) })?;
        Ok(Reducer { raw, params: params.iter().map(Tensor::shallow_clone).collect() })
    }

    /// Whether it is that of these very parameters.
    pub fn is_of(&self, params: &[Tensor]) -> bool {
        self.params.len() == params.len() && self.params.iter().zip(params).all(|(a, b)| same(a, b))
    }

    /// From now on backward sends what it has made. Every rank arms together, also one that makes nothing.
    ///
    /// # Errors
    /// Never, as far as is known.
    pub fn arm(&self) -> Result<()> {
        // SAFETY: the reducer lives as long as `self`.
        ffi::check(unsafe { ffi::pn_reducer_arm(self.raw) })
    }

    /// Sends what was not sent yet, waits for all, and gives every parameter that some rank has a gradient for the sum. Without `use_them` the sums are
    /// thrown away.
    ///
    /// # Errors
    /// When a rank is gone or does not come in time.
    pub fn finish(&self, use_them: bool) -> Result<()> {
        // SAFETY: as in `arm`.
        ffi::check(unsafe { ffi::pn_reducer_finish(self.raw, use_them) })
    }
}

impl Drop for Reducer {
    fn drop(&mut self) {
        // SAFETY: made by the shim, ours alone; the parameters' hooks find it gone.
        unsafe { ffi::pn_reducer_delete(self.raw) }
    }
}

/// Whether two handles are of one tensor's values.
fn same(a: &Tensor, b: &Tensor) -> bool {
    a.data_ptr() == b.data_ptr() && a.size() == b.size()
}
