//! `cargo xtask soak`: what runs for as long as one likes, looking for faults that tests did not think of.

mod fuzz;

use std::path::Path;

use anyhow::{Result, bail};

/// The parts, for the help text.
pub(crate) const HELP: &str = "\
  soak fuzz [--minutes N] [TARGET…]
        feeds damaged and hostile files to every reader (default: 10 minutes, shared by all), guided by the code they reach;
        findings go to target/fuzz/findings. Fails when there are any
";

/// Runs a part.
pub(crate) fn soak(root: &Path, arguments: &[String]) -> Result<()> {
    match arguments.split_first() {
        Some((part, rest)) if part == "fuzz" => fuzz::fuzz(root, rest),
        _ => bail!("`soak` takes one of:\n\n{HELP}"),
    }
}
