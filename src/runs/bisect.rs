//! `pipe runs bisect GOOD BAD`: which of the options that differ costs the metric.
//!
//! Half of what may be to blame is given the bad run's values in the good run's pipeline, and trained: if the result is nearer to the bad
//! run's, the blame lies in that half, else in the other. Where only several options together are to blame, that is found out at the end.
//! A list of tables, such as the layers of a model, is moved as a whole; `on` is not, since `--set` adds to its edges.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;
use pipe_runs::compare::{Difference, compare};
use pipe_runs::{About, Key, Run};
use pipe_vocab::files;
use pipe_vocab::record;
use pipe_vocab::shown::shown_name;
use serde_json::Value;

use super::table::plain;
use super::which::one;
use crate::output::{Status, print, say};
use crate::source::shown;

/// Arguments of `pipe runs bisect`.
#[derive(Debug, Args)]
pub struct BisectArgs {
    /// The good run: a folder, a name or how one begins, or `latest`.
    good: String,
    /// The bad run.
    bad: String,
    /// What they are judged by: a curve or a metric, of which the best value counts.
    #[arg(long, value_name = "KEY")]
    by: String,
    /// The smallest is best, instead of the largest.
    #[arg(long)]
    min: bool,
    /// Let trials go on from the good run's newest checkpoint at or before this step, instead of beginning anew.
    #[arg(long, value_name = "STEP")]
    at: Option<u64>,
}

/// Finds the option that makes a run worse than another, by training between them.
///
/// # Errors
/// When there is no such run, they differ in nothing that can be set, or a trial fails.
pub fn bisect(args: &BisectArgs) -> Result<Status> {
    let runs = [one(&args.good)?, one(&args.bad)?];
    let score = |run: &Run| args.score(run).with_context(|| format!("{} has no value of `{}`", run.name, args.by));
    let (good, bad) = (score(&runs[0])?, score(&runs[1])?);
    ensure!(
        if args.min { good < bad } else { good > bad },
        "{} is not better than {}: {} and {}; the better one comes first, and `--min` says that less is better",
        runs[0].name,
        runs[1].name,
        record::short(good),
        record::short(bad)
    );
    let options = with_whole_lists(compare(&runs).options, &runs);
    let (settable, left_out): (Vec<&Difference>, Vec<&Difference>) =
        options.iter().partition(|option| can_be_set(option, &runs));
    for option in left_out {
        say!("left out, since it cannot be set: {}", shown_name(&option.key));
    }
    let mut blamed = together(&settable);
    ensure!(!blamed.is_empty(), "{} and {} differ in no option that can be set", runs[0].name, runs[1].name);
    let is_bad = |parts: &[Vec<&Difference>]| -> Result<bool> {
        let value = args.trial(&runs, &parts.concat())?;
        // One that diverged has no value.
        Ok(value.is_none_or(|value| (value - bad).abs() < (value - good).abs()))
    };
    if !is_bad(&blamed)? {
        return print("all of these together make it no worse: the difference comes from elsewhere\n");
    }
    let mut certain = true;
    while blamed.len() > 1 {
        let half = blamed.len() / 2;
        certain = is_bad(&blamed[..half])?;
        if certain {
            blamed.truncate(half);
        } else {
            blamed.drain(..half);
        }
    }
    let lines: String = blamed[0].iter().map(|option| line(option)).collect();
    // The last half was not tried by itself.
    if !certain && !is_bad(&blamed)? {
        return print(&format!("{lines}makes it no worse by itself: several options are to blame together\n"));
    }
    print(&lines)
}

/// What an option is in the bad run, and in the good one.
fn line(option: &Difference) -> String {
    let value = |value: &Value| if value.is_null() { "not set".into() } else { plain(value) };
    let (from, to) = (value(&option.values[0]), value(&option.values[1]));
    let origin = option.origins[1].as_deref().map(|origin| format!(" ({})", shown_name(origin))).unwrap_or_default();
    format!("{} = {to}{origin} in place of {from}\n", shown_name(&option.key))
}

