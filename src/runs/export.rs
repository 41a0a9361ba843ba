//! `pipe runs export`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use pipe_ui::export::{Bounds, export as exported};

use super::which::one;
use crate::output::{Status, print, say};
use crate::page;

/// Arguments of `pipe runs export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The runs: folders, names or how they begin, `latest`.
    #[arg(num_args = 1..=100, required = true, value_name = "RUN")]
    runs: Vec<String>,
    /// The file.
    #[arg(long, value_name = "FILE.html")]
    out: PathBuf,
}

/// Writes the page of some runs.
///
/// # Errors
/// When there is no such run, or the file cannot be written.
pub fn export(args: &ExportArgs) -> Result<Status> {
    page::check(&args.out)?;
    let folders = args.runs.iter().map(|word| Ok(one(word)?.folder)).collect::<Result<Vec<PathBuf>>>()?;
    let made = exported(&folders, None, &Bounds::default())?;
    page::write(&args.out, &made.html)?;
    for what in &made.left_out {
        say!("{what}");
    }
    print(&format!("{} ({:.1} MiB)\n", args.out.display(), made.html.len() as f64 / f64::from(1 << 20)))
}
