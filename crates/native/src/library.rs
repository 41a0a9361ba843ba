//! Opening the libraries beside libtorch: CUDA's, and torchvision's operators and image codecs.
//!
//! The program links to `libtorch_cpu` and `libc10` alone, so one binary runs with the layout for the CPU and with the
//! full one. torchvision's `_C.so` and `image.so` are made for Python but need nothing of it at run time: they are opened
//! as they are, after small stub libraries (compiled by the build script, held in this binary) have taken the names that
//! they list as needed and that are not there.

use std::env;
use std::ffi::{CString, OsStr, c_void};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use anyhow::{Context, Result, anyhow, bail};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LAZY, RTLD_LOCAL, RTLD_NOW};

use crate::ffi;

/// The torchvision made for this libtorch. Another one may bind to symbols that are not there, which ends the process.
const TORCHVISION_VERSION: &str = "0.26.";

const STUB_PYTHON: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libtorch_python.so"));
const STUB_CUDA: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libtorch_cuda.so"));
const STUB_TORCH: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libtorch.so"));

/// Versions of what is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// libtorch's, for example `2.11.0`.
    pub libtorch: String,
    /// torchvision's, for example `0.26.0+cu130`; `None` where it is not found.
    pub torchvision: Option<String>,
    /// What libtorch says of CUDA and cuDNN, in its own words; `None` without a usable GPU.
    pub cuda: Option<String>,
}

/// The libraries that this process runs with, as far as they are known before a device is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Libraries {
    /// libtorch's version.
    pub libtorch: String,
    /// Where it lies, if the system says so.
    pub folder: Option<PathBuf>,
    /// Whether CUDA's part of it is there.
    pub has_cuda: bool,
    /// torchvision's version; `None` where it is not found.
    pub torchvision: Option<String>,
}

/// The libraries in use. Opens none, and asks for no device.
pub fn libraries() -> Libraries {
    // SAFETY: the shim returns a string constant of its own.
    let libtorch = unsafe { std::ffi::CStr::from_ptr(ffi::pn_torch_version()) };
    Libraries {
        libtorch: libtorch.to_string_lossy().into_owned(),
        folder: library_dir().ok(),
        has_cuda: has_cuda_library(),
        torchvision: find("_C.so").ok().and_then(|file| torchvision_version(&file)),
    }
}

/// Opens CUDA's library when libtorch has it. Call it once before the first use of a device; more calls do nothing.
///
/// # Errors
/// When the library is there and cannot be opened. On a machine without a GPU the library opens and finds no device.
pub fn init() -> Result<()> {
    static DONE: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    DONE.get_or_init(|| open_cuda().map_err(|e| format!("{e:#}"))).clone().map_err(|e| anyhow!(e))
}

/// Makes `nms` and the other operators of torchvision known to libtorch. More calls do nothing.
///
/// # Errors
/// When torchvision is not found, is made for another libtorch, or cannot be opened; the message lists the places searched.
pub fn load_torchvision() -> Result<()> {
    static DONE: Mutex<bool> = Mutex::new(false);
    load_once(&DONE, "_C.so", "torchvision::nms")
}

/// Makes torchvision's image codecs known to libtorch. More calls do nothing.
///
/// # Errors
/// As [`load_torchvision`].
pub fn load_torchvision_image() -> Result<()> {
    static DONE: Mutex<bool> = Mutex::new(false);
    load_once(&DONE, "image.so", "image::decode_image")
}

/// Versions of libtorch, torchvision and CUDA as found now.
pub fn version() -> Versions {
    let Libraries { libtorch, torchvision, .. } = libraries();
    let mut cuda = std::ptr::null_mut();
    // SAFETY: `cuda` outlives the call, which writes null or a text that `take_text` frees.
    let asked = ffi::check(unsafe { ffi::pn_cuda_config(&mut cuda) });
    Versions {
        libtorch,
        torchvision,
        cuda: asked.ok().and_then(|()| ffi::take_text(cuda)).map(|text| text.trim().to_owned()),
    }
}

