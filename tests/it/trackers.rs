//! Trackers: what their servers are sent, in which order, and what happens when they are away. The servers here are of this test and
//! know as much as it takes; `cargo xtask soak trackers` has the real ones.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::program::{Pipe, Said};
use super::signals::{kill, start, wait_for};

const PIPELINE: &str = include_str!("tracked.toml");

const RUN: [&str; 6] = ["run", "tracked.toml", "--device", "cpu", "--out", "run"];

/// One request.
#[derive(Debug, Clone)]
struct Asked {
    method: String,
    path: String,
    authorization: String,
    kind: String,
    body: Vec<u8>,
}

impl Asked {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

type Answer = fn(&Asked, usize) -> (u16, Value);

/// A server on a free port, and what it was asked.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Answers by a request and the number of those before it.
    fn start(answer: Answer) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let kept = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = kept.clone();
                std::thread::spawn(move || serve(&stream, &kept, answer));
            }
        });
        Server { address, asked }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic").clone()
    }
}

/// Answers the requests of one connection.
fn serve(stream: &TcpStream, kept: &Mutex<Vec<Asked>>, answer: Answer) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut header = String::new();
        while reader.read_line(&mut header).is_ok_and(|read| read > 2) {}
        let mut first = header.split(' ');
        let (Some(method), Some(path)) = (first.next(), first.next()) else { return };
        let field = |name: &str| {
            let line = header.lines().find(|line| line.to_lowercase().starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let length = field("content-length:").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let asked = Asked {
            method: method.to_owned(),
            path: path.to_owned(),
            authorization: field("authorization:").unwrap_or_default(),
            kind: field("content-type:").unwrap_or_default(),
            body,
        };
        let (status, said) = {
            let mut kept = kept.lock().expect("no panic");
            let said = answer(&asked, kept.len());
            kept.push(asked);
            said
        };
        let text = said.to_string();
        let answered = write!(
            reader.get_mut(),
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        );
        if answered.is_err() {
            return;
        }
    }
}

/// An MLflow server that knows no experiment.
fn mlflow(asked: &Asked, before: usize) -> (u16, Value) {
    let path = asked.path.split('?').next().unwrap_or_default();
    match path.trim_start_matches("/api/2.0/mlflow/") {
        "experiments/get-by-name" => (404, json!({ "error_code": "RESOURCE_DOES_NOT_EXIST" })),
        "experiments/create" => (200, json!({ "experiment_id": "7" })),
        "runs/create" => {
            let id = format!("run{before}");
            let uri = format!("mlflow-artifacts:/7/{id}/artifacts");
            (200, json!({ "run": { "info": { "run_id": id, "artifact_uri": uri } } }))
        }
        _ => (200, json!({})),
    }
}

fn pipe(address: &str, more: &str) -> Pipe {
    let sink = format!(
        "[sink.mlflow]\ntype = \"mlflow\"\nurl = \"{address}\"\ntoken = \"${{env:PIPE_TEST_VALUE:-}}\"\n{more}"
    );
    Pipe::digits("tracked.toml", &format!("{PIPELINE}{sink}"))
}

/// What a request is about, without the numbers that differ from run to run.
fn what(asked: &Asked) -> String {
    let path = asked.path.split('?').next().unwrap_or_default();
    let body = asked.json();
    let kind = ["params", "metrics", "status"].into_iter().find(|key| !body[key].is_null());
    let key = body["key"].as_str().or(body["status"].as_str().filter(|_| kind == Some("status"))).or(kind);
    format!("{} {path} {}", asked.method, key.unwrap_or_default()).trim_end().to_owned()
}

/// The numbers that a server was sent for one of its runs: key, step, value.
fn metrics(asked: &[Asked], run: &str) -> Vec<(String, u64, Value)> {
    let of = asked.iter().map(Asked::json).filter(|body| body["run_id"] == run);
    let metrics = of.flat_map(|body| body["metrics"].as_array().cloned().unwrap_or_default());
    metrics
        .map(|one| (one["key"].as_str().unwrap().to_owned(), one["step"].as_u64().unwrap(), one["value"].clone()))
        .collect()
}

