//! What a user sees for each mistake: `tests/mistakes/NAME.toml` is checked by the program itself, and what it prints, as text
//! and as JSON, must be that of the snapshot `seen@NAME.toml.snap`. `INSTA_UPDATE=always cargo test mistakes` writes the
//! snapshots anew; read the difference.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes")
}

fn check(file: &str, format: &str) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_pipe"))
        .args(["check", file, "--format", format])
        .current_dir(folder())
        .env_remove("PIPE_TEST_UNSET")
        .output()
        .expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the program prints UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// What the user sees, timings left out.
fn seen(file: &str) -> String {
    let (code, stdout, stderr) = check(file, "text");
    let stdout = stdout.split(", checked in").next().unwrap_or_default().trim_end().to_owned();
    let (json_code, json, _) = check(file, "json");
    assert_eq!(code, json_code, "{file}: text and JSON end alike");
    let code = code.map_or_else(|| "killed".into(), |code| code.to_string());
    format!("exit status {code}\n\n{stderr}{stdout}\n\n{json}")
}

#[test]
fn every_mistake_is_told_as_recorded() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(folder());
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        insta::glob!("../mistakes", "*.toml", |path| {
            let file = path.file_name().expect("a file").to_string_lossy();
            insta::assert_snapshot!("seen", seen(&file));
        });
    });
}

/// A glob that matched a part of the files only would pass, too.
#[test]
fn every_mistake_has_its_record() {
    let names = |end: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(folder()).expect("tests/mistakes").flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter_map(|name| Some(name.strip_suffix(end)?.trim_start_matches("seen@").to_owned())).collect()
    };
    let mistakes = names(".toml");
    assert!(mistakes.len() >= 60, "only {} mistakes are recorded", mistakes.len());
    assert_eq!(mistakes, names(".toml.snap"));
}

#[test]
fn seven_mistakes_are_seven_diagnostics_at_their_places() {
    let (code, json, _) = check("seven_mistakes.toml", "json");
    assert_eq!(code, Some(2));
    let found: Vec<serde_json::Value> = serde_json::from_str(&json).expect("JSON");
    let places: Vec<(u64, u64)> =
        found.iter().map(|one| (one["line"].as_u64().unwrap_or(0), one["column"].as_u64().unwrap_or(0))).collect();
    assert_eq!(found.len(), 7, "{json}");
    assert!(places.is_sorted(), "{places:?}");
    assert!(found.iter().all(|one| one["severity"] == "error" && one["message"].is_string()), "{json}");
}
