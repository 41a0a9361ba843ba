//! `handler.checkpoint`: saves checkpoints, keeps the latest and the best.

use std::path::PathBuf;
use std::rc::Weak;
use std::time::Instant;

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::retention::{Judge, Ledger, Saved};
use crate::monitor::Mode;
use pipe_core::checkpoints::ABANDONED;
use pipe_core::checkpoints::found::BEST;
use pipe_core::event::SAVED_CHECKPOINT;
use pipe_core::facts::{Facts, Watched};
use pipe_core::{
    Afterwards, BuildContext, Component, Config, Duration, EngineEvent, Event, EventContext, Handler, Instance, Kind,
    NodeId, RecordValue, RunContext, State, Stateful, ValueRef,
};
use pipe_vocab::atomic;

/// Saves a checkpoint of the whole run, and keeps the latest and the best.
///
/// Each is a folder `checkpoints/step_000123`, written atomically and behind the training, which goes on as soon as everything is
/// copied; older ones are deleted only after the new one is on disk. What goes wrong while it is written is an error of the next
/// call, or of the end of the run. Where another handler has saved one at the same step, it is `step_000123.NAME`. Training waits
/// for the writing where something runs on the event `saved`.
///
/// With `best`, a checkpoint is scored by the first value of `monitor` that is computed at its step or later, before the next
/// one is saved. So it may come before or after the evaluation in `run`: before it, the checkpoint is scored when the handler
/// is called next, or when the run ends. Called again before the weights have changed, such as on the evaluator's `completed`,
/// it does not save but only scores. The best checkpoint is never deleted; `checkpoints/best.json` names it (`name`, `value`,
/// `step` of each `monitor`). A value that is NaN or infinite is never the best.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-instead" = {
    "monitor": "it belongs to `best`: best = { monitor = \"metric.NAME:VALUE\", mode = \"max\" }",
    "mode": "it belongs to `best`: best = { monitor = \"metric.NAME:VALUE\", mode = \"max\" }"
}))]
pub struct CheckpointConfig {
    /// Number of latest checkpoints to keep.
    #[schemars(extend("x-reload" = "hot"), range(min = 1))]
    #[serde(default = "two")]
    pub keep_last: usize,
    /// Anchors: the first checkpoint in each stretch of so many steps is kept for ever.
    #[schemars(extend("x-reload" = "hot"), range(min = 1))]
    #[serde(default)]
    pub keep_every: Option<u64>,
    /// Best checkpoints to keep in addition: by one value, or by each of several.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub best: Bests,
    /// Minimum time between two checkpoints: a call before that does not save. For checkpoints by the clock, on
    /// `iteration_completed`.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub min_interval: Option<Duration>,
    /// Whether to save the models' weights only, as `weights/step_000123`: small, but nothing can be resumed from it.
    #[serde(default)]
    pub weights_only: bool,
    /// What to do when a checkpoint cannot be written, such as when the disk is full: `raise` stops the run, `warn` continues
    /// with the earlier checkpoints.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub on_error: OnError,
}

/// One rule or several.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Bests {
    /// One.
    One(Best),
    /// Several.
    Many(Vec<Best>),
}

impl Default for Bests {
    fn default() -> Bests {
        Bests::Many(Vec::new())
    }
}

impl Bests {
    fn iter(&self) -> impl Iterator<Item = &Best> {
        match self {
            Bests::One(best) => std::slice::from_ref(best).iter(),
            Bests::Many(all) => all.iter(),
        }
    }
}

/// Which checkpoints are the best.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// The monitored value, such as `metric.coco:segm/AP`.
    pub monitor: ValueRef,
    /// Whether lower (`min`) or higher (`max`) values are better.
    pub mode: Mode,
    /// Number of best checkpoints to keep.
    #[schemars(range(min = 1))]
    #[serde(default = "one")]
    pub keep: usize,
}

impl Best {
    fn judge(&self) -> Judge {
        Judge { monitor: self.monitor.to_string(), mode: self.mode, keep: self.keep }
    }
}

/// What to do when a checkpoint cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Stop the run.
    #[default]
    Raise,
    /// Log a warning and continue.
    Warn,
}