/// In place of what differs within a list of tables, which has no key of `--set`, the list.
fn with_whole_lists(options: Vec<Difference>, runs: &[Run; 2]) -> Vec<Difference> {
    let mut moved: Vec<Difference> = Vec::new();
    for option in options {
        let Some(list) = option.key.split_once('[').map(|(list, _)| list.to_owned()) else {
            moved.push(option);
            continue;
        };
        // It stands before what is within it where one of the runs has it empty.
        if moved.last().is_none_or(|last| last.key != list) {
            moved.push(Difference { key: list.clone(), values: Vec::new(), origins: vec![None, None] });
        }
        if let Some(last) = moved.last_mut() {
            last.values = runs.iter().map(|run| whole(run, &list)).collect();
        }
    }
    moved
}

/// The value of a key in a run's pipeline.
fn whole(run: &Run, key: &str) -> Value {
    let text = files::read_text(&run.folder.join("pipeline.toml"), 16 << 20).unwrap_or_default();
    let table: Value = toml::from_str(&text).unwrap_or_default();
    key.split('.').fold(table, |mut table, name| table[name].take())
}

/// Whether it can be moved: its node is in both runs, and so are all that it names.
fn can_be_set(option: &Difference, runs: &[Run; 2]) -> bool {
    let has = |at: usize, node: &str| runs[at].options.contains_key(&format!("{node}.type"));
    let node = node_of(&option.key);
    let is_node = |name: &str| has(1, name) && !has(0, name);
    option.key != "on"
        && has(0, node) == has(1, node)
        && !option.values.iter().any(Value::is_object)
        && !names_any(&option.values[1], &is_node)
}

/// Whether a value names one of some nodes: `engine.trainer:completed`.
fn names_any(value: &Value, is_node: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => is_node(text.split(':').next().unwrap_or_default()),
        Value::Array(items) => items.iter().any(|item| names_any(item, is_node)),
        Value::Object(table) => table.values().any(|value| names_any(value, is_node)),
        _ => false,
    }
}

/// A value as `--set` takes it; `null` takes a key away.
fn as_toml(value: &Value) -> String {
    toml::Value::try_from(value).map_or_else(|_| "null".into(), |value| value.to_string())
}

/// The node of an option, or the section.
fn node_of(key: &str) -> &str {
    let second = key.match_indices('.').nth(1);
    second.map_or(key, |(end, _)| &key[..end])
}

/// What is tried together: the options of a node that is of another type, and each other by itself.
fn together<'a>(options: &[&'a Difference]) -> Vec<Vec<&'a Difference>> {
    let is_retyped = |node: &str| options.iter().any(|option| option.key == format!("{node}.type"));
    let mut parts: Vec<Vec<&Difference>> = Vec::new();
    for option in options {
        let node = node_of(&option.key);
        match parts.last_mut().filter(|part| is_retyped(node) && node_of(&part[0].key) == node) {
            Some(part) => part.push(option),
            None => parts.push(vec![option]),
        }
    }
    parts
}

impl BisectArgs {
    fn score(&self, run: &Run) -> Option<f64> {
        let metric = Key::of(&self.by).metric(run)?.clone();
        let best = if self.min { metric.min } else { metric.max };
        best.map(|at| at.value)
    }

    /// Trains the good run's pipeline with the bad run's values of some options, and returns what came of it.
    fn trial(&self, runs: &[Run; 2], options: &[&Difference]) -> Result<Option<f64>> {
        let mut command = Command::new(std::env::current_exe().context("this program's own path")?);
        match self.at {
            Some(step) => command.args(["runs", "fork"]).arg(&runs[0].folder).args(["--at", &step.to_string()]),
            None => command.arg("run").arg(&runs[0].folder),
        };
        command.arg("--quiet").args(["--accept", "seed-changed", "--accept", "data-changed"]);
        for option in options {
            command.args(["--set", &format!("{}={}", option.key, as_toml(&option.values[1]))]);
        }
        let said = command.stderr(Stdio::inherit()).output().context("a trial cannot be started")?;
        ensure!(said.status.success(), "a trial failed");
        let text = String::from_utf8_lossy(&said.stdout);
        let run = one(text.trim())?;
        About::edit(&run.folder, |about| {
            about.group = Some(format!("bisect-{}-{}", runs[0].name, runs[1].name));
            Ok(())
        })?;
        let value = self.score(&run);
        let keys = options.iter().map(|option| shown_name(&option.key).into_owned()).collect::<Vec<_>>().join(", ");
        say!("{}: {}, with {keys}", shown(&run.folder), value.map_or("diverged".into(), record::short));
        Ok(value)
    }
}
