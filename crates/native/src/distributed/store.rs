//! `TCPStore`: keys and values that rank 0, or the agent of torchrun, keeps for all ranks.

use std::ffi::{CString, c_void};
use std::ptr::null_mut;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::ffi;

/// A connection to the store. Calls wait for each other: what is asked beside a call that waits needs a connection of its own.
#[derive(Debug)]
pub struct Store {
    raw: *mut c_void,
    port: u16,
}

// SAFETY: c10d's stores lock their connection during each call.
unsafe impl Send for Store {}
// SAFETY: as above.
unsafe impl Sync for Store {}

impl Store {
    /// A connection to `host:port`; with `server` the store itself is kept here, at a free port for 0, as long as this lives.
    ///
    /// # Errors
    /// When the port is taken, or nobody answers within `timeout`.
    pub fn connect(host: &str, port: u16, server: bool, timeout: Duration) -> Result<Store> {
        let host = text(host)?;
        let (mut raw, mut bound) = (null_mut(), port);
        // SAFETY: the host is a string ended by zero, and the places written to outlive the call.
        ffi::check(unsafe { ffi::pn_store_tcp(host.as_ptr(), port, server, millis(timeout), &mut raw, &mut bound) })?;
        Ok(Store { raw, port: bound })
    }

    /// The same store, in which all keys begin with `prefix`.
    ///
    /// # Errors
    /// When the prefix holds a zero byte.
    pub fn prefixed(&self, prefix: &str) -> Result<Store> {
        let prefix = text(prefix)?;
        let mut raw = null_mut();
        // SAFETY: the store lives as long as `self`, and the new one holds on to it by itself.
        ffi::check(unsafe { ffi::pn_store_prefixed(self.raw, prefix.as_ptr(), &mut raw) })?;
        Ok(Store { raw, port: self.port })
    }

    /// The port at which the store is found.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets a key.
    ///
    /// # Errors
    /// When the store is gone.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        let key = text(key)?;
        // SAFETY: key and value outlive the call, which copies them.
        ffi::check(unsafe { ffi::pn_store_set(self.raw, key.as_ptr(), value.as_ptr(), value.len()) })
    }

    /// The value of a key, which is waited for.
    ///
    /// # Errors
    /// When it was not set within `timeout`, or the store is gone.
    pub fn get(&self, key: &str, timeout: Duration) -> Result<Vec<u8>> {
        unsafe extern "C" fn take(context: *mut c_void, bytes: *const u8, len: usize) {
            // SAFETY: the context is the vector in the frame of `get`, which waits for the call, and the bytes are there for it.
            unsafe {
                let value = &mut *context.cast::<Vec<u8>>();
                if len > 0 {
                    value.extend_from_slice(std::slice::from_raw_parts(bytes, len));
                }
            }
        }
        let key = text(key)?;
        let mut value: Vec<u8> = Vec::new();
        let context = (&raw mut value).cast();
        // SAFETY: the key outlives the call, and so does the vector.
        ffi::check(unsafe { ffi::pn_store_get(self.raw, key.as_ptr(), millis(timeout), context, take) })?;
        Ok(value)
    }

    /// Adds to a counter, which begins at 0, and gives what it came to.
    ///
    /// # Errors
    /// When the store is gone.
    pub fn add(&self, key: &str, amount: i64) -> Result<i64> {
        let key = text(key)?;
        let mut sum = 0;
        // SAFETY: the key and the place written to outlive the call.
        ffi::check(unsafe { ffi::pn_store_add(self.raw, key.as_ptr(), amount, &mut sum) })?;
        Ok(sum)
    }

    pub(super) fn raw(&self) -> *const c_void {
        self.raw
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: made by the shim, ours alone, not used afterwards.
        unsafe { ffi::pn_store_delete(self.raw) }
    }
}

pub(super) fn text(text: &str) -> Result<CString> {
    CString::new(text).with_context(|| format!("`{}` holds a zero byte", text.escape_debug()))
}

pub(super) fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
