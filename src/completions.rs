//! `pipe completions SHELL`.

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use crate::output::{Status, print};

/// Arguments of `pipe completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

/// Prints the script with which a shell completes the commands and options of `C`.
///
/// # Errors
/// When standard output is closed.
pub fn completions<C: CommandFactory>(args: &CompletionsArgs) -> Result<Status> {
    let mut script = Vec::new();
    generate(args.shell, &mut C::command(), "pipe", &mut script);
    print(&String::from_utf8(script)?)
}
