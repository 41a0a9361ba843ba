//! Compiles the stand-in into a shared library of its own.

use std::env;
use std::path::{Path, PathBuf};
use std::process::exit;

const SOURCES: [&str; 3] = ["device.cpp", "kernels.cpp", "memory.cpp"];

fn main() {
    println!("cargo::rerun-if-changed=csrc");
    let lib = PathBuf::from(env::var_os("DEP_PIPE_NATIVE_LIB").unwrap_or_default());
    let library = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("libpipe_stand_in.so");
    let include = lib.with_file_name("include");
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .pic(true)
        .opt_level(1)
        .debug(false)
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .flag("-fvisibility=hidden")
        .flag("-isystem")
        .flag(&include)
        .flag("-isystem")
        .flag(include.join("torch/csrc/api/include"))
        .flag_if_supported("-Wno-unused-parameter")
        .files(SOURCES.map(|file| Path::new("csrc").join(file)));
    let objects = build.compile_intermediates();
    let mut link = build.get_compiler().to_command();
    link.arg("-shared").arg("-o").arg(&library).args(objects).arg("-L").arg(&lib).args(["-ltorch_cpu", "-lc10"]);
    let made = link.arg(format!("-Wl,-rpath,{}", lib.display())).status();
    if !made.as_ref().is_ok_and(std::process::ExitStatus::success) {
        println!("cargo::error=the C++ compiler could not make {}: {made:?}", library.display());
        exit(1);
    }
    println!("cargo::rustc-env=PIPE_STAND_IN={}", library.display());
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
}