fn two() -> usize {
    2
}

fn one() -> usize {
    1
}

impl Config for CheckpointConfig {
    const KIND: Kind = Kind::Handler;
    const TYPE: &'static str = "checkpoint";
    const EXAMPLE: &'static str = r#"
[metric.accuracy]
type = "accuracy"

[handler.checkpoint]
type = "checkpoint"
keep_last = 2
best = { monitor = "metric.accuracy:accuracy", mode = "max" }

# Saved before the evaluation, so that an error there loses no training; scored when the evaluation ends.
[[on]]
event = "engine.trainer:epoch_completed"
run = ["handler.checkpoint", "engine.evaluator"]

[[on]]
event = "engine.evaluator:completed"
run = ["handler.checkpoint"]
"#;

    fn facts(&self) -> Facts {
        let watches = self.best.iter().enumerate().map(|(index, best)| {
            let inner = matches!(self.best, Bests::Many(_)).then(|| index.to_string());
            let option = [Some("best".to_owned()), inner, Some("mode".to_owned())];
            let option = option.into_iter().flatten().collect();
            Watched { value: best.monitor.clone(), better: best.mode.better(), option }
        });
        Facts { watches: watches.collect(), saves: true, costly: self.min_interval.is_none(), ..Facts::default() }
    }

    fn events() -> &'static [Event] {
        &[Event { name: SAVED_CHECKPOINT, doc: "a checkpoint has been saved" }]
    }
}

impl Component for CheckpointConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let monitors = self.best.iter().map(|best| (best.monitor.clone(), best.mode == Mode::Max)).collect();
        let node = ctx.node.clone();
        ctx.on_commit(move |run| run.bests.watch(&node, monitors));
        Ok(Instance::handler(Checkpoint {
            node: ctx.node.clone(),
            config: self,
            run: ctx.run(),
            ledger: Ledger::default(),
            resumed: None,
            adopted: Vec::new(),
            saved: None,
            saving: None,
            lost: None,
            leaving: Vec::new(),
            noted: Vec::new(),
            unfinished: None,
            since: Instant::now(),
        }))
    }
}

pipe_core::register!(CheckpointConfig);

/// `best.json`: the best checkpoints, and the scores of all.
#[derive(Serialize, Deserialize)]
struct BestFile {
    best: Vec<BestEntry>,
    scores: Vec<Saved>,
}

#[derive(Serialize, Deserialize)]
struct BestEntry {
    monitor: ValueRef,
    mode: Mode,
    name: String,
    value: f64,
    step: u64,
}

/// The running handler.
struct Checkpoint {
    node: NodeId,
    config: CheckpointConfig,
    /// For the values, when another handler saves and requests the state.
    run: Weak<RunContext>,
    ledger: Ledger,
    /// The step that the run goes on from, until what else lies in the folder has been looked at.
    resumed: Option<u64>,
    /// Names of checkpoints that nobody will go on from any more, to be removed once there is a newer one.
    adopted: Vec<String>,
    /// The step and the version of the weights at the latest checkpoint.
    saved: Option<(u64, u64)>,
    /// The latest checkpoint, until it is known how its writing ended.
    saving: Option<Saving>,
    /// The step of the latest checkpoint that could not be written.
    lost: Option<u64>,
    /// Names of checkpoints whose removal was asked for.
    leaving: Vec<String>,
    /// What `best.json` says.
    noted: Vec<u8>,
    /// The checkpoint that the run goes on from, if this handler was in the middle of its work when it was taken.
    unfinished: Option<String>,
    /// The time of the latest checkpoint, or of the run's beginning.
    since: Instant,
}

/// A checkpoint that may still be being written.
struct Saving {
    path: PathBuf,
    /// The checkpoints without it.
    before: Ledger,
}

/// The state: the checkpoints, and what is the same about the latest one.
#[derive(Serialize, Deserialize)]
struct SavedState {
    #[serde(flatten)]
    ledger: Ledger,
    /// Whether the weights are those of the latest.
    unchanged: bool,
    /// The checkpoint that this state is part of, when this handler takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unfinished: Option<String>,
}