/// The numbers of a run's records.
fn recorded(pipe: &Pipe) -> Vec<(String, u64, Value)> {
    let records = pipe.scalars("run").into_iter();
    records
        .map(|one| (one["tag"].as_str().unwrap().to_owned(), one["step"].as_u64().unwrap(), one["value"].clone()))
        .collect()
}

/// The text of every file in a folder, one after another.
fn everything(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    let texts = entries.map(|path| match path.is_dir() {
        true => everything(&path),
        false => String::from_utf8_lossy(&std::fs::read(path).expect("a file")).into_owned(),
    });
    texts.collect()
}

#[test]
fn mlflow_is_sent_a_run_in_order_and_nobody_else_its_token() {
    let server = Server::start(mlflow);
    let pipe = pipe(&server.address, "");
    let said = Said::of(pipe.command(&RUN).env("PIPE_TEST_VALUE", "s3cr3t-token"));
    assert_eq!(said.status, Some(0), "{}", said.stderr);
    let asked = server.asked();
    assert!(asked.iter().all(|one| one.authorization == "Bearer s3cr3t-token"));
    let order: Vec<String> = asked.iter().map(what).collect();
    let begin = |names: &[&str]| {
        let mut rest = order.iter();
        names.iter().all(|name| rest.any(|one| one.contains(name)))
    };
    let steps = [
        "GET /api/2.0/mlflow/experiments/get-by-name",
        "POST /api/2.0/mlflow/experiments/create",
        "POST /api/2.0/mlflow/runs/create",
        "POST /api/2.0/mlflow/runs/log-batch params",
        "PUT /api/2.0/mlflow-artifacts/artifacts/7/run2/artifacts/pipeline.toml",
        "POST /api/2.0/mlflow/runs/log-batch metrics",
        "PUT /api/2.0/mlflow-artifacts/artifacts/7/run2/artifacts/images/",
        "POST /api/2.0/mlflow/runs/set-tag pipe.checkpoints",
        "POST /api/2.0/mlflow/runs/update FINISHED",
    ];
    assert!(begin(&steps), "{order:#?}");
    assert_eq!(order.last().map(String::as_str), steps.last().copied());
    assert_eq!(metrics(&asked, "run2"), recorded(&pipe));
    let parameters: Vec<Value> =
        asked.iter().flat_map(|one| one.json()["params"].as_array().cloned().unwrap_or_default()).collect();
    assert!(parameters.contains(&json!({ "key": "loader.train.batch_size", "value": "32" })), "{parameters:?}");
    let image = asked.iter().find(|one| one.path.contains("/images/")).expect("an image");
    assert!(image.body.starts_with(b"\x89PNG"));
    let sent: String = asked.iter().map(|one| String::from_utf8_lossy(&one.body).into_owned()).collect();
    for text in [sent, everything(&pipe.path("run")), said.stdout, said.stderr] {
        assert!(!text.contains("s3cr3t"), "{text}");
    }
}

#[test]
fn what_a_server_missed_is_sent_by_the_next_resume() {
    // A port that nobody listens to.
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let pipe = pipe("${env:PIPE_TEST_SERVER}", "timeout = \"100ms\"\n");
    let run = |arguments: &[&str], server: &str| {
        Said::of(pipe.command(arguments).env("PIPE_TEST_SERVER", server).env("PIPE_TEST_VALUE", ""))
    };
    let said = run(&RUN, &format!("http://{nobody}"));
    assert_eq!(said.status, Some(0), "{}", said.stderr);
    let unsent: Vec<&str> = said.stderr.lines().filter(|line| line.contains("still unsent")).collect();
    assert!(unsent.len() == 1 && unsent[0].contains("resuming the run sends it"), "{}", said.stderr);

    let server = Server::start(mlflow);
    let resume = ["run", "tracked.toml", "--device", "cpu", "--resume", "run", "--set", "sink.mlflow.timeout=\"60s\""];
    let said = run(&resume, &server.address);
    assert_eq!(said.status, Some(0), "{}", said.stderr);
    assert_eq!(metrics(&server.asked(), "run2"), recorded(&pipe));
    assert!(server.asked().last().is_some_and(|last| last.json()["status"] == "FINISHED"));
}

