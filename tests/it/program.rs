//! The program in a temporary folder of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// A temporary folder in which the program is run.
pub struct Pipe {
    folder: tempfile::TempDir,
}

/// The built-in data, made once for all tests.
pub fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache")
}

/// What the program said, and how it ended.
#[derive(Debug)]
pub struct Said {
    /// The exit status; `None` where a signal ended it.
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Pipe {
    /// An empty folder.
    pub fn new() -> Pipe {
        Pipe { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// A folder with one file.
    pub fn with(name: &str, text: &str) -> Pipe {
        let pipe = Pipe::new();
        pipe.write(name, text);
        pipe
    }

    /// A folder with a pipeline that extends that of the digits, `digits.toml`.
    pub fn digits(name: &str, more: &str) -> Pipe {
        let pipe = Pipe::with("digits.toml", include_str!("digits.toml"));
        pipe.write(name, &format!("extends = \"digits.toml\"\n{more}"));
        pipe
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file or folder in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The names in a folder, sorted.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name in UTF-8")).collect();
        names.sort();
        names
    }

    /// The program with these arguments, for a test that has more to set.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipe"));
        self.prepare(command.args(arguments));
        command
    }

    /// As [`Pipe::command`], after something that only a shell can do, such as setting a limit.
    pub fn command_after(&self, script: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        let script = format!("{script} exec \"$0\" \"$@\"");
        self.prepare(command.args(["-c", &script, env!("CARGO_BIN_EXE_pipe")]).args(arguments));
        command
    }

    fn prepare(&self, command: &mut Command) {
        command.current_dir(self.folder()).env("PIPE_CACHE", cache());
        // Tests run beside each other.
        command.env("OMP_NUM_THREADS", "1").env("OMP_WAIT_POLICY", "passive").env_remove("PIPE_LOG");
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Said {
        Said::of(&mut self.command(arguments))
    }

    /// As [`Pipe::run`], for a run that must go well.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> Said {
        let said = self.run(arguments);
        assert_eq!(said.status, Some(0), "{arguments:?}: {}", said.stderr);
        said
    }

    /// What a run has recorded, in its order.
    pub fn records(&self, run: &str) -> Vec<Value> {
        let text = self.read(&format!("{run}/records.jsonl"));
        // A run at work may be writing its last line.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
    }

    /// The numbers that a run has recorded, less the times.
    pub fn scalars(&self, run: &str) -> Vec<Value> {
        let mut records = self.records(run);
        records.retain(|record| record["kind"] == "scalar");
        for record in &mut records {
            record.as_object_mut().expect("a table").remove("time");
        }
        records
    }
}

impl Said {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Said {
        let output = command.output().expect("the program runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the program prints UTF-8");
        Said { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// Held by tests that train in this process: libtorch's random generator is one for all of its threads.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
