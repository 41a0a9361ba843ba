//! `run.json`: what a run is, and how it stands.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Result;
use serde_json::{Map, Value, json};

use pipe_core::{Instance, NodeId, RunFolder, now, record};
use pipe_data::Fingerprint;
use pipe_plan::Plan;
use pipe_plugin::Dataset;
use pipe_vocab::Catalog;
use pipe_vocab::refusal::DATA_CHANGED;

pub use pipe_history::standing::{Status, created, generation, read, status};

use crate::captured;
use crate::differences::{changed_data, differences, surroundings};
use crate::graph::Graph;
use crate::options::{RunOptions, run_of};
use crate::plugins;

/// Held while `run.json` is written.
fn writing() -> MutexGuard<'static, ()> {
    static WRITING: Mutex<()> = Mutex::new(());
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says, from another thread, that this process ends before its run has begun. Nothing is written into `run.json` any more; a
/// `new` folder in which nothing has been done yet is taken away.
pub fn broken_off(folder: &Path, new: bool) {
    std::mem::forget(writing());
    let mut info = read(folder);
    if info.is_empty() && new {
        let _ = ["records.jsonl", "console.log", "heartbeat", "lock"].map(|name| fs::remove_file(folder.join(name)));
        let _ = fs::remove_dir(folder);
    } else if info.get("process") == Some(&json!(std::process::id())) && info.get("status") == Some(&json!("running")) {
        info.insert("status".into(), json!("interrupted"));
        info.insert("ended".into(), json!(now()));
        if let Ok(text) = serde_json::to_string_pretty(&info) {
            let _ = pipe_vocab::atomic::write(&folder.join("run.json"), (text + "\n").as_bytes());
        }
    }
}

/// `run.json` of a run at work.
pub struct Info {
    values: RefCell<Map<String, Value>>,
    /// That of the run as it was at its last life, or of the run that it is a fork of.
    former: Map<String, Value>,
    /// Whether its data were found to be those of `former`, or accepted.
    compared: Cell<bool>,
    /// Whether the sources have changes that their commit has not; nothing outside of a repository.
    pub changed: Option<bool>,
    /// The run that this one is to be as, when it began.
    as_was: Option<Map<String, Value>>,
    started: Instant,
}

impl Info {
    /// Writes that the run has begun, and says what is another than when it ended last.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn start(
        folder: &RunFolder,
        plan: &Plan,
        catalog: &Catalog,
        options: &RunOptions,
        device: &str,
    ) -> Result<Info> {
        let mut values = start_info(folder, plan, catalog, options, device);
        let (git, changed) = git();
        values.insert("git".into(), git);
        let former = options.resume.as_deref().map(|from| read(run_of(from))).unwrap_or_default();
        for line in differences(&former, &values) {
            tracing::info!("changed since the last run: {line}");
        }
        let as_was = options.as_was.as_deref().map(|run| first_life(read(run)));
        if let Some((was, run)) = as_was.as_ref().zip(options.as_was.as_deref()) {
            let sources = [differences(was, &values), surroundings(was, &values), captured::differences(run, changed)];
            sources.concat().iter().for_each(|line| tracing::warn!("not as it was: {line}"));
        }
        // Until it is known that they are the same: a second try compares with them, too.
        values.insert("data".into(), former.get("data").cloned().unwrap_or_default());
        let (values, compared) = (RefCell::new(values), Cell::new(false));
        let info = Info { values, former, compared, as_was, changed, started: Instant::now() };
        info.write(folder)?;
        Ok(info)
    }

    fn write(&self, folder: &RunFolder) -> Result<()> {
        let _writing = writing();
        folder.write_info(&self.values.borrow())
    }

    /// Writes of which data the run learns, and compares them with those of its last life.
    ///
    /// # Errors
    /// When they are others and that is not accepted, or `run.json` cannot be written.
    pub fn data(&self, graph: &Graph, plan: &Plan) -> Result<()> {
        let data = data_of(graph, &|id| json!(plan.nodes.get(id).map(|node| node.descriptor.name)));
        for line in self.as_was.iter().flat_map(|was| changed_data(was, &data)) {
            tracing::warn!("not as it was: {line}");
        }
        let changed = changed_data(&self.former, &data);
        if !changed.is_empty() {
            let message = format!(
                "the data are not those of the checkpoint: {}; samples of an epoch at work would be left out or come twice, \
                 and values before and after cannot be compared",
                changed.join("; ")
            );
            DATA_CHANGED.refuse(&plan.pipeline.accept, message)?;
        }
        self.compared.set(true);
        self.values.borrow_mut().insert("data".into(), data.into());
        self.write(&graph.run.folder)
    }

    /// Writes that what was recorded was cut off at a checkpoint: whoever reads along starts over where `generation` has risen.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn went_back(&self, folder: &RunFolder) -> Result<()> {
        let generation = generation(&self.values.borrow());
        self.values.borrow_mut().insert("generation".into(), json!(generation + 1));
        self.write(folder)
    }

    /// Writes how the run ended; a disk that is full must not hide the error itself.
    pub fn note(&self, graph: &Graph, status: &str, error: Option<String>) {
        let run = &graph.run;
        let mut info = self.values.borrow_mut();
        // They may have been exchanged while the run was at work.
        if let Some(former) = info.get("data").filter(|_| self.compared.get()).cloned() {
            info.insert("data".into(), data_of(graph, &|id| former[id.to_string()]["type"].clone()).into());
        }
        info.insert("status".into(), json!(status));
        info.insert("ended".into(), json!(now()));
        info.insert("seconds".into(), json!(self.started.elapsed().as_secs_f64()));
        info.insert("error".into(), json!(error));
        info.insert("values".into(), run.values().into_iter().map(|(k, v)| (k, record::number(v))).collect());
        info.insert("checkpoints".into(), json!(checkpoints(&run.folder.checkpoints())));
        drop(info);
        if let Err(problem) = self.write(&run.folder) {
            tracing::error!("run.json: {problem:#}");
        }
    }
}

