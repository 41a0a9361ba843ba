//! SLURM: a batch file for `sbatch`, and what `squeue`, `sacct` and `scancel` say and do.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::job::Job;
use crate::profile::{Launcher, SlurmConfig};
use crate::receipt::{Engine, Receipt};
use crate::shell::{line, quoted, said};

/// The file's name in the job's folder.
pub const FILE: &str = "job.sbatch";
/// So often a job is put into the queue again; then something else is wrong than its time limit.
const LIVES: u32 = 100;
/// So many jobs are asked for at once.
const MANY: usize = 200;

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
    if config.launcher == Launcher::Torchrun {
        let _ = writeln!(text, "[ -e {WARNED} ] && code=138");
    }
    if config.requeue {
        text += "# 138: it was told that the time limit is near, and has saved a checkpoint.\n";
        let _ = writeln!(text, "if [ $code = 138 ] && [ \"${{SLURM_RESTART_COUNT:-0}}\" -lt {LIVES} ]; then");
        text += "    scontrol requeue \"$SLURM_JOB_ID\"\nfi\n";
    }
    text + "exit $code\n"
}

/// What a rank leaves that has saved a checkpoint as its time was near its end: torchrun tells no status of a rank.
const WARNED: &str = "\"$out/job/warned\"";

/// What comes before the command. With torchrun the warning reaches it as well as its ranks: it would end by that, or end them when the first of them
/// does. So it ignores the warning, and that a rank ended by it is no failure to it.
fn launcher(config: &SlurmConfig) -> String {
    // Which does not take the cores of a task from the job by itself.
    let cores = cores(config).map(|cores| format!("--cpus-per-task={cores} ")).unwrap_or_default();
    let srun = format!("srun --kill-on-bad-exit=1 {cores}");
    if config.launcher == Launcher::Srun {
        return srun;
    }
    let each = processes(config);
    format!(
        "first=$(scontrol show hostnames \"$SLURM_JOB_NODELIST\" | head -n 1)\n\
         rm -f {WARNED}\n\
         {srun}sh -c 'trap \"\" USR1; exec \"$@\"' agent \\\n    torchrun --no-python --nnodes {} --nproc-per-node {each} --rdzv-backend c10d \\\n    \
         --rdzv-id \"$SLURM_JOB_ID\" --rdzv-endpoint \"$first:$((20000 + SLURM_JOB_ID % 40000))\" \\\n    \
         sh -c '\"$@\"; code=$?; [ $code = 138 ] && : > \"$0\" && code=0; exit $code' {WARNED} \\\n    ",
        config.nodes
    )
}

fn processes(config: &SlurmConfig) -> u32 {
    config.tasks_per_node.or(config.gpus_per_node).unwrap_or(1)
}

/// Those that SLURM starts on a node, which is one torchrun where that starts the processes.
fn tasks(config: &SlurmConfig) -> u32 {
    if config.launcher == Launcher::Torchrun { 1 } else { processes(config) }
}

/// The processor cores of each of them: a torchrun has those of all its processes.
fn cores(config: &SlurmConfig) -> Option<u32> {
    match config.launcher {
        Launcher::Srun => config.cpus_per_task,
        Launcher::Torchrun => Some(config.cpus_per_task.unwrap_or(1).saturating_mul(processes(config))),
    }
}

fn options(config: &SlurmConfig, job: &Job) -> Vec<String> {
    // Each run of an array has what its job says in its own folder.
    let output = match job.array {
        Some(_) => job.folder.join("%a/job/slurm-%A_%a.out"),
        None => job.own().join("slurm-%j.out"),
    };
    let output = output.display().to_string();
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
    let numbers = [("gpus-per-node", config.gpus_per_node), ("cpus-per-task", cores(config))];
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
    Ok(Receipt::new(Engine::Slurm, id, cluster.map(str::to_owned)))
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
    let queued = queued(receipt, &receipt.job);
    let states = match queued {
        Ok(lines) if !lines.is_empty() => lines,
        // It is in the queue no more.
        _ => accounted(receipt, &receipt.job)?,
    };
    states_of(&receipt.job, &states).with_context(|| format!("SLURM knows nothing of job {} any more", receipt.job))
}