#[test]
fn a_resumed_run_goes_on_in_its_mlflow_run_unless_it_went_back_behind_what_was_sent() {
    let server = Server::start(mlflow);
    let pipe = pipe(&server.address, "");
    pipe.ok(&RUN);
    let sent = metrics(&server.asked(), "run2").len();
    let more = ["run", "tracked.toml", "--device", "cpu", "--resume", "run", "--set", "engine.trainer.max_epochs=3"];
    pipe.ok(&more);
    let asked = server.asked();
    assert_eq!(asked.iter().filter(|one| one.path.ends_with("/runs/create")).count(), 1);
    assert!(metrics(&asked, "run2").len() > sent);
    assert_eq!(metrics(&asked, "run2"), recorded(&pipe), "each number once");

    // Back to the first epoch: what was sent since is of no run any more.
    let first = pipe.names("run/checkpoints")[0].clone();
    let back = format!("run/checkpoints/{first}");
    pipe.ok(&["run", "tracked.toml", "--device", "cpu", "--resume", &back, "--in-place"]);
    let asked = server.asked();
    let deleted: Vec<Value> = asked.iter().filter(|one| one.path.ends_with("/runs/delete")).map(Asked::json).collect();
    assert_eq!(deleted, [json!({ "run_id": "run2" })]);
    let new = pipe.json("run/trackers/sink.mlflow.json")["known"]["run_id"].as_str().unwrap().to_owned();
    assert_ne!(new, "run2");
    assert_eq!(metrics(&asked, &new), recorded(&pipe));
}

#[test]
fn a_server_in_trouble_is_asked_again_and_one_that_refuses_is_not() {
    let server = Server::start(
        |asked, before| if [1, 4, 12, 14].contains(&before) { (503, json!({})) } else { mlflow(asked, before) },
    );
    let pipe1 = pipe(&server.address, "");
    pipe1.ok(&RUN);
    let id = pipe1.json("run/trackers/sink.mlflow.json")["known"]["run_id"].as_str().unwrap().to_owned();
    let mut sent = metrics(&server.asked(), &id);
    // A batch that was not taken came again.
    sent.dedup();
    let mut there = recorded(&pipe1);
    there.retain(|one| !sent.contains(one));
    assert!(there.is_empty(), "{there:?}");
    assert_eq!(
        server.asked().iter().rfind(|one| one.path.ends_with("/runs/update")).map(|one| one.json()["status"].clone()),
        Some(json!("FINISHED"))
    );

    let server = Server::start(|_, _| (401, json!({ "message": "who are you?" })));
    let pipe = pipe(&server.address, "");
    let said = pipe.ok(&RUN);
    assert!(said.stderr.contains("who are you?") && said.stderr.contains("still unsent"), "{}", said.stderr);
    assert_eq!(server.asked().len(), 1);
}

/// A ClearML server that knows no project.
fn clearml(asked: &Asked, _: usize) -> (u16, Value) {
    let data = match asked.path.trim_start_matches("/v2.23/") {
        "/auth.login" => json!({ "token": "of-the-login" }),
        "projects.create" => json!({ "id": "the-project" }),
        "tasks.create" => json!({ "id": "the-task" }),
        "models.create" => json!({ "id": "a-model" }),
        _ => json!({}),
    };
    (200, json!({ "data": data }))
}

/// The calls of a request: several where it carries events. Name, kind, fields.
fn calls(asked: &Asked) -> Vec<(String, String, Vec<String>)> {
    let call = asked.path.trim_start_matches("/v2.23/").trim_matches('/').to_owned();
    let text = String::from_utf8_lossy(&asked.body).into_owned();
    let bodies: Vec<Value> = match call.as_str() {
        "" | "auth.login" => vec![json!({})],
        _ => text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect(),
    };
    let fields = |body: &Value| -> Vec<String> { body.as_object().expect("an object").keys().cloned().collect() };
    let kind = |body: &Value| match call.as_str() {
        "events.add_batch" => body["type"].as_str().expect("a type").to_owned(),
        "tasks.edit" => fields(body).into_iter().find(|field| field != "task" && field != "force").expect("a field"),
        _ => String::new(),
    };
    bodies.iter().map(|body| (call.clone(), kind(body), fields(body))).collect()
}

