//! `pipe ui`: the page of runs.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use pipe_run::reload::preview::preview;
use pipe_ui::{Checker, Server, Settings};

use crate::output::{Status, print, say};
use crate::source::runs_folder;

/// Arguments of `pipe ui`.
#[derive(Debug, Args)]
pub struct UiArgs {
    /// Folders in which runs are looked for; default `runs`, or what `PIPE_RUNS` says.
    roots: Vec<PathBuf>,
    /// The address to listen on. Anything but a loopback address needs the token for everything, and is not encrypted.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// The port; default: the first free one from 8420 on. 0 takes any.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// The token, instead of a random one; then reading needs it, too. `PIPE_UI_TOKEN` does the same, and is in no list of processes.
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
}

/// Serves the page until it is ended.
///
/// # Errors
/// When a folder is not there, or the address is taken.
pub fn ui(args: UiArgs) -> Result<Status> {
    let given = !args.roots.is_empty();
    let roots = if given { args.roots } else { vec![runs_folder()] };
    // The usual folder comes with the first run.
    for root in roots.iter().filter(|_| given) {
        ensure!(root.is_dir(), "there is no folder {}", root.display());
    }
    let token = args.token.or_else(|| std::env::var("PIPE_UI_TOKEN").ok().filter(|token| !token.is_empty()));
    let checker = Some(Checker::new(|run, text| serde_json::to_value(preview(run, text)).unwrap_or_default()));
    let server = Server::bind(Settings { roots, host: args.host, port: args.port, token, index: None, checker })?;
    print(&format!("{}\n", server.url()))?;
    if !server.address().ip().is_loopback() {
        let name = if server.address().ip().is_unspecified() { "; write this machine's name in it" } else { "" };
        say!(
            "whoever has this address reads and steers these runs{name}; what passes over the network is not encrypted"
        );
    }
    say!("Ctrl-C ends it");
    server.run()?;
    Ok(Status::Done)
}
