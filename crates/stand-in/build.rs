//! Compiles the stand-in into a shared library of its own, beside one that only has the name of NCCL's and depends on it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const SOURCES: [&str; 4] = ["device.cpp", "kernels.cpp", "memory.cpp", "nccl.cpp"];

fn main() {
    println!("cargo::rerun-if-changed=csrc");
    let lib = PathBuf::from(env::var_os("DEP_PIPE_NATIVE_LIB").unwrap_or_default());
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let library = out.join("libpipe_stand_in.so");
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
    run(link.arg(format!("-Wl,-rpath,{}", lib.display())).arg("-Wl,-soname,libpipe_stand_in.so"), &library);
    let nccl = out.join("libnccl.so.2");
    let mut link = build.get_compiler().to_command();
    link.args(["-shared", "-Wl,--no-as-needed", "-Wl,-soname,libnccl.so.2", "-Wl,-rpath,$ORIGIN", "-o"]).arg(&nccl);
    run(link.arg("-L").arg(&out).arg("-lpipe_stand_in"), &nccl);
    println!("cargo::rustc-env=PIPE_STAND_IN={}", library.display());
    println!("cargo::rustc-env=PIPE_STAND_IN_NCCL={}", nccl.display());
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
}

fn run(link: &mut Command, made: &Path) {
    let status = link.status();
    if !status.as_ref().is_ok_and(std::process::ExitStatus::success) {
        println!("cargo::error=the C++ compiler could not make {}: {status:?}", made.display());
        exit(1);
    }
}
