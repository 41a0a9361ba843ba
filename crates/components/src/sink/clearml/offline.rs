//! An offline session of ClearML's SDK: a folder that grows with the run, packed as a zip file when it ends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use zip::ZipWriter;
use zip::write::FileOptions;

use super::config::ClearmlConfig;
use super::task;
use crate::scene::Kept;
use crate::tracker::{Batch, End, Facts, Failure, Server};

/// In the run's folder.
const FOLDER: &str = "clearml";
const ZIP: &str = "clearml.zip";

/// See the module.
pub(super) struct Session {
    config: ClearmlConfig,
    /// `offline-…`, once it is open.
    id: String,
    folder: PathBuf,
    names: (String, String),
}

impl Session {
    pub(super) fn new(config: ClearmlConfig) -> Session {
        Session { config, id: String::new(), folder: PathBuf::new(), names: Default::default() }
    }

    /// Appends a line, an array of events, as the importer reads them.
    fn append(&self, file: &str, events: &[&Value]) -> Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let path = self.folder.join(file);
        let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
        let line = serde_json::to_string(events)? + "\n";
        file.write_all(line.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
    }

    fn image(&self, image: &crate::tracker::Shown<Kept>) -> Result<()> {
        let key = task::key(&self.names.0, &self.names.1, &self.id, &image.tag, image.step, image.time);
        let path = self.folder.join("data").join(&key);
        fs::create_dir_all(path.parent().unwrap_or(&self.folder))?;
        fs::write(&path, image.what.png()?).with_context(|| format!("cannot write {}", path.display()))?;
        let url = format!("file://{}", path.display());
        self.append("metrics.jsonl", &[&task::image(&image.tag, image.step, image.time, &self.id, &key, &url)])
    }

    fn pack(&self, run: &Facts) -> Result<()> {
        let target = run.folder.join(ZIP);
        pipe_vocab::atomic::write_with(&target, |file| {
            let mut zip = ZipWriter::new(file);
            for path in files(&self.folder)? {
                let name = path.strip_prefix(&self.folder)?.to_string_lossy().into_owned();
                zip.start_file(name, FileOptions::default())?;
                io::copy(&mut File::open(&path)?, &mut zip)?;
            }
            zip.finish()?;
            Ok(())
        })
    }
}

/// All files below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(entries.into_iter().filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect())
}

impl Server for Session {
    fn place(&self) -> String {
        "an offline session".to_owned()
    }

    fn open(&mut self, run: &Facts, known: Option<&Value>) -> Result<Value, Failure> {
        self.folder = run.folder.join(FOLDER);
        self.names = (task::project(&self.config, run).to_owned(), task::name(&self.config, run));
        let made = || {
            let seed = format!("{} {}", run.folder.display(), run.created);
            format!("offline-{:08x}{:016x}", crc32fast::hash(seed.as_bytes()), run.created.to_bits())
        };
        self.id = known.and_then(|known| known["id"].as_str()).map_or_else(made, str::to_owned);
        if known.is_none() {
            let _ = fs::remove_dir_all(&self.folder);
        }
        fs::create_dir_all(&self.folder).with_context(|| format!("cannot create {}", self.folder.display()))?;
        Ok(json!({ "id": self.id }))
    }

    fn retire(&mut self, _run: &Facts, _known: &Value) -> Result<Option<Value>, Failure> {
        Ok(None)
    }

    fn send(&mut self, batch: &Batch) -> Result<(), Failure> {
        if let (Batch::Image(image), true) = (batch, self.config.images) {
            return Ok(self.image(image)?);
        }
        let events = task::events(batch, &self.id);
        let (logs, metrics): (Vec<&Value>, Vec<&Value>) = events.iter().partition(|event| event["type"] == "log");
        self.append("metrics.jsonl", &metrics)?;
        Ok(self.append("log.jsonl", &logs)?)
    }

    fn end(&mut self, run: &Facts, end: &End) -> Result<(), Failure> {
        let folder = run.folder.join("checkpoints");
        let models = run.checkpoints().into_iter().map(|name| {
            let uri = format!("file://{}", folder.join(&name).display());
            json!({ "id": name, "init": { "name": name }, "weights": { "register_uri": uri } })
        });
        let mut session = task::described(run);
        let fields = json!({
            "id": self.id, "name": self.names.1, "project_name": self.names.0, "type": "training", "tags": self.config.tags,
            "offline_folder": self.folder.display().to_string(), "offline_output_models": models.collect::<Vec<_>>(),
            "execution": { "artifacts": [] }, "status": end.status,
            // The importer says `completed` of every session.
            "comment": format!("pipe: {} {}", end.status, end.error.as_deref().unwrap_or_default()).trim_end(),
        });
        if let Value::Object(fields) = fields {
            session.extend(fields);
        }
        let text = serde_json::to_string_pretty(&session).context("task.json")?;
        pipe_vocab::atomic::write(&self.folder.join("task.json"), text.as_bytes())?;
        self.pack(run)?;
        tracing::info!("Task.import_offline_session(\"{}\") brings the run to ClearML", run.folder.join(ZIP).display());
        Ok(())
    }
}