impl Checkpoint {
    fn judges(&self) -> Vec<Judge> {
        self.config.best.iter().map(Best::judge).collect()
    }

    /// The checkpoints, with the scores so far: of values measured before `before`, if that is given.
    fn judged(&self, run: &RunContext, before: Option<u64>) -> Ledger {
        let mut ledger = self.ledger.clone();
        // Values of weights that could not be saved belong to no checkpoint.
        let newest = self.ledger.saved.last().map(|saved| saved.step);
        let lost = self.lost.filter(|lost| newest.is_none_or(|newest| newest < *lost));
        let of_saved = |at: u64| before.is_none_or(|before| at < before) && lost.is_none_or(|lost| at < lost);
        for best in self.config.best.iter() {
            if let Some((value, step)) = run.value_with_step(&best.monitor).filter(|(_, at)| of_saved(*at)) {
                ledger.judge(&best.monitor.to_string(), value, step);
            }
        }
        ledger
    }

    /// Scores the checkpoints anew; writes it down where it is news.
    fn judge(&mut self, run: &RunContext) -> Result<()> {
        let judged = self.judged(run, None);
        if self.note(&judged)? != self.noted {
            self.settle(run)?;
        }
        self.ledger = self.judged(run, None);
        self.write_best(run)
    }

    /// Waits until the latest checkpoint is written.
    fn settle(&mut self, run: &RunContext) -> Result<()> {
        let Some(Saving { path, before }) = self.saving.take() else { return Ok(()) };
        let lost = self.saved.map(|(step, _)| step);
        run.checkpoints()?.written(&path).inspect_err(|_| {
            // The records named it when it was begun.
            let told = path.display().to_string();
            if let Err(error) = run.emit(&self.node, "checkpoint/failed", RecordValue::Text(told)) {
                tracing::warn!("{error:#}");
            }
            self.take_back(before, lost);
        })
    }

    /// A checkpoint could not be written: what was to go when it was complete stays, and what is measured of it is nobody else's.
    fn take_back(&mut self, before: Ledger, lost: Option<u64>) {
        self.leaving.retain(|name| !before.saved.iter().any(|saved| saved.name == *name));
        (self.ledger, self.saved, self.lost) = (before, None, lost);
        self.noted.clear();
    }

    fn folder(&self, run: &RunContext) -> PathBuf {
        if self.config.weights_only { run.folder.path().join("weights") } else { run.folder.checkpoints() }
    }

    fn save(&mut self, run: &RunContext) -> Result<String> {
        self.adopt(run)?;
        let step = run.clock.get().step;
        let plain = format!("step_{step:06}");
        let own = self.config.weights_only || run.own_checkpoint(&plain, &self.node);
        let name = if own { plain } else { format!("{plain}.{}", self.node.name) };
        // A value of this very step belongs to the weights that are saved now, not to those saved before.
        let before = self.judged(run, Some(step));
        let mut ledger = before.clone();
        ledger.add(&name, step, self.config.keep_every);
        for best in self.config.best.iter() {
            if let Some((value, at)) = run.value_with_step(&best.monitor).filter(|(_, at)| *at == step) {
                ledger.judge(&best.monitor.to_string(), value, at);
            }
        }
        let state = SavedState { ledger: ledger.clone(), unchanged: true, unfinished: Some(name.clone()) };
        self.ledger = ledger;
        let afterwards = self.afterwards(run)?;
        let (checkpoints, path) = (run.checkpoints()?, self.folder(run).join(&name));
        let begun = match self.config.weights_only {
            true => checkpoints.save_weights(&path, afterwards),
            false => checkpoints.save(&name, &[(self.node.clone(), State::of(&state)?)], afterwards).map(drop),
        };
        begun.inspect_err(|_| self.take_back(before.clone(), Some(step)))?;
        self.saving = Some(Saving { path, before });
        (self.saved, self.since) = (Some((step, run.weights_version.get())), Instant::now());
        Ok(name)
    }

