//! Options of child processes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::{Duration, PathValue, Problems, Secret};

/// A program that takes JSON lines on its standard input.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ChildConfig {
    /// The program, looked up in `PATH`, and its arguments. No shell is between: write `["sh", "-c", "…"]` for one.
    #[schemars(length(min = 1))]
    pub command: Vec<String>,
    /// The folder in which it runs, and from which relative arguments count; that of the command line when left out.
    #[serde(default)]
    pub dir: Option<PathValue>,
    /// Variables added to its environment. Their values are never shown or stored.
    #[serde(default)]
    pub env: BTreeMap<String, Secret>,
    /// Lines that wait for it at most.
    #[schemars(range(min = 1, max = 1_000_000))]
    #[serde(default = "thousand")]
    pub queue: usize,
    /// What happens to a line for which there is no room.
    #[serde(default)]
    pub when_full: WhenFull,
    /// How long the child may take to read a line, to give an answer that is waited for, and to end when it is told to.
    /// It is stopped when it takes longer, which counts as a failure.
    #[serde(default = "ten_seconds")]
    pub timeout: Duration,
    /// What happens when the child fails.
    #[serde(default)]
    pub restart: Restart,
    /// What happens when it has failed and is not started again.
    #[serde(default)]
    pub on_failure: OnFailure,
}

/// What happens to a line for which there is no room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// It is left out and counted.
    #[default]
    Drop,
    /// The run waits for room, for `timeout` at most.
    Block,
}

/// When a child is started again.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// Whether at all.
    #[serde(default)]
    pub policy: Policy,
    /// How often in all.
    #[serde(default = "three")]
    pub max: u32,
    /// The wait before the first time; doubled each further time, up to a minute.
    #[serde(default = "one_second")]
    pub backoff: Duration,
}

/// Whether a child is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Never.
    Never,
    /// When it ended with another status than 0, by a signal, or was stopped for being too slow.
    #[default]
    OnFailure,
}

/// What happens when a child has failed for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The run says so and goes on without it.
    #[default]
    Warn,
    /// The run stops.
    Raise,
}

impl Default for Restart {
    fn default() -> Self {
        Restart { policy: Policy::default(), max: three(), backoff: one_second() }
    }
}

fn thousand() -> usize {
    1000
}

fn three() -> u32 {
    3
}

fn one_second() -> Duration {
    std::time::Duration::from_secs(1).into()
}

fn ten_seconds() -> Duration {
    std::time::Duration::from_secs(10).into()
}

impl ChildConfig {
    /// What types and ranges do not say.
    pub fn check(&self, problems: &mut Problems) {
        if self.command.first().is_some_and(String::is_empty) {
            problems.at("command", "the program's name is empty", "write `command = [\"python3\", \"program.py\"]`");
        }
        for name in self.env.keys().filter(|name| name.is_empty() || name.contains(['=', '\0'])) {
            problems.at("env", format!("`{name}` cannot be the name of a variable"), "use letters, digits and `_`");
        }
        if self.timeout.get().is_zero() {
            problems.at("timeout", "the child would have no time at all", "write `timeout = \"10s\"`");
        }
    }
}