fn clearml_pipe(address: &str) -> Pipe {
    let sink = format!(
        "[sink.clearml]\ntype = \"clearml\"\napi = \"{address}\"\nfiles = \"{address}\"\naccess_key = \"${{env:PIPE_TEST_VALUE}}\"\n\
         secret_key = \"s3cr3t\"\n"
    );
    Pipe::digits("tracked.toml", &format!("{PIPELINE}{sink}"))
}

fn clearml_run(pipe: &Pipe, arguments: &[&str]) -> Said {
    let said = Said::of(pipe.command(arguments).env("PIPE_TEST_VALUE", "access"));
    assert_eq!(said.status, Some(0), "{}", said.stderr);
    said
}

/// The events that a ClearML server was sent.
fn events(asked: &[Asked]) -> Vec<Value> {
    let batches = asked.iter().filter(|one| one.path.ends_with("add_batch"));
    let lines = |one: &Asked| -> Vec<Value> {
        String::from_utf8_lossy(&one.body).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    batches.flat_map(lines).collect()
}

/// The numbers among them: key, step, value.
fn numbers(events: &[Value]) -> Vec<(String, u64, Value)> {
    let numbers = events.iter().filter(|event| event["type"] == "training_stats_scalar");
    let tag = |event: &Value| format!("{}/{}", event["metric"].as_str().unwrap(), event["variant"].as_str().unwrap());
    numbers.map(|event| (tag(event), event["iter"].as_u64().unwrap(), event["value"].clone())).collect()
}

#[test]
fn clearml_is_sent_what_its_own_sdk_sends_in_the_same_order() {
    let server = Server::start(clearml);
    let pipe = clearml_pipe(&server.address);
    let said = clearml_run(&pipe, &RUN);
    let asked = server.asked();
    assert_eq!(asked[0].authorization, "Basic YWNjZXNzOnMzY3IzdA==");
    assert!(asked[1..].iter().all(|one| one.authorization == "Bearer of-the-login"));

    let recorded_of_sdk = include_str!("../parity/trackers/clearml.json");
    let sdk: Vec<Value> = serde_json::from_str(recorded_of_sdk).expect("JSON");
    let place = |call: &str, kind: &str| {
        let found = sdk.iter().position(|one| one["call"] == call && one["kind"].as_str().unwrap_or_default() == kind);
        found.unwrap_or_else(|| panic!("the SDK sends no {call} {kind}"))
    };
    // What the SDK tells of a model with `models.edit`, and what the server takes beside.
    let more = ["comment", "task", "tags", "status_message"];
    let mut order = Vec::new();
    for one in &asked {
        for (call, kind, fields) in calls(one) {
            let of_sdk = &sdk[place(&call, &kind)];
            let known = of_sdk["fields"].as_array().expect("a list");
            let unknown: Vec<_> = fields
                .iter()
                .filter(|field| !more.contains(&field.as_str()) && !known.iter().any(|one| one == *field))
                .collect();
            assert!(unknown.is_empty(), "{call} {kind}: {unknown:?}");
            assert_eq!(one.kind.split(';').next(), of_sdk["type"].as_str(), "{call}");
            if !order.contains(&place(&call, &kind)) {
                order.push(place(&call, &kind));
            }
        }
    }
    // When the first number or image comes is up to the run, and the SDK looks at its task before it begins.
    let free = ["events.add_batch", "", "tasks.get_by_id"];
    order.retain(|at| !free.contains(&sdk[*at]["call"].as_str().expect("a call")));
    assert!(order.is_sorted(), "{order:?}");

    let events = events(&asked);
    assert_eq!(numbers(&events), recorded(&pipe));
    let images = events.iter().filter(|event| event["type"] == "training_debug_image").count();
    assert_eq!(images, asked.iter().filter(|one| one.kind.starts_with("multipart")).count());
    assert_eq!(images, 2);
    for text in [everything(&pipe.path("run")), said.stdout, said.stderr] {
        assert!(!text.contains("s3cr3t") && !text.contains("of-the-login"), "{text}");
    }
}

#[test]
fn a_resumed_run_goes_on_in_its_clearml_task_which_is_reset_where_it_went_back() {
    let server = Server::start(clearml);
    let pipe = clearml_pipe(&server.address);
    clearml_run(&pipe, &RUN);
    let sent = numbers(&events(&server.asked())).len();
    let more = ["run", "tracked.toml", "--device", "cpu", "--resume", "run", "--set", "engine.trainer.max_epochs=3"];
    clearml_run(&pipe, &more);
    let of = |asked: &[Asked], call: &str| -> Vec<Value> {
        asked.iter().filter(|one| one.path.ends_with(call)).map(Asked::json).collect()
    };
    let asked = server.asked();
    assert_eq!((of(&asked, "tasks.create").len(), of(&asked, "tasks.reset").len()), (1, 0));
    let started = json!([{ "task": "the-task", "force": false }, { "task": "the-task", "force": true }]);
    assert_eq!(json!(of(&asked, "tasks.started")), started);
    assert!(numbers(&events(&asked)).len() > sent);
    assert_eq!(numbers(&events(&asked)), recorded(&pipe), "each number once");

    let first = pipe.names("run/checkpoints")[0].clone();
    let back = format!("run/checkpoints/{first}");
    clearml_run(&pipe, &["run", "tracked.toml", "--device", "cpu", "--resume", &back, "--in-place"]);
    let asked = server.asked();
    let at = asked.iter().position(|one| one.path.ends_with("tasks.reset")).expect("a reset");
    let reset = json!([{ "task": "the-task", "force": true, "delete_output_models": true }]);
    assert_eq!(json!(of(&asked, "tasks.reset")), reset);
    assert_eq!(of(&asked, "tasks.create").len(), 1);
    assert_eq!(numbers(&events(&asked[at..])), recorded(&pipe), "all of it anew, and nothing of the other past");
    let ends = of(&asked[at..], "tasks.completed");
    assert_eq!(ends.len(), 1, "{ends:?}");
}

#[test]
fn an_edit_takes_a_run_at_work_to_another_server() {
    let (one, other) = (Server::start(mlflow), Server::start(mlflow));
    let pipe = pipe(&one.address, "");
    let endless = ["--watch", "--quiet", "--set", "engine.trainer.max_epochs=1000000"];
    let child = start(pipe.command(&[&RUN[..], &endless].concat()).env("PIPE_TEST_VALUE", ""));
    wait_for("numbers", || !metrics(&one.asked(), "run2").is_empty());
    pipe.write("tracked.new", &pipe.read("tracked.toml").replace(&one.address, &other.address));
    std::fs::rename(pipe.path("tracked.new"), pipe.path("tracked.toml")).expect("renamed");
    wait_for("numbers at the other server", || !metrics(&other.asked(), "run2").is_empty());
    let index = pipe.read("run/pipelines/index.jsonl");
    let said: Vec<Value> = index.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(
        (&said[1]["outcome"], &said[1]["changes"][0]["name"]),
        (&json!("applied"), &json!("sink.mlflow.url")),
        "{index}"
    );
    kill("INT", child.id());
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(130), "{}", String::from_utf8_lossy(&ended.stderr));
    let recorded = recorded(&pipe);
    assert_eq!(metrics(&other.asked(), "run2"), recorded, "all of it, from the beginning");
    let before = metrics(&one.asked(), "run2");
    assert!(!before.is_empty() && before[..] == recorded[..before.len()]);
    assert!(other.asked().last().is_some_and(|last| last.json()["status"] == "KILLED"));
}

#[test]
fn an_offline_session_of_clearml_has_the_whole_run() {
    let pipe = Pipe::digits("tracked.toml", &format!("{PIPELINE}[sink.clearml]\ntype = \"clearml\"\noffline = true\n"));
    pipe.ok(&RUN);
    let task = pipe.json("run/clearml/task.json");
    let lines = pipe.read("run/clearml/metrics.jsonl");
    let events: Vec<Value> =
        lines.lines().flat_map(|line| serde_json::from_str::<Vec<Value>>(line).expect("an array")).collect();
    assert!(events.iter().all(|event| event["task"] == task["id"]));
    let (images, numbers): (Vec<&Value>, Vec<&Value>) =
        events.iter().partition(|event| event["type"] == "training_debug_image");
    assert_eq!((numbers.len(), images.len()), (recorded(&pipe).len(), 2));
    for image in images {
        assert!(pipe.path("run/clearml/data").join(image["key"].as_str().expect("a key")).is_file());
    }
    assert_eq!(task["hyperparams"]["General"]["loader.train.batch_size"]["value"], "32");
    assert!(pipe.path("run/clearml.zip").is_file());
}
