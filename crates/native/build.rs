//! Compiles the C++ shim against libtorch's headers, and the stub libraries that torchvision's libraries ask for.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::exit;

/// All of it at once: libtorch's headers, which take most of the time, are read once.
const SOURCE: &str = "csrc/all.cpp";

/// File name of each stub in OUT_DIR, the name it answers to, and its source.
const STUBS: [(&str, &str); 3] =
    [("libtorch_python.so", "python_stub.c"), ("libtorch_cuda.so", "empty_stub.c"), ("libtorch.so", "empty_stub.c")];

/// What `ProcessGroupGloo.hpp` includes of Gloo.
const GLOO: [&str; 5] = ["algorithm.h", "common/error.h", "context.h", "rendezvous/store.h", "transport/device.h"];

fn main() {
    println!("cargo::rerun-if-changed=csrc");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let libtorch = libtorch();
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());

    gloo_headers(&out);

    let include = libtorch.join("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .pic(true)
        // Without it `at::parallel_for` is one plain loop.
        .flag("-fopenmp")
        // The kernels here run in tests too; unoptimised they are many times slower.
        .opt_level(3)
        .debug(false)
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .flag("-isystem")
        .flag(&include)
        .flag("-isystem")
        .flag(include.join("torch/csrc/api/include"))
        .include("csrc/gloo_names")
        .include(&out)
        .flag_if_supported("-Wno-unused-parameter")
        .file(SOURCE)
        .compile("pipe_native");

    for (name, source) in STUBS {
        stub(&out.join(name), name, &Path::new("csrc").join(source));
    }

    let lib = libtorch.join("lib");
    println!("cargo::rustc-link-search=native={}", lib.display());
    println!("cargo::rustc-link-lib=dylib=torch_cpu");
    println!("cargo::rustc-link-lib=dylib=c10");
    println!("cargo::rustc-link-lib=dylib=gomp");
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
    println!("cargo::metadata=lib={}", lib.display());
}

/// The folder with libtorch's `include` and `lib`, or the end of the build with words for people.
fn libtorch() -> PathBuf {
    let given = env::var_os("LIBTORCH").map(PathBuf::from).unwrap_or_default();
    match std::path::absolute(&given) {
        Ok(path) if path.join("include/ATen").is_dir() && path.join("lib").is_dir() => path,
        _ => {
            println!(
                "cargo::error=libtorch is not at LIBTORCH ({}). Run `cargo xtask setup`, which fetches it, \
                 or set LIBTORCH to a folder with libtorch 2.11's `include` and `lib`.",
                given.display()
            );
            exit(1);
        }
    }
}

/// Headers of Gloo under the names that libtorch's own ask for; no wheel has the real ones.
fn gloo_headers(out: &Path) {
    for name in GLOO {
        let header = out.join("gloo").join(name);
        let made = header.parent().map_or(Ok(()), fs::create_dir_all);
        let made = made.and_then(|()| fs::write(&header, "#include <gloo_names.h>\n"));
        if let Err(error) = made {
            println!("cargo::error={}: {error}", header.display());
            exit(1);
        }
    }
}

fn stub(out: &Path, name: &str, source: &Path) {
    let made = cc::Build::new()
        .pic(true)
        .opt_level(2)
        .debug(false)
        .get_compiler()
        .to_command()
        .args(["-shared", "-nostdlib", "-s", "-Wl,--build-id=none"])
        .arg(format!("-Wl,-soname,{name}"))
        .arg("-o")
        .arg(out)
        .arg(source)
        .status();
    if !made.as_ref().is_ok_and(std::process::ExitStatus::success) {
        println!("cargo::error=the C compiler could not make {}: {made:?}", out.display());
        exit(1);
    }
}