    /// What is to be done once the latest checkpoint is complete.
    fn afterwards(&mut self, run: &RunContext) -> Result<Afterwards> {
        let folder = self.folder(run);
        let bytes = self.note(&self.ledger)?;
        let note = (!bytes.is_empty() && bytes != self.noted).then(|| (folder.join(BEST), bytes.clone()));
        self.noted = bytes;
        self.leaving.retain(|name| folder.join(name).exists());
        let surplus = self.surplus();
        self.ledger.saved.retain(|saved| !surplus.contains(&saved.name));
        self.leaving.extend(surplus);
        Ok(Afterwards { note, remove: self.leaving.iter().map(|name| folder.join(name)).collect() })
    }

    /// Names of checkpoints that need not be kept any more.
    fn surplus(&mut self) -> Vec<String> {
        let adopted = std::mem::take(&mut self.adopted).into_iter();
        let adopted = adopted.filter(|name| !self.ledger.saved.iter().any(|saved| saved.name == *name));
        self.ledger.surplus(self.config.keep_last, &self.judges()).into_iter().chain(adopted).collect()
    }

    /// Removes them now.
    fn tidy(&mut self, run: &RunContext) {
        let surplus = self.surplus();
        for name in surplus.into_iter().chain(std::mem::take(&mut self.leaving)) {
            let path = self.folder(run).join(&name);
            let removed = || if path.exists() { run.checkpoints()?.remove(&path) } else { Ok(()) };
            match removed() {
                Ok(()) => self.ledger.saved.retain(|saved| saved.name != name),
                Err(error) => tracing::warn!("{}: {error:#}", self.node),
            }
        }
    }

    /// The content of `best.json`: the best, and all values, for a resume from a checkpoint that was saved before it was scored.
    /// Empty where there is no best.
    fn note(&self, ledger: &Ledger) -> Result<Vec<u8>> {
        let first = |best: &Best| {
            let (saved, value) = ledger.ranked(&best.judge()).into_iter().next()?;
            let (monitor, mode) = (best.monitor.clone(), best.mode);
            Some(BestEntry { monitor, mode, name: saved.name.clone(), value, step: saved.step })
        };
        let best: Vec<BestEntry> = self.config.best.iter().filter_map(first).collect();
        if best.is_empty() {
            return Ok(Vec::new());
        }
        Ok(serde_json::to_vec_pretty(&BestFile { best, scores: ledger.saved.clone() })?)
    }

    fn write_best(&mut self, run: &RunContext) -> Result<()> {
        let bytes = self.note(&self.ledger)?;
        if bytes.is_empty() || bytes == self.noted {
            return Ok(());
        }
        atomic::write(&self.folder(run).join(BEST), &bytes)?;
        self.noted = bytes;
        Ok(())
    }

    /// Looks once, when a run goes on, at what else lies in the folder: what is no other handler's and not older than the checkpoint
    /// resumed from (it was saved on Ctrl-C, or belongs to what is trained again) goes when there is a newer one.
    fn adopt(&mut self, run: &RunContext) -> Result<()> {
        let Some(resumed) = self.resumed.take().filter(|_| !self.config.weights_only) else { return Ok(()) };
        let checkpoints = run.checkpoints()?;
        for entry in std::fs::read_dir(run.folder.checkpoints()).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !is_ours(&name, &self.node.name) || self.ledger.saved.iter().any(|saved| saved.name == name) {
                continue;
            }
            let behind = checkpoints.step_of(&entry.path()).is_some_and(|step| step >= resumed);
            if behind && run.own_checkpoint(&name, &self.node) {
                self.adopted.push(name);
            }
        }
        Ok(())
    }

    fn tolerate<T>(&self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if self.config.on_error == OnError::Warn => {
                tracing::warn!("{}: {error:#}", self.node);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether a name in the folder of checkpoints is one that a handler of this name gives, or that of a checkpoint by a signal.
fn is_ours(name: &str, handler: &str) -> bool {
    let name = name.strip_suffix(ABANDONED).unwrap_or(name);
    let suffixes = [format!(".{handler}"), ".signal".to_owned()];
    let plain = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix.as_str())).unwrap_or(name);
    let number = plain.strip_prefix("step_").unwrap_or_default();
    !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
}

