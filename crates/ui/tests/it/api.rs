//! What the server answers.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use pipe_history::scalars::Writer;
use pipe_history::{History, Point};
use serde_json::{Value, json};

use crate::made::{self, BEGUN, Spec};
use crate::{Served, served};

/// Three learning rates, one of which failed, in two groups.
fn three() -> Served {
    served(|root| {
        for (at, lr) in [0.03, 0.1, 0.4].into_iter().enumerate() {
            let status = if at == 2 { "failed" } else { "done" };
            let group = Some(if at == 0 { "slow" } else { "fast" });
            made::run(
                root,
                &format!("digits/{at}"),
                &Spec { lr, status, group, created: BEGUN + at as f64, ..Spec::default() },
            );
        }
    })
}

fn column(table: &Value, at: usize) -> Vec<Value> {
    table["runs"].as_array().unwrap().iter().map(|row| row["values"][at].clone()).collect()
}

#[test]
fn a_table_has_the_rows_and_columns_that_are_asked_for() {
    let served = three();
    let table = served.json("/api/runs");
    assert_eq!(table["total"], 3);
    // Metrics, and the numbers by which the runs differ.
    assert_eq!(table["columns"], json!(["eval/accuracy", "eval/loss", "optimizer.sgd.lr"]));
    assert_eq!(column(&table, 2), [0.4, 0.1, 0.03], "the newest first");
    let table = served.json("/api/runs?where=optimizer.sgd.lr%3E0.05&sort=optimizer.sgd.lr&columns=%5B%22optimizer.sgd.lr%22,%22min(train/loss)%22%5D");
    assert_eq!(column(&table, 0), [0.1, 0.4]);
    let least = (1..=600).map(|step| made::loss(&Spec::default(), step)).fold(f64::INFINITY, f64::min);
    assert_eq!(column(&table, 1)[0], least);
    let failed = served.json("/api/runs?where=status%3Dfailed");
    assert_eq!(failed["runs"][0]["error"], "out of memory at step 77");
    assert_eq!(failed["runs"].as_array().unwrap().len(), 1);
    let keys = served.json("/api/keys");
    assert!(keys["options"].as_array().unwrap().contains(&json!("optimizer.sgd.momentum")));
    assert_eq!(keys["curves"], json!(["eval/accuracy", "eval/loss", "train/loss", "train/lr"]));
}

#[test]
fn a_wrong_expression_is_told_with_its_place() {
    let served = three();
    let answer = served.get("/api/runs?where=optimizer.sgd.lrr%3E1");
    assert_eq!(answer.status, 400);
    let error = answer.json()["error"].as_str().unwrap().to_owned();
    assert_eq!(
        error,
        "no run has `optimizer.sgd.lrr`; there is `optimizer.sgd.lr`\n  optimizer.sgd.lrr>1\n  ^^^^^^^^^^^^^^^^^"
    );
    assert_eq!(served.get("/api/runs?where=status%3D").status, 400);
    assert_eq!(served.get("/api/runs?sort=nothing").status, 400);
    assert_eq!(served.get("/api/nothing").status, 404);
    assert_eq!(served.get("/api/runs/0000000000000000").status, 404);
}

