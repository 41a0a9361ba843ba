//! Learns which libtorch the crate is built against, and lets test programs find it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::exit;

/// Headers that say `#define TORCH_VERSION "2.11.0"`, newest layout first.
const HEADERS: [&str; 2] = ["torch/headeronly/version.h", "torch/csrc/api/include/torch/version.h"];

const MACRO: &str = "#define TORCH_VERSION ";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    // Said by torch-sys, which has found libtorch already.
    let lib = PathBuf::from(env::var_os("DEP_TCH_LIBTORCH_LIB").unwrap_or_default());
    let Some(version) = lib.parent().and_then(version) else {
        println!("cargo::error=no version of libtorch beside {}: set LIBTORCH to its folder", lib.display());
        exit(1);
    };
    println!("cargo::rustc-env=PIPE_PLUGIN_LIBTORCH={version}");
    println!("cargo::rustc-env=PIPE_PLUGIN_TARGET={}", env::var("TARGET").unwrap_or_default());
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
    println!("cargo::metadata=lib={}", lib.display());
}

fn version(libtorch: &Path) -> Option<String> {
    let headers = HEADERS.iter().map(|header| libtorch.join("include").join(header));
    let text = headers.filter_map(|header| std::fs::read_to_string(header).ok()).find(|t| t.contains(MACRO))?;
    // The value stands on the same line or, after a backslash, on the next.
    Some(text.split(MACRO).nth(1)?.split('"').nth(1)?.to_owned())
}