impl Handler for Checkpoint {
    fn call(&mut self, ctx: &EventContext<'_>) -> Result<()> {
        let run = ctx.run;
        // A fork goes on from a checkpoint of another folder, and makes its own.
        let name = match self.unfinished.take().filter(|name| self.folder(run).join(name).exists()) {
            // The run goes on from this handler's own checkpoint.
            Some(name) => {
                let written = self.write_best(run);
                self.tolerate(written)?;
                self.tidy(run);
                name
            }
            None => {
                let at_end = ctx.event == EngineEvent::Completed || ctx.event == EngineEvent::Terminate;
                let unchanged = self.saved == Some((run.clock.get().step, run.weights_version.get()));
                let early = self.config.min_interval.is_some_and(|least| self.since.elapsed() < least.get());
                if unchanged && (at_end || run.depth.get() > 1) || early {
                    let judged = self.judge(run);
                    return self.tolerate(judged).map(|_| ());
                }
                let settled = self.settle(run);
                self.tolerate(settled)?;
                let saved = self.save(run);
                let Some(name) = self.tolerate(saved)? else { return Ok(()) };
                name
            }
        };
        let path = self.folder(run).join(&name);
        let recorded = run.emit(&self.node, "checkpoint", RecordValue::Artifact(path));
        self.tolerate(recorded)?;
        if ctx.dispatch.listens(&self.node, SAVED_CHECKPOINT) {
            let settled = self.settle(run);
            if self.tolerate(settled)?.is_some() {
                ctx.fire(SAVED_CHECKPOINT);
            }
        }
        Ok(())
    }

    fn finish(&mut self, run: &RunContext) -> Result<()> {
        let settled = self.settle(run);
        self.tolerate(settled)?;
        let judged = self.judge(run);
        self.tolerate(judged)?;
        // What signals have left is of no use to a run that has come to its end; one that was interrupted or failed goes on from it.
        if run.complete.get() && !self.ledger.saved.is_empty() {
            let adopted = self.adopt(run);
            self.tolerate(adopted)?;
            self.tidy(run);
            let written = self.write_best(run);
            self.tolerate(written)?;
        }
        Ok(())
    }
}

impl Stateful for Checkpoint {
    fn state(&self) -> Result<State> {
        let run = self.run.upgrade();
        let ledger = run.as_ref().map_or_else(|| self.ledger.clone(), |run| self.judged(run, None));
        let now = run.map(|run| (run.clock.get().step, run.weights_version.get()));
        State::of(&SavedState { ledger, unchanged: self.saved.is_some() && self.saved == now, unfinished: None })
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        let saved: SavedState = state.to().context("the checkpoint handler's list of checkpoints")?;
        (self.ledger, self.unfinished) = (saved.ledger, saved.unfinished);
        let own = self.node.name.clone();
        self.ledger.saved.retain(|saved| is_ours(&saved.name, &own));
        let Some(run) = self.run.upgrade() else { return Ok(()) };
        self.resumed = Some(run.clock.get().step);
        if saved.unchanged {
            self.saved = Some((run.clock.get().step, run.weights_version.get()));
        }
        let folder = self.folder(&run);
        self.ledger.saved.retain(|saved| folder.join(&saved.name).exists());
        for saved in &self.ledger.saved {
            run.own_checkpoint(&saved.name, &self.node);
        }
        // Measured after the list was saved.
        let text = std::fs::read_to_string(folder.join(BEST)).unwrap_or_default();
        let file = serde_json::from_str::<BestFile>(&text).ok();
        for saved in &mut self.ledger.saved {
            let known = file.iter().flat_map(|file| &file.scores);
            let known = known.into_iter().find(|known| known.name == saved.name && known.step == saved.step);
            for (monitor, score) in known.iter().flat_map(|known| &known.scores) {
                saved.scores.entry(monitor.clone()).or_insert(*score);
            }
        }
        for best in self.config.best.iter() {
            if let Some((saved, value)) = self.ledger.ranked(&best.judge()).first() {
                run.bests.measured(&best.monitor, *value, saved.step, None);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
