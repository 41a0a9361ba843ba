//! The run on the server: `runs/create`, `runs/log-batch`, artifacts through the server, `runs/update`.

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use super::config::MlflowConfig;
use super::names;
use crate::tracker::facts::option_text;
use crate::tracker::http::{Http, escaped};
use crate::tracker::{Batch, End, Facts, Failure, Scalar, Server, basic};

/// What the server takes of a parameter's value.
const VALUE: usize = 6000;
/// Of a tag's.
const TAG: usize = 5000;
/// Parameters in one request, and their bytes.
const PARAMETERS: usize = 100;
const BYTES: usize = 500_000;

/// See the module.
pub(super) struct Mlflow {
    node: String,
    config: MlflowConfig,
    http: Http,
    /// The run, once it is open.
    run: Option<Run>,
    /// Whether it was said that artifacts cannot be sent.
    said: bool,
}

/// What is known of the run.
#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Run {
    run_id: String,
    experiment_id: String,
    artifact_uri: String,
}

impl Mlflow {
    pub(super) fn new(node: &str, config: MlflowConfig) -> Mlflow {
        let mut http = Http::to(&config.url);
        let token = config.token.as_ref().map(|token| token.reveal()).filter(|token| !token.is_empty());
        http.authorization = match (token, &config.username, &config.password) {
            (Some(token), ..) => Some(format!("Bearer {token}")),
            (None, Some(user), Some(password)) => Some(basic(user, password.reveal())),
            _ => None,
        };
        Mlflow { node: node.to_owned(), config, http, run: None, said: false }
    }

    fn call(&self, what: &str, body: &Value) -> Result<Value, Failure> {
        self.http.post(&format!("/api/2.0/mlflow/{what}"), body)
    }

    fn run(&self) -> Run {
        self.run.clone().unwrap_or_default()
    }

    /// The experiment's number; it is made where there is none.
    fn experiment(&self, run: &Facts) -> Result<String, Failure> {
        let name = self.config.experiment.as_deref().unwrap_or(run.pipeline());
        let path = format!("/api/2.0/mlflow/experiments/get-by-name?experiment_name={}", escaped(name));
        let found = match self.http.get(&path) {
            Ok(found) => found["experiment"]["experiment_id"].clone(),
            Err(Failure::Refused(404, _)) => {
                self.call("experiments/create", &json!({ "name": name }))?["experiment_id"].clone()
            }
            Err(failure) => return Err(failure),
        };
        Ok(found.as_str().context("the server does not answer as MLflow does: no `experiment_id`")?.to_owned())
    }

    fn create(&self, run: &Facts) -> Result<Run, Failure> {
        let experiment = self.experiment(run)?;
        let name = self.config.name.clone().unwrap_or_else(|| run.name());
        let tags = self
            .tags(run)
            .into_iter()
            .map(|(key, value)| json!({ "key": key, "value": option_text(&json!(value), TAG).0 }));
        let body = json!({
            "experiment_id": experiment, "run_name": name, "start_time": milliseconds(run.created),
            "tags": tags.collect::<Vec<_>>(),
        });
        let made = self.call("runs/create", &body)?;
        let info = &made["run"]["info"];
        let text = |key: &str| info[key].as_str().unwrap_or_default().to_owned();
        let made = Run { run_id: text("run_id"), experiment_id: experiment, artifact_uri: text("artifact_uri") };
        if made.run_id.is_empty() {
            return Err(anyhow::anyhow!("the server does not answer as MLflow does: no `run_id`").into());
        }
        Ok(made)
    }

    fn tags(&self, run: &Facts) -> Vec<(String, String)> {
        let known: [(&str, &[&str]); 7] = [
            ("mlflow.source.name", &["command"]),
            ("mlflow.source.git.commit", &["git", "commit"]),
            ("mlflow.source.git.branch", &["git", "branch"]),
            ("pipe.device", &["device"]),
            ("pipe.seed", &["seed"]),
            ("pipe.version", &["versions", "pipe"]),
            ("pipe.generation", &["generation"]),
        ];
        let known = known.iter().filter_map(|(tag, path)| Some((tag.to_string(), run.text(path)?)));
        let folder = ("pipe.folder".to_owned(), run.folder.display().to_string());
        let mut tags: Vec<_> = known.chain([folder, ("mlflow.source.type".to_owned(), "LOCAL".to_owned())]).collect();
        if let Ok(user) = std::env::var("USER") {
            tags.push(("mlflow.user".to_owned(), user));
        }
        tags.extend(self.config.tags.iter().map(|(key, value)| (names::name(key), value.clone())));
        tags
    }

