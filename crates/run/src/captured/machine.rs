//! How busy the machine, the program and the parts of the pipeline are, and how fast the run gets on, every few seconds: `machine/scalars`.
//!
//! The axis is the time. Each point also has the iteration at which it was measured; a run that goes back to a checkpoint keeps what was
//! measured before.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Result;
use pipe_core::Clock;
use pipe_core::busy::{Busy, Part};
use pipe_core::throughput::{Done, Throughput};
use pipe_history::Point;
use pipe_history::clock::now;
use pipe_history::scalars::Writer;

use super::gpu::Gpus;

/// How often it is measured.
const EVERY: Duration = Duration::from_secs(5);
/// How often, about, what the training thread is at is looked at: some hundred times for each measurement, so that a share of a half is known to
/// five of a hundred, and its mean over a minute to one or two.
const GLANCE: Duration = Duration::from_millis(50);
const MIB: f64 = (1u64 << 20) as f64;
/// Linux counts the time of processors in hundredths of a second, on every architecture that Rust knows.
const TICKS: f64 = 100.0;
/// Linux's statm counts pages; all of its architectures that libtorch is for have these.
const PAGE: f64 = 4096.0;

/// Measures until the other side is gone.
pub(super) fn measure(run: &Path, busy: &Busy, throughput: &Throughput, stop: &Receiver<()>) -> Result<()> {
    let folder = run.join("machine");
    // Not with what is above it: a run whose folder was removed stays removed.
    if !folder.is_dir() {
        fs::create_dir(&folder)?;
    }
    let mut writer = Writer::open(&folder, None)?;
    let gpus = Gpus::open();
    let mut shares = Shares::default();
    let (mut last, mut before) = (Counters::read(), throughput.done());
    loop {
        let goes_on = shares.watch(busy, stop);
        let done = throughput.done();
        let mut values = progress(done, before);
        before = done;
        // At the end only what the run did since: of so short a time the machine's own figures say nothing.
        if goes_on {
            let counters = Counters::read();
            values.extend(counters.since(&last));
            values.extend(shares.take(busy));
            values.extend(memory());
            values.extend(gpus.iter().flat_map(Gpus::values));
            last = counters;
        }
        let (Clock { step, epoch }, time) = (done.clock, now());
        for (tag, value) in values {
            writer.push(&tag, &"run", Point { step, epoch, time, value })?;
        }
        writer.flush()?;
        if !goes_on {
            return Ok(());
        }
    }
}

/// How fast the outermost engine was since, by tag; nothing where it finished no iteration.
fn progress(now: Done, before: Done) -> Vec<(String, f64)> {
    let images = now.images - before.images;
    let seconds = (now.took - before.took).as_secs_f64();
    if images == 0 || seconds == 0.0 {
        return Vec::new();
    }
    let waited = (now.waited - before.waited).as_secs_f64();
    let values = [("images_per_second", images as f64 / seconds), ("data_wait_percent", 100.0 * waited / seconds)];
    values.map(|(tag, value)| (tag.to_owned(), value)).into()
}

/// The parts of the training thread's time, in percent: by `share/NODE`, and of an engine by `share/ENGINE/PHASE`. One that was at work once is told
/// from then on.
#[derive(Default)]
struct Shares {
    /// How often each was seen at work since they were taken.
    seen: BTreeMap<Part, u64>,
    glances: u64,
}

impl Shares {
    /// Looks at what is at work until it is time to measure; whether the run goes on.
    fn watch(&mut self, busy: &Busy, stop: &Receiver<()>) -> bool {
        let end = Instant::now() + EVERY;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            // Not in step with iterations: from a half to one and a half, by the golden ratio.
            let uneven = 0.5 + (self.glances as f64 * 0.618_034).fract();
            if stop.recv_timeout(left.min(GLANCE.mul_f64(uneven))) != Err(RecvTimeoutError::Timeout) {
                return false;
            }
            self.glance(busy.now());
        }
    }

    fn glance(&mut self, at: Option<Part>) {
        self.glances += 1;
        if let Some(part) = at {
            *self.seen.entry(part).or_default() += 1;
        }
    }

    fn take(&mut self, busy: &Busy) -> Vec<(String, f64)> {
        let all = std::mem::take(&mut self.glances).max(1) as f64;
        let share = |(part, seen): (&Part, &mut u64)| {
            (format!("share/{}", busy.name(*part)), 100.0 * std::mem::take(seen) as f64 / all)
        };
        self.seen.iter_mut().map(share).collect()
    }
}

/// What only grows; `None` where the system does not say.
struct Counters {
    at: Instant,
    /// Seconds of processors that the program had.
    program: Option<f64>,
    /// The same of the machine: busy, and all.
    machine: Option<[f64; 2]>,
    /// Bytes that the program read from disks, and wrote.
    disk: Option<[f64; 2]>,
    /// Bytes that the machine received over the network, and sent.
    network: Option<[f64; 2]>,
}

impl Counters {
    fn read() -> Counters {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Counters {
            at: Instant::now(),
            program: program_seconds(&read("/proc/self/stat")),
            machine: machine_seconds(&read("/proc/stat")),
            disk: disk_bytes(&read("/proc/self/io")),
            network: network_bytes(&read("/proc/net/dev")),
        }
    }

