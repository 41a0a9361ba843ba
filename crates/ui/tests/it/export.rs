//! The page as one file: what is in it, its bounds, and how a real browser opens it from the disk.

use std::fs;
use std::path::{Path, PathBuf};

use pipe_test_support::browser::Browser;
use pipe_test_support::skip;
use pipe_ui::export::{Bounds, Exported, export};
use serde_json::{Value, json};

use crate::hostile::{MARKUP, hostile};
use crate::made::{self, BEGUN, Spec};
use crate::study;
use crate::views::VIEWS;

/// The page of some runs; `None` where the page was not made.
fn exported(folder: &Path, runs: &[PathBuf], bounds: &Bounds) -> Option<Exported> {
    match export(runs, Some(folder.join("runs.sqlite")), bounds) {
        Ok(made) => Some(made),
        Err(error) if error.to_string().contains("built without its page") => {
            skip!("the page was not made");
            None
        }
        Err(error) => panic!("{error:#}"),
    }
}

fn rates(root: &Path) -> Vec<PathBuf> {
    [0.03, 0.1, 0.4]
        .into_iter()
        .enumerate()
        .map(|(at, lr)| {
            let spec = Spec { lr, created: BEGUN + at as f64, group: Some("rates"), ..Spec::default() };
            made::run(root, &format!("digits/{at}"), &spec)
        })
        .collect()
}

/// What the page is told.
fn data(html: &str) -> Value {
    let from = html.find("id=\"pipe-data\">").unwrap() + 15;
    let to = html[from..].find("</script>").unwrap() + from;
    serde_json::from_str(&html[from..to]).unwrap()
}