/// Whether the libtorch in use comes with CUDA's library.
pub(crate) fn has_cuda_library() -> bool {
    library_dir().is_ok_and(|dir| dir.join("libtorch_cuda.so").is_file())
}

fn open_cuda() -> Result<()> {
    let cuda = library_dir()?.join("libtorch_cuda.so");
    if cuda.is_file() {
        open(&cuda, RTLD_NOW | RTLD_GLOBAL).context("CUDA's part of libtorch cannot be opened")?;
    }
    Ok(())
}

fn load_once(done: &Mutex<bool>, file: &str, operator: &str) -> Result<()> {
    let mut done = done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if *done {
        return Ok(());
    }
    init()?;
    if !has_operator(operator)? {
        let path = find(file)?;
        check_version(&path)?;
        open_with_stubs(&path)?;
        if !has_operator(operator)? {
            bail!("{} was opened and does not register {operator}", path.display());
        }
    }
    *done = true;
    Ok(())
}

fn has_operator(name: &str) -> Result<bool> {
    let name = CString::new(name)?;
    let mut found = false;
    // SAFETY: the name is ended by zero and `found` outlives the call.
    ffi::check(unsafe { ffi::pn_has_op(name.as_ptr(), &mut found) })?;
    Ok(found)
}

/// The places that may hold torchvision's `file`, in the order of preference.
fn candidates(file: &str) -> Vec<PathBuf> {
    let mut places = Vec::new();
    if let Some(given) = env::var_os("PIPE_TORCHVISION").filter(|v| !v.is_empty()) {
        let given = PathBuf::from(given);
        // A file names its folder too: both libraries lie in it.
        let folder = if given.extension() == Some(OsStr::new("so")) {
            given.parent().map(Path::to_path_buf).unwrap_or_default()
        } else {
            given
        };
        return vec![folder.join(file), folder.join("torchvision").join(file)];
    }
    if let Ok(lib) = library_dir() {
        // torch/ and torchvision/ are neighbours, in Python's site-packages and in the folder of `cargo xtask setup`;
        // seen through the path in use and, where that is a link, from the true place.
        let roots = [lib.clone(), lib.canonicalize().unwrap_or(lib)];
        for root in roots.iter().filter_map(|lib| lib.parent()?.parent()) {
            places.push(root.join("torchvision").join(file));
        }
        places.dedup();
    }
    places
}

fn find(file: &str) -> Result<PathBuf> {
    let places = candidates(file);
    places.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
        let list: Vec<_> = places.iter().map(|p| p.display().to_string()).collect();
        anyhow!(
            "torchvision's {file} is not found (looked at: {}). Run `cargo xtask setup`, or set PIPE_TORCHVISION to the \
             folder of torchvision {TORCHVISION_VERSION}x",
            list.join(", ")
        )
    })
}

fn torchvision_version(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file.parent()?.join("version.py")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("__version__ = "))?;
    Some(line.trim().trim_matches(['\'', '"']).to_owned())
}

fn check_version(file: &Path) -> Result<()> {
    match torchvision_version(file) {
        Some(found) if found.starts_with(TORCHVISION_VERSION) => Ok(()),
        Some(found) => bail!("{} is of torchvision {found}; this program needs {TORCHVISION_VERSION}x", file.display()),
        None => bail!("no version.py beside {}: its version cannot be told", file.display()),
    }
}

fn open_with_stubs(path: &Path) -> Result<()> {
    let lib = library_dir()?;
    open_stub("libtorch_python.so", STUB_PYTHON)?;
    if !lib.join("libtorch_cuda.so").is_file() {
        open_stub("libtorch_cuda.so", STUB_CUDA)?;
        // The wheel's libtorch.so only pulls in libtorch_cuda.so, which is not there.
        open_stub("libtorch.so", STUB_TORCH)?;
    }
    // torchvision's own run path points nowhere: what it needs of libtorch must be open before.
    let c10_cuda = lib.join("libc10_cuda.so");
    if c10_cuda.is_file() {
        open(&c10_cuda, RTLD_LAZY | RTLD_GLOBAL)?;
    }
    // Lazy: its functions for Python never run, so they need not exist.
    open(path, RTLD_LAZY | RTLD_LOCAL).with_context(|| {
        if env::var_os("LD_BIND_NOW").is_some_and(|v| !v.is_empty()) {
            "LD_BIND_NOW is set: unset it, torchvision's library needs lazy binding"
        } else {
            "torchvision's library cannot be opened"
        }
    })
}

