//! Population-based training: the trials are runs at work, and the worst of them go on from the best, by an edit of each. Nothing is started
//! anew.

use std::path::Path;

use anyhow::{Context, Result};
use pipe_history::requests::{Ask, Request, Requests, Stage};
use pipe_history::standing::{self, Status};
use pipe_run::checkpoint;
use pipe_run::load::PipelineSource;
use pipe_run::versions::Versions;
use pipe_sweep::population::Standing;
use pipe_sweep::{Operation, State, Trial};
use pipe_vocab::record::short;
use serde_json::{Map, Value};

use super::driver::Driver;
use super::exchange::{Exchange, Outcome, forget_others, keep, place, values_now};
use super::measured::Measured;
use super::report;
use super::values::set;
use super::worker::{Worker, folder_of};
use crate::source::pipeline_folder;

/// A study's note: the latest report after which its members were compared.
const COMPARED: &str = "pipe:compared";

/// What a run has come to with what it was asked.
enum Answered {
    NotYet,
    /// After this step.
    Applied(u64),
    Refused(String),
    /// It did not look at it: it is to be asked again.
    Again,
}

impl Driver<'_> {
    /// Has members of a population go on from others, where it is time.
    pub(super) fn learn(&mut self) -> Result<()> {
        if self.settings.population.is_none() {
            return Ok(());
        }
        let mut workers = std::mem::take(&mut self.workers);
        let done = workers.iter_mut().try_for_each(|worker| self.ask(worker)).and_then(|()| self.compare(&mut workers));
        self.workers = workers;
        done
    }

    /// Compares the members by the latest report that all of them have made, once.
    fn compare(&mut self, workers: &mut [Worker]) -> Result<()> {
        let (settings, study) = (self.settings, self.study()?);
        let (Some(population), Some(objective)) = (&settings.population, settings.objective()) else { return Ok(()) };
        if (study.trials.len() as u64) < settings.trials {
            return Ok(());
        }
        let slowest = study.in_state(State::Running).map(|trial| trial.reports.len() as u64).min().unwrap_or(0);
        let report = slowest / population.interval * population.interval;
        let compared = study.user.get(COMPARED).and_then(Value::as_u64).unwrap_or(0);
        if report <= compared {
            return Ok(());
        }
        let direction = study.direction();
        let all = study.in_state(State::Running).chain(study.in_state(State::Complete));
        let standing = |trial: &Trial| {
            let value = trial.reports.get(&i64::try_from(report).ok()?)?;
            Some(Standing { member: trial.number, loss: direction.loss(*value) })
        };
        let standings: Vec<Standing> = all.filter_map(standing).collect();
        let mut notes = vec![Operation::StudyUser { study: study.id, key: COMPARED.into(), value: report.into() }];
        let mut said = Vec::new();
        for (member, from) in population.pairs(&standings, report) {
            let Some(worker) = workers.iter_mut().find(|worker| worker.number == member) else { continue };
            let trial = self.trial(member)?;
            // What it reported before it last went on from another says nothing of what it is now.
            let before = match Exchange::latest(trial) {
                Some(Exchange { outcome: Outcome::Asked, .. }) => continue,
                Some(Exchange { step: Some(step), .. }) => worker.reports_by(&objective.metric, step)?,
                _ => 0,
            };
            if report <= before {
                continue;
            }
            match self.exchange(report, member, from) {
                Ok(exchange) => {
                    said.push((member, from, exchange.set.clone()));
                    notes.push(exchange.note(worker.id)?);
                }
                Err(error) => report::say_of(member, &format!("cannot go on from trial {from}: {error:#}")),
            }
        }
        self.journal.write(|_| Ok((notes, ())))?;
        let value = |member: u64| {
            let loss = standings.iter().find(|standing| standing.member == member).map_or(f64::NAN, |one| one.loss);
            // The way back is the same.
            short(direction.loss(loss))
        };
        for (member, from, set) in said {
            report::goes_on(report, (member, &value(member)), (from, &value(from)), &set);
        }
        Ok(())
    }

    /// Keeps what a member is to go on from.
    fn exchange(&self, report: u64, member: u64, from: u64) -> Result<Exchange> {
        let settings = self.settings;
        let population = settings.population.as_ref().context("there is no population")?;
        let run = folder_of(settings, from, 0);
        let newest = checkpoint::newest(&run).with_context(|| format!("{} has no checkpoint yet", run.display()))?;
        let weights = place(report, member);
        keep(&newest, &settings.folder.join(&weights))?;
        let now = values_now(self.trial(from)?, &settings.space);
        let values = population.explore(&settings.space, &now, report, member);
        let outer =
            |(name, inner): (&String, &f64)| Some((name.clone(), settings.space.get(name)?.distribution.outer(*inner)));
        Ok(Exchange {
            report,
            from,
            checkpoint: newest.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            weights,
            set: values.iter().filter_map(outer).collect::<Map<_, _>>(),
            outcome: Outcome::Asked,
            step: None,
            said: None,
        })
    }

    /// Asks a member for what was decided, and hears what came of it.
    fn ask(&mut self, worker: &mut Worker) -> Result<()> {
        let Some(exchange) = Exchange::latest(self.trial(worker.number)?) else { return Ok(()) };
        if exchange.outcome != Outcome::Asked {
            return Ok(());
        }
        let weights = exchange.folder(&self.settings.folder)?.display().to_string();
        let answered = match (applied(worker.folder(), &weights), &worker.asked_edit) {
            (Some(step), _) => Answered::Applied(step),
            (None, Some(name)) => answer(worker.folder(), name),
            (None, None) => Answered::Again,
        };
        match answered {
            Answered::NotYet => Ok(()),
            Answered::Again if standing::status(worker.folder()) != Some(Status::Running) => Ok(()),
            // A driver before may have asked, and is not answered yet.
            Answered::Again if !worker.is_own() && worker.asked_edit.is_none() && is_asked(worker.folder()) => Ok(()),
            Answered::Again => match self.put(worker, &exchange, &weights) {
                Ok(name) => {
                    worker.asked_edit = Some(name);
                    Ok(())
                }
                Err(error) => self.conclude(worker, exchange, Err(format!("{error:#}"))),
            },
            Answered::Applied(step) => self.conclude(worker, exchange, Ok(step)),
            Answered::Refused(said) => self.conclude(worker, exchange, Err(said)),
        }
    }

    /// One edit: the weights, and the values.
    fn put(&self, worker: &Worker, exchange: &Exchange, weights: &str) -> Result<String> {
        let run = worker.folder();
        let versions = Versions::of(run);
        let (version, _) = versions.newest().context("the run has kept no version of its pipeline")?;
        let mut sets: Vec<String> = exchange.set.iter().map(|(name, value)| set(name, value)).collect();
        for model in &self.settings.models {
            sets.push(set(&format!("{model}.weights"), &weights.into()));
            sets.push(set(&format!("{model}.optimizer_state"), &true.into()));
        }
        let (file, base) = (versions.folder().join(&version), pipeline_folder(run));
        let loaded =
            PipelineSource { file, profile: None, sets, base, accept: self.pipeline.accept.clone(), texts: None }
                .load();
        let refused = loaded.diagnostics.iter().find(|one| one.is_error()).map(|one| one.message.clone());
        let document = loaded.document.filter(|_| refused.is_none());
        let document = document.with_context(|| refused.unwrap_or("its pipeline cannot be read".into()))?;
        let why = format!("after report {} from trial {}, {}", exchange.report, exchange.from, exchange.checkpoint);
        let request = Request {
            ask: Ask::Edit,
            author: "sweep".into(),
            why,
            text: Some(document.to_toml()),
            version: Some(version),
        };
        Requests::of(run).put(&request)
    }

    fn conclude(&mut self, worker: &mut Worker, exchange: Exchange, outcome: Result<u64, String>) -> Result<()> {
        worker.asked_edit = None;
        let exchange = match outcome {
            Ok(step) => Exchange { outcome: Outcome::Applied, step: Some(step), ..exchange },
            Err(said) => {
                report::say_of(worker.number, &format!("did not go on from trial {}: {said}", exchange.from));
                Exchange { outcome: Outcome::Refused, said: Some(said), ..exchange }
            }
        };
        let note = exchange.note(worker.id)?;
        self.journal.write(|_| Ok((vec![note], ())))?;
        if exchange.outcome == Outcome::Applied {
            forget_others(&self.settings.folder, worker.number, &exchange.weights);
        }
        Ok(())
    }

    /// A member whose process was killed before what it had gone on with lay in a checkpoint is asked once more, under another name.
    pub(super) fn find_lost(&mut self, worker: &Worker) -> Result<()> {
        if self.settings.population.is_none() || worker.is_busy() {
            return Ok(());
        }
        let Some(exchange) = Exchange::latest(self.trial(worker.number)?) else { return Ok(()) };
        let former = exchange.folder(&self.settings.folder)?;
        let newest = checkpoint::newest(worker.folder())
            .and_then(|path| std::fs::read_to_string(path.join("pipeline.toml")).ok());
        let lies_there = newest.is_some_and(|text| text.contains(&*former.to_string_lossy()));
        if exchange.outcome != Outcome::Applied || lies_there {
            return Ok(());
        }
        let again =
            Exchange { weights: exchange.weights.clone() + ".again", outcome: Outcome::Asked, step: None, ..exchange };
        keep(&former, &again.folder(&self.settings.folder)?)?;
        let note = again.note(worker.id)?;
        self.journal.write(|_| Ok((vec![note], ())))
    }

    /// Reports of a member that are others by now: its process was killed, and what it measured again is of what it had gone on from by then.
    pub(super) fn measured_again(&self, worker: &Worker) -> Result<Vec<Operation>> {
        let Some(objective) = self.settings.objective().filter(|_| self.settings.population.is_some()) else {
            return Ok(Vec::new());
        };
        let reports = &self.trial(worker.number)?.reports;
        let values = Measured::of(worker.folder())?.reports(&objective.metric, 0)?;
        let differs =
            |(step, value): &(i64, f64)| reports.get(step).is_none_or(|former| former.to_bits() != value.to_bits());
        let report = |(step, value)| Operation::Report { trial: worker.id, step, value };
        Ok((1..).zip(values).filter(differs).map(report).collect())
    }

    /// What is noted of a member that ends before it could go on from another.
    pub(super) fn too_late(&self, worker: &Worker) -> Result<Option<Operation>> {
        let latest = Exchange::latest(self.trial(worker.number)?);
        let open = latest.filter(|exchange| exchange.outcome == Outcome::Asked);
        let ended = |exchange: Exchange| {
            let weights = exchange.folder(&self.settings.folder)?.display().to_string();
            let step = applied(worker.folder(), &weights);
            let outcome = if step.is_some() { Outcome::Applied } else { Outcome::TooLate };
            Exchange { outcome, step, ..exchange }.note(worker.id)
        };
        open.map(ended).transpose()
    }
}

