//! `pipe plugin new|list|check`.

mod check;
mod checkout;
mod kind;
mod list;
mod new;
mod pipeline;

use anyhow::Result;
use clap::Subcommand;

use crate::output::Status;

/// What to do with plugins.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Write the crate of a plugin, to start from.
    New(new::NewArgs),
    /// List the plugins that are compiled in, and those that a pipeline loads.
    List(list::ListArgs),
    /// Load a plugin's library and try everything that it offers.
    Check(check::CheckArgs),
}

/// Does it.
///
/// # Errors
/// Those of the command.
pub fn plugin(command: &PluginCommand) -> Result<Status> {
    match command {
        PluginCommand::New(args) => new::new(args),
        PluginCommand::List(args) => list::list(args),
        PluginCommand::Check(args) => check::check(args),
    }
}
