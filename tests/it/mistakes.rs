//! What a user sees for each mistake: what is found in `tests/mistakes/NAME.toml`, as text and as JSON, must be that of the snapshot
//! `seen@NAME.toml.snap`. `INSTA_UPDATE=always cargo test mistakes` writes the snapshots anew; read the difference. Errors are
//! found in this process, as the program takes half a second to start; that the program prints them so, one file shows.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use pipe_run::load::PipelineSource;
use pipe_vocab::shown::shown_data;

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

/// What the program prints, timings left out.
fn said(file: &str) -> String {
    let (code, stdout, stderr) = check(file, "text");
    let stdout = stdout.split(", checked in").next().unwrap_or_default().trim_end().to_owned();
    let (json_code, json, _) = check(file, "json");
    assert_eq!(code, json_code, "{file}: text and JSON end alike");
    let code = code.map_or_else(|| "killed".into(), |code| code.to_string());
    format!("exit status {code}\n\n{stderr}{stdout}\n\n{json}")
}

/// What the user sees.
fn seen(file: &str) -> String {
    let path = Path::new("tests/mistakes").join(file);
    let is_alone = !std::fs::read_to_string(&path).is_ok_and(|text| text.contains("../"));
    let loaded =
        PipelineSource { file: path, profile: None, sets: vec![], base: None, accept: vec![], texts: None }.load();
    let text = loaded.diagnostics.render_text(&loaded.sources, false);
    // Paths from where this process is, what it has besides, and warnings alone.
    if !is_alone || text.contains("`test_") || !loaded.diagnostics.has_errors() {
        return said(file);
    }
    let json = serde_json::to_string_pretty(&loaded.diagnostics.render_json(&loaded.sources)).expect("JSON");
    format!("exit status 2\n\n{text}\n\n{}\n", shown_data(&json)).replace("tests/mistakes/", "")
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
    assert_eq!(said("seven_mistakes.toml"), seen("seven_mistakes.toml"));
    let found: Vec<serde_json::Value> = serde_json::from_str(&json).expect("JSON");
    let places: Vec<(u64, u64)> =
        found.iter().map(|one| (one["line"].as_u64().unwrap_or(0), one["column"].as_u64().unwrap_or(0))).collect();
    assert_eq!(found.len(), 7, "{json}");
    assert!(places.is_sorted(), "{places:?}");
    assert!(found.iter().all(|one| one["severity"] == "error" && one["message"].is_string()), "{json}");
}
