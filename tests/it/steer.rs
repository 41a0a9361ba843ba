//! A run that is asked, by files in its folder and from the page, while it trains.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use super::program::Pipe;
use super::signals::{kill, start, wait_for};
use pipe_test_support::browser::Browser;
use pipe_test_support::{http, skip};

/// A training that only ends when it is told to.
const PIPELINE: &str = "engine.trainer.max_epochs = 1000000\n";

const RUN: [&str; 5] = ["run", "life.toml", "--quiet", "--out", "runs/life"];

/// A run at work, ended with the test.
struct Life {
    pipe: Pipe,
    child: Child,
}

impl Drop for Life {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn life() -> Life {
    let pipe = Pipe::digits("life.toml", PIPELINE);
    let child = start(&mut pipe.command(&RUN));
    wait_for("a record", || !records(&pipe).is_empty());
    Life { pipe, child }
}

/// What has been recorded by now, but for a line that is being written.
fn records(pipe: &Pipe) -> Vec<Value> {
    let text = std::fs::read_to_string(pipe.path("runs/life/records.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Asks as anyone can who may write in the run's folder, and waits for the answer.
fn ask(pipe: &Pipe, name: &str, request: &Value) -> Value {
    let folder = pipe.path("runs/life/requests");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(".new"), request.to_string()).unwrap();
    std::fs::rename(folder.join(".new"), folder.join(format!("{name}.json"))).unwrap();
    let mut answer = Value::Null;
    wait_for(&format!("an answer to {name}"), || {
        let text = std::fs::read_to_string(folder.join(format!("{name}.answer.json"))).unwrap_or_default();
        answer = serde_json::from_str(&text).unwrap_or_default();
        answer["stage"] == "done" || answer["stage"] == "refused"
    });
    wait_for("its end", || !folder.join(format!("{name}.json")).exists());
    answer
}

/// The learning rates of the steps, without those that are as the one before.
fn rates(records: &[Value]) -> Vec<(u64, f64)> {
    let of = records.iter().filter(|record| record["tag"] == "train/lr");
    let mut rates: Vec<(u64, f64)> =
        of.map(|record| (record["step"].as_u64().unwrap(), record["value"].as_f64().unwrap())).collect();
    rates.dedup_by_key(|(_, rate)| *rate);
    rates
}

#[test]
fn a_run_is_edited_saved_and_stopped_by_requests_in_its_folder() {
    let mut life = life();
    let pipe = &life.pipe;
    let own = pipe.read("life.toml") + &pipe.read("digits.toml");
    let text = pipe.read("runs/life/pipeline.toml");
    let edit = |name: &str, text: String, version: &str| {
        ask(
            pipe,
            name,
            &json!({ "ask": "edit", "author": "ada", "why": "it is\nslow", "text": text, "version": version }),
        )
    };
    let first = "000_step_000000.toml";

    let broken = edit("a", text.replace("lr = 0.05", "lr = \"fast\""), first);
    assert_eq!((&broken["stage"], &broken["report"]["outcome"]), (&json!("refused"), &json!("invalid")), "{broken}");
    let line = 1 + text.lines().position(|line| line == "lr = 0.05").expect("the line");
    assert_eq!(broken["diagnostics"][0]["line"], json!(line), "{broken}");
    let fixed = edit("b", text.replace("seed = 7", "seed = 8"), first);
    assert_eq!((&fixed["stage"], &fixed["report"]["outcome"]), (&json!("refused"), &json!("refused")), "{fixed}");

    let applied = edit("c", text.replace("lr = 0.05", "lr = 0.01"), first);
    assert_eq!((&applied["stage"], &applied["report"]["outcome"]), (&json!("done"), &json!("applied")), "{applied}");
    let outdated = edit("d", text.replace("lr = 0.05", "lr = 0.02"), first);
    assert!(outdated["said"].as_str().unwrap().contains("has been edited meanwhile"), "{outdated}");

    let saved = ask(pipe, "e", &json!({ "ask": "checkpoint", "author": "bob" }));
    let name = saved["said"].as_str().unwrap().split(' ').nth(1).unwrap().to_owned();
    assert!(pipe.path(&format!("runs/life/checkpoints/{name}/complete.json")).exists(), "{saved}");
    let unknown = ask(pipe, "f", &json!({ "ask": "reboot" }));
    assert_eq!((&unknown["stage"], &unknown["ask"]), (&json!("refused"), &Value::Null));

    let stopped = ask(pipe, "g", &json!({ "ask": "stop", "author": "ada", "why": "enough" }));
    assert!(
        stopped["said"].as_str().unwrap().starts_with("the run has ended; its latest checkpoint is step_"),
        "{stopped}"
    );
    assert_eq!(life.child.wait().unwrap().code(), Some(130));
    assert_eq!(pipe.json("runs/life/run.json")["status"], "interrupted");
    assert_eq!(pipe.read("life.toml") + &pipe.read("digits.toml"), own, "the user's own files");

    let step = applied["report"]["step"].as_u64().unwrap();
    let records = records(pipe);
    assert_eq!(rates(&records), [(1, 0.05), (step + 1, 0.01)]);
    let texts = |tag: &str| -> Vec<String> {
        let of = records.iter().filter(|record| record["tag"] == tag);
        of.map(|record| record["value"].as_str().unwrap().lines().next().unwrap().to_owned()).collect()
    };
    let edits = texts("pipeline/edit");
    assert!(
        edits[2].starts_with(&format!("edit 3 by ada (it is slow), applied after step {step} (epoch ")),
        "{edits:?}"
    );
    assert_eq!(texts("run/request"), ["asked for a checkpoint by bob", "asked for a stop by ada (enough)"]);
    let index = pipe.read("runs/life/pipelines/index.jsonl");
    let index: Vec<Value> = index.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let outcomes: Vec<&str> = index.iter().map(|line| line["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["started", "invalid", "refused", "applied", "refused", "checkpoint", "stop"]);
    assert_eq!((&index[3]["author"], &index[6]["why"]), (&json!("ada"), &json!("enough")));
    let origins = pipe.json("runs/life/pipelines/origins.json");
    assert_eq!(origins["optimizer.sgd.lr"], "edit 3 by ada (it is slow)");
    assert_eq!(origins["loader.train.batch_size"], "digits.toml:16");

    // What a life left unread the next one does not do.
    pipe.write("runs/life/requests/late.json", "{\"ask\": \"stop\"}");
    pipe.ok(&["run", "life.toml", "--quiet", "--resume", "runs/life", "--set", "engine.trainer.max_epochs=1"]);
    assert_eq!(pipe.json("runs/life/requests/late.answer.json")["stage"], "refused");
}

#[test]
fn an_edit_that_waits_for_the_end_of_the_epoch_is_answered_again_when_it_has_come() {
    let life = life();
    let pipe = &life.pipe;
    let text = pipe.read("runs/life/pipeline.toml");
    let edited = text.replace("batch_size = 16", "batch_size = 8");
    assert_ne!(text, edited);
    let request = json!({ "ask": "edit", "author": "ada", "why": "smaller", "text": edited });
    let first = ask(pipe, "a", &request);
    assert_eq!(first["stage"], "done", "{first}");
    let mut answer = first;
    wait_for("the end of the epoch", || {
        let text = std::fs::read_to_string(pipe.path("runs/life/requests/a.answer.json")).unwrap_or_default();
        answer = serde_json::from_str(&text).unwrap_or_default();
        answer["report"]["outcome"] == "completed"
    });
    assert_eq!((&answer["stage"], &answer["author"]), (&json!("done"), &json!("ada")), "{answer}");
    // The answer is written first.
    let read = || pipe.read("runs/life/pipelines/index.jsonl");
    wait_for("the line of its completion", || read().ends_with('\n') && read().lines().count() == 3);
    let index: Vec<Value> = read().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (applied, completed) = (&index[1], &index[2]);
    assert_eq!((&applied["outcome"], &completed["outcome"]), (&json!("applied"), &json!("completed")));
    assert!(applied["waiting"].as_array().unwrap().contains(&json!("loader.train")), "{applied}");
    assert_eq!(
        (&completed["edit"], &completed["author"], &completed["why"]),
        (&json!(1), &json!("ada"), &json!("smaller"))
    );
    let step = completed["step"].as_u64().unwrap();
    assert!(step % 4 == 0 && step >= applied["step"].as_u64().unwrap(), "four batches made an epoch: {completed}");
}

#[test]
fn weights_are_edited_at_work_and_the_trail_names_where_they_are_from() {
    let mut life = life();
    let pipe = &life.pipe;
    let saved = ask(pipe, "a", &json!({ "ask": "checkpoint" }));
    let name = saved["said"].as_str().unwrap().split(' ').nth(1).unwrap().to_owned();
    // The next one that is asked for takes its place.
    let from = pipe.path("kept");
    std::fs::rename(pipe.path(&format!("runs/life/checkpoints/{name}")), &from).unwrap();
    let text = pipe.read("runs/life/pipeline.toml");
    let with = |weights: &Path| {
        let edited = text.replace("lr = 0.05", "lr = 0.01");
        edited.replace("[model.net]\n", &format!("[model.net]\nweights = {weights:?}\noptimizer_state = true\n"))
    };
    let edit = |name: &str, text: String| {
        ask(pipe, name, &json!({ "ask": "edit", "author": "ada", "why": "back", "text": text }))
    };
    let refused = edit("b", with(&pipe.path("nowhere")));
    assert_eq!((&refused["stage"], &refused["report"]["outcome"]), (&json!("refused"), &json!("refused")), "{refused}");
    let applied = edit("c", with(&from));
    assert_eq!((&applied["stage"], &applied["report"]["outcome"]), (&json!("done"), &json!("applied")), "{applied}");
    let step = applied["report"]["step"].as_u64().unwrap();
    let said = applied["said"].as_str().unwrap();
    assert!(
        said.contains("model.net: all 2 tensors loaded from ")
            && said.contains("optimizer.sgd: their state from there, too"),
        "{said}"
    );
    assert!(!said.contains("rebuilt with them: model.net"), "{said}");
    wait_for("a checkpoint with it", || {
        pipe.names("runs/life/checkpoints").iter().any(|name| name.ends_with(".signal"))
    });
    ask(pipe, "d", &json!({ "ask": "stop" }));
    assert_eq!(life.child.wait().unwrap().code(), Some(130));
    let index = pipe.read("runs/life/pipelines/index.jsonl");
    let lines: Vec<Value> = index.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line = lines.iter().find(|line| line["outcome"] == "applied").expect("its line");
    let loaded = &line["loaded"][0];
    assert_eq!((&loaded["model"], &loaded["from"]), (&json!("model.net"), &json!(from)), "{line}");
    assert_eq!((&loaded["with"], &line["author"]), (&json!(["optimizer.sgd"]), &json!("ada")), "{line}");
    assert_eq!(rates(&records(pipe)), [(1, 0.05), (step + 1, 0.01)]);
}

/// `pipe ui` on the runs of a folder: its process, its address and its token.
fn page(pipe: &Pipe) -> (Child, std::net::SocketAddr, String) {
    let mut command = pipe.command(&["ui", "runs", "--port", "0"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the program starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let (address, token) = line.trim().strip_prefix("http://").unwrap().split_once("/#token=").unwrap();
    (child, address.parse().unwrap(), token.to_owned())
}

#[test]
fn the_page_is_served_until_a_signal() {
    let pipe = Pipe::new();
    std::fs::create_dir(pipe.path("runs")).unwrap();
    let (mut child, address, token) = page(&pipe);
    let known = format!("Bearer {token}");
    let session = http::ask(address, "GET", "/api/session", &[("Authorization", &known)], "");
    assert_eq!(session.json()["writes"], true);
    let front = http::ask(address, "GET", "/", &[], "");
    assert!(
        front.status == 200 && front.text().contains("<title>pipe</title>") || front.text().contains("built without")
    );
    kill("INT", child.id());
    let status = child.wait().unwrap();
    assert!(!status.success() && status.code() != Some(101), "{status}");
}

#[test]
fn an_edit_from_the_page_is_in_the_records_at_its_step() {
    let mut life = life();
    let (mut server, address, token) = page(&life.pipe);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| steered(&life.pipe, address, &token)));
    server.kill().unwrap();
    server.wait().unwrap();
    match outcome {
        Err(panic) => std::panic::resume_unwind(panic),
        Ok(false) => return,
        Ok(true) => {}
    }
    assert_eq!(life.child.wait().unwrap().code(), Some(130));
    let found = rates(&records(&life.pipe));
    let index = life.pipe.read("runs/life/pipelines/index.jsonl");
    let applied: Vec<Value> = index
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["outcome"] == "applied")
        .collect();
    assert_eq!(applied.len(), 1, "{index}");
    assert_eq!((&applied[0]["author"], &applied[0]["why"]), (&json!("ada"), &json!("calmer")));
    assert_eq!(found, [(1, 0.05), (applied[0]["step"].as_u64().unwrap() + 1, 0.025)]);
}

/// Puts a text in place of a line of the editor, as typing does.
const TYPE: &str = "const root = document.querySelector('.editor').shadowRoot;
    const line = [...root.querySelectorAll('.cm-line')].find((line) => line.innerText.startsWith('FROM'));
    const range = document.createRange(); range.selectNodeContents(line);
    root.querySelector('.cm-content').focus();
    const chosen = root.getSelection ? root.getSelection() : getSelection();
    chosen.removeAllRanges(); chosen.addRange(range);
    return document.execCommand('insertText', false, 'TO');";

/// Whether there was a browser.
fn steered(pipe: &Pipe, address: std::net::SocketAddr, token: &str) -> bool {
    if http::ask(address, "GET", "/", &[], "").status != 200 {
        skip!("the page was not made");
        return false;
    }
    let Some(browser) = Browser::open() else {
        skip!("there is no Chromium with a chromedriver");
        return false;
    };
    let table = http::ask(address, "GET", "/api/runs", &[], "").json();
    let id = table["runs"][0]["id"].as_str().unwrap().to_owned();
    browser.go(&format!("http://{address}/run/{id}/pipeline#token={token}"));
    browser.click("button[data-ask=edit]");
    let says = |text: &str| {
        browser.wait(&format!("return document.querySelector('.editing')?.innerText.includes({})", json!(text)));
    };
    let replace = |from: &str, to: &str| browser.run(&TYPE.replace("FROM", from).replace("TO", to));
    says("Nothing yet.");
    // A mistake is marked at its line, and cannot be applied.
    replace("lr = ", "lr = \\\"fast\\\"");
    let line = 1 + pipe.read("runs/life/pipeline.toml").lines().position(|line| line == "lr = 0.05").unwrap();
    says(&format!("line {line}"));
    assert_eq!(browser.run("return document.querySelector('.editing button.main').disabled"), true);
    // What no run takes is told before it is asked for.
    replace("lr = ", "lr = 0.025");
    says("0.05 → 0.025 at the next iteration");
    replace("seed = 7", "seed = 8");
    says("cannot change in a running process");
    replace("seed = 8", "seed = 7");
    says("0.05 → 0.025 at the next iteration");
    browser.fill("input[aria-label='your name']", "ada");
    browser.fill("input[aria-label='why']", "calmer");
    browser.click(".editing button.main");
    browser.wait("return document.querySelector('.steer .asked.done')?.innerText.includes('edit 1 by ada (calmer), applied after step')");
    browser.wait("return document.querySelector('.edit.applied')?.innerText.includes('optimizer.sgd.lr')");
    browser.click("button[data-ask=stop]");
    browser.click(".steer form button.main");
    browser.wait("return document.querySelector('.status')?.innerText.includes('interrupted')");
    browser.wait("return document.querySelector('.steer .asked.done')?.innerText.includes('its latest checkpoint is')");
    assert_eq!(browser.complaints(), Vec::<String>::new());
    assert!(Path::new(&pipe.path("runs/life/requests")).is_dir());
    true
}
