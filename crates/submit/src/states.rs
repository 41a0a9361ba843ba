//! How jobs stand: the engines' words, and asking for them behind the back of whoever shows them.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::receipt::{Engine, Receipt};
use crate::{kubernetes, local, slurm};

/// Words of jobs that wait or are at work.
const OPEN: [&str; 17] = [
    "PENDING",
    "CONFIGURING",
    "RUNNING",
    "COMPLETING",
    "SUSPENDED",
    "STOPPED",
    "SIGNALING",
    "STAGE_OUT",
    "RESIZING",
    "REQUEUED",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "RESV_DEL_HOLD",
    "SPECIAL_EXIT",
    "Pending",
    "Running",
    "Suspended",
];

/// Whether a job that stands so, in its engine's word or words, neither waits nor works any more.
pub fn is_over(state: &str) -> bool {
    !state.split(", ").any(|word| OPEN.contains(&word))
}

/// How jobs stand, with as few questions as there are engines; nothing where the engine does not say.
pub fn states(receipts: &[Receipt]) -> Vec<Option<String>> {
    let of = |engine: Engine| receipts.iter().filter(|receipt| receipt.engine == engine).collect::<Vec<_>>();
    let slurm = slurm::states(&of(Engine::Slurm));
    let one = |receipt: &Receipt| match receipt.engine {
        Engine::Slurm => slurm.get(receipt).cloned(),
        Engine::Kubernetes => kubernetes::state(receipt).ok(),
        Engine::Local => local::state(receipt).ok(),
    };
    receipts.iter().map(one).collect()
}

/// An answer is as good as new for so long.
const FRESH: Duration = Duration::from_secs(4);
/// What nobody asks for is forgotten then.
const KEPT: Duration = Duration::from_secs(600);

/// How jobs stand, as far as is known. Engines are asked by a thread of its own, as `squeue` may take its time.
#[derive(Clone, Default)]
pub struct States(Arc<Shared>);

#[derive(Default)]
struct Shared {
    known: Mutex<Known>,
    answered: Condvar,
}

#[derive(Default)]
struct Known {
    states: HashMap<Receipt, (Option<String>, Instant)>,
    asking: bool,
}

impl Shared {
    fn held(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl States {
    /// What is known of these jobs, now; what is not new is asked for meanwhile.
    pub fn of(&self, receipts: &[Receipt]) -> Vec<Option<String>> {
        let mut known = self.0.held();
        let fresh = |receipt: &&Receipt| known.states.get(receipt).is_some_and(|(_, at)| at.elapsed() < FRESH);
        let old: Vec<Receipt> = receipts.iter().filter(|receipt| !fresh(receipt)).cloned().collect();
        if !old.is_empty() && !known.asking {
            let shared = self.0.clone();
            let ask = move || {
                let found = states(&old);
                let (mut known, now) = (shared.held(), Instant::now());
                known.states.retain(|_, (_, at)| now.duration_since(*at) < KEPT);
                known.states.extend(old.into_iter().zip(found.into_iter().map(|state| (state, now))));
                known.asking = false;
                shared.answered.notify_all();
            };
            known.asking = std::thread::Builder::new().name("jobs".into()).spawn(ask).is_ok();
        }
        receipts.iter().map(|receipt| known.states.get(receipt)?.0.clone()).collect()
    }

    /// The same by one who has so long to wait for answers.
    pub fn within(&self, patience: Duration, receipts: &[Receipt]) -> Vec<Option<String>> {
        self.of(receipts);
        let asking = self.0.answered.wait_timeout_while(self.0.held(), patience, |known| known.asking);
        drop(asking);
        self.of(receipts)
    }

    /// Has a job asked for anew: something was done to it.
    pub fn forget(&self, receipt: &Receipt) {
        self.0.held().states.remove(receipt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_tell_what_is_over() {
        for open in ["PENDING", "RUNNING, COMPLETED", "Suspended"] {
            assert!(!is_over(open), "{open}");
        }
        for over in ["COMPLETED", "CANCELLED", "TIMEOUT, FAILED", "ENDED", "Complete", ""] {
            assert!(is_over(over), "{over}");
        }
    }

    #[test]
    fn states_come_behind_the_back_of_who_asks() {
        use std::process::{Command, Stdio};
        let mut process =
            Command::new("sh").args(["-c", "read line", "run/job/job.sh"]).stdin(Stdio::piped()).spawn().unwrap();
        let own = Receipt::new(Engine::Local, process.id().to_string(), None);
        // Of another who has the number.
        let gone = Receipt::new(Engine::Local, std::process::id().to_string(), None);
        let (states, both) = (States::default(), [own.clone(), gone]);
        let patient = states.within(Duration::from_secs(60), &both);
        assert_eq!(patient, [Some("RUNNING".to_owned()), Some("ENDED".to_owned())]);
        assert_eq!(states.of(&both), patient);
        drop(process.stdin.take());
        process.wait().unwrap();
        states.forget(&own);
        assert_eq!(states.within(Duration::from_secs(60), &[own])[0].as_deref(), Some("ENDED"));
    }
}
