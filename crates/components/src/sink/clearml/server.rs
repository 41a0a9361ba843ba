//! The task on the server, in the order of ClearML's own SDK.

use anyhow::{Context, anyhow};
use serde_json::{Value, json};

use super::config::ClearmlConfig;
use super::task;
use crate::scene::Kept;
use crate::tracker::http::{Http, escaped};
use crate::tracker::{Batch, End, Facts, Failure, Server, Shown, basic};

/// The version of the API that the recorded SDK speaks.
const VERSION: &str = "v2.23";

/// See the module.
pub(super) struct Clearml {
    node: String,
    config: ClearmlConfig,
    api: Http,
    files: Http,
    /// The task, once it is made; and the names under which its files lie.
    task: Option<String>,
    names: (String, String),
}

impl Clearml {
    pub(super) fn new(node: &str, config: ClearmlConfig) -> Clearml {
        let (api, files) = (Http::to(&config.api), Http::to(&config.files));
        Clearml { node: node.to_owned(), config, api, files, task: None, names: Default::default() }
    }

    /// Gets a token for the keys.
    fn login(&mut self) -> Result<(), Failure> {
        let text = |secret: &Option<pipe_core::Secret>| {
            secret.as_ref().map(|secret| secret.reveal().to_owned()).unwrap_or_default()
        };
        self.api.authorization = Some(basic(&text(&self.config.access_key), &text(&self.config.secret_key)));
        let answer = self.api.get("/auth.login")?;
        let token = answer["data"]["token"].as_str().context("the server does not answer as ClearML does: no token")?;
        self.api.authorization = Some(format!("Bearer {token}"));
        self.files.authorization.clone_from(&self.api.authorization);
        Ok(())
    }

    /// Asks for something with a token, a new one where the last is over.
    fn with_token(&mut self, ask: impl Fn(&Clearml) -> Result<Value, Failure>) -> Result<Value, Failure> {
        if self.api.authorization.as_ref().is_none_or(|is| !is.starts_with("Bearer")) {
            self.login()?;
        }
        match ask(self) {
            Err(Failure::Refused(401, _)) => {
                self.login()?;
                ask(self)
            }
            answered => answered,
        }
    }

    fn call(&mut self, what: &str, body: &Value) -> Result<Value, Failure> {
        let answer = self.with_token(|this| this.api.post(&format!("/{VERSION}/{what}"), body))?;
        Ok(answer["data"].clone())
    }

    fn add(&mut self, events: &[Value]) -> Result<(), Failure> {
        if events.is_empty() {
            return Ok(());
        }
        let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
        let path = format!("/{VERSION}/events.add_batch");
        let kind = Some("application/json-lines");
        let answer = self.with_token(|this| this.api.request("POST", &path, kind, lines.as_str()))?;
        match answer["data"]["errors"].as_u64() {
            Some(errors) if errors > 0 => Err(Failure::Refused(
                200,
                anyhow!("the server took {errors} events not: {}", answer["data"]["errors_info"]),
            )),
            _ => Ok(()),
        }
    }

    fn id(&self) -> String {
        self.task.clone().unwrap_or_default()
    }

    fn create(&mut self, run: &Facts) -> Result<String, Failure> {
        let name = task::project(&self.config, run).to_owned();
        let wanted = json!({
            "name": format!("^{}$", quoted(&name)), "only_fields": ["id"], "shallow_search": false, "search_hidden": true,
        });
        let found = self.call("projects.get_all", &wanted)?;
        let project = match found["projects"][0]["id"].as_str() {
            Some(id) => id.to_owned(),
            None => text(&self.call("projects.create", &json!({ "name": name, "description": "" }))?["id"])?,
        };
        let body = json!({
            "name": task::name(&self.config, run), "type": "training", "project": project, "tags": self.config.tags,
            "comment": format!("pipe run in {}", run.folder.display()),
        });
        text(&self.call("tasks.create", &body)?["id"])
    }

