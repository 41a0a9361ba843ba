//! The page of folders, without the rest of the program: `cargo run -p pipe-ui --example page -- FOLDER…`. With `--made N` before them N
//! runs are made in the first, and one more that goes on measuring.

#[allow(dead_code, reason = "tests use more of it")]
#[path = "../tests/it/made.rs"]
mod made;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use pipe_history::History;
use pipe_ui::{Server, Settings};

fn main() -> anyhow::Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let count = match arguments.first().map(String::as_str) {
        Some("--made") => arguments.drain(..2).nth(1).and_then(|count| count.parse::<u64>().ok()),
        _ => None,
    };
    let roots: Vec<PathBuf> = arguments.iter().map(PathBuf::from).collect();
    if let (Some(count), Some(root)) = (count, roots.first()) {
        std::fs::create_dir_all(root)?;
        for at in 0..count {
            let group = ["slow", "fast", "wild"][at as usize % 3];
            let spec = made::Spec {
                lr: [0.03, 0.1, 0.4][at as usize % 3],
                seed: at / 3 + 1,
                created: made::BEGUN + at as f64 * 4000.0,
                status: ["done", "done", "done", "failed", "interrupted"][at as usize % 5],
                group: Some(group),
                ..made::Spec::default()
            };
            made::run(root, &format!("digits/{at:04}"), &spec);
        }
        live(root.clone());
    }
    let settings = Settings {
        roots,
        host: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: None,
        token: None,
        index: Some(std::env::temp_dir().join("pipe-ui-page.sqlite")),
        checker: None,
    };
    let server = Server::bind(settings)?;
    println!("{}", server.url());
    server.run()
}

/// A run at work, for as long as this program is.
fn live(root: PathBuf) {
    std::thread::spawn(move || {
        let spec =
            made::Spec { lr: 0.2, created: pipe_history::clock::now() - 300.0, steps: 600, ..made::Spec::default() };
        let folder = made::run(&root, "digits/live", &spec);
        let running = made::Spec { status: "running", ..spec.clone() };
        let mut info = made::info(&running);
        info["seconds"] = serde_json::Value::Null;
        std::fs::write(folder.join("run.json"), info.to_string()).expect("written");
        let _held = pipe_history::lock::Lock::take(&folder);
        let history = History::of(&folder);
        for step in 601.. {
            made::measure(&history, &spec, step..=step);
            std::thread::sleep(Duration::from_millis(500));
        }
    });
}
