//! The shared library, and what it exports.

use std::ffi::{c_char, c_int};
use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW, Symbol};

/// Is told of each wait and upload.
pub(crate) type Observer = extern "C" fn(kind: c_int, operator: *const c_char);

/// What the library exports.
pub(crate) struct Exports {
    pub(crate) observe: Symbol<unsafe extern "C" fn(Option<Observer>)>,
    pub(crate) set_capacity: Symbol<unsafe extern "C" fn(u64)>,
}

pub(crate) fn library() -> &'static Path {
    Path::new(env!("PIPE_STAND_IN"))
}

pub(crate) fn exports() -> Result<&'static Exports> {
    static EXPORTS: OnceLock<std::result::Result<Exports, String>> = OnceLock::new();
    EXPORTS.get_or_init(|| load().map_err(|error| format!("{error:#}"))).as_ref().map_err(|error| anyhow!("{error}"))
}

fn load() -> Result<Exports> {
    let path = library();
    // SAFETY: the library's initialisers register the device with libtorch, which this process is linked to, and set
    // CUDA_VISIBLE_DEVICES, which nothing reads before CUDA is asked for. It is never closed.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }
        .with_context(|| format!("open {}", path.display()))?;
    // SAFETY: the signatures are those of csrc/device.cpp and csrc/memory.cpp, built with this crate.
    let exports = unsafe {
        Exports { observe: library.get(b"stand_in_observe\0")?, set_capacity: library.get(b"stand_in_set_capacity\0")? }
    };
    std::mem::forget(library);
    Ok(exports)
}
