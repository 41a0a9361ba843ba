//! What is asked of a run by way of the server; a run that is none plays its part.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pipe_history::lock::Lock;
use pipe_history::requests::{Answer, Requests, Stage};
use serde_json::{Value, json};

use crate::made::{self, Spec};
use crate::{Served, served};

/// A run at work, for as long as its lock is held, and one that is done.
pub(crate) fn two() -> (Served, Lock) {
    let served = served(|root| {
        made::run(root, "live", &Spec { status: "running", ..Spec::default() });
        made::run(root, "done", &Spec::default());
    });
    let lock = Lock::take(&served.root.join("live")).unwrap();
    (served, lock)
}

#[test]
fn a_run_at_work_is_asked_and_answers() {
    let (served, _lock) = two();
    let address = format!("/api/runs/{}/requests", served.id("live"));
    let stop = json!({ "ask": "stop", "author": "ada", "why": "it diverges" });
    let asked = served.post_known(&address, &stop);
    assert_eq!(asked.status, 200, "{}", asked.text());
    let name = asked.json()["name"].as_str().unwrap().to_owned();
    let requests = Requests::of(&served.root.join("live"));
    let unread = requests.unread();
    assert_eq!((unread.len(), &unread[0].0, &*unread[0].1.author), (1, &name, "ada"));
    assert_eq!(served.json(&address)[0]["stage"], "asked");
    requests.answer(&name, &Answer::to(&unread[0].1, Stage::Done, "it ended")).unwrap();
    let told = served.json(&address);
    let one = (&told[0]["name"], &told[0]["stage"], &told[0]["said"], &told[0]["why"]);
    assert_eq!(one, (&json!(name), &json!("done"), &json!("it ended"), &json!("it diverges")));
    for (wrong, status) in [
        (json!({ "ask": "edit" }), 400),
        (json!({ "ask": "stop", "text": "" }), 400),
        (json!({ "ask": "stop", "why": "x".repeat(501) }), 400),
        (json!({ "ask": "reboot" }), 422),
        (json!({ "ask": "stop", "more": 1 }), 422),
    ] {
        assert_eq!(served.post_known(&address, &wrong).status, status, "{wrong}");
    }
    let idle = served.post_known(&format!("/api/runs/{}/requests", served.id("done")), &stop);
    assert_eq!(idle.status, 409);
    assert!(idle.text().contains("not at work"), "{}", idle.text());
    assert_eq!(served.post_known("/api/runs/0123456789abcdef/requests", &stop).status, 404);
}

#[test]
fn only_who_has_the_token_steers_and_no_page_of_elsewhere() {
    let (served, _lock) = two();
    let id = served.id("live");
    let token = format!("Bearer {}", served.token);
    let own = format!("http://{}", served.address);
    for (what, body) in [
        ("requests", json!({ "ask": "stop" })),
        ("requests", json!({ "ask": "checkpoint" })),
        ("requests", json!({ "ask": "edit", "text": "" })),
        ("check", json!({ "text": "" })),
    ] {
        let address = format!("/api/runs/{id}/{what}");
        let status = |headers: &[(&str, &str)]| served.post(&address, headers, &body).status;
        assert_eq!(status(&[]), 401, "{what} {body}");
        assert_eq!(status(&[("Authorization", "Bearer nonsense")]), 401);
        assert_eq!(status(&[("Authorization", &token), ("Origin", "http://evil.example")]), 403);
        assert_eq!(status(&[("Authorization", &token), ("Sec-Fetch-Site", "cross-site")]), 403);
        assert_eq!(Requests::of(&served.root.join("live")).all().len(), 0, "nothing was asked");
    }
    let allowed = [("Authorization", token.as_str()), ("Origin", own.as_str())];
    assert_eq!(served.post(&format!("/api/runs/{id}/requests"), &allowed, &json!({ "ask": "stop" })).status, 200);
}

#[test]
fn a_folder_that_leads_elsewhere_gets_no_request() {
    let (served, _lock) = two();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("secret.answer.json"), "{\"said\": \"s\"}").unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), served.root.join("live/requests")).unwrap();
    let address = format!("/api/runs/{}/requests", served.id("live"));
    assert_eq!(served.post_known(&address, &json!({ "ask": "stop" })).status, 500);
    assert_eq!(served.json(&address), json!([]));
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);
}

