//! What `[sweep]` and the command line say, as it is worked with.

use std::path::PathBuf;

use pipe_plan::sweep::{ConstraintConfig, ObjectiveConfig, ParameterConfig, PopulationConfig, PrunerConfig};
use pipe_plan::{Plan, SweepConfig, sweep};
use pipe_sweep::pruner::{Asha, Median};
use pipe_sweep::sampler::points;
use pipe_sweep::{Direction, Distribution, Parameter, Population, Pruner, Sampler, Space};
use pipe_vocab::{Kind, NodeId};

use super::process::To;
use crate::source::{PipelineArgs, runs_folder};

/// How many trials there are where nobody says.
const TRIALS: u64 = 50;
/// How many members a population has where nobody says.
const MEMBERS: u64 = 10;

/// What a sweep is to do.
pub(super) struct Settings {
    /// The study's name.
    pub study: String,
    /// Its folder.
    pub folder: PathBuf,
    /// How many trials it is to have.
    pub trials: u64,
    /// Whether those that failed count.
    pub count_failed: bool,
    /// How many are at work at a time.
    pub jobs: usize,
    /// The seeds of the runs of a trial; none where the pipeline's own is left as it is.
    pub seeds: Vec<Option<u64>>,
    /// Of how many of the best checkpoints are kept.
    pub keep: Option<usize>,
    /// Device, instead of the pipeline's.
    pub device: Option<String>,
    /// Where trials are submitted to; none where they are processes of this driver's.
    pub to: Option<To>,
    /// The device that the pipeline says.
    pub own_device: String,
    pub space: Space,
    pub sampler: Sampler,
    pub sampler_seed: u64,
    pub pruner: Option<Pruner>,
    /// How trials learn from each other, where they do.
    pub population: Option<Population>,
    /// The models whose weights they take.
    pub models: Vec<NodeId>,
    pub objectives: Vec<ObjectiveConfig>,
    pub constraints: Vec<ConstraintConfig>,
}

/// What the command line says.
pub(super) struct Wish<'a> {
    pub pipeline: &'a PipelineArgs,
    pub trials: Option<u64>,
    pub jobs: Option<u64>,
    pub seeds: Option<u64>,
    pub out: Option<PathBuf>,
    pub device: Option<String>,
    pub to: Option<To>,
}

impl Settings {
    pub fn of(wish: Wish<'_>, plan: &Plan, config: &SweepConfig) -> Settings {
        let name = || plan.pipeline.name.clone().unwrap_or_else(|| wish.pipeline.stem());
        let study = config.study.clone().unwrap_or_else(name);
        let space = space_of(config);
        let sampler = match config.sampler {
            sweep::Sampler::Tpe => Sampler::Tpe,
            // What the members of a population begin with.
            sweep::Sampler::Random | sweep::Sampler::Population => Sampler::Random,
            sweep::Sampler::Grid => Sampler::Grid,
        };
        let all = (sampler == Sampler::Grid).then(|| points(&space)).flatten().map(|points| points.len() as u64);
        let wanted = wish.trials.or(config.trials);
        let seeds = wish.seeds.unwrap_or(config.seeds);
        let first = plan.pipeline.seed;
        let population = (config.sampler == sweep::Sampler::Population).then(|| population_of(config));
        let usual = if population.is_some() { MEMBERS } else { TRIALS };
        let trials = wanted.unwrap_or(u64::MAX).min(all.unwrap_or(wanted.unwrap_or(usual)));
        // A population is at work together.
        let jobs = wish.jobs.unwrap_or(if population.is_some() { trials } else { 1 });
        Settings {
            folder: wish.out.unwrap_or_else(|| runs_folder().join("sweeps").join(&study)),
            study,
            trials,
            count_failed: config.count_failed,
            jobs: usize::try_from(jobs).unwrap_or(1),
            seeds: if seeds == 1 {
                vec![None]
            } else {
                (0..seeds).map(|index| Some(first.wrapping_add(index))).collect()
            },
            keep: config.keep.and_then(|keep| usize::try_from(keep).ok()),
            device: wish.device,
            to: wish.to,
            own_device: plan.pipeline.device.clone(),
            space,
            sampler,
            sampler_seed: config.seed,
            pruner: config.pruner.as_ref().map(pruner_of),
            population,
            models: trained(plan),
            objectives: config.objectives.clone(),
            constraints: config.constraints.clone(),
        }
    }

    /// Of each objective, which way it is better.
    pub fn directions(&self) -> Vec<Direction> {
        self.objectives.iter().map(|objective| direction_of(objective.direction)).collect()
    }

    /// The only objective; none where there are several.
    pub fn objective(&self) -> Option<&ObjectiveConfig> {
        self.objectives.first().filter(|_| self.objectives.len() == 1)
    }
}

/// The models that an optimizer trains.
pub(super) fn trained(plan: &Plan) -> Vec<NodeId> {
    let edges = plan.data_edges.iter().filter(|edge| edge.from.kind == Kind::Model && edge.to.kind == Kind::Optimizer);
    let mut models: Vec<NodeId> = edges.map(|edge| edge.from.clone()).collect();
    models.sort();
    models.dedup();
    models
}

fn population_of(config: &SweepConfig) -> Population {
    let PopulationConfig { interval, fraction, factors, resample } = config.population.clone().unwrap_or_default();
    Population { interval, fraction, factors, resample, seed: config.seed }
}

pub(super) fn direction_of(direction: sweep::Direction) -> Direction {
    match direction {
        sweep::Direction::Min => Direction::Minimize,
        sweep::Direction::Max => Direction::Maximize,
    }
}

/// The parameters of the section.
pub(super) fn space_of(config: &SweepConfig) -> Space {
    let parameter = |(name, one): (&String, &ParameterConfig)| {
        let when = one
            .when
            .iter()
            .map(|(name, wanted)| (name.clone(), wanted.as_array().cloned().unwrap_or_else(|| vec![wanted.clone()])));
        Parameter { name: name.clone(), distribution: distribution_of(one), when: when.collect() }
    };
    Space { parameters: config.parameters.iter().map(parameter).collect() }
}

/// The ends are on steps, as Optuna has them.
fn distribution_of(config: &ParameterConfig) -> Distribution {
    if let Some(choices) = &config.choice {
        return Distribution::Categorical { choices: choices.clone() };
    }
    if let Some([low, high]) = config.int.or(config.log_int) {
        let step = config.step.map_or(1, |step| step as i64);
        let high = low + (high - low) / step * step;
        return Distribution::Int { low, high, log: config.log_int.is_some(), step };
    }
    let [low, high] = config.range.or(config.log).unwrap_or_default();
    let last = |step: f64| low + ((high - low) / step + 1e-9).floor() * step;
    Distribution::Float { low, high: config.step.map_or(high, last), log: config.log.is_some(), step: config.step }
}

fn pruner_of(config: &PrunerConfig) -> Pruner {
    let steps = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    match *config {
        PrunerConfig::Median { startup, warmup, every } => {
            Pruner::Median(Median { startup: count(startup), warmup: steps(warmup), every: steps(every) })
        }
        PrunerConfig::Asha { min_reports, factor, skip, bootstrap } => Pruner::Asha(Asha {
            first: min_reports.map(steps),
            factor: steps(factor),
            skip,
            bootstrap: count(bootstrap),
        }),
    }
}
