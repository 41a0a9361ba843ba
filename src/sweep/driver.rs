//! Who begins trials, follows them and keeps the study's journal. All that must not be lost is in the journal and in the folders of the runs: a
//! driver that is killed is followed by the next one, which finds trials at work, done, or cut off.

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use indexmap::IndexMap;
use pipe_plan::sweep::{Direction, Which};
use pipe_run::lock::Refused;
use pipe_submit::{Receipt, States};
use pipe_sweep::journal::Replay;
use pipe_sweep::study::CONSTRAINT;
use pipe_sweep::{Distribution, Journal, Operation, State, Study, Trial, Values};
use pipe_vocab::shown::shown_name;
use serde_json::{Map, Value, json};

use super::measured::Measured;
use super::report;
use super::settings::Settings;
use super::worker::{Ended, PRUNED, Worker, folder_name, folder_of};
use crate::output::{Status, say};
use crate::signals::Signals;
use crate::source::{PipelineArgs, shown};

/// How often the trials are looked at.
const TICK: Duration = Duration::from_millis(50);
/// A trial's note: its run's folder, by which trials of others are told apart.
const RUN: &str = "pipe:run";
/// A trial's note: why it failed.
const ERROR: &str = "pipe:error";
/// After so many trials that failed, where those do not count, there is nothing to hope for.
const HOPELESS: usize = 20;

/// What to begin.
enum Next {
    /// This trial.
    Trial(Box<Trial>),
    /// A trial that waited, and has values that it cannot have.
    Refused(u64, String),
    /// Nothing is left.
    Nothing,
}

/// How a trial ends.
struct End {
    state: State,
    values: Option<Vec<f64>>,
    notes: Vec<Operation>,
}

pub(super) struct Driver<'a> {
    pub(super) pipeline: &'a PipelineArgs,
    pub(super) settings: &'a Settings,
    pruner: Option<pipe_sweep::Pruner>,
    pub(super) journal: Journal,
    pub(super) workers: Vec<Worker>,
    /// What a driver before was at, and nobody has gone on with yet.
    taken: Vec<Worker>,
    signals: Signals,
    /// How jobs stand.
    states: States,
    /// How many were left at work.
    left: usize,
    /// Held as long as this one drives.
    _lock: File,
}

