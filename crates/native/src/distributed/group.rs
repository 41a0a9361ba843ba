//! Collectives: every rank calls the same ones in the same order.

use std::ffi::{CString, c_void};
use std::ptr::{null, null_mut};
use std::time::Duration;

use anyhow::{Result, ensure};
use tch::{Device, Tensor};

use super::store::{millis, text};
use super::{Reducer, Store};
use crate::ffi;

/// Bytes of the number that an NCCL group has.
const ID: usize = 128;

/// All ranks of a run, connected by Gloo for tensors of the CPU, or by NCCL for those of GPUs.
#[derive(Debug)]
pub struct Group {
    raw: *mut c_void,
    rank: usize,
    size: usize,
    /// Where tensors lie.
    device: Device,
}

impl Group {
    /// Meets the other ranks at `store`. Each group of a store needs a prefix of its own, and each is a set of connections of
    /// its own. `interface` is the network interface to use, if one was chosen; `host` a name or address of this machine
    /// that others reach.
    ///
    /// # Errors
    /// When the others do not come within `timeout`, which also bounds each collective.
    pub fn gloo(
        store: &Store,
        (rank, size): (usize, usize),
        interface: Option<&str>,
        host: Option<&str>,
        timeout: Duration,
    ) -> Result<Group> {
        ensure!(rank < size, "there is no rank {rank} among {size}");
        let (interface, host) = (interface.map(text).transpose()?, host.map(text).transpose()?);
        let pointer = |text: &Option<CString>| text.as_ref().map_or(null(), |text| text.as_ptr());
        let mut raw = null_mut();
        // SAFETY: the texts and the store outlive the call; the group holds on to the store by itself.
        ffi::check(unsafe {
            let (interface, host) = (pointer(&interface), pointer(&host));
            ffi::pn_group_gloo(store.raw(), rank as i32, size as i32, interface, host, millis(timeout), &mut raw)
        })?;
        Ok(Group { raw, rank, size, device: Device::Cpu })
    }

    /// Meets the other ranks, each with a GPU of its own, in the NCCL that torch's edition for CUDA brings along. What is asked of it is queued on the device:
    /// only who reads the result waits. `store` and its prefix: as of [`Group::gloo`].
    ///
    /// # Errors
    /// When there is no NCCL, rank 0 does not come within `timeout`, or the GPUs cannot reach each other.
    pub fn nccl(store: &Store, (rank, size): (usize, usize), device: Device, timeout: Duration) -> Result<Group> {
        ensure!(rank < size, "there is no rank {rank} among {size}");
        let mut id = [0; ID];
        // SAFETY: there is room for all of it. Asked on every rank: one that has no NCCL says so before others wait for it.
        ffi::check(unsafe { ffi::pn_nccl_id(id.as_mut_ptr()) })?;
        if rank == 0 {
            store.set("nccl", &id)?;
        }
        let id = store.get("nccl", timeout)?;
        ensure!(id.len() == ID, "the store has no number of an NCCL group");
        let (number, mut raw) = (ffi::device_number(device)?, null_mut());
        // SAFETY: the number outlives the call, which copies it.
        ffi::check(unsafe { ffi::pn_group_nccl(id.as_ptr(), rank as i32, size as i32, number, &mut raw) })?;
        Ok(Group { raw, rank, size, device })
    }

    /// The number of this process, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Makes of the tensor the sum of all ranks', on every rank.
    ///
    /// # Errors
    /// When a rank is gone, does not come in time, or has a tensor of another size.
    pub fn all_reduce(&self, tensor: &mut Tensor) -> Result<()> {
        self.check(tensor)?;
        // SAFETY: the group lives as long as `self`; the tensor is ours alone for the time of the call.
        ffi::check(unsafe { ffi::pn_group_all_reduce(self.raw, ffi::handle(tensor)) })
    }

    /// Makes the tensor that of the rank `root`, which every rank has of the same size.
    ///
    /// # Errors
    /// As [`Group::all_reduce`].
    pub fn broadcast(&self, tensor: &mut Tensor, root: usize) -> Result<()> {
        self.check(tensor)?;
        ensure!(root < self.size, "there is no rank {root} among {}", self.size);
        // SAFETY: as in `all_reduce`.
        ffi::check(unsafe { ffi::pn_group_broadcast(self.raw, ffi::handle(tensor), root as i32) })
    }

    /// The sum of all ranks' tensors as a function that gradients flow through: in backward, too, every rank comes along. With Gloo those of
    /// other devices go through the CPU's memory.
    ///
    /// # Errors
    /// As [`Group::all_reduce`].
    pub fn shared_sum(&self, own: &Tensor) -> Result<Tensor> {
        // SAFETY: as in `all_reduce`; what backward needs of the group it holds on to by itself.
        ffi::new_tensor(|out| unsafe { ffi::pn_group_shared_sum(self.raw, ffi::handle(own), out) })
    }

    fn check(&self, tensor: &Tensor) -> Result<()> {
        let (own, there) = (self.device, tensor.device());
        ensure!(there == own, "a tensor on {there:?} cannot be sent between ranks that are connected for {own:?}");
        Ok(())
    }

    /// What reduces the gradients of `params`: see [`Reducer`].
    ///
    /// # Errors
    /// When there is no memory for the buckets.
    pub fn reducer(&self, params: &[Tensor]) -> Result<Reducer> {
        Reducer::new(params, self.raw)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: made by the shim, ours alone, not used afterwards.
        unsafe { ffi::pn_group_delete(self.raw) }
    }
}
