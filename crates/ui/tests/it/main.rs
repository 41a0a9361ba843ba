//! The server on a loopback port, asked as programs do and as a browser does, about runs as they leave their folders.

mod api;
mod export;
mod guard;
mod hostile;
mod made;
mod page;
mod steer;
mod study;
mod views;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use pipe_test_support::http::{self, Answer};
use pipe_ui::{Checker, Server, Settings};
use serde_json::{Value, json};

/// A window; ends the test where there is none to be had.
#[macro_export]
macro_rules! browser {
    ($served:expr) => {{
        if $served.get("/").status != 200 {
            pipe_test_support::skip!("the page was not made");
            return;
        }
        match pipe_test_support::browser::Browser::open() {
            Some(browser) => browser,
            None => {
                pipe_test_support::skip!("there is no Chromium with a chromedriver");
                return;
            }
        }
    }};
}

/// Finds one mistake: a line that says `broken`.
fn checker() -> Checker {
    Checker::new(|_, text| {
        let line = text.lines().position(|line| line.contains("broken"));
        let found = line.map(
            |at| json!({ "severity": "error", "code": "x", "message": "this is broken", "line": at + 1, "column": 1 }),
        );
        json!({
            "version": "000_step_000000.toml", "diagnostics": found.iter().collect::<Vec<_>>(), "valid": found.is_none(),
            "changes": [{ "name": "optimizer.sgd.lr", "place": "", "change": "0.1 → 0.2", "meaning": "now" }],
            "rebuilt": [], "reason": null,
        })
    })
}

/// A server at work on a folder of its own.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
    pub(crate) root: PathBuf,
    _folder: tempfile::TempDir,
}

/// Serves a folder that `make` fills.
pub(crate) fn served(make: impl FnOnce(&Path)) -> Served {
    served_with(None, make)
}

/// The same with a token of one's own, which reading needs, too.
pub(crate) fn served_with(token: Option<&str>, make: impl FnOnce(&Path)) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("runs");
    std::fs::create_dir(&root).unwrap();
    make(&root);
    let index = Some(folder.path().join("runs.sqlite"));
    let (host, token) = (IpAddr::V4(Ipv4Addr::LOCALHOST), token.map(str::to_owned));
    let server = Server::bind(Settings {
        roots: vec![root.clone()],
        host,
        port: Some(0),
        token,
        index,
        checker: Some(checker()),
    })
    .unwrap();
    let (address, token) = (server.address(), server.token().to_owned());
    // For as long as the process lives.
    std::thread::spawn(move || server.run());
    Served { address, token, root, _folder: folder }
}

impl Served {
    pub(crate) fn get(&self, path: &str) -> Answer {
        http::ask(self.address, "GET", path, &[], "")
    }

    /// What an address answers that is there.
    pub(crate) fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    pub(crate) fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let all: Vec<(&str, &str)> =
            [("Content-Type", "application/json")].into_iter().chain(headers.iter().copied()).collect();
        http::ask(self.address, "POST", path, &all, &body.to_string())
    }

    /// The same by one who has the token.
    pub(crate) fn post_known(&self, path: &str, body: &Value) -> Answer {
        self.post(path, &[("Authorization", &format!("Bearer {}", self.token))], body)
    }

    /// The address of the run in a folder of that name.
    pub(crate) fn id(&self, name: &str) -> String {
        let table = self.json("/api/runs");
        let rows = table["runs"].as_array().unwrap();
        let row = rows.iter().find(|row| row["folder"].as_str().unwrap().ends_with(name));
        row.unwrap_or_else(|| panic!("there is no run {name}: {table}"))["id"].as_str().unwrap().to_owned()
    }
}