/// The step after which a run took the weights of a folder, by its trail.
fn applied(run: &Path, weights: &str) -> Option<u64> {
    let text = std::fs::read_to_string(run.join("pipelines/index.jsonl")).ok()?;
    let lines = text.lines().filter(|line| line.contains("\"loaded\""));
    let mut lines = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let from = |line: &Value| line["loaded"].as_array().is_some_and(|all| all.iter().any(|one| one["from"] == weights));
    lines.find(|line| line["outcome"] == "applied" && from(line))?["step"].as_u64()
}

fn answer(run: &Path, name: &str) -> Answered {
    let Some(answer) = Requests::of(run).answered(name) else { return Answered::NotYet };
    let outcome = answer.report["outcome"].as_str();
    match answer.stage {
        Stage::Read => Answered::NotYet,
        // Another life of the run has refused it, or somebody has edited the run in between.
        Stage::Refused if outcome.is_none() || answer.said.contains("has been edited meanwhile") => Answered::Again,
        Stage::Refused => Answered::Refused(answer.said.lines().next().unwrap_or_default().to_owned()),
        // Its line in the trail comes behind the answer.
        Stage::Done if matches!(outcome, Some("applied" | "completed")) => Answered::NotYet,
        Stage::Done => Answered::Refused(answer.said.clone()),
    }
}

/// Whether the run has been asked for an edit that it has not answered.
fn is_asked(run: &Path) -> bool {
    let requests = Requests::of(run);
    let last = requests.all().into_iter().next_back();
    last.is_some_and(|(name, answered)| {
        !answered
            || requests
                .answered(&name)
                .is_some_and(|answer| answer.stage == Stage::Read && answer.ask == Some(Ask::Edit))
    })
}