    fn image(&mut self, image: &Shown<Kept>) -> Result<(), Failure> {
        let bytes = image.what.png()?;
        let id = self.id();
        let key = task::key(&self.names.0, &self.names.1, &id, &image.tag, image.step, image.time);
        let boundary = format!("pipe-{:08x}-{:08x}", crc32fast::hash(&bytes), crc32fast::hash(key.as_bytes()));
        let name = key.replace('"', "_");
        let mut body = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\n\
             Content-Type: image/png\r\n\r\n"
        )
        .into_bytes();
        body.extend(bytes);
        body.extend(format!("\r\n--{boundary}--\r\n").into_bytes());
        let kind = format!("multipart/form-data; boundary={boundary}");
        self.with_token(|this| this.files.request("POST", "/", Some(&kind), &body[..]))?;
        let url = format!("{}/{}", self.files.base, escaped(&key));
        self.add(&[task::image(&image.tag, image.step, image.time, &id, &key, &url)])
    }

    /// Names the checkpoints as models of the task, those that it does not have yet.
    fn models(&mut self, run: &Facts) -> Result<(), Failure> {
        let id = self.id();
        let known = self.call("tasks.get_by_id", &json!({ "task": id }))?["task"].take();
        let has = |name: &str| {
            let output = known["models"]["output"].as_array().into_iter().flatten();
            output.into_iter().any(|model| model["name"] == name)
        };
        let folder = run.folder.join("checkpoints");
        for name in run.checkpoints().into_iter().filter(|name| !has(name)) {
            let uri = format!("file://{}", escaped(&folder.join(&name).display().to_string()));
            let model = json!({
                "uri": uri, "name": name, "labels": {}, "ready": true, "public": false, "project": known["project"], "task": id,
                "comment": format!("Created by task id: {id}"),
            });
            let model = text(&self.call("models.create", &model)?["id"])?;
            let body = json!({ "task": id, "name": name, "model": model, "type": "output" });
            self.call("tasks.add_or_update_model", &body)?;
        }
        Ok(())
    }
}

impl Server for Clearml {
    fn place(&self) -> String {
        let project = self.config.project.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        format!("{}{project}", self.api.base)
    }

    fn open(&mut self, run: &Facts, known: Option<&Value>) -> Result<Value, Failure> {
        if let Some(id) = known.and_then(|known| known["task"].as_str()) {
            self.task = Some(id.to_owned());
        }
        let id = match &self.task {
            Some(id) => id.clone(),
            // A second try must not make a second task.
            None => self.create(run).inspect(|id| self.task = Some(id.clone()))?,
        };
        self.names = (task::project(&self.config, run).to_owned(), task::name(&self.config, run));
        let started = self.call("tasks.started", &json!({ "task": id, "force": known.is_some() }));
        started.map_err(|failure| match failure {
            Failure::Refused(status, error) if known.is_some() => {
                let way = format!(
                    "the task {id} is not to be had any more; remove trackers/{}.json from the run's folder to send all of it to a new one",
                    self.node
                );
                Failure::Refused(status, error.context(way))
            }
            other => other,
        })?;
        for field in ["runtime", "hyperparams", "script", "configuration"] {
            let value = task::described(run).remove(field).unwrap_or_default();
            self.call("tasks.edit", &json!({ "task": id, "force": true, field: value }))?;
        }
        tracing::info!("{}: task {id} at {}", self.node, self.api.base);
        Ok(json!({ "task": id }))
    }

    fn retire(&mut self, _run: &Facts, known: &Value) -> Result<Option<Value>, Failure> {
        let reset = json!({ "task": known["task"], "force": true, "delete_output_models": true });
        self.call("tasks.reset", &reset)?;
        Ok(Some(known.clone()))
    }

    fn send(&mut self, batch: &Batch) -> Result<(), Failure> {
        match batch {
            Batch::Image(image) if self.config.images => self.image(image),
            other => self.add(&task::events(other, &self.id())),
        }
    }

    fn end(&mut self, run: &Facts, end: &End) -> Result<(), Failure> {
        let id = self.id();
        let pipeline = task::described(run).remove("configuration").unwrap_or_default();
        self.call("tasks.edit", &json!({ "task": id, "force": true, "configuration": pipeline }))?;
        self.models(run)?;
        let (what, reason) = match end.status.as_str() {
            "done" => ("tasks.completed", "completed"),
            "failed" => ("tasks.failed", "failed"),
            _ => ("tasks.stopped", "interrupted"),
        };
        let message = end.error.as_deref().unwrap_or_default();
        let body = json!({ "task": id, "force": true, "status_reason": reason, "status_message": message });
        self.call(what, &body).map(drop)
    }
}

fn text(value: &Value) -> Result<String, Failure> {
    Ok(value.as_str().context("the server does not answer as ClearML does: no `id`")?.to_owned())
}

/// A name as a regular expression.
fn quoted(name: &str) -> String {
    let special = |c: char| r".^$*+?{}[]\|()".contains(c);
    name.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}