/// Opens a library for good (the handle is forgotten: operators it registers must outlive everything).
fn open(path: &Path, flags: i32) -> Result<()> {
    // SAFETY: opening runs the library's initialisers. These are libtorch's and torchvision's own, which only register
    // operators; versions are checked before, and the library is never closed.
    let library = unsafe { Library::open(Some(path), flags) }.with_context(|| format!("open {}", path.display()))?;
    std::mem::forget(library);
    Ok(())
}

/// Opens a stub under the name `name` from memory, so that no file is left behind.
fn open_stub(name: &str, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    use std::os::fd::{AsRawFd, FromRawFd};

    let label = CString::new(name)?;
    // SAFETY: the name is ended by zero; the call makes a new descriptor or returns -1.
    let fd = unsafe { libc::memfd_create(label.as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error()).context(format!("make the stub {name}"));
    }
    // SAFETY: `fd` was just made, is valid, and nobody else owns it.
    let mut file = unsafe { fs::File::from_raw_fd(fd) };
    file.write_all(bytes).with_context(|| format!("write the stub {name}"))?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    open(&path, RTLD_NOW | RTLD_LOCAL)?;
    // The loader knows the stub by this path: the descriptor stays open, so that no other library can come under its number.
    std::mem::forget(file);
    Ok(())
}

/// The folder of the `libtorch_cpu.so` that this process runs with.
pub(crate) fn library_dir() -> Result<PathBuf> {
    let this = Library::this();
    // SAFETY: the symbol is only looked up to learn where it lies; it is never called or read.
    let symbol = unsafe { this.get::<*const c_void>(b"aoti_torch_call_dispatcher\0") }
        .context("libtorch is not loaded in this process")?;
    let address = symbol.into_raw();
    // SAFETY: `Dl_info` is plain data, for which all zeros is a valid value.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: the address belongs to a loaded library, and `info` outlives the call.
    let found = unsafe { libc::dladdr(address.cast_const(), &mut info) };
    if found == 0 || info.dli_fname.is_null() {
        bail!("the system does not say where libtorch was loaded from");
    }
    // SAFETY: `dli_fname` is a string ended by zero that lives as long as the library, which is never closed.
    let name = unsafe { std::ffi::CStr::from_ptr(info.dli_fname) };
    let path = PathBuf::from(name.to_string_lossy().into_owned());
    path.parent().map(Path::to_path_buf).ok_or_else(|| anyhow!("libtorch has no folder: {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_is_idempotent_and_libtorch_is_where_it_should_be() {
        init().unwrap();
        init().unwrap();
        assert!(library_dir().unwrap().join("libtorch_cpu.so").is_file());
    }

    #[test]
    fn versions_are_known() {
        let found = version();
        assert!(found.libtorch.starts_with("2.11."), "{found:?}");
        assert!(found.torchvision.is_some_and(|v| v.starts_with("0.26.")));
    }

    #[test]
    fn a_torchvision_of_another_version_is_refused() {
        let dir = env::temp_dir().join(format!("pipe-native-version-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("version.py"), "__version__ = '0.99.1+cpu'\n").unwrap();
        let error = check_version(&dir.join("_C.so")).unwrap_err().to_string();
        fs::remove_file(dir.join("version.py")).unwrap();
        let unknown = check_version(&dir.join("_C.so")).unwrap_err().to_string();
        fs::remove_dir_all(&dir).unwrap();
        assert!(error.contains("0.99.1+cpu"), "{error}");
        assert!(unknown.contains("version.py"), "{unknown}");
    }
}
