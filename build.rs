//! Lets the program find libtorch where it was built against it, wherever the program itself is copied to.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(lib) = std::env::var("DEP_PIPE_NATIVE_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
        // Where `pipe plugin new` tells plugins to look.
        println!("cargo::rustc-env=PIPE_LIBTORCH_LIB={lib}");
    }
}
