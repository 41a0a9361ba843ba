//! Puts what `cargo xtask setup` made of `ui/` into the program: `ASSETS`, a name and its bytes each. Where nothing was made the list is
//! empty, and the server says so: building needs no Node.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

fn main() {
    let dist = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../../ui/dist");
    // An empty folder rather than none: cargo takes one that is not there for changed, each time.
    let _ = fs::create_dir_all(&dist);
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", dist.display());
    let mut names: Vec<String> = fs::read_dir(&dist)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .filter_map(|entry| entry.file_name().into_string().ok().filter(|name| !name.starts_with('.')))
        .collect();
    names.sort();
    let mut text = String::from("static ASSETS: &[(&str, &[u8])] = &[\n");
    for name in &names {
        let path = dist.join(name).canonicalize().unwrap_or_default();
        let _ = writeln!(text, "    ({name:?}, include_bytes!({:?})),", path.display().to_string());
    }
    text.push_str("];\n");
    let out = Path::new(&env::var("OUT_DIR").unwrap_or_default()).join("assets.rs");
    fs::write(&out, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", out.display()));
}
