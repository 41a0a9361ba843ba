//! How fast the server answers: `cargo bench -p pipe-ui`. Prints the figures that docs/benchmarks.md has.

#[allow(dead_code, reason = "tests use more of it")]
#[path = "../tests/it/made.rs"]
mod made;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Instant;

use pipe_history::Point;
use pipe_history::scalars::Writer;
use pipe_test_support::http;
use pipe_ui::{Server, Settings};
use serde_json::Value;

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    table(folder.path());
    curves(folder.path());
}

fn served(folder: &Path, root: &Path) -> SocketAddr {
    let (host, index) = (IpAddr::V4(Ipv4Addr::LOCALHOST), Some(folder.join("runs.sqlite")));
    let settings = Settings { roots: vec![root.to_owned()], host, port: Some(0), token: None, index, checker: None };
    let server = Server::bind(settings).expect("a server");
    let address = server.address();
    std::thread::spawn(move || server.run());
    address
}

/// How long an answer takes, the first time and then the median of some, and how long it is.
fn timed(what: &str, address: SocketAddr, path: &str) -> Value {
    let once = || {
        let started = Instant::now();
        let answer = http::ask(address, "GET", path, &[], "");
        assert_eq!(answer.status, 200, "{}", answer.text());
        (started.elapsed().as_secs_f64() * 1e3, answer)
    };
    let (first, answer) = once();
    let mut times: Vec<f64> = (0..9).map(|_| once().0).collect();
    times.sort_by(f64::total_cmp);
    println!("{what}: {first:.0} ms first, then {:.1} ms (median of 9), {} KiB", times[4], answer.body.len() >> 10);
    answer.json()
}

/// A thousand runs with 40 options and 40 curves each.
fn table(folder: &Path) {
    let root = folder.join("runs");
    for at in 0..1000u32 {
        let run = root.join(format!("digits/{at:04}"));
        let spec =
            made::Spec { created: made::BEGUN + f64::from(at), lr: f64::from(at) / 1e4, ..made::Spec::default() };
        fs::create_dir_all(&run).expect("made");
        fs::write(run.join("run.json"), made::info(&spec).to_string()).expect("written");
        let options: String = (0..40).map(|key| format!("option_{key} = {}\n", at + key)).collect();
        fs::write(run.join("pipeline.toml"), format!("[optimizer.sgd]\nlr = {:?}\n{options}", spec.lr))
            .expect("written");
        let mut writer = Writer::open(&run, None).expect("a writer");
        for tag in 0..40 {
            for step in 1..=5u64 {
                let value = f64::from(at) / step as f64;
                let point = Point { step, epoch: step, time: spec.created, value };
                writer.push(&format!("eval/value_{tag}"), &"metric.x", point).expect("written");
            }
        }
        writer.flush().expect("written");
    }
    let address = served(folder, &root);
    let table = timed("table of 1000 runs", address, "/api/runs");
    assert_eq!(table["runs"].as_array().map(Vec::len), Some(1000));
    let query = "/api/runs?where=optimizer.sgd.lr%3E0.05%20and%20eval/value_3%3E10&sort=-max(eval/value_7)";
    timed("the same filtered and sorted", address, query);
}

/// Twenty runs with a curve of a million points each.
fn curves(folder: &Path) {
    const POINTS: u64 = 1_000_000;
    let root = folder.join("long");
    for at in 0..20u64 {
        let run = root.join(format!("{at:02}"));
        fs::create_dir_all(&run).expect("made");
        let spec = made::Spec { created: made::BEGUN + at as f64, ..made::Spec::default() };
        fs::write(run.join("run.json"), made::info(&spec).to_string()).expect("written");
        let mut writer = Writer::open(&run, None).expect("a writer");
        for step in 0..POINTS {
            let value = if step == 777_777 { 1e3 } else { (step as f64 * 1e-4).sin() + at as f64 };
            let point = Point { step, epoch: step / 5000, time: spec.created + step as f64 * 0.0137, value };
            writer.push("train/loss", &"engine.trainer", point).expect("written");
        }
        writer.flush().expect("written");
    }
    let address = served(folder, &root);
    let table = http::ask(address, "GET", "/api/runs", &[], "").json();
    let ids: Vec<&str> = table["runs"].as_array().into_iter().flatten().filter_map(|row| row["id"].as_str()).collect();
    let ids = ids.join(",");
    for (what, query) in [
        ("20 runs x 1 M points by 1000 pixels", "pixels=1000"),
        ("the same by time", "pixels=1000&axis=relative"),
        ("a tenth of them", "pixels=1000&from=700000&to=800000"),
        ("smoothed", "pixels=1000&smooth=0.9"),
    ] {
        let series = timed(what, address, &format!("/api/series?runs={ids}&tag=train/loss&{query}"));
        for curve in series["curves"].as_array().expect("curves") {
            let values = curve["points"]["value"].as_array().expect("values");
            assert!(values.len() <= 2000 && values.iter().any(|value| *value == 1e3), "the spike");
        }
    }
}