/// What the datasets of a run are: their component, number of samples, fingerprint.
fn data_of(graph: &Graph, component: &dyn Fn(&NodeId) -> Value) -> Map<String, Value> {
    let nodes = graph.nodes.borrow();
    let datasets = nodes.iter().filter_map(|(id, instance)| match instance {
        Instance::Dataset(set) => {
            let mut is = json!({ "type": component(id), "samples": set.len(), "fingerprint": set.fingerprint() });
            if let Some(files) = files_of(&**set) {
                is["files"] = json!(files);
            }
            Some((id.to_string(), is))
        }
        _ => None,
    });
    datasets.collect()
}

/// Of a dataset's files so many are looked at.
const LOOKED_AT: usize = 16;

/// A fingerprint of what some files of a dataset hold, from the first to the last; nothing where samples have none, or one cannot be read.
fn files_of(set: &dyn Dataset) -> Option<String> {
    let (count, last) = (set.len().min(LOOKED_AT), set.len().checked_sub(1)?);
    let mut places = (0..count).map(|at| at * last / (count - 1).max(1));
    let sum = places.try_fold(Fingerprint::default(), |sum, at| sum.with_file(&set.file(at)?).ok());
    sum.map(|sum| sum.text())
}

/// What `run.json` said in the run's first life.
fn first_life(info: Map<String, Value>) -> Map<String, Value> {
    let first = info.get("earlier").and_then(|earlier| earlier.get(0)?.as_object().cloned());
    first.unwrap_or(info)
}

/// The device on which a run began, as `--device` takes it.
pub fn device(run: &Path) -> Option<String> {
    let info = first_life(read(run));
    Some(info.get("device")?.as_str()?.split(',').next()?.to_owned())
}

/// The names of what lies in a folder of checkpoints, whole or not, in order.
pub fn checkpoints(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name().to_string_lossy().into());
    let mut names: Vec<String> = names.filter(|name: &String| !name.starts_with('.')).collect();
    names.sort();
    names
}

