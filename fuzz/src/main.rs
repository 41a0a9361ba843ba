//! `pipe-fuzz SECONDS FOLDER [TARGET…]`: fuzzes the targets one after another, each for as long, and prints a line for each.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use pipe_fuzz::targets::{Folder, TARGETS, Target};
use pipe_fuzz::{watch, worker};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[&str]) -> Result<ExitCode> {
    match arguments {
        ["work", target, kept, at_work, seconds, seed] => {
            let time = Duration::from_secs(seconds.parse()?);
            worker::work(named(target)?, Path::new(kept), Path::new(at_work), time, seed.parse()?)?;
            Ok(ExitCode::SUCCESS)
        }
        // One input, for looking at a finding.
        ["read", target, input] => {
            worker::read(named(target)?, &Folder::new()?, &std::fs::read(input)?);
            Ok(ExitCode::SUCCESS)
        }
        [seconds, folder, targets @ ..] if seconds.parse::<u64>().is_ok() => {
            let time = Duration::from_secs(seconds.parse()?);
            let all = TARGETS.iter().map(|target| target.name).collect::<Vec<_>>();
            let seed = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() << 20;
            let mut found = 0;
            println!(
                "{:10} {:>8} {:>12} {:>8} {:>7} {:>8}",
                "target", "seconds", "inputs read", "edges", "kept", "findings"
            );
            for name in if targets.is_empty() { &all } else { targets } {
                let outcome = watch::fuzz(named(name)?, Path::new(folder), time, seed)?;
                let watch::Outcome { seconds, runs, edges, kept, findings } = outcome;
                println!("{name:10} {seconds:>8.0} {runs:>12} {edges:>8} {kept:>7} {:>8}", findings.len());
                found += findings.len();
            }
            Ok(if found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        _ => bail!("usage: pipe-fuzz SECONDS FOLDER [TARGET…], or pipe-fuzz read TARGET FILE"),
    }
}

fn named(name: &str) -> Result<&'static Target> {
    static ALL: &[Target] = &TARGETS;
    ALL.iter().find(|target| target.name == name).with_context(|| format!("there is no target `{name}`"))
}
