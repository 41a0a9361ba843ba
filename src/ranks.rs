//! Several processes that work on one run: which of them this one is, by torchrun's variables or SLURM's or MPI's; and those that
//! `--devices` starts.

use std::env;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use pipe_core::{Ranks, terminal};
use pipe_native::distributed::Store;
use tokio::signal::unix::SignalKind;

use crate::beats::Beats;
use crate::output::Status;
use crate::signals;

/// The device of a rank that `--devices` started.
const DEVICE: &str = "PIPE_RANK_DEVICE";
/// How long ranks wait for each other: an evaluation by the first alone may take long.
const TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// How long the others may take to end once one has failed.
const GRACE: Duration = Duration::from_secs(4);
/// How often the processes are looked at.
const TICK: Duration = Duration::from_millis(50);

/// Which of the processes of a run this one is.
struct Place {
    rank: usize,
    size: usize,
    /// Among those of this machine.
    local: usize,
    host: String,
    port: u16,
    /// Whether this one keeps the store.
    keeps: bool,
    /// Whether who started the ranks does.
    started: bool,
    /// Differs from start to start of the same processes' store.
    attempt: String,
}

/// Whether this process is one of several.
pub fn is_one() -> bool {
    number("WORLD_SIZE")
        .or_else(|| number("SLURM_STEP_NUM_TASKS"))
        .or_else(|| number("OMPI_COMM_WORLD_SIZE"))
        .unwrap_or(1)
        > 1
}

fn number(name: &str) -> Option<usize> {
    env::var(name).ok()?.trim().parse().ok()
}

/// By the variables that whoever started this process has set.
fn place() -> Result<Option<Place>> {
    let sets = [
        ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
        ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ];
    let found = sets.iter().find_map(|(rank, size, local)| Some((number(rank)?, number(size)?, number(local))));
    let Some((rank, size, local)) = found.filter(|(_, size, _)| *size > 1) else { return Ok(None) };
    ensure!(rank < size, "rank {rank} is none of {size}: the variables of the environment that say so do not fit");
    let host = env::var("MASTER_ADDR").ok().or_else(first_of_slurm).unwrap_or_else(|| "127.0.0.1".into());
    let port = match env::var("MASTER_PORT") {
        Ok(port) => port.parse().with_context(|| format!("MASTER_PORT is `{port}`, which is no port"))?,
        // The same on all nodes of a job, and another for jobs that share one.
        Err(_) => 20000 + (number("SLURM_JOB_ID").unwrap_or_default() % 40000) as u16,
    };
    let agent = env::var("TORCHELASTIC_USE_AGENT_STORE").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    let attempt = ["TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"].iter().find_map(|name| env::var(name).ok());
    let attempt = attempt.unwrap_or_default();
    let (local, keeps) = (local.unwrap_or(rank), !agent && rank == 0);
    Ok(Some(Place { rank, size, local, host, port, keeps, started: agent, attempt }))
}

/// The first node of a SLURM step.
fn first_of_slurm() -> Option<String> {
    let nodes = env::var("SLURM_STEP_NODELIST").or_else(|_| env::var("SLURM_JOB_NODELIST")).ok()?;
    let listed = Command::new("scontrol").args(["show", "hostnames", &nodes]).output().ok()?;
    String::from_utf8(listed.stdout).ok()?.lines().next().map(str::to_owned)
}

/// What a process has of the others.
#[derive(Default)]
pub struct Joined {
    /// Them.
    pub ranks: Rc<Ranks>,
    /// The device that this one takes.
    pub device: Option<String>,
    /// To be kept as long as the others are to know that this one is there.
    pub beats: Option<Beats>,
}

/// Meets the other processes of the run, if there are any.
///
/// # Errors
/// When the variables of the environment do not fit together, or the others do not come.
pub fn join() -> Result<Joined> {
    let Some(place) = place()? else { return Ok(Joined::default()) };
    pipe_native::init()?;
    let Place { rank, size, ref host, port, .. } = place;
    if rank > 0 {
        terminal::only_keep();
    }
    let store = Store::connect(host, port, place.keeps, TIMEOUT)
        .with_context(|| format!("rank {rank} of {size} does not reach the store at {host}:{port}"))?;
    let prefix = format!("pipe/{}", place.attempt);
    let store = store.prefixed(&prefix)?;
    let interface = env::var("GLOO_SOCKET_IFNAME").ok();
    let here = ["127.0.0.1", "localhost", "::1"].contains(&host.as_str());
    let address = here.then_some("127.0.0.1").filter(|_| interface.is_none());
    let own = env::var(DEVICE).ok();
    let device = own.or_else(|| pipe_native::has_gpu().then(|| format!("cuda:{}", place.local)));
    let gpu = device.as_deref().map(pipe_native::choose_device).transpose()?;
    let gpu = gpu.map(|(device, _)| device).filter(|device| pipe_native::is_accelerator(*device));
    let ranks = Ranks::join(store, (rank, size), (interface.as_deref(), address), gpu, TIMEOUT)?;
    let own = Store::connect(host, port, false, TIMEOUT)?.prefixed(&prefix)?;
    let beats = Beats::start(own, (rank, size), place.started)?;
    Ok(Joined { ranks: Rc::new(ranks), device, beats: Some(beats) })
}

