//! How an engine gets on: its speed, what is left of the epoch and of the run, the mean of the loss.

use std::time::{Duration, Instant};

use pipe_core::Progress;

/// The value whose mean over the epoch is told.
const AVERAGED: &str = "loss";

/// An engine's pace, and when it was last told.
pub struct Pace {
    /// The first iteration that was seen, and when it was over.
    began: (Instant, u64),
    epoch: u64,
    started: Instant,
    first_iteration: u64,
    samples: u64,
    loss: f64,
    weight: f64,
    /// When it was last told.
    pub last_line: Option<Instant>,
}

impl Pace {
    /// The pace of an engine that has just done its first iteration.
    pub fn new(progress: &Progress) -> Pace {
        let now = Instant::now();
        let first_iteration = progress.epoch_iteration.saturating_sub(1);
        let (began, epoch) = ((now, progress.iteration), progress.epoch);
        Pace { began, epoch, started: now, first_iteration, samples: 0, loss: 0.0, weight: 0.0, last_line: None }
    }

    /// Takes note of an iteration; the first of an epoch begins its figures anew.
    pub fn note(&mut self, progress: &Progress) {
        if self.epoch != progress.epoch || progress.epoch_iteration <= self.first_iteration + 1 {
            // An engine that is run again begins to count again.
            let began =
                if progress.iteration > self.began.1 { self.began } else { (Instant::now(), progress.iteration) };
            *self = Pace { began, ..Pace::new(progress) };
        } else {
            self.samples += progress.samples;
        }
        let losses = progress.values.iter().filter(|(name, value)| name == AVERAGED && value.is_finite());
        for (_, loss) in losses {
            self.loss += loss * progress.samples as f64;
            self.weight += progress.samples as f64;
        }
    }

    /// The values to tell: the loss as its mean over the epoch so far, by samples, without batches that were skipped.
    pub fn values(&self, progress: &Progress) -> Vec<(String, f64)> {
        let told = |(name, value): &(String, f64)| {
            let mean = name == AVERAGED && self.weight > 0.0;
            (name.clone(), if mean { self.loss / self.weight } else { *value })
        };
        progress.values.iter().map(told).collect()
    }

    /// The means over the epoch so far alone.
    pub fn means(&self) -> Vec<(String, f64)> {
        if self.weight > 0.0 { vec![(AVERAGED.to_owned(), self.loss / self.weight)] } else { Vec::new() }
    }

    /// Since the first iteration of the epoch.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// When it was last told, or the epoch began.
    pub fn told(&self) -> Instant {
        self.last_line.unwrap_or(self.started)
    }

    /// Samples per second since the end of the first iteration; `None` before there is anything to measure.
    pub fn per_second(&self) -> Option<f64> {
        (self.samples > 0).then(|| self.samples as f64 / self.elapsed().as_secs_f64().max(1e-9))
    }

    /// The iterations of this epoch: fewer where a limit of the whole run comes first.
    pub fn length(progress: &Progress) -> Option<u64> {
        let done = progress.iteration.saturating_sub(progress.epoch_iteration);
        let limit = progress.max_iterations.map(|limit| limit.saturating_sub(done));
        progress.epoch_length.into_iter().chain(limit).min()
    }

    /// Time to the end of the epoch at this speed.
    pub fn left(&self, progress: &Progress) -> Option<Duration> {
        let remaining = Pace::length(progress)?.saturating_sub(progress.epoch_iteration);
        let done = progress.epoch_iteration.saturating_sub(self.first_iteration).max(1);
        Duration::try_from_secs_f64(self.elapsed().as_secs_f64() / done as f64 * remaining as f64).ok()
    }

    /// Time to the end of the engine's whole run, what else came between its iterations so far included.
    pub fn left_in_all(&self, progress: &Progress) -> Option<Duration> {
        let by_epochs =
            progress.max_epochs.zip(progress.epoch_length).map(|(epochs, length)| epochs.saturating_mul(length));
        let total = match (by_epochs, progress.max_iterations) {
            (Some(a), Some(b)) => a.min(b),
            (a, b) => a.or(b)?,
        };
        let (began, first) = self.began;
        let done = progress.iteration.saturating_sub(first);
        let remaining = total.saturating_sub(progress.iteration);
        (done > 0)
            .then(|| began.elapsed().as_secs_f64() / done as f64 * remaining as f64)
            .and_then(|left| Duration::try_from_secs_f64(left).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u64, epoch_iteration: u64, loss: f64, samples: u64) -> Progress {
        Progress {
            engine: "engine.trainer".parse().unwrap(),
            outermost: true,
            epoch,
            max_epochs: Some(2),
            epoch_iteration,
            epoch_length: Some(3),
            iteration: (epoch - 1) * 3 + epoch_iteration,
            max_iterations: None,
            samples,
            values: vec![("loss".into(), loss), ("lr".into(), 0.1)],
        }
    }

    #[test]
    fn the_loss_is_the_mean_over_the_epoch_by_samples() {
        let mut pace = Pace::new(&at(1, 1, 4.0, 4));
        for (iteration, loss, samples) in [(1, 4.0, 4), (2, f64::NAN, 4), (3, 1.0, 2)] {
            pace.note(&at(1, iteration, loss, samples));
        }
        let last = at(1, 3, 1.0, 2);
        assert_eq!(pace.values(&last), [("loss".to_owned(), 3.0), ("lr".to_owned(), 0.1)]);
        assert_eq!(pace.left(&last), Some(Duration::ZERO));
        let ending = Progress { max_iterations: Some(5), ..at(2, 1, 0.0, 4) };
        assert_eq!((Pace::length(&ending), Pace::length(&at(2, 1, 0.0, 4))), (Some(2), Some(3)));
        assert!(pace.left_in_all(&last).is_some_and(|left| left > Duration::ZERO), "another epoch is left");
        pace.note(&at(2, 1, 0.5, 4));
        assert_eq!(pace.values(&at(2, 1, 0.5, 4))[0].1, 0.5, "each epoch has its own");
        let mut skipped = Pace::new(&at(1, 1, f64::NAN, 4));
        skipped.note(&at(1, 1, f64::NAN, 4));
        assert!(skipped.values(&at(1, 1, f64::NAN, 4))[0].1.is_nan());
    }
}