#[test]
fn a_run_is_told_whole() {
    let served = three();
    let id = served.id("digits/1");
    let page = served.json(&format!("/api/runs/{id}"));
    assert_eq!(page["run"]["options"]["optimizer.sgd.lr"], 0.1);
    assert_eq!(page["origins"]["optimizer.sgd.lr"], "--set optimizer.sgd.lr");
    assert_eq!(page["steps_per_epoch"], 100.0);
    let machine = page["machine"].as_array().unwrap();
    assert!(machine.contains(&json!("cpu_percent")) && machine.contains(&json!("share/handler.checkpoint")));
    assert_eq!(page["shares"]["parts"]["engine.trainer/backward"], json!({ "mean": 40.0, "last": 40.0 }));
    let outcomes: Vec<&str> =
        page["edits"].as_array().unwrap().iter().map(|edit| edit["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["started", "applied", "refused"]);
    let checkpoints = &page["checkpoints"];
    assert_eq!(
        (&checkpoints["all"][0]["name"], &checkpoints["best"]["name"]),
        (&json!("step_000300"), &json!("step_000300"))
    );
    let console = served.json(&format!("/api/runs/{id}/console"));
    let text = console["text"].as_str().unwrap();
    assert!(text.starts_with("epoch 1/6") && text.lines().count() == 6);
    let half = text.len() / 2;
    let rest = served.json(&format!("/api/runs/{id}/console?from={half}"));
    assert_eq!(rest["text"].as_str().unwrap(), &text[half..]);
    let files = served.json(&format!("/api/runs/{id}/files"));
    assert!(
        files["files"]
            .as_array()
            .unwrap()
            .iter()
            .any(|file| file["path"] == "checkpoints/step_000600/model.net.safetensors")
    );
    let file = served.get(&format!("/api/runs/{id}/file?path=checkpoints/step_000600/model.net.safetensors"));
    assert_eq!((file.status, file.body.len(), file.header("content-length")), (200, 30_000, "30000"));
    assert_eq!(file.header("content-disposition"), "attachment; filename=\"model.net.safetensors\"");
}

#[test]
fn a_curve_has_its_extremes_however_few_pixels_it_has() {
    let served = served(|root| {
        let folder = made::run(root, "long", &Spec::default());
        fs::remove_dir_all(folder.join("scalars")).unwrap();
        let mut writer = Writer::open(&folder, None).unwrap();
        for step in 0..100_000u64 {
            let value = if step == 77_777 { 50.0 } else { (step as f64 / 1000.0).sin() };
            let value = if step == 5_000 { f64::NAN } else { value };
            writer
                .push(
                    "train/loss",
                    &"engine.trainer",
                    Point { step, epoch: step / 100 + 1, time: BEGUN + step as f64, value },
                )
                .unwrap();
        }
        writer.flush().unwrap();
    });
    let id = served.id("long");
    let series =
        |query: &str| served.json(&format!("/api/series?runs={id}&tag=train/loss&{query}"))["curves"][0].clone();
    let numbers =
        |list: &Value| list.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect::<Vec<f64>>();
    let whole = series("pixels=300");
    let (steps, values) = (numbers(&whole["points"]["step"]), numbers(&whole["points"]["value"]));
    assert!(values.len() <= 600 && steps.windows(2).all(|two| two[0] < two[1]));
    let at = values.iter().position(|value| *value == 50.0).expect("the spike");
    assert_eq!(steps[at], 77_777.0);
    assert_eq!(
        (&whole["count"], &whole["non_finite"], &whole["last"]["step"]),
        (&json!(100_000), &json!(1), &json!(99_999))
    );
    let bad = whole["bad"][0][0].as_f64().unwrap();
    assert!((bad - 5000.0).abs() < 100_000.0 / 300.0, "{bad}");
    // The same part over each axis.
    for query in ["axis=step&from=1000&to=1099", "axis=relative&from=1000&to=1099", "axis=epoch&from=10&to=10.99"] {
        let part = series(&format!("{query}&pixels=300"));
        let steps = numbers(&part["points"]["step"]);
        assert_eq!((steps.len(), steps[0], steps[99]), (100, 1000.0, 1099.0), "{query}");
    }
    let part = series(&format!("axis=wall&from={}&to={}&pixels=300", BEGUN + 1000.0, BEGUN + 1099.0));
    assert_eq!(numbers(&part["points"]["step"]).len(), 100);
}

#[test]
fn a_smoothed_curve_is_that_of_all_points_whatever_part_is_shown() {
    let served = three();
    let id = served.id("digits/1");
    let smooth = |query: &str| {
        served.json(&format!("/api/series?runs={id}&tag=train/loss&smooth=0.9&{query}"))["curves"][0]["smooth"].clone()
    };
    let spec = Spec::default();
    let (mut average, mut left) = (0.0, 1.0);
    let expected: Vec<f64> = (1..=600)
        .map(|step| {
            average = 0.9 * average + 0.1 * made::loss(&spec, step);
            left *= 0.9;
            average / (1.0 - left)
        })
        .collect();
    for (query, first) in [("pixels=2000", 1), ("pixels=2000&from=301&to=600", 301)] {
        let found = smooth(query);
        let values = found["value"].as_array().unwrap();
        assert_eq!((values.len(), &found["step"][0]), (601 - first, &json!(first)));
        for (found, expected) in values.iter().zip(&expected[first - 1..]) {
            assert!((found.as_f64().unwrap() - expected).abs() < 1e-9);
        }
    }
}

#[test]
fn what_runs_show_is_listed_and_had() {
    let served = three();
    let id = served.id("digits/0");
    let media = served.json(&format!("/api/runs/{id}/media"));
    let kinds: Vec<&str> = media["tags"].as_array().unwrap().iter().map(|tag| tag["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["image", "histogram", "pr_curve", "confusion", "text"]);
    let image = &media["tags"][0];
    assert_eq!((&image["tag"], image["items"].as_array().unwrap().len()), (&json!("samples/batch"), 6));
    let (at, step) = (&image["items"][2][0], &image["items"][2][1]);
    let value = served.json(&format!("/api/runs/{id}/media/{at}?tag=samples/batch&step={step}"));
    let name = value["file"].as_str().unwrap().strip_prefix("images/").unwrap();
    let png = served.get(&format!("/api/runs/{id}/image/{name}"));
    assert_eq!((png.status, png.header("content-type"), &png.body[..4]), (200, "image/png", &b"\x89PNG"[..]));
    // Another item has that number by now: the page asks anew.
    assert_eq!(served.get(&format!("/api/runs/{id}/media/{at}?tag=samples/batch&step=7")).status, 409);
    assert_eq!(served.get(&format!("/api/runs/{id}/image/{}.png", "0".repeat(32))).status, 404);
    assert_eq!(served.get(&format!("/api/runs/{id}/image/..%2frun.json")).status, 404);
}

#[test]
fn runs_are_compared() {
    let served = three();
    let (a, b) = (served.id("digits/0"), served.id("digits/2"));
    let found = served.json(&format!("/api/compare?runs={a},{b}&same=true"));
    assert_eq!(found["options"][0]["key"], "optimizer.sgd.lr");
    assert_eq!(found["options"][0]["values"], json!([0.03, 0.4]));
    assert_eq!(found["options"][0]["origins"][0], "--set optimizer.sgd.lr");
    assert_eq!(found["options"].as_array().unwrap().len(), 1);
    assert!(found["same"].as_array().unwrap().contains(&json!({ "key": "optimizer.sgd.momentum", "value": 0.9 })));
    assert_eq!((&found["about"][0]["group"], &found["edits"][1][0]["step"]), (&json!("slow"), &json!(250)));
    let series = served.json(&format!("/api/series?runs={a},{b}&tag=eval/accuracy"));
    let ids: Vec<&Value> = series["curves"].as_array().unwrap().iter().map(|curve| &curve["run"]).collect();
    assert_eq!(ids, [&json!(a), &json!(b)]);
    assert_eq!(served.get("/api/compare?runs=").status, 400);
}

#[test]
fn what_owners_say_is_changed_with_the_token_and_kept_in_the_folder() {
    let served = three();
    let id = served.id("digits/0");
    let path = format!("/api/runs/{id}/about");
    let change = json!({ "name": "first", "tag": ["baseline", "b"], "note": " a note\n", "group": "" });
    assert_eq!(served.post(&path, &[], &change).status, 401);
    assert_eq!(served.post(&path, &[("Authorization", "Bearer wrong")], &change).status, 401);
    assert_eq!(served.post_known(&path, &change).status, 200);
    let untag = served.post_known(&path, &json!({ "untag": ["b"] }));
    assert_eq!(untag.json(), json!({ "name": "first", "group": null, "note": "a note", "tags": ["baseline"] }));
    let kept: Value =
        serde_json::from_str(&fs::read_to_string(served.root.join("digits/0/about.json")).unwrap()).unwrap();
    assert_eq!((&kept["name"], &kept["tags"]), (&json!("first"), &json!(["baseline"])));
    assert_eq!(served.json("/api/runs?where=tag:baseline")["runs"][0]["name"], "first");
    for wrong in [
        json!({ "tag": ["two words"] }),
        json!({ "name": "-x" }),
        json!({ "folder": "/" }),
        json!({ "note": "x".repeat(200_000) }),
    ] {
        let answer = served.post_known(&path, &wrong);
        assert!((400..500).contains(&answer.status), "{wrong}: {}", answer.status);
    }
    let taken = served.post_known(&format!("/api/runs/{}/about", served.id("digits/1")), &json!({ "name": "first" }));
    assert!(taken.status == 400 && taken.text().contains("is called `first` already"));
    // An archived one is in the table when it is asked for.
    served.post_known(&path, &json!({ "tag": ["archived"] }));
    assert_eq!(served.json("/api/runs")["runs"].as_array().unwrap().len(), 2);
    assert_eq!(served.json("/api/runs?all=true")["runs"].as_array().unwrap().len(), 3);
}

#[test]
fn a_run_that_measures_is_heard_and_one_that_went_back_is_read_anew() {
    let served = three();
    let id = served.id("digits/0");
    let folder = served.root.join("digits/0");
    let spec = Spec { lr: 0.03, ..Spec::default() };
    let count =
        || served.json(&format!("/api/series?runs={id}&tag=train/loss"))["curves"][0]["count"].as_u64().unwrap();
    assert_eq!(count(), 600);
    let mut stream = TcpStream::connect(served.address).unwrap();
    write!(stream, "GET /api/live?runs={id}&table=true HTTP/1.1\r\nHost: {}\r\n\r\n", served.address).unwrap();
    let mut lines = BufReader::new(stream)
        .lines()
        .map_while(Result::ok)
        .filter(|line| line.starts_with("data: ") || line.starts_with("event: "));
    assert_eq!(lines.next().unwrap(), "event: hello");
    let history = History::of(&folder);
    let lengths = history.lengths().unwrap();
    made::measure(&history, &spec, 601..=640);
    let heard = lines.find(|line| line.contains("curves")).unwrap();
    assert_eq!(heard, format!("data: {{\"run\":\"{id}\",\"changed\":[\"curves\"]}}"));
    assert_eq!(count(), 640);
    // As a resume does.
    history.cut(Some(&lengths));
    lines.find(|line| line.contains("curves")).unwrap();
    assert_eq!(count(), 600);
    fs::write(folder.join("about.json"), "{\"note\": \"n\"}").unwrap();
    lines.find(|line| line.contains("\"run\"]") || line.contains("\"run\",")).unwrap();
    lines.find(|line| line == "event: table").unwrap();
    assert_eq!(served.json(&format!("/api/runs/{id}"))["run"]["note"], "n");
}

#[test]
fn runs_come_and_go() {
    let served = served(|_| {});
    assert_eq!(served.json("/api/runs")["total"], 0);
    made::run(&served.root, "a", &Spec::default());
    let id = loop {
        let table = served.json("/api/runs");
        if table["total"] == 1 {
            break table["runs"][0]["id"].as_str().unwrap().to_owned();
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    fs::remove_dir_all(served.root.join("a")).unwrap();
    while served.json("/api/runs")["total"] == 1 {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(served.get(&format!("/api/series?runs={id}&tag=train/loss")).status, 404);
}
