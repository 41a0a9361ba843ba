//! Learns what the handshake compares: the build of libtorch, and what defines the bytes that cross the border. Lets test
//! programs find libtorch.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::exit;

/// The sources whose types cross the border, from this crate's folder: all of this crate, and the vocabulary's.
const SOURCES: [&str; 7] = [
    "src",
    "../vocab/src/config.rs",
    "../vocab/src/contract.rs",
    "../vocab/src/kind.rs",
    "../vocab/src/objects.rs",
    "../vocab/src/record.rs",
    "../vocab/src/value_ref.rs",
];

/// Headers that say `#define TORCH_VERSION "2.11.0"`, newest layout first.
const HEADERS: [&str; 2] = ["torch/headeronly/version.h", "torch/csrc/api/include/torch/version.h"];

const MACRO: &str = "#define TORCH_VERSION ";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    // Said by torch-sys, which has found libtorch already.
    let lib = PathBuf::from(env::var_os("DEP_TCH_LIBTORCH_LIB").unwrap_or_default());
    let Some(libtorch) = lib.parent().and_then(libtorch) else {
        println!("cargo::error=no version of libtorch beside {}: set LIBTORCH to its folder", lib.display());
        exit(1);
    };
    let Ok(interface) = interface() else {
        println!(
            "cargo::error=the sources of pipe-plugin and pipe-vocab are not where they belong: build in a checkout"
        );
        exit(1);
    };
    println!("cargo::rustc-env=PIPE_PLUGIN_LIBTORCH={libtorch}");
    println!("cargo::rustc-env=PIPE_PLUGIN_INTERFACE={interface}");
    println!("cargo::rustc-env=PIPE_PLUGIN_TARGET={}", env::var("TARGET").unwrap_or_default());
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
    println!("cargo::metadata=lib={}", lib.display());
}

/// The build of libtorch: its version with what it was built for, as in `2.11.0+cu130`. The wheel of PyTorch says it in
/// `version.py`, an archive of libtorch in `build-version`; without either it is the version of the headers.
fn libtorch(folder: &Path) -> Option<String> {
    if let Ok(text) = fs::read_to_string(folder.join("version.py"))
        && let Some(version) = text.lines().find_map(|line| line.strip_prefix("__version__ = "))
    {
        return Some(version.trim().trim_matches(['\'', '"']).to_owned());
    }
    if let Ok(text) = fs::read_to_string(folder.join("build-version")) {
        return Some(text.trim().to_owned());
    }
    let headers = HEADERS.iter().map(|header| folder.join("include").join(header));
    let text = headers.filter_map(|header| fs::read_to_string(header).ok()).find(|t| t.contains(MACRO))?;
    // The value stands on the same line or, after a backslash, on the next.
    Some(text.split(MACRO).nth(1)?.split('"').nth(1)?.to_owned())
}

/// This crate's version and a hash of the code in [`SOURCES`]. Comments and blank lines do not count.
fn interface() -> io::Result<String> {
    let mut hash = Fnv::new();
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
        for file in files(Path::new(source))? {
            hash.add(file.to_string_lossy().as_bytes());
            let text = fs::read_to_string(&file)?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
            lines.for_each(|line| hash.add(line.as_bytes()));
        }
    }
    Ok(format!("{}-{:016x}", env!("CARGO_PKG_VERSION"), hash.0))
}

/// All files of a folder and those below it, in one order on every machine; a file itself.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut entries = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    let nested = entries.iter().map(|entry| files(entry)).collect::<io::Result<Vec<_>>>()?;
    Ok(nested.into_iter().flatten().collect())
}

/// FNV-1a of 64 bits: unlike the standard library's hashers it is the same with every version of Rust.
struct Fnv(u64);

impl Fnv {
    fn new() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        // The end of each part counts too.
        for byte in bytes.iter().chain(b"\n") {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
