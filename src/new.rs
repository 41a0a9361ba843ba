//! `pipe new DIR --template T`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::output::{Status, print, say};

/// Arguments of `pipe new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// The folder, created if it does not exist.
    dir: PathBuf,
    /// The template.
    #[arg(long, value_enum, default_value_t)]
    template: Template,
}

/// Templates: pipelines that the project ships and tests.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Template {
    /// A small classifier on MNIST or built-in digits.
    #[default]
    Mnist,
    /// A ResNet classifier on a folder of images.
    ImageFolder,
}

impl Template {
    fn file(self) -> (&'static str, &'static str) {
        match self {
            Template::Mnist => ("mnist.toml", include_str!("../pipelines/mnist.toml")),
            Template::ImageFolder => ("image_folder.toml", include_str!("../pipelines/image_folder.toml")),
        }
    }
}

/// Writes a new pipeline; existing files are not overwritten.
///
/// # Errors
/// When the folder cannot be written.
pub fn new(args: &NewArgs) -> Result<Status> {
    let (name, text) = args.template.file();
    fs::create_dir_all(&args.dir).with_context(|| format!("cannot create {}", args.dir.display()))?;
    let path = args.dir.join(name);
    if path.exists() {
        say!("error: {} already exists; choose another folder", path.display());
        return Ok(Status::Wrong);
    }
    // The schema line names a file of this repository; elsewhere it would point nowhere.
    let text: String =
        text.lines().filter(|line| !line.starts_with("#:schema")).map(|line| format!("{line}\n")).collect();
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    print(&format!("wrote {0}\ncheck it with: pipe check {0}\n", path.display()))
}