impl<'a> Driver<'a> {
    /// Opens the study, or begins it, and takes over what a driver before was at.
    ///
    /// # Errors
    /// [`Refused`] when another is at work, or the study is another.
    pub fn start(pipeline: &'a PipelineArgs, settings: &'a Settings, signals: Signals) -> Result<Driver<'a>> {
        let folder = &settings.folder;
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let lock = take(folder)?;
        let mut journal = Journal::open(&folder.join("journal.log"), true)?;
        let (name, directions) = (settings.study.clone(), settings.directions());
        journal.write(|replay| match replay.study(&settings.study) {
            Some(study) => agree(study, settings).map(|()| (Vec::new(), ())),
            None => Ok((vec![Operation::CreateStudy { name, directions }], ())),
        })?;
        let mut driver = Driver {
            pipeline,
            settings,
            pruner: settings.pruner.clone(),
            journal,
            workers: Vec::new(),
            taken: Vec::new(),
            signals,
            states: States::default(),
            left: 0,
            _lock: lock,
        };
        driver.take_over();
        Ok(driver)
    }

    pub(super) fn study(&self) -> Result<&Study> {
        self.journal.replay().study(&self.settings.study).context("the study is gone from its journal")
    }

    pub(super) fn trial(&self, number: u64) -> Result<&Trial> {
        self.study()?.trials.get(usize::try_from(number)?).context("a trial is gone from its journal")
    }

    /// What a driver before was at.
    fn take_over(&mut self) {
        let Ok(study) = self.study() else { return };
        let (own, others): (Vec<&Trial>, Vec<&Trial>) =
            study.in_state(State::Running).partition(|trial| trial.user.contains_key(RUN));
        let workers = own.iter().map(|trial| Worker::new(self.settings, trial)).collect();
        let finished = study.trials.iter().filter(|trial| trial.state.is_finished()).count();
        if !study.trials.is_empty() {
            say!(
                "going on with the study `{}`: {finished} trials are finished, {} are to go on",
                shown_name(&study.name),
                own.len()
            );
        }
        if !others.is_empty() {
            say!("{} trials are at work elsewhere, or were: they are left alone", others.len());
        }
        self.taken = workers;
    }

    /// Runs trials until there are enough.
    ///
    /// # Errors
    /// When the journal cannot be written, or all trials fail.
    pub fn drive(&mut self) -> Result<Status> {
        let driven = self.until_done();
        if driven.is_err() {
            let children = self.workers.iter_mut().filter(|worker| worker.job().is_none());
            children.for_each(|worker| worker.stop("the sweep cannot go on"));
        }
        if driven? == Status::Done {
            report::summary(self.study()?, self.settings)?;
            return Ok(Status::Done);
        }
        match self.left {
            0 => say!("stopped; the same command goes on with the study"),
            left => say!("stopped; {left} trials go on as jobs, and the same command goes on with the study"),
        }
        Ok(Status::Signalled(self.signals.status()))
    }

    fn until_done(&mut self) -> Result<Status> {
        // The oldest last, which is the first to go on.
        let taken = std::mem::take(&mut self.taken).into_iter().rev();
        let at_work = |worker: &Worker| worker.is_busy() || worker.is_submitted();
        let (busy, rest): (Vec<Worker>, Vec<Worker>) = taken.partition(at_work);
        self.taken = rest;
        // However many there are: they are at work.
        for worker in busy {
            self.take_on(worker)?;
        }
        let mut more = true;
        loop {
            let stops = self.signals.requests.interrupt.load(Ordering::Relaxed);
            while more && !stops && self.workers.len() < self.settings.jobs {
                more = match self.taken.pop() {
                    Some(worker) => self.take_on(worker).map(|()| true)?,
                    None => self.begin()?,
                };
            }
            self.ask_engines();
            let mut open = std::mem::take(&mut self.workers);
            while let Some(worker) = open.pop() {
                match self.follow(worker, stops) {
                    Ok(Some(worker)) => self.workers.push(worker),
                    // One that failed may have to be made up for.
                    Ok(None) => more = true,
                    Err(error) => {
                        self.workers.append(&mut open);
                        return Err(error);
                    }
                }
            }
            if !stops {
                self.learn()?;
            }
            if self.workers.is_empty() && (stops || !more) {
                return Ok(if stops { Status::Failed } else { Status::Done });
            }
            std::thread::sleep(TICK);
        }
    }

    /// Asks those who have jobs how these stand.
    fn ask_engines(&mut self) {
        let jobs: Vec<Receipt> = self.workers.iter().filter_map(Worker::job).cloned().collect();
        if jobs.is_empty() {
            return;
        }
        let states = self.states.of(&jobs);
        let workers = self.workers.iter_mut().filter(|worker| worker.job().is_some());
        workers.zip(states).for_each(|(worker, state)| worker.hear(state));
    }

    /// Has a trial go on, in a slot of its own.
    fn take_on(&mut self, mut worker: Worker) -> Result<()> {
        worker.slot = (0..).find(|slot| self.workers.iter().all(|worker| worker.slot != *slot)).unwrap_or_default();
        self.find_lost(&worker)?;
        // One that is to end early needs no process for that.
        if !worker.pruned {
            worker.start(self.pipeline, self.settings)?;
        }
        self.workers.push(worker);
        Ok(())
    }

    /// Begins a trial; `false` where none is left to begin.
    fn begin(&mut self) -> Result<bool> {
        let settings = self.settings;
        let next = self.journal.write(|replay| next(replay, settings))?;
        let trial = match next {
            Next::Nothing => return Ok(false),
            Next::Refused(number, reason) => {
                report::failed(number, &reason);
                return Ok(true);
            }
            Next::Trial(trial) => trial,
        };
        self.take_on(Worker::new(settings, &trial))?;
        Ok(true)
    }

    /// Looks at a trial; gives it back while it is at work.
    fn follow(&mut self, mut worker: Worker, stops: bool) -> Result<Option<Worker>> {
        // Before its numbers are looked at: what it has measured by then is all.
        let ended = worker.look()?;
        worker.name(self.settings);
        if let Err(error) = self.hear(&mut worker, !matches!(ended, Ended::Done)) {
            if !worker.told {
                tracing::warn!("trial {}: {error:#}", worker.number);
            }
            worker.told = true;
        }
        match ended {
            Ended::Not if worker.pruned => worker.stop("it is not among the best"),
            Ended::Not if stops && worker.job().is_some() => {
                self.left += 1;
                return Ok(None);
            }
            Ended::Not if stops => worker.stop("the sweep was stopped"),
            Ended::Not => {}
            _ if worker.pruned => return self.prune(&worker).map(|()| None),
            Ended::Done if worker.next_seed(self.settings) => {
                if stops {
                    return Ok(None);
                }
                worker.start(self.pipeline, self.settings)?;
            }
            Ended::Done => return self.complete(&worker).map(|()| None),
            // It goes on next time.
            _ if stops => return Ok(None),
            Ended::Cut => {
                self.find_lost(&worker)?;
                worker.start(self.pipeline, self.settings)?;
            }
            Ended::Failed(reason) => return self.fail(&worker, &reason).map(|()| None),
        }
        Ok(Some(worker))
    }

    /// Writes what a trial has reported, and lets the pruner judge it.
    fn hear(&mut self, worker: &mut Worker, may_end: bool) -> Result<()> {
        let Some(objective) = self.settings.objective().filter(|_| worker.seed == 0 && !worker.pruned) else {
            return Ok(());
        };
        if !worker.folder().join("run.json").is_file() {
            return Ok(());
        }
        for value in worker.reports(&objective.metric)? {
            worker.seen += 1;
            let (trial, step) = (worker.id, i64::try_from(worker.seen)?);
            self.journal.write(|_| Ok((vec![Operation::Report { trial, step, value }], ())))?;
            let Some(mut pruner) = self.pruner.take() else { continue };
            let verdict = pruner.judge(self.study()?, self.trial(worker.number)?);
            self.pruner = Some(pruner);
            let notes = verdict.notes.into_iter().map(|(key, value)| Operation::System { trial, key, value });
            let mut notes: Vec<Operation> = notes.collect();
            // One that is done has its value.
            if verdict.prune && may_end {
                notes.push(Operation::User { trial, key: PRUNED.into(), value: json!(step) });
                worker.pruned = true;
            }
            self.journal.write(|_| Ok((notes, ())))?;
            if worker.pruned {
                worker.stop("it is not among the best");
                break;
            }
        }
        Ok(())
    }

    fn complete(&mut self, worker: &Worker) -> Result<()> {
        match self.values(worker) {
            Ok((values, mut notes)) => {
                notes.extend(self.measured_again(worker)?);
                self.end(worker, End { state: State::Complete, values: Some(values), notes })?;
                report::completed(self.study()?, self.trial(worker.number)?, self.settings);
                Ok(())
            }
            Err(error) => self.fail(worker, &format!("{error:#}")),
        }
    }

    /// What a trial came to: the means over its seeds, of objectives and constraints.
    fn values(&self, worker: &Worker) -> Result<(Vec<f64>, Vec<Operation>)> {
        let runs =
            (0..self.settings.seeds.len()).map(|seed| Measured::of(&folder_of(self.settings, worker.number, seed)));
        let runs: Vec<Measured> = runs.collect::<Result<_>>()?;
        let mean = |metric: &str, which: Which, direction: Direction| -> Result<f64> {
            let values = runs.iter().map(|run| run.value(metric, which, direction));
            Ok(values.sum::<Result<f64>>()? / runs.len() as f64)
        };
        let objectives = self.settings.objectives.iter();
        let values = objectives.map(|one| mean(&one.metric, one.value, one.direction)).collect::<Result<Vec<f64>>>()?;
        let mut notes = Vec::new();
        for bounds in &self.settings.constraints {
            let value = mean(&bounds.metric, Which::Last, Direction::Min)?;
            // Optuna's way: what is above 0 breaks it.
            let over = bounds.max.map(|max| ("max", value - max));
            let under = bounds.min.map(|min| ("min", min - value));
            notes.extend(over.into_iter().chain(under).map(|(end, value)| Operation::System {
                trial: worker.id,
                key: format!("{CONSTRAINT}{} {end}", bounds.metric),
                value,
            }));
        }
        Ok((values, notes))
    }

    fn prune(&mut self, worker: &Worker) -> Result<()> {
        let last = self.trial(worker.number)?.reports.last_key_value().map(|(_, value)| *value);
        let values = last.filter(|value| value.is_finite()).map(|value| vec![value]);
        self.end(worker, End { state: State::Pruned, values, notes: Vec::new() })?;
        report::pruned(self.trial(worker.number)?, self.settings);
        Ok(())
    }

    fn fail(&mut self, worker: &Worker, reason: &str) -> Result<()> {
        report::failed(worker.number, reason);
        let note = Operation::User { trial: worker.id, key: ERROR.into(), value: reason.into() };
        self.end(worker, End { state: State::Failed, values: None, notes: vec![note] })?;
        let failed = self.study()?.in_state(State::Failed).count();
        let hopeless = !self.settings.count_failed
            && failed >= HOPELESS
            && self.study()?.in_state(State::Complete).next().is_none();
        ensure!(!hopeless, "{failed} trials failed, and none came to its end");
        Ok(())
    }

    fn end(&mut self, worker: &Worker, end: End) -> Result<()> {
        let mut operations = end.notes;
        operations.extend(self.too_late(worker)?);
        operations.push(Operation::State { trial: worker.id, state: end.state, values: end.values });
        self.journal.write(|_| Ok((operations, ())))?;
        worker.tidy();
        self.forget_checkpoints()
    }

    /// Removes the checkpoints of trials that are not among the best.
    fn forget_checkpoints(&self) -> Result<()> {
        let Some(keep) = self.settings.keep else { return Ok(()) };
        let study = self.study()?;
        let best: Vec<u64> = study.ranked().into_iter().take(keep).map(|trial| trial.number).collect();
        let others = study.trials.iter().filter(|trial| trial.state.is_finished() && trial.user.contains_key(RUN));
        for trial in others.filter(|trial| !best.contains(&trial.number)) {
            for seed in 0..self.settings.seeds.len() {
                let checkpoints = folder_of(self.settings, trial.number, seed).join("checkpoints");
                if checkpoints.is_dir() {
                    fs::remove_dir_all(&checkpoints)
                        .with_context(|| format!("cannot remove {}", checkpoints.display()))?;
                }
            }
        }
        Ok(())
    }
}