#[test]
fn a_file_opens_from_the_disk_with_all_views() {
    let folder = tempfile::tempdir().unwrap();
    let runs = rates(folder.path());
    study::journal(&folder.path().join("digits"), "rates", 30);
    let Some(made) = exported(folder.path(), &runs, &Bounds::default()) else { return };
    assert_eq!(made.left_out, Vec::<String>::new());
    let told = data(&made.html);
    let ids: Vec<&str> =
        told["compare"]["about"].as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap()).collect();
    let Some(browser) = Browser::open() else {
        skip!("there is no Chromium with a chromedriver");
        return;
    };
    let file = folder.path().join("runs.html");
    fs::write(&file, &made.html).unwrap();
    let url = format!("file://{}", file.display());
    browser.go(&url);
    browser.wait("return document.querySelectorAll('tbody tr').length == 3");
    browser.wait("return document.querySelector('header.top .badge')?.innerText.startsWith('a file of')");
    assert_eq!(browser.run("return document.querySelectorAll('.filter').length"), 0);
    let lowest = "return document.querySelector('tbody tr td:last-child').innerText";
    browser.click("th[title='optimizer.sgd.lr'] button");
    browser.wait(&format!("{lowest} == '0.4'"));
    browser.click("th[title='optimizer.sgd.lr'] button");
    browser.wait(&format!("{lowest} == '0.03'"));
    browser.press("jxjxc");
    browser.wait("return document.querySelectorAll('.legend li').length == 2 && document.querySelectorAll('.panel canvas').length == 4");
    // Of a smoothed curve there is the original, too, and a part of it is a part.
    browser.go("about:blank");
    browser.go(&format!("{url}#/compare?runs={},{}&smooth=0.9&zoom=100~200", ids[0], ids[2]));
    browser.wait("return document.querySelectorAll('.panel canvas').length == 4");
    for (tab, script) in [
        ("options", "document.querySelector('table.beside').innerText.includes('--set optimizer.sgd.lr')"),
        ("metrics", "document.querySelectorAll('table.beside .extreme').length > 2"),
        ("plot", "document.querySelectorAll('svg.parallel path').length >= 2 && document.querySelector('.mattered')"),
        ("images", "[...document.querySelectorAll('figure img')].filter(i => i.naturalWidth == 128).length == 2"),
        ("edits", "document.querySelectorAll('.edit.applied').length == 2"),
    ] {
        browser.go("about:blank");
        browser.go(&format!("{url}#/compare?runs={},{}&tab={tab}", ids[0], ids[2]));
        browser.wait(&format!("return document.querySelector('.tabs') && {script}"));
    }
    for (view, script) in VIEWS {
        browser.go("about:blank");
        browser.go(&format!("{url}#/run/{}{view}", ids[1]));
        browser.wait(&format!("return {script}"));
        assert_eq!(browser.run("return document.querySelectorAll('[data-ask], .notes input').length"), 0, "{view}");
    }
    let asked = browser.run("return performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).map(e => e.name).join()");
    assert_eq!(asked, "", "nothing is loaded");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn what_does_not_fit_is_left_out_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let runs = rates(folder.path());
    let (wide, narrow) = (Bounds::default(), Bounds { points: 200, all_points: 1000, images: 4000, items: 3 });
    let Some(whole) = exported(folder.path(), &runs, &wide) else { return };
    let small = exported(folder.path(), &runs, &narrow).unwrap();
    let (whole_told, told) = (data(&whole.html), data(&small.html));
    let each = |told: &Value| -> Vec<(usize, usize, usize)> {
        let count = |value: &Value| value["train/loss"]["points"]["value"].as_array().unwrap().len();
        let items =
            |id: &str| told["answers"][format!("runs/{id}/media")]["tags"][0]["items"].as_array().unwrap().len();
        let images: usize =
            told["images"].as_object().unwrap().values().map(|image| image.as_str().unwrap().len()).sum();
        told["curves"].as_object().unwrap().iter().map(|(id, curves)| (count(curves), items(id), images)).collect()
    };
    for (points, items, _) in each(&whole_told) {
        // One of the 600 is no number.
        assert!(points >= 599 && items == 6, "{points} {items}");
    }
    // Twelve curves share a thousand points.
    for (points, items, images) in each(&told) {
        assert!(
            points > 60 && points <= 84 && items == 3 && images > 0 && images < 4000 * 4 / 3 + 200,
            "{points} {items} {images}"
        );
    }
    let loss = |told: &Value| {
        told["curves"]
            .as_object()
            .unwrap()
            .values()
            .map(|curves| {
                let values =
                    curves["train/loss"]["points"]["value"].as_array().unwrap().iter().filter_map(Value::as_f64);
                values.fold(f64::MIN, f64::max)
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(loss(&told), loss(&whole_told), "no spike is lost");
    assert!(small.html.len() < whole.html.len());
    let said = small.left_out.join("\n");
    assert!(
        said.contains("at most 83 points")
            && said.contains("of the 6 items of samples/batch")
            && said.contains("images are not there"),
        "{said}"
    );
    assert_eq!(told["session"]["left_out"], json!(small.left_out));
}

#[test]
fn nothing_of_a_run_becomes_part_of_the_file() {
    let served = hostile();
    let Some(made) = exported(&served.root, &[served.root.join("evil")], &Bounds::default()) else { return };
    assert_eq!(made.html.matches("<script").count(), 2);
    assert!(!made.html.contains("<img") && !made.html.contains("s3cret"));
    let told = data(&made.html);
    assert_eq!(told["table"]["runs"][0]["name"], MARKUP);
    let Some(browser) = Browser::open() else {
        skip!("there is no Chromium with a chromedriver");
        return;
    };
    let file = served.root.join("evil.html");
    fs::write(&file, &made.html).unwrap();
    let id = served.id("evil");
    for view in [
        "/".into(),
        format!("/run/{id}/text"),
        format!("/run/{id}/about"),
        format!("/run/{id}/console"),
        format!("/compare?runs={id}&tab=options&same=1"),
    ] {
        browser.go("about:blank");
        browser.go(&format!("file://{}#{view}", file.display()));
        browser.wait(&format!("return document.body.innerText.includes({})", json!(&MARKUP[..40])));
        assert_eq!(browser.run("return document.querySelectorAll('img[onerror], main script').length"), 0, "{view}");
        assert_ne!(browser.run("return document.title"), "taken", "{view}");
    }
}

#[test]
fn a_folder_without_a_run_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let error = export(&[folder.path().to_owned()], Some(folder.path().join("runs.sqlite")), &Bounds::default());
    let Err(error) = error else { panic!("there is no run") };
    let text = error.to_string();
    assert!(text.contains("there is no run in") || text.contains("built without its page"), "{text}");
}
