//! `pipe plugin new NAME --kind KIND`: a crate that builds, passes its test, and can be loaded.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use super::kind::PluginKind;
use super::pipeline;
use crate::output::{Status, print};

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
    /// The checkout of pipe whose `crates/pipe-plugin` the crate is written against; the one that this program was built
    /// from when left out. Both must be of one version.
    #[arg(long, value_name = "DIR")]
    pipe: Option<PathBuf>,
}

/// Writes the crate; a folder that has one already is not touched.
///
/// # Errors
/// When the folder cannot be written.
pub fn new(args: &NewArgs) -> Result<Status> {
    if !is_name(&args.name) {
        eprintln!("error: `{}` cannot be the name of a plugin\nhelp: use small letters, digits and `_`", args.name);
        return Ok(Status::Wrong);
    }
    let api = match api(args.pipe.as_deref()) {
        Ok(api) => api,
        Err(error) => {
            eprintln!("error: {error:#}");
            return Ok(Status::Wrong);
        }
    };
    let folder = args.dir.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    if folder.join("Cargo.toml").exists() {
        eprintln!("error: {} has a crate already; choose another folder with --dir", folder.display());
        return Ok(Status::Wrong);
    }
    for (file, text) in files(&args.name, args.kind, &api) {
        let path = folder.join(file);
        let parent = path.parent().unwrap_or(&folder);
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let (folder, name) = (folder.display(), &args.name);
    print(&format!(
        "wrote {folder}, a plugin against {}\n\ncd {folder}\ncargo test                                  # its own test; the first \
         build takes minutes\ncargo build                                 # makes target/debug/lib{name}.so\npipe plugin check \
         target/debug/lib{name}.so\npipe components {}.{name} --plugin target/debug/lib{name}.so\npipe run example.toml\n",
        api.display(),
        args.kind.as_str(),
    ))
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The crate that plugins are written against.
fn api(checkout: Option<&Path>) -> Result<PathBuf> {
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crate_of = |checkout: &Path| std::path::absolute(checkout.join("crates/pipe-plugin"));
    let api = crate_of(checkout.unwrap_or(built_from))?;
    if !api.join("Cargo.toml").is_file() {
        let here = if checkout.is_some() { "is no checkout of pipe" } else { "(where this pipe was built) is gone" };
        let given = checkout.unwrap_or(built_from).display();
        bail!("{given} {here}\nhelp: name one of version {} with --pipe DIR", env!("CARGO_PKG_VERSION"));
    }
    Ok(api)
}

fn files(name: &str, kind: PluginKind, api: &Path) -> Vec<(&'static str, String)> {
    let camel: String = name
        .split('_')
        .flat_map(|word| word.chars().enumerate().map(|(i, c)| if i == 0 { c.to_ascii_uppercase() } else { c }))
        .collect();
    let source = kind.source().replace("PluginName", &camel).replace("plugin_name", name);
    let head = format!("//! A plugin of pipe: the {} `{name}`.\n\n", kind.as_str());
    vec![
        ("Cargo.toml", manifest(name, api)),
        ("build.rs", BUILD.to_owned()),
        (".cargo/config.toml", cargo_config()),
        (".gitignore", "/target\n".to_owned()),
        ("src/lib.rs", head + &source),
        ("example.toml", pipeline::example(name, kind)),
    ]
}

/// Absolute, or the checkout's own folder when libtorch is not there any more.
fn cargo_config() -> String {
    let lib = Path::new(env!("PIPE_LIBTORCH_LIB"));
    let libtorch = lib.parent().unwrap_or(lib);
    format!(
        "# The libtorch that pipe was built with: program and plugin must share one version.\n[env]\nLIBTORCH = {{ value = \"{}\", relative = false }}\n",
        libtorch.display()
    )
}

fn manifest(name: &str, api: &Path) -> String {
    format!(
        r#"[package]
name = "{name}"
version = "0.1.0"
edition = "2024"

# cdylib: the library that pipe loads. rlib: for tests, and for compiling the plugin into a pipe of your own.
[lib]
crate-type = ["cdylib", "rlib"]

[dependencies]
# In the checkout of pipe that the program was built from. Built against another version, the plugin is refused.
pipe-plugin = {{ path = "{}" }}

# Stands alone, wherever it lies.
[workspace]

# As pipe builds its own dependencies: yours runs fast in development too, and the glue of libtorch is built quickly.
[profile.dev]
debug = "line-tables-only"
opt-level = 1

[profile.dev.package."*"]
opt-level = 2
debug = false

[profile.dev.package.torch-sys]
opt-level = 0

[profile.dev.build-override]
opt-level = 0

[profile.release.package.torch-sys]
opt-level = 0
"#,
        api.display()
    )
}

const BUILD: &str = r#"//! Lets the crate's tests find libtorch.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Ok(lib) = std::env::var("DEP_PIPE_PLUGIN_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
    }
}
"#;