/// One driver a folder.
fn take(folder: &Path) -> Result<File> {
    let path = folder.join("sweep.lock");
    let file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            Err(Refused(format!("another `pipe sweep` is at work in {}: `--out` names another folder", shown(folder)))
                .into())
        }
        Err(fs::TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// Whether the study in the journal is the one that the file describes.
fn agree(study: &Study, settings: &Settings) -> Result<()> {
    let refused = |message: String| -> Result<()> {
        Err(Refused(format!("{message}: give this one another name (`study` in [sweep]), or another folder (`--out`)"))
            .into())
    };
    if study.directions != settings.directions() {
        return refused(format!("the study `{}` has other objectives", shown_name(&study.name)));
    }
    for parameter in &settings.space.parameters {
        let former = study.trials.iter().filter_map(|trial| trial.distributions.get(&parameter.name));
        if former.into_iter().any(|former| !former.is_compatible(&parameter.distribution)) {
            let name = shown_name(&parameter.name);
            return refused(format!(
                "in the study `{}` `{name}` has values of another kind, or other choices",
                shown_name(&study.name)
            ));
        }
    }
    Ok(())
}

/// The next trial: one that waits, or a new one while there are not enough.
fn next(replay: &Replay, settings: &Settings) -> Result<(Vec<Operation>, Next)> {
    let Some(study) = replay.study(&settings.study) else { bail!("the study is gone from its journal") };
    let number = study.trials.len() as u64;
    if let Some(trial) = study.in_state(State::Waiting).next() {
        return Ok(taken(study, trial, settings));
    }
    let counts = |trial: &&Trial| settings.count_failed || trial.state != State::Failed;
    if study.trials.iter().filter(counts).count() as u64 >= settings.trials {
        return Ok((Vec::new(), Next::Nothing));
    }
    let Some(params) = settings.sampler.suggest(study, &settings.space, settings.sampler_seed, number) else {
        return Ok((Vec::new(), Next::Nothing));
    };
    let distributions = distributions(settings, &params);
    let user = Map::from_iter([(RUN.to_owned(), Value::from(run_of(settings, number)))]);
    let next_id = replay.trial_count();
    let mut trial = Trial::new(next_id, number, State::Running);
    (trial.params, trial.user) = (params.clone(), user.clone());
    Ok((vec![Operation::CreateTrial { study: study.id, params, distributions, user }], Next::Trial(Box::new(trial))))
}

/// A trial that somebody has put there, with the values that it is to have; what it has none for is sampled.
fn taken(study: &Study, waiting: &Trial, settings: &Settings) -> (Vec<Operation>, Next) {
    let (id, number) = (waiting.id, waiting.number);
    let fixed = waiting.system.get("fixed_params").and_then(Value::as_object);
    let fixed = |name: &str| waiting.outer(name).or_else(|| fixed?.get(name).cloned());
    let drawn = settings.sampler.suggest(study, &settings.space, settings.sampler_seed, number).unwrap_or_default();
    let mut wrong = None;
    let params = settings.space.fill(|parameter| {
        let own = fixed(&parameter.name).map(|value| (parameter.distribution.inner(&value), value));
        if let Some((None, value)) = &own {
            wrong.get_or_insert(format!(
                "`{}` cannot be {value}, which it was put there with",
                shown_name(&parameter.name)
            ));
        }
        let drawn = drawn.get(&parameter.name).copied();
        let first = || parameter.distribution.extremes().first().copied().unwrap_or_default();
        own.and_then(|(inner, _)| inner).or(drawn).unwrap_or_else(first)
    });
    let mut operations = vec![Operation::State { trial: id, state: State::Running, values: None }];
    if let Some(reason) = wrong {
        operations.push(Operation::User { trial: id, key: ERROR.into(), value: reason.clone().into() });
        operations.push(Operation::State { trial: id, state: State::Failed, values: None });
        return (operations, Next::Refused(number, reason));
    }
    let distributions = distributions(settings, &params);
    operations.extend(params.iter().zip(&distributions).map(|((name, value), (_, distribution))| Operation::Param {
        trial: id,
        name: name.clone(),
        value: *value,
        distribution: distribution.clone(),
    }));
    operations.push(Operation::User { trial: id, key: RUN.into(), value: run_of(settings, number).into() });
    let mut trial = waiting.clone();
    (trial.params, trial.state) = (params, State::Running);
    (operations, Next::Trial(Box::new(trial)))
}

fn run_of(settings: &Settings, number: u64) -> String {
    folder_name(number, (settings.seeds.len() > 1).then_some(0))
}

fn distributions(settings: &Settings, params: &Values) -> IndexMap<String, Distribution> {
    let of = |name: &String| Some((name.clone(), settings.space.get(name)?.distribution.clone()));
    params.keys().filter_map(of).collect()
}
