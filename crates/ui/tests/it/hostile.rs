//! Runs of someone who means harm: names with markup, links that lead out of the folder, files that are none.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::made::{self, Spec};
use crate::{Served, served};

/// Markup that would be seen if it came into a page.
pub const MARKUP: &str = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>";

/// A run whose every text is markup, and whose links lead out.
pub fn hostile() -> Served {
    served(|root| {
        let folder = made::run(root, "evil", &Spec::default());
        fs::write(root.join("secret"), "s3cret").unwrap();
        let mut info = made::info(&Spec { status: "failed", ..Spec::default() });
        info["name"] = json!(MARKUP);
        info["error"] = json!(MARKUP);
        info["device"] = json!(MARKUP);
        fs::write(folder.join("run.json"), info.to_string()).unwrap();
        let about = json!({ "name": MARKUP, "tags": [MARKUP], "group": MARKUP, "note": MARKUP });
        fs::write(folder.join("about.json"), about.to_string()).unwrap();
        fs::write(folder.join("pipeline.toml"), format!("[model.net]\ntype = '''{MARKUP}'''\n")).unwrap();
        let mut media = fs::read_to_string(folder.join("media.jsonl")).unwrap();
        media += &(json!({ "kind": "text", "tag": MARKUP, "step": 1, "epoch": 1, "node": MARKUP, "time": 1.0, "value": MARKUP }).to_string() + "\n");
        media += &(json!({ "kind": "image", "tag": "out", "step": 1, "epoch": 1, "node": "x", "time": 1.0,
            "value": { "file": "../secret", "height": 1, "width": 1 } })
        .to_string()
            + "\n");
        fs::write(folder.join("media.jsonl"), media).unwrap();
        fs::write(folder.join("console.log"), format!("{MARKUP}\u{1b}[31m\n")).unwrap();
        symlink("../secret", folder.join("link.txt")).unwrap();
        symlink("/etc", folder.join("etc")).unwrap();
        symlink("/dev/zero", folder.join("zero")).unwrap();
        let name = format!("images/{}.png", "a".repeat(32));
        symlink("../../secret", folder.join(name)).unwrap();
        fs::write(folder.join("a<b>\"c.txt"), "x").unwrap();
        fs::write(folder.join("page.html"), MARKUP).unwrap();
    })
}

#[test]
fn nothing_outside_of_the_run_is_had() {
    let served = hostile();
    let id = served.id("evil");
    for path in [
        "../secret",
        "..%2Fsecret",
        "%2E%2E/secret",
        "link.txt",
        "etc/passwd",
        "/etc/passwd",
        "zero",
        "",
        ".",
        "checkpoints",
        "images/../../secret",
        "nothing",
        "run.json%00",
        "./../secret",
    ] {
        let answer = served.get(&format!("/api/runs/{id}/file?path={path}"));
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
        assert!(!answer.text().contains("s3cret"));
    }
    for name in ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.png", "..%2F..%2Fsecret", "new"] {
        assert_eq!(served.get(&format!("/api/runs/{id}/image/{name}")).status, 404, "{name}");
    }
    for path in ["/..%2f..%2fsecret", "/%2e%2e/secret", "/../secret", "//etc/passwd"] {
        assert!(!served.get(path).text().contains("s3cret"));
    }
    let files = served.json(&format!("/api/runs/{id}/files")).to_string();
    assert!(!files.contains("link.txt") && !files.contains("passwd"), "links are not listed");
}

#[test]
fn what_a_run_wrote_is_data_and_no_page() {
    let served = hostile();
    let id = served.id("evil");
    let page = served.get(&format!("/api/runs/{id}/file?path=page.html"));
    assert_eq!((page.status, page.header("content-type")), (200, "application/octet-stream"));
    assert!(page.header("content-disposition").starts_with("attachment"));
    let named = served.get(&format!("/api/runs/{id}/file?path=a%3Cb%3E%22c.txt"));
    assert_eq!(named.header("content-disposition"), "attachment; filename=\"a_b__c.txt\"");
    for path in [
        "/api/runs".to_owned(),
        format!("/api/runs/{id}"),
        format!("/api/runs/{id}/media"),
        format!("/api/runs/{id}/console"),
    ] {
        let answer = served.get(&path);
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"), "{path}");
    }
    assert_eq!(served.json("/api/runs")["runs"][0]["name"], MARKUP);
}

#[test]
fn a_damaged_run_hides_no_other() {
    let served = served(|root| {
        made::run(root, "good", &Spec::default());
        let bad = made::run(root, "bad", &Spec { created: made::BEGUN + 1.0, ..Spec::default() });
        fs::write(bad.join("scalars/open.log"), "no log").unwrap();
        fs::create_dir(root.join("none")).unwrap();
        fs::write(root.join("none/run.json"), "{").unwrap();
    });
    let table = served.json("/api/runs");
    assert_eq!(table["total"], 2);
    let (good, bad) = (served.id("good"), served.id("bad"));
    assert!(served.json(&format!("/api/runs/{bad}"))["run"]["problem"].as_str().unwrap().contains("open.log"));
    let series = served.json(&format!("/api/series?runs={bad},{good}&tag=train/loss"));
    assert!(series["curves"][0]["error"].as_str().unwrap().contains("open.log"));
    assert_eq!(series["curves"][1]["count"], 600);
}
