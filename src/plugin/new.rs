//! `pipe plugin new NAME --kind KIND`: a crate that builds, passes its test, and can be loaded.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use super::checkout::{Checkout, RELEASE, library, needed, profiles, quoted};
use super::kind::PluginKind;
use super::pipeline;
use crate::output::{Status, print, say};

/// Arguments of `pipe plugin new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// The plugin's name: small letters, digits and `_`. Its component has it as `type`.
    name: String,
    /// What the plugin's component is.
    #[arg(long, value_enum)]
    kind: PluginKind,
    /// The folder of the crate, made if need be; called after the plugin when left out.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The checkout of pipe whose `crates/plugin` the crate is written against; the one that this program was built from
    /// when left out. Both must be of one version.
    #[arg(long, value_name = "DIR")]
    pipe: Option<PathBuf>,
}

/// Writes the crate; a folder that has one already is not touched.
///
/// # Errors
/// When the folder cannot be written.
pub fn new(args: &NewArgs) -> Result<Status> {
    let (name, kind) = (&args.name, args.kind);
    if !is_name(name) {
        say!("error: `{name}` cannot be the name of a plugin\nhelp: use small letters, digits and `_`");
        return Ok(Status::Wrong);
    }
    let checkout = match Checkout::open(args.pipe.as_deref()) {
        Ok(checkout) => checkout,
        Err(error) => {
            say!("error: {error:#}");
            return Ok(Status::Wrong);
        }
    };
    let folder = args.dir.clone().unwrap_or_else(|| PathBuf::from(name));
    if folder.join("Cargo.toml").exists() {
        say!("error: {} has a crate already; choose another folder with --dir", folder.display());
        return Ok(Status::Wrong);
    }
    for (file, text) in files(name, kind, &checkout, &std::path::absolute(&folder)?)? {
        let path = folder.join(file);
        let parent = path.parent().unwrap_or(&folder);
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    print(&next_steps(name, kind, &folder, &checkout))
}

fn next_steps(name: &str, kind: PluginKind, folder: &Path, checkout: &Checkout) -> String {
    let (library, kind, folder) = (library(name), kind.as_str(), folder.display());
    let (test, build) = (format!("cargo test{RELEASE}"), format!("cargo build{RELEASE}"));
    format!(
        "wrote {folder}, a plugin against {}\n\n\
         cd {folder}\n\
         {test:<43} # its own test\n\
         {build:<43} # makes {library}\n\
         pipe plugin check {library}\n\
         pipe components {kind}.{name} --plugin {library}\n\
         pipe run example.toml\n",
        checkout.folder.display(),
    )
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn files(name: &str, kind: PluginKind, checkout: &Checkout, folder: &Path) -> Result<Vec<(&'static str, String)>> {
    let camel: String = name
        .split('_')
        .flat_map(|word| word.chars().enumerate().map(|(i, c)| if i == 0 { c.to_ascii_uppercase() } else { c }))
        .collect();
    let source = kind.source().replace("PluginName", &camel).replace("plugin_name", name);
    let head = format!("//! A plugin of pipe: the {} `{name}`.\n\n", kind.as_str());
    Ok(vec![
        ("Cargo.toml", manifest(name, checkout)?),
        // Cargo takes out what the crate does not need. With the same versions there is nothing to fetch.
        ("Cargo.lock", checkout.read("Cargo.lock")?),
        ("build.rs", BUILD.to_owned()),
        (".cargo/config.toml", checkout.cargo_config(folder)),
        (".gitignore", "/target\n".to_owned()),
        ("src/lib.rs", head + &source),
        ("example.toml", pipeline::example(name, kind, &library(name))),
    ])
}

fn manifest(name: &str, checkout: &Checkout) -> Result<String> {
    Ok(format!(
        r#"[package]
name = "{name}"
version = "0.1.0"
edition = "2024"

# cdylib: the library that pipe loads. rlib: for tests, and for compiling the plugin into a pipe of your own.
[lib]
crate-type = ["cdylib", "rlib"]

[dependencies]
# In the checkout of pipe that the program was built from. Built against another version, the plugin is refused.
pipe-plugin = {{ path = {} }}

# Stands alone, wherever it lies.
[workspace]

# The profiles of pipe: dependencies that are built alike are not built again.
{}"#,
        quoted(&checkout.folder.join("crates/plugin")),
        profiles(&checkout.read("Cargo.toml")?, &needed(&checkout.read("Cargo.lock")?, "pipe-plugin")?)
    ))
}

const BUILD: &str = r#"//! Lets the crate's tests find libtorch.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // In the build directory that plugins share (.cargo/config.toml), another crate of this name is not this one.
    println!("cargo::rerun-if-env-changed=PLUGIN_FOLDER");
    if let Ok(lib) = std::env::var("DEP_PIPE_PLUGIN_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
    }
}
"#;