    /// Sends the options as parameters, which MLflow never changes: those with which the MLflow run began.
    fn parameters(&self, run: &Facts, id: &str) -> Result<(), Failure> {
        let (mut cut, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
        let send = |batch: &mut Vec<Value>| match batch.is_empty() {
            true => Ok(Value::Null),
            false => self.call("runs/log-batch", &json!({ "run_id": id, "params": std::mem::take(batch) })),
        };
        for (key, value) in &run.options {
            let (text, was_cut) = option_text(value, VALUE);
            if was_cut {
                cut.push(key.as_str());
            }
            bytes += key.len() + text.len();
            batch.push(json!({ "key": names::option(key), "value": text }));
            if batch.len() == PARAMETERS || bytes > BYTES {
                send(&mut batch)?;
                bytes = 0;
            }
        }
        send(&mut batch)?;
        if !cut.is_empty() {
            let cut = cut.join(", ");
            tracing::warn!(
                "{}: MLflow takes {VALUE} characters of an option; cut: {cut}. pipeline.toml is sent whole",
                self.node
            );
        }
        Ok(())
    }

    fn metrics(&self, scalars: &[Scalar]) -> Result<(), Failure> {
        let metric = |scalar: &Scalar| {
            json!({
                "key": names::name(&scalar.tag), "value": pipe_core::record::number(scalar.value),
                "timestamp": milliseconds(scalar.time), "step": scalar.step,
            })
        };
        let metrics: Vec<Value> = scalars.iter().map(metric).collect();
        self.call("runs/log-batch", &json!({ "run_id": self.run().run_id, "metrics": metrics })).map(drop)
    }

    /// Sends a file through the server, where that is how it keeps artifacts.
    fn artifact(&mut self, path: &str, bytes: &[u8]) -> Result<(), Failure> {
        let uri = self.run().artifact_uri;
        let Some(place) = uri.strip_prefix("mlflow-artifacts:") else {
            if !std::mem::replace(&mut self.said, true) {
                let why = "which only its own clients can write: start it with `--serve-artifacts`";
                tracing::warn!(
                    "{}: images and files are not sent, because the server keeps them at {uri}, {why}",
                    self.node
                );
            }
            return Ok(());
        };
        let place = match place.strip_prefix("//") {
            Some(with_host) => with_host.split_once('/').map_or("", |(_, place)| place),
            None => place.trim_start_matches('/'),
        };
        let path = format!("/api/2.0/mlflow-artifacts/artifacts/{}", escaped(&format!("{place}/{path}")));
        self.http.request("PUT", &path, Some("application/octet-stream"), bytes).map(drop)
    }

    fn file(&mut self, path: &str, file: &Path) -> Result<(), Failure> {
        let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        self.artifact(path, &bytes)
    }

    fn tag(&self, key: &str, value: &str) -> Result<(), Failure> {
        let value = option_text(&json!(value), TAG).0;
        self.call("runs/set-tag", &json!({ "run_id": self.run().run_id, "key": key, "value": value })).map(drop)
    }
}

impl Server for Mlflow {
    fn place(&self) -> String {
        let experiment = self.config.experiment.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        format!("{}{experiment}", self.http.base)
    }

    fn open(&mut self, run: &Facts, known: Option<&Value>) -> Result<Value, Failure> {
        let known: Option<Run> = known.and_then(|known| serde_json::from_value(known.clone()).ok());
        let open = match known {
            Some(known) => {
                let going_on = self.call("runs/update", &json!({ "run_id": known.run_id, "status": "RUNNING" }));
                if let Err(Failure::Refused(status, error)) = going_on {
                    let way = format!(
                        "the MLflow run {} is not to be had any more; remove trackers/{}.json from the run's folder to send all of it to a new one",
                        known.run_id, self.node
                    );
                    return Err(Failure::Refused(status, error.context(way)));
                }
                going_on?;
                known
            }
            None => {
                let made = match &self.run {
                    Some(made) => made.clone(),
                    None => self.create(run)?,
                };
                // A second try must not make a second run.
                self.run = Some(made.clone());
                self.parameters(run, &made.run_id)?;
                made
            }
        };
        self.run = Some(open.clone());
        if self.config.images {
            // By which MLflow's page knows that there are images to look for.
            self.tag("mlflow.loggedImages", "true")?;
        }
        for (name, file) in run.pipelines() {
            self.file(&name, &file)?;
        }
        let Run { run_id, experiment_id, .. } = &open;
        tracing::info!("{}: {}/#/experiments/{experiment_id}/runs/{run_id}", self.node, self.http.base);
        Ok(serde_json::to_value(&open).context("what is known of the MLflow run")?)
    }

    fn retire(&mut self, _run: &Facts, known: &Value) -> Result<Option<Value>, Failure> {
        let id = &known["run_id"];
        let replaced =
            json!({ "run_id": id, "key": "pipe.replaced", "value": "the run went back behind what it had sent" });
        for (what, body) in [("runs/set-tag", replaced), ("runs/delete", json!({ "run_id": id }))] {
            match self.call(what, &body) {
                Err(Failure::Passing(error)) => return Err(Failure::Passing(error)),
                // It is gone already.
                Ok(_) | Err(Failure::Refused(..)) => {}
            }
        }
        self.run = None;
        Ok(None)
    }

    fn send(&mut self, batch: &Batch) -> Result<(), Failure> {
        match batch {
            Batch::Scalars(scalars) => self.metrics(scalars),
            Batch::Image(image) if self.config.images => {
                let bytes = image.what.png()?;
                let path = names::image(&image.tag, image.step, milliseconds(image.time));
                self.artifact(&format!("{path}.png"), &bytes)?;
                // The page shows what is under this name, whichever format it has.
                self.artifact(&format!("{path}+compressed.webp"), &bytes)
            }
            Batch::Text(text) => self.artifact(&names::text(&text.tag, text.step), text.what.as_bytes()),
            Batch::Image(_) | Batch::Nothing => Ok(()),
        }
    }

    fn end(&mut self, run: &Facts, end: &End) -> Result<(), Failure> {
        let mut files = run.pipelines();
        if self.config.checkpoints {
            files.extend(run.checkpoint_files());
        }
        for (name, file) in files {
            self.file(&name, &file)?;
        }
        self.tag("pipe.checkpoints", &run.checkpoints().join(" "))?;
        self.tag("pipe.error", end.error.as_deref().unwrap_or_default())?;
        let status = match end.status.as_str() {
            "done" => "FINISHED",
            "failed" => "FAILED",
            _ => "KILLED",
        };
        let body = json!({ "run_id": self.run().run_id, "status": status, "end_time": milliseconds(end.time) });
        self.call("runs/update", &body).map(drop)
    }
}

fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}
