//! This machine: a process that outlives the terminal.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::job::{Job, KEPT, OWN};
use crate::profile::LocalConfig;
use crate::receipt::{Engine, Receipt};
use crate::shell::{line, quoted, said};

/// The file's name in the job's folder.
pub const FILE: &str = "job.sh";

/// The script: one run after the other.
pub fn script(config: &LocalConfig, job: &Job) -> String {
    let mut text = format!("#!/bin/sh\ncd {}\n", quoted(&job.from.display().to_string()));
    config.setup.iter().for_each(|line| text += &format!("{line}\n"));
    for (name, value) in &config.env {
        let _ = writeln!(text, "export {name}={}", quoted(value));
    }
    let words = line(job.words().iter().map(String::as_str));
    let folder = job.folder.display();
    match &job.array {
        // Signals are the run's.
        None => text += &format!("exec {words} --out {}\n", quoted(&folder.to_string())),
        Some(array) => {
            for (number, set) in array.sets.iter().enumerate() {
                let out = quoted(&format!("{folder}/{number}"));
                let _ = writeln!(text, "{words} --out {out} --set {} >> {out}/job/job.out 2>&1", quoted(set));
            }
        }
    }
    text
}

/// Starts the script in the job's folder in a session of its own.
///
/// # Errors
/// When it cannot be started.
pub fn submit(job: &Job) -> Result<Receipt> {
    let log = job.own().join("job.out");
    let log = OpenOptions::new().create(true).append(true).open(&log).context("the job's output cannot be kept")?;
    // Which stays the process that it is: it leads no group.
    let mut command = Command::new("setsid");
    command.arg("sh").arg(job.own().join(FILE)).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let child = command.spawn().context("the job cannot be started")?;
    Ok(Receipt::new(Engine::Local, child.id().to_string(), None))
}

/// `RUNNING`, or `ENDED`.
///
/// # Errors
/// Never, as far as is known.
pub fn state(receipt: &Receipt) -> Result<String> {
    let number = receipt.job.parse::<u32>().unwrap_or_default();
    let words = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
    // Another process may have its number by now.
    let text = String::from_utf8_lossy(&words);
    let own = text.split('\0').any(|word| [FILE, KEPT].iter().any(|file| word.ends_with(&format!("{OWN}/{file}"))));
    // One that becomes another program has no words for a moment; one that has ended and is not waited for, neither.
    let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
    let lives = stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']));
    Ok(if own || (words.is_empty() && lives) { "RUNNING" } else { "ENDED" }.into())
}

/// Sends SIGTERM to the job's processes.
///
/// # Errors
/// When it has ended.
pub fn cancel(receipt: &Receipt) -> Result<()> {
    if state(receipt)? == "ENDED" {
        bail!("it has ended");
    }
    said(Command::new("kill").args(["-TERM", "--", &format!("-{}", receipt.job)])).map(drop)
}