/// Those of many, asked for at once; without those that SLURM does not know.
pub(crate) fn states<'a>(receipts: &[&'a Receipt]) -> HashMap<&'a Receipt, String> {
    let mut clusters: HashMap<&Option<String>, Vec<&Receipt>> = HashMap::new();
    receipts.iter().copied().for_each(|receipt| clusters.entry(&receipt.place).or_default().push(receipt));
    let mut found = HashMap::new();
    for jobs in clusters.into_values().flat_map(|jobs| jobs.chunks(MANY).map(<[_]>::to_vec).collect::<Vec<_>>()) {
        let list = |jobs: &[&Receipt]| jobs.iter().map(|job| job.job.as_str()).collect::<Vec<_>>().join(",");
        for ask in [queued, accounted] {
            let left: Vec<&Receipt> = jobs.iter().filter(|job| !found.contains_key(*job)).copied().collect();
            let Some(first) = left.first() else { break };
            let lines = ask(first, &list(&left)).unwrap_or_default();
            found.extend(left.into_iter().filter_map(|job| Some((job, states_of(&job.job, &lines)?))));
        }
    }
    found
}

/// A job's number, with that of an array's run behind it, and its state.
type Line = (String, String);

/// What `squeue` says of jobs.
fn queued(of: &Receipt, jobs: &str) -> Result<Vec<Line>> {
    let told = said(command("squeue", of).args(["--noheader", "--array", "--format=%F_%K %T", "--jobs", jobs]))?;
    Ok(lines(&told, ' '))
}

/// What `sacct` says of jobs.
fn accounted(of: &Receipt, jobs: &str) -> Result<Vec<Line>> {
    let options = ["--noheader", "--allocations", "--parsable2", "--format=JobID,State", "--jobs", jobs];
    Ok(lines(&said(command("sacct", of).args(options))?, '|'))
}

fn lines(told: &str, mark: char) -> Vec<Line> {
    let each = told.lines().filter_map(|line| line.trim().split_once(mark));
    // Of a job that is no array squeue has `N/A` for the run; sacct tells by whom one was cancelled.
    let plain = |(job, state): (&str, &str)| {
        let state = state.split_whitespace().next().unwrap_or_default();
        (job.trim_end_matches("_N/A").to_owned(), state.to_owned())
    };
    each.map(plain).collect()
}

/// The states of a job, or of all runs of an array, each once.
fn states_of(job: &str, lines: &[Line]) -> Option<String> {
    let own = |of: &str| of == job || of.strip_prefix(job).is_some_and(|rest| rest.starts_with('_'));
    let mut each: Vec<&str> = lines.iter().filter(|(of, _)| own(of)).map(|(_, state)| state.as_str()).collect();
    each.sort_unstable();
    each.dedup();
    (!each.is_empty()).then(|| each.join(", "))
}

/// Ends it: processes at work are sent SIGTERM, upon which a run saves a checkpoint.
///
/// # Errors
/// When SLURM refuses.
pub fn cancel(receipt: &Receipt) -> Result<()> {
    said(command("scancel", receipt).arg(&receipt.job)).map(drop)
}

/// Puts it back into the queue, where it keeps its number.
///
/// # Errors
/// When SLURM refuses: it forgets jobs some time after their end.
pub fn requeue(receipt: &Receipt) -> Result<()> {
    said(command("scontrol", receipt).args(["requeue", &receipt.job])).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_slurm_are_told_apart_by_job() {
        let queue = lines("12_N/A PENDING\n7_0 RUNNING\n7_1 PENDING\n71_N/A RUNNING", ' ');
        let state = |job: &str| states_of(job, &queue);
        assert_eq!(state("12").as_deref(), Some("PENDING"));
        assert_eq!((state("7").as_deref(), state("7_1").as_deref()), (Some("PENDING, RUNNING"), Some("PENDING")));
        assert_eq!((state("1"), state("7_2")), (None, None));
        assert_eq!(states_of("12", &lines("12|CANCELLED by 0", '|')).as_deref(), Some("CANCELLED"));
    }
}