    /// What they grew by since then, by tag.
    fn since(&self, then: &Counters) -> Vec<(String, f64)> {
        let seconds = self.at.duration_since(then.at).as_secs_f64().max(1e-3);
        let mut values = Vec::new();
        let mut add = |tag: &str, value: f64| values.push((tag.to_owned(), value.max(0.0)));
        if let (Some(now), Some(before)) = (self.program, then.program) {
            add("cpu_percent", 100.0 * (now - before) / seconds);
        }
        if let (Some(now), Some(before)) = (self.machine, then.machine) {
            let [busy, all] = [now[0] - before[0], now[1] - before[1]];
            // A last bit makes a busy machine busier than it can be.
            add("machine_cpu_percent", (100.0 * busy / all.max(1e-3)).min(100.0));
        }
        let pairs = [
            (self.disk, then.disk, ["disk_read_mib_per_s", "disk_written_mib_per_s"]),
            (self.network, then.network, ["network_received_mib_per_s", "network_sent_mib_per_s"]),
        ];
        for (now, before, tags) in pairs {
            if let (Some(now), Some(before)) = (now, before) {
                for (index, tag) in tags.into_iter().enumerate() {
                    add(tag, (now[index] - before[index]) / MIB / seconds);
                }
            }
        }
        values
    }
}

/// How much memory the program has, and the machine has left.
fn memory() -> Vec<(String, f64)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let resident = read("/proc/self/statm").split_whitespace().nth(1).and_then(|pages| pages.parse::<f64>().ok());
    let info = read("/proc/meminfo");
    let value = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    let used = value("MemAvailable:").zip(value("MemTotal:")).map(|(free, all)| 100.0 * (1.0 - free / all));
    let values = [("memory_mib", resident.map(|pages| pages * PAGE / MIB)), ("machine_memory_percent", used)];
    values.into_iter().filter_map(|(tag, value)| Some((tag.to_owned(), value?))).collect()
}

/// proc(5), `/proc/pid/stat`: user and system time.
fn program_seconds(text: &str) -> Option<f64> {
    // The second field is the program's name in brackets, which may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS)
}

/// proc(5), `/proc/stat`: all but idle and waiting for disks is busy.
fn machine_seconds(text: &str) -> Option<[f64; 2]> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // Time of guests is counted in that of users.
    let ticks: Vec<f64> = line.split_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
    let all: f64 = ticks.iter().sum();
    Some([(all - ticks.get(3)? - ticks.get(4)?) / TICKS, all / TICKS])
}

/// proc(5), `/proc/pid/io`.
fn disk_bytes(text: &str) -> Option<[f64; 2]> {
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok();
    Some([value("read_bytes:")?, value("write_bytes:")?])
}

/// proc(5), `/proc/net/dev`: all devices but the loopback.
fn network_bytes(text: &str) -> Option<[f64; 2]> {
    let devices = text.lines().skip(2).filter_map(|line| line.split_once(':')).filter(|(name, _)| name.trim() != "lo");
    let numbers = devices.map(|(_, fields)| {
        let field = |index: usize| fields.split_whitespace().nth(index)?.parse::<f64>().ok();
        Some([field(0)?, field(8)?])
    });
    numbers.reduce(|sum, one| sum.zip(one).map(|(sum, one)| [sum[0] + one[0], sum[1] + one[1]]))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_files_are_read() {
        assert_eq!(program_seconds("1 (a) b) S 1 1 1 0 -1 0 0 0 0 0 250 50 0 0"), Some(3.0));
        assert_eq!(machine_seconds("cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1\n"), Some([2.0, 10.0]));
        assert_eq!(disk_bytes("rchar: 1\nread_bytes: 4096\nwrite_bytes: 8192\n"), Some([4096.0, 8192.0]));
        let devices = "Inter-|\n face |\n    lo: 7 1 0 0 0 0 0 0 7 1\n  eth0: 10 1 0 0 0 0 0 0 20 1\n  eth1: 1 1 0 0 0 0 0 0 2 1\n";
        assert_eq!(network_bytes(devices), Some([11.0, 22.0]));
        for nothing in ["", "cpu", "cpu x"] {
            assert!(
                program_seconds(nothing).is_none()
                    && machine_seconds(nothing).is_none()
                    && network_bytes(nothing).is_none()
            );
        }
    }

    #[test]
    fn shares_are_of_all_glances() {
        let (mut shares, busy) = (Shares::default(), Busy::default());
        let (a, b) = (busy.part("a".into()), busy.part("a/b".into()));
        [Some(a), Some(b), None, Some(a)].into_iter().for_each(|at| shares.glance(at));
        assert_eq!(shares.take(&busy), [("share/a".to_owned(), 50.0), ("share/a/b".to_owned(), 25.0)]);
        shares.glance(Some(b));
        assert_eq!(shares.take(&busy), [("share/a".to_owned(), 0.0), ("share/a/b".to_owned(), 100.0)]);
    }

    #[test]
    fn what_is_measured_is_plausible() {
        let before = Counters::read();
        std::thread::sleep(Duration::from_millis(60));
        let values = Counters::read().since(&before);
        let value = |tag: &str| values.iter().find(|(name, _)| name == tag).map(|(_, value)| *value);
        assert!(value("machine_cpu_percent").is_some_and(|percent| (0.0..=100.0).contains(&percent)), "{values:?}");
        assert!(value("cpu_percent").is_some(), "{values:?}");
        let memory = memory();
        assert!(memory.iter().all(|(_, value)| *value > 0.0) && memory.len() == 2, "{memory:?}");
    }
}
