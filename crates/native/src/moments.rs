//! Moments of a run at which a test ends the process as a power cut would, to see that nothing is lost.
//!
//! `PIPE_TEST_KILL=KIND:N` kills the process when it passes the Nth moment of that kind, or with `PIPE_TEST_SIGNAL=TERM` asks it to end;
//! without them a moment costs one look at a flag. `PIPE_TEST_MOMENTS=FILE` has [`write_counts`] say how many there were.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A kind of moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Inside the writing or removing of a checkpoint.
    Write,
    /// Between two targets of one event.
    Target,
    /// Inside the loop of an engine that another one's event runs.
    Nested,
    /// After a batch was processed.
    Step,
}

const ALL: [(Moment, &str); 4] =
    [(Moment::Write, "write"), (Moment::Target, "target"), (Moment::Nested, "nested"), (Moment::Step, "step")];

static PASSED: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

struct Plan {
    kill: Option<(Moment, u64)>,
    signal: libc::c_int,
    counts: Option<std::ffi::OsString>,
}

fn plan() -> Option<&'static Plan> {
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    let read = || {
        let kill = std::env::var("PIPE_TEST_KILL").ok().and_then(|text| {
            let (kind, number) = text.split_once(':')?;
            let (moment, _) = ALL.iter().find(|(_, name)| *name == kind)?;
            Some((*moment, number.parse().ok()?))
        });
        let counts = std::env::var_os("PIPE_TEST_MOMENTS");
        let asks = std::env::var("PIPE_TEST_SIGNAL").is_ok_and(|name| name == "TERM");
        let signal = if asks { libc::SIGTERM } else { libc::SIGKILL };
        (kill.is_some() || counts.is_some()).then_some(Plan { kill, signal, counts })
    };
    PLAN.get_or_init(read).as_ref()
}

/// The run passes such a moment.
pub fn pass(moment: Moment) {
    let Some(plan) = plan() else { return };
    let number = PASSED[moment as usize].fetch_add(1, Ordering::Relaxed) + 1;
    if plan.kill == Some((moment, number)) {
        // SAFETY: sends a signal to this very process, which ends it or asks it to.
        unsafe { libc::kill(libc::getpid(), plan.signal) };
    }
}

/// Writes how many moments of each kind were passed, if a test asks for it.
pub fn write_counts() {
    if let Some(path) = plan().and_then(|plan| plan.counts.as_ref()) {
        let lines = ALL.map(|(moment, name)| format!("{name} {}\n", PASSED[moment as usize].load(Ordering::Relaxed)));
        if let Err(error) = std::fs::write(path, lines.concat()) {
            tracing::warn!("PIPE_TEST_MOMENTS: {error}");
        }
    }
}
