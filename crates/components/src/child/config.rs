//! Options of child processes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::{Duration, PathValue, Problems, Secret};

/// A program that reads JSON lines from its standard input.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ChildConfig {
    /// The program, looked up in `PATH`, and its arguments. Not run in a shell: write `["sh", "-c", "…"]` for that.
    #[schemars(length(min = 1))]
    pub command: Vec<String>,
    /// Working directory of the program; default that of the command line.
    #[serde(default)]
    pub dir: Option<PathValue>,
    /// Environment variables to set. Their values are never shown or stored.
    #[serde(default)]
    pub env: BTreeMap<String, Secret>,
    /// Maximum number of queued lines.
    #[schemars(range(min = 1, max = 1_000_000))]
    #[serde(default = "thousand")]
    pub queue: usize,
    /// What to do with a line when the queue is full.
    #[serde(default)]
    pub when_full: WhenFull,
    /// How long the child may take to read a line, to answer, and to exit when told to. A child that takes longer is
    /// killed, which counts as a failure.
    #[serde(default = "ten_seconds")]
    pub timeout: Duration,
    /// What to do when the child fails.
    #[serde(default)]
    pub restart: Restart,
    /// What to do when it has failed and is not restarted.
    #[serde(default)]
    pub on_failure: OnFailure,
}

/// What to do with a line when the queue is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Drop and count it.
    #[default]
    Drop,
    /// Wait for room in the queue, for at most `timeout`.
    Block,
}

/// When to restart a child.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// When to restart.
    #[serde(default)]
    pub policy: Policy,
    /// Maximum number of restarts.
    #[serde(default = "three")]
    pub max: u32,
    /// Delay before the first restart; doubled for each further one, up to a minute.
    #[serde(default = "one_second")]
    pub backoff: Duration,
}

/// When a child is restarted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Never.
    Never,
    /// When it exited with a non-zero status, was ended by a signal, or was killed for being too slow.
    #[default]
    OnFailure,
}

/// What to do when a child has failed for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Log a warning and continue without it.
    #[default]
    Warn,
    /// Stop the run with an error.
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
    /// Checks beyond types and ranges.
    pub fn check(&self, problems: &mut Problems) {
        if self.command.first().is_some_and(String::is_empty) {
            problems.at("command", "the program's name is empty", "write `command = [\"python3\", \"program.py\"]`");
        }
        for name in self.env.keys().filter(|name| name.is_empty() || name.contains(['=', '\0'])) {
            problems.at(
                "env",
                format!("`{name}` is not a valid name of an environment variable"),
                "use letters, digits and `_`",
            );
        }
        if self.timeout.get().is_zero() {
            problems.at("timeout", "a timeout of zero leaves the child no time", "write `timeout = \"10s\"`");
        }
    }
}