fn start_info(
    folder: &RunFolder,
    plan: &Plan,
    catalog: &Catalog,
    options: &RunOptions,
    device: &str,
) -> Map<String, Value> {
    let former = folder.read_info();
    let mut info = Map::new();
    let versions = pipe_native::version();
    info.insert("format".into(), json!(1));
    info.insert("status".into(), json!("running"));
    info.insert("name".into(), json!(options.name.as_ref().or(plan.pipeline.name.as_ref())));
    let started = now();
    let created = if former.is_empty() { options.created.unwrap_or(started) } else { created(&former) };
    info.insert("created".into(), json!(created));
    info.insert("started".into(), json!(started));
    // Of a life that begins again nothing is left, or what another run had recorded.
    let begins_again = !former.is_empty() && (options.resume.is_none() || options.fork.is_some());
    info.insert("generation".into(), json!(generation(&former) + u64::from(begins_again)));
    info.insert("device".into(), json!(device));
    info.insert("seed".into(), json!(plan.pipeline.seed));
    info.insert("command".into(), json!(options.command));
    info.insert("resumed_from".into(), json!(options.resume.as_ref().map(|path| path.display().to_string())));
    info.insert("forked_from".into(), former.get("forked_from").cloned().unwrap_or_else(|| json!(options.fork)));
    info.insert("pipeline_folder".into(), json!(options.pipeline_folder));
    // Of a run that goes on by its folder it is the file of its first life.
    let file = options.pipeline_file.as_ref().map(|file| json!(file));
    info.insert("pipeline_file".into(), file.or_else(|| former.get("pipeline_file").cloned()).unwrap_or_default());
    info.insert("process".into(), json!(std::process::id()));
    let pipe = env!("CARGO_PKG_VERSION");
    info.insert(
        "versions".into(),
        json!({
            "pipe": pipe, "libtorch": versions.libtorch, "torchvision": versions.torchvision,
            "plugins": plugins::versions(catalog),
        }),
    );
    info.insert("machine".into(), machine());
    if !former.is_empty() {
        let mut earlier = former.get("earlier").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut last = former.clone();
        last.shift_remove("earlier");
        earlier.push(Value::Object(last));
        info.insert("earlier".into(), Value::Array(earlier));
    }
    info
}

/// What `git` says of the current folder, asked in one go: a process more is felt at every start. And whether there are changes, where it
/// says anything.
fn git() -> (Value, Option<bool>) {
    let arguments = ["status", "--porcelain=v2", "--branch", "--untracked-files=no"];
    let Ok(output) = std::process::Command::new("git").args(arguments).output() else { return (Value::Null, None) };
    let text = String::from_utf8_lossy(&output.stdout);
    let said = |what: &str| text.lines().find_map(|line| line.strip_prefix("# branch.")?.strip_prefix(what));
    let changed = output.status.success().then(|| text.lines().any(|line| !line.starts_with('#')));
    let Some(commit) = said("oid ").filter(|commit| *commit != "(initial)") else { return (Value::Null, changed) };
    let branch = said("head ").map(|branch| if branch == "(detached)" { "HEAD" } else { branch });
    (json!({ "commit": commit, "branch": branch, "dirty": changed }), changed)
}

fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let processor = read("/proc/cpuinfo").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    json!({ "host": read("/proc/sys/kernel/hostname"), "cores": cores, "processor": processor, "os": std::env::consts::OS })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipe_plugin::data::Sample;
    use std::path::PathBuf;

    struct Files(PathBuf, usize);

    impl Dataset for Files {
        fn len(&self) -> usize {
            self.1
        }

        fn get(&self, _: usize) -> Result<Sample> {
            anyhow::bail!("it has no samples")
        }

        fn file(&self, index: usize) -> Option<PathBuf> {
            Some(self.0.join(index.to_string()))
        }
    }

    #[test]
    fn other_pixels_under_the_same_names_are_other_data() {
        let folder = tempfile::tempdir().unwrap();
        let set = |count| Files(folder.path().to_owned(), count);
        assert_eq!(files_of(&set(0)), None);
        assert_eq!(files_of(&set(1)), None, "no such file");
        (0..40).for_each(|at| fs::write(folder.path().join(at.to_string()), [at]).unwrap());
        let before = [1, 16, 40].map(|count| files_of(&set(count)).unwrap());
        fs::write(folder.path().join("39"), "x").unwrap();
        assert_eq!(files_of(&set(16)).as_ref(), Some(&before[1]));
        assert_ne!(files_of(&set(40)).as_ref(), Some(&before[2]), "the last is looked at");
        fs::write(folder.path().join("0"), "x").unwrap();
        assert!([1, 16].iter().zip(&before).all(|(count, before)| files_of(&set(*count)).as_ref() != Some(before)));
    }
}