/// The devices that a text such as `0,1`, `all` or `cpu:2` means.
fn devices(text: &str) -> Result<Vec<String>> {
    if let Some(count) = text.strip_prefix("cpu:") {
        let count = count.parse().ok().filter(|count| (1..=52).contains(count));
        let count: usize = count.with_context(|| format!("`{text}`: write how many processes, such as cpu:2"))?;
        return Ok(vec!["cpu".into(); count]);
    }
    pipe_native::init()?;
    let there = pipe_native::device::gpus();
    let numbers: Vec<usize> = match text {
        "all" if there == 0 => bail!("there is no GPU; `--devices cpu:2` starts two processes on the CPU"),
        "all" => (0..there).collect(),
        list => {
            let numbers = list.split(',').map(|number| number.trim().parse()).collect::<Result<_, _>>();
            numbers.ok().with_context(|| format!("`{text}` names no devices; write 0,1 or all or cpu:2"))?
        }
    };
    for (place, number) in numbers.iter().enumerate() {
        ensure!(*number < there, "there is no GPU {number}: this machine has {there}");
        ensure!(!numbers[..place].contains(number), "GPU {number} is named twice");
    }
    Ok(numbers.into_iter().map(|number| format!("cuda:{number}")).collect())
}

/// Starts this very command once on each of these devices, and ends as they do.
///
/// # Errors
/// When the devices are not there, or a process cannot be started.
pub fn start(text: &str) -> Result<Status> {
    let devices = devices(text)?;
    let size = devices.len();
    // Kept here, so that no port has to be chosen before it is taken.
    let store = Store::connect("127.0.0.1", 0, true, TIMEOUT)?;
    let mut children = Vec::new();
    for (rank, device) in devices.iter().enumerate() {
        let mut command = Command::new(env::current_exe().context("the program does not find itself")?);
        command.args(without_devices(env::args_os().skip(1)));
        let variables = [
            ("RANK", rank.to_string()),
            ("LOCAL_RANK", rank.to_string()),
            ("WORLD_SIZE", size.to_string()),
            ("MASTER_ADDR", "127.0.0.1".into()),
            ("MASTER_PORT", store.port().to_string()),
            ("TORCHELASTIC_USE_AGENT_STORE", "True".into()),
            (DEVICE, device.clone()),
        ];
        command.envs(variables);
        if device == "cpu" && env::var_os("OMP_NUM_THREADS").is_none() {
            let cores = thread::available_parallelism().map_or(1, usize::from);
            command.env("OMP_NUM_THREADS", (cores / size).max(1).to_string());
        }
        if rank > 0 {
            // What it says is kept in its own log.
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        }
        // Of its own, so that a Ctrl-C reaches each once: through this process.
        command.process_group(0);
        children.push(command.spawn().with_context(|| format!("rank {rank} could not be started"))?);
    }
    pass_signals_on(&children)?;
    wait(children)
}

/// The arguments without `--devices`.
fn without_devices(args: impl Iterator<Item = std::ffi::OsString>) -> Vec<std::ffi::OsString> {
    let mut args = args.peekable();
    let mut kept = Vec::new();
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--devices") => drop(args.next()),
            Some(text) if text.starts_with("--devices=") => {}
            _ => kept.push(arg),
        }
    }
    kept
}

fn pass_signals_on(children: &[Child]) -> Result<()> {
    let kinds = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
    ];
    for kind in kinds {
        let ids: Vec<u32> = children.iter().map(Child::id).collect();
        signals::on_signal(kind, move || ids.iter().for_each(|id| pipe_native::signal(*id, kind.as_raw_value())))?;
    }
    Ok(())
}

/// Waits for all; once one has failed, not for long.
fn wait(mut children: Vec<Child>) -> Result<Status> {
    let mut failed: Option<(usize, u8, Instant)> = None;
    let mut ended: Vec<Option<u8>> = vec![None; children.len()];
    while ended.iter().any(Option::is_none) {
        for (rank, child) in
            children.iter_mut().enumerate().filter(|(rank, _)| ended[*rank].is_none()).collect::<Vec<_>>()
        {
            let Some(status) = child.try_wait().context("a rank cannot be waited for")? else { continue };
            let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1) as u8;
            ended[rank] = Some(code);
            if code != 0 && failed.is_none() {
                failed = Some((rank, code, Instant::now()));
            }
            if let Some(signal) = status.signal() {
                terminal::line(&format!("error: rank {rank} was killed by signal {signal}"));
            }
        }
        if failed.is_some_and(|(.., since)| since.elapsed() > GRACE) {
            for (child, _) in children.iter_mut().zip(&ended).filter(|(_, ended)| ended.is_none()) {
                let _gone = child.kill();
            }
        }
        thread::sleep(TICK);
    }
    Ok(failed.map_or(Status::Done, |(_, code, _)| Status::Other(code)))
}
