//! Starts workers within limits of memory and time, and keeps the inputs that killed them.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::targets::Target;
use crate::worker::HEADER;

/// Memory beyond what the program takes by itself, in kibibytes.
const MEMORY: u64 = 1 << 20;
/// An input that takes longer is a finding.
const PATIENCE: Duration = Duration::from_secs(10);
/// With so many findings a target is left: they are mostly one and the same.
const ENOUGH: usize = 20;

/// What came of fuzzing a target.
#[derive(Default)]
pub struct Outcome {
    /// Seconds at work.
    pub seconds: f64,
    /// Inputs read.
    pub runs: u64,
    /// Edges of code reached; 0 where the build does not count them.
    pub edges: u64,
    /// Inputs that reached something new, with those of the corpus.
    pub kept: u64,
    /// The inputs that killed a worker.
    pub findings: Vec<PathBuf>,
}

/// Fuzzes a target for a time. `folder` receives the inputs kept and the findings.
///
/// # Errors
/// When workers cannot be started, or files not written.
pub fn fuzz(target: &Target, folder: &Path, time: Duration, seed: u64) -> Result<Outcome> {
    let (kept, findings) = (folder.join("kept").join(target.name), folder.join("findings").join(target.name));
    fs::create_dir_all(&kept)?;
    fs::create_dir_all(&findings)?;
    let memory = own_memory()? + MEMORY;
    let (at_work, words) =
        (folder.join(format!("{}.at-work", target.name)), folder.join(format!("{}.err", target.name)));
    let start = Instant::now();
    let mut outcome = Outcome::default();
    let mut life = 0;
    while start.elapsed() < time && outcome.findings.len() < ENOUGH {
        let left = time.saturating_sub(start.elapsed()).as_secs().max(1);
        let _ = fs::remove_file(&at_work);
        let mut worker = Command::new("sh");
        let limited = format!("ulimit -v {memory}; ulimit -c 0; exec \"$0\" \"$@\"");
        worker.arg("-c").arg(limited).arg(std::env::current_exe()?).args(["work", target.name]);
        worker.arg(&kept).arg(&at_work).arg(left.to_string()).arg((seed + life).to_string());
        worker.env("OMP_NUM_THREADS", "1").stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&words)?);
        let mut worker = worker.spawn().context("cannot start a worker")?;
        let ended = wait(&mut worker, &at_work)?;
        let (runs, edges, known, input) = current(&at_work);
        outcome.runs += runs;
        outcome.edges = outcome.edges.max(edges);
        outcome.kept = known;
        if ended.is_none_or(|status| !status.success()) {
            ensure!(runs > 0, "workers cannot start: {}", fs::read_to_string(&words).unwrap_or_default());
            let path = findings.join(format!("{:016x}", seed + life));
            fs::write(&path, input)?;
            let how =
                ended.map_or_else(|| format!("took more than {} s", PATIENCE.as_secs()), |status| status.to_string());
            fs::write(path.with_extension("txt"), format!("{how}\n{}", tail(&words)))?;
            eprintln!("{}: {how}: {}", target.name, path.display());
            outcome.findings.push(path);
        }
        life += 1;
    }
    outcome.seconds = start.elapsed().as_secs_f64();
    Ok(outcome)
}

/// Waits for a worker to end; `None` for one that had to be ended, since it read one input for too long.
fn wait(worker: &mut Child, at_work: &Path) -> Result<Option<ExitStatus>> {
    let mut last = (0, Instant::now());
    loop {
        if let Some(status) = worker.try_wait()? {
            return Ok(Some(status));
        }
        let runs = current(at_work).0;
        if runs != last.0 {
            last = (runs, Instant::now());
        }
        // Loading libtorch takes its time too.
        let patience = if runs == 0 { 6 * PATIENCE } else { PATIENCE };
        if last.1.elapsed() > patience {
            worker.kill()?;
            worker.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Runs, edges, inputs kept, and the input at work.
fn current(at_work: &Path) -> (u64, u64, u64, Vec<u8>) {
    let bytes = fs::read(at_work).unwrap_or_default();
    let number = |at: usize| {
        bytes
            .get(8 * at..8 * at + 8)
            .map_or(0, |part| part.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte)))
    };
    let input = bytes.get(HEADER..).unwrap_or_default();
    let length = usize::try_from(number(3)).unwrap_or_default().min(input.len());
    (number(0), number(1), number(2), input[..length].to_vec())
}

/// The end of what a worker said.
fn tail(path: &Path) -> String {
    let mut text = String::new();
    let _ = File::open(path).and_then(|file| file.take(1 << 20).read_to_string(&mut text));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// The address space that this program takes by itself, libtorch's part included, in kibibytes.
fn own_memory() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("needs Linux")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).context("no VmSize")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