#[test]
fn a_text_is_checked_by_the_program() {
    let (served, _lock) = two();
    let checked = |text: &str| -> Value {
        served.post_known(&format!("/api/runs/{}/check", served.id("live")), &json!({ "text": text })).json()
    };
    assert_eq!(checked("a\nbroken")["diagnostics"][0]["line"], 2);
    assert_eq!(checked("a")["valid"], true);
}

/// The process of a job of this machine, until it is told to end or this is dropped.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn start() -> Process {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new("sh");
        command.args(["-c", "read line", "run/job/job.sh"]).process_group(0);
        Process(command.stdin(Stdio::piped()).spawn().unwrap())
    }

    /// Whether it was told to end; `wait` would close what it reads, upon which it ends by itself.
    pub(crate) fn was_ended(&mut self) -> bool {
        for _ in 0..12_000 {
            if let Some(status) = self.0.try_wait().unwrap() {
                return std::os::unix::process::ExitStatusExt::signal(&status) == Some(15);
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        false
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A run that was submitted and has not begun.
pub(crate) fn submitted(root: &Path, name: &str, engine: &str, job: &str) {
    let own = root.join(name).join("job");
    fs::create_dir_all(&own).unwrap();
    let receipt = json!({ "engine": engine, "job": job, "name": "queued", "submitted": 1_790_000_000 });
    fs::write(own.join("submitted.json"), receipt.to_string()).unwrap();
    fs::write(own.join("job.out"), "the module is not there\n").unwrap();
}

/// What the table says of a run's job once it is known.
fn known(served: &Served, name: &str) -> Value {
    for _ in 0..600 {
        let table = served.json("/api/runs");
        let rows = table["runs"].as_array().unwrap();
        let row = rows.iter().find(|row| row["folder"].as_str().unwrap().ends_with(name)).unwrap();
        if row["job"]["state"].is_string() {
            return row.clone();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("no state of {name} came");
}

#[test]
fn a_run_in_a_queue_is_seen_and_taken_out_of_it() {
    let mut job = Process::start();
    let served = served(|root| {
        submitted(root, "waits", "local", &job.0.id().to_string());
        // SLURM is not there, or has no such job.
        submitted(root, "gone", "slurm", "4000000000");
        submitted(root, "evil", "slurm", "--user=root");
        made::run(root, "done", &Spec::default());
    });
    let row = known(&served, "waits");
    assert_eq!(
        (&row["status"], &row["pipeline"], &row["job"]["state"]),
        (&json!("submitted"), &json!("queued"), &json!("RUNNING"))
    );
    let rows = served.json("/api/runs")["runs"].as_array().unwrap().len();
    assert_eq!(rows, 3, "what is no job is no run");
    assert_eq!(served.json("/api/runs?where=status%20%3D%20submitted")["runs"].as_array().unwrap().len(), 2);
    let (waits, gone) = (served.id("waits"), served.id("gone"));
    let page = served.json(&format!("/api/runs/{waits}"));
    assert_eq!((&page["log"], &page["run"]["job"]["engine"]), (&json!("job/job.out"), &json!("local")));
    let log = served.json(&format!("/api/runs/{waits}/console?job=true"));
    assert_eq!(log["text"], "the module is not there\n");
    assert_eq!(served.json(&format!("/api/runs/{waits}/console"))["text"], "");
    assert_eq!(served.get(&format!("/api/runs/{}/console?job=true", served.id("done"))).status, 404);

    let stop = json!({ "ask": "stop" });
    let address = format!("/api/runs/{waits}/job");
    assert_eq!(served.post(&address, &[], &stop).status, 401);
    let refused = served.post_known(&address, &json!({ "ask": "requeue" }));
    assert!(refused.status == 409 && refused.text().contains("only SLURM"), "{}", refused.text());
    for (name, status) in [("gone", 409), ("done", 409)] {
        assert_eq!(served.post_known(&format!("/api/runs/{}/job", served.id(name)), &stop).status, status, "{name}");
    }
    assert_eq!(served.json(&format!("/api/runs/{gone}"))["run"]["job"]["state"], Value::Null);
    assert!(job.0.try_wait().unwrap().is_none(), "it is at work yet");
    assert_eq!(served.post_known(&address, &stop).status, 200);
    assert!(job.was_ended());
}
