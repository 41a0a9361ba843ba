//! SLURM: a batch file for `sbatch`, and what `squeue`, `sacct` and `scancel` say and do.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::job::Job;
use crate::profile::{Launcher, SlurmConfig};
use crate::receipt::{Engine, Receipt};
use crate::shell::{line, quoted, said};

/// The file's name in the job's folder.
pub const FILE: &str = "job.sbatch";
/// So often a job is put into the queue again; then something else is wrong than its time limit.
const LIVES: u32 = 100;

/// The batch file.
pub fn script(config: &SlurmConfig, job: &Job) -> String {
    let mut text = String::from("#!/bin/bash\n");
    for option in options(config, job) {
        let _ = writeln!(text, "#SBATCH {option}");
    }
    let _ = write!(text, "\ncd {}\n", quoted(&job.from.display().to_string()));
    for module in &config.modules {
        let _ = writeln!(text, "module load {}", quoted(module));
    }
    config.setup.iter().for_each(|line| text += &format!("{line}\n"));
    for (name, value) in &config.env {
        let _ = writeln!(text, "export {name}={}", quoted(value));
    }
    text += "\n";
    let folder = quoted(&job.folder.display().to_string());
    match &job.array {
        Some(array) => {
            let _ = writeln!(text, "differ=({})", line(array.sets.iter().map(String::as_str)));
            let _ = writeln!(text, "out={folder}/$SLURM_ARRAY_TASK_ID");
        }
        None => text += &format!("out={folder}\n"),
    }
    let differs = if job.array.is_some() { " --set \"${differ[$SLURM_ARRAY_TASK_ID]}\"" } else { "" };
    let words = line(job.words().iter().map(String::as_str));
    let _ = writeln!(text, "{}{words} --out \"$out\"{differs}", launcher(config));
    text += "code=$?\n";
    if config.requeue {
        text += "# 138: it was told that the time limit is near, and has saved a checkpoint.\n";
        let _ = writeln!(text, "if [ $code = 138 ] && [ \"${{SLURM_RESTART_COUNT:-0}}\" -lt {LIVES} ]; then");
        text += "    scontrol requeue \"$SLURM_JOB_ID\"\nfi\n";
    }
    text + "exit $code\n"
}

/// What comes before the command.
fn launcher(config: &SlurmConfig) -> String {
    let srun = "srun --kill-on-bad-exit=1 ";
    if config.launcher == Launcher::Srun {
        return srun.to_owned();
    }
    let each = tasks(config);
    format!(
        "first=$(scontrol show hostnames \"$SLURM_JOB_NODELIST\" | head -n 1)\n\
         {srun}--ntasks-per-node=1 torchrun --no-python --nnodes {} --nproc-per-node {each} --rdzv-backend c10d \\\n    \
         --rdzv-id \"$SLURM_JOB_ID\" --rdzv-endpoint \"$first:$((20000 + SLURM_JOB_ID % 40000))\" \\\n    ",
        config.nodes
    )
}

fn tasks(config: &SlurmConfig) -> u32 {
    config.tasks_per_node.or(config.gpus_per_node).unwrap_or(1)
}

fn options(config: &SlurmConfig, job: &Job) -> Vec<String> {
    let number = if job.array.is_some() { "%A_%a" } else { "%j" };
    let output = job.own().join(format!("slurm-{number}.out")).display().to_string();
    let mut options = vec![
        format!("--job-name={}", quoted(&job.name)),
        format!("--output={}", quoted(&output)),
        // Of every life of the job in one file.
        "--open-mode=append".into(),
    ];
    let texts = [
        ("partition", &config.partition),
        ("account", &config.account),
        ("qos", &config.qos),
        ("constraint", &config.constraint),
        ("gres", &config.gres),
        ("mem", &config.memory),
    ];
    options.extend(texts.iter().filter_map(|(name, value)| Some(format!("--{name}={}", quoted(value.as_ref()?)))));
    options.push(format!("--nodes={}", config.nodes));
    options.push(format!("--ntasks-per-node={}", tasks(config)));
    let numbers = [("gpus-per-node", config.gpus_per_node), ("cpus-per-task", config.cpus_per_task)];
    options.extend(numbers.iter().filter_map(|(name, value)| Some(format!("--{name}={}", (*value)?))));
    options.extend(config.time.map(|time| format!("--time={}", clock(time.get().as_secs()))));
    // To the processes of the run, not to this file's shell.
    options.push(format!("--signal=USR1@{}", config.warning.get().as_secs()));
    options.push(if config.requeue { "--requeue".into() } else { "--no-requeue".into() });
    options.extend(job.array.as_ref().map(|array| {
        let at_most = array.at_most.map(|number| format!("%{number}")).unwrap_or_default();
        format!("--array=0-{}{at_most}", array.sets.len().saturating_sub(1))
    }));
    options.extend(config.options.iter().cloned());
    options
}

/// Hours, minutes and seconds, as SLURM writes them.
fn clock(seconds: u64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Hands the file in the job's folder to `sbatch`.
///
/// # Errors
/// When there is no `sbatch`, or it refuses.
pub fn submit(job: &Job) -> Result<Receipt> {
    let told = said(Command::new("sbatch").arg("--parsable").arg(job.own().join(FILE)))?;
    // Warnings may come before.
    let last = told.lines().next_back().unwrap_or_default();
    let (id, cluster) = last.split_once(';').map_or((last, None), |(id, cluster)| (id, Some(cluster)));
    ensure!(id.parse::<u64>().is_ok(), "`sbatch` gave no job's number, but: {told}");
    Ok(Receipt { engine: Engine::Slurm, job: id.to_owned(), place: cluster.map(str::to_owned) })
}

fn command(program: &str, receipt: &Receipt) -> Command {
    let mut command = Command::new(program);
    command.args(receipt.place.iter().map(|cluster| format!("--clusters={cluster}")));
    command
}

/// Such as `PENDING`, `RUNNING`, `COMPLETED`; of an array each state once.
///
/// # Errors
/// When SLURM cannot be asked, or has forgotten the job.
pub fn state(receipt: &Receipt) -> Result<String> {
    let queued = said(command("squeue", receipt).args(["--noheader", "--format=%T", "--jobs", &receipt.job]));
    let states = match queued {
        Ok(states) if !states.is_empty() => states,
        // It is in the queue no more.
        _ => said(command("sacct", receipt).args([
            "--noheader",
            "--allocations",
            "--format=State%30",
            "-j",
            &receipt.job,
        ]))?,
    };
    let mut each: Vec<&str> = states.lines().filter_map(|line| line.split_whitespace().next()).collect();
    each.sort_unstable();
    each.dedup();
    ensure!(!each.is_empty(), "SLURM knows nothing of job {} any more", receipt.job);
    Ok(each.join(", "))
}

/// Ends it: processes at work are sent SIGTERM, upon which a run saves a checkpoint.
///
/// # Errors
/// When SLURM refuses.
pub fn cancel(receipt: &Receipt) -> Result<()> {
    said(command("scancel", receipt).arg(&receipt.job)).map(drop)
}
