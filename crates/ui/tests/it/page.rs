//! The page in a real browser. Skipped where there is no Chromium with its driver (Debian: chromium, chromium-driver), or where the page was
//! not made (`cargo xtask setup`).

use std::fs;
use std::time::Instant;

use pipe_history::History;
use pipe_history::requests::{Answer, Requests, Stage};
use serde_json::json;

use crate::browser;
use crate::hostile::{MARKUP, hostile};
use crate::made::{self, BEGUN, Spec};
use crate::steer::{Process, submitted, two};
use crate::study;
use crate::views::VIEWS;
use crate::{Served, served, served_with};
use pipe_test_support::browser::Browser;

/// Nothing was refused by the policy, no script failed.
pub(crate) fn fine(browser: &Browser) {
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// Three rates of one group.
pub(crate) fn some() -> Served {
    served(|root| {
        for (at, lr) in [0.03, 0.1, 0.4].into_iter().enumerate() {
            made::run(
                root,
                &format!("digits/{at}"),
                &Spec { lr, created: BEGUN + at as f64, group: Some("rates"), ..Spec::default() },
            );
        }
    })
}

#[test]
fn the_table_is_filtered_sorted_and_chosen_from_and_its_address_is_its_state() {
    let served = some();
    let browser = browser!(served);
    let url = format!("http://{}", served.address);
    browser.go(&format!("{url}/#token={}", served.token));
    let names = "return [...document.querySelectorAll('tbody tr td:last-child')].map(c => c.innerText).join()";
    browser.wait("return document.querySelectorAll('tbody tr').length == 3");
    assert_eq!(browser.run(names), "0.4,0.1,0.03");
    assert_eq!(browser.run("return location.hash"), "", "the token leaves the address");
    assert_eq!(browser.run("return document.cookie"), "", "and is out of scripts' reach");
    browser.click("th[title='optimizer.sgd.lr'] button");
    browser.click("th[title='optimizer.sgd.lr'] button");
    browser.wait(&format!("{names} == '0.03,0.1,0.4'"));
    browser.fill("input[aria-label='which runs']", "optimizer.sgd.lr < 0.2\n");
    browser.wait("return document.querySelectorAll('tbody tr').length == 2");
    // The same from the address alone.
    let address = browser.run("return location.href");
    browser.go(&url);
    browser.wait("return document.querySelectorAll('tbody tr').length == 3");
    browser.go(address.as_str().unwrap());
    browser.wait(&format!("{names} == '0.03,0.1'"));
    browser.fill("input[aria-label='which runs']", " and nothing = 1\n");
    browser.wait("return document.querySelector('.filter-wrong')?.innerText.includes('no run has `nothing`')");
    let _refused = browser.complaints();
    browser.go(&url);
    // With the keys alone.
    browser.wait("return document.querySelectorAll('tbody tr').length == 3");
    browser.press("jxjx");
    browser.wait("return document.querySelectorAll('tr.chosen').length == 2");
    browser.press("c");
    browser.wait("return location.pathname == '/compare' && document.querySelectorAll('.legend li').length == 2");
    fine(&browser);
}

#[test]
fn runs_are_compared_by_curves_and_options() {
    let served = some();
    let browser = browser!(served);
    let ids = ["digits/0", "digits/1", "digits/2"].map(|name| served.id(name)).join(",");
    let url = format!("http://{}/compare?runs={ids}", served.address);
    browser.go(&format!("{url}&smooth=0.9"));
    let chart = "section[data-tag='train/loss']";
    browser.wait(&format!("return document.querySelector(\"{chart} canvas\") !== null"));
    browser.wait(&format!("return document.querySelector(\"{chart} .badge.bad\")?.innerText == '1 not finite'"));
    let drawn = |what: &str| {
        // Pixels that are not of the ground.
        let script = format!(
            "const c = document.querySelector(\"{chart} canvas\"); const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
             const kinds = new Set(); for (let i = 0; i < d.length; i += 4) if (d[i + 3] == 255) kinds.add(d[i] * 65536 + d[i + 1] * 256 + d[i + 2]);
             const wanted = [0x2563eb, 0xd9480f, 0x15803d].filter(c => kinds.has(c)); return wanted.length {what}"
        );
        browser.wait(&script)
    };
    drawn("== 3");
    browser.point(&format!("{chart} .u-over"), 20, 0, None);
    browser.wait("return document.querySelectorAll('.tip .tip-row').length == 3");
    // One is hidden, and the address says so.
    browser.click(".legend li:first-child button");
    drawn("== 2");
    assert!(browser.run("return location.search").as_str().unwrap().contains("hide="));
    browser.point(&format!("{chart} .u-over"), -60, 0, Some(100));
    browser.wait("return new URLSearchParams(location.search).get('zoom')");
    browser.go(&format!("{url}&tab=options"));
    let text = browser.wait("return document.querySelector('table.beside')?.innerText").as_str().unwrap().to_owned();
    assert!(
        text.contains("optimizer.sgd.lr") && text.contains("--set optimizer.sgd.lr") && !text.contains("momentum"),
        "{text}"
    );
    // They are trials of a study, which tells what mattered.
    study::journal(&served.root.join("digits"), "rates", 30);
    browser.go(&format!("{url}&tab=plot"));
    let mattered = "document.querySelector('.mattered')?.innerText";
    let said = browser.wait(&format!("return {mattered}")).as_str().unwrap().to_owned();
    let number = browser.wait("return document.querySelector('.parallel .axis-name .share')?.textContent");
    let first =
        said.strip_prefix("What mattered in the study rates, of 30 complete trials: optimizer.sgd.lr ").unwrap();
    assert_eq!(number.as_str().unwrap().trim(), &first[..4], "{said}");
    assert!(first.contains(", optimizer.sgd.weight_decay 0.0"), "{said}");
    for (tab, wanted) in [
        ("metrics", "table.beside .extreme"),
        ("plot", "svg.parallel path"),
        ("images", "figure img"),
        ("edits", ".edit.applied"),
    ] {
        browser.go(&format!("{url}&tab={tab}"));
        browser.wait(&format!("return document.querySelectorAll('{wanted}').length >= 3"));
    }
    browser.wait("return true");
    fine(&browser);
}

#[test]
fn a_run_is_shown_in_all_its_views() {
    let served = some();
    let browser = browser!(served);
    let url = format!("http://{}/run/{}", served.address, served.id("digits/2"));
    for (view, script) in VIEWS {
        browser.go(&format!("{url}{view}"));
        browser.wait(&format!("return {script}"));
    }
    fine(&browser);
}

/// What the chart of the rate says is the latest.
const RATE: &str = "document.querySelector(\"section[data-tag='train/lr'] .now\")?.innerText";

/// Waits until the rate of a step is drawn.
fn wait_for(browser: &Browser, spec: &Spec, step: u64) {
    browser.wait(&format!("return Math.abs({RATE} - {}) < 1e-5", made::rate(spec, step)));
}

#[test]
fn what_is_measured_appears_and_what_was_cut_off_goes() {
    let served = some();
    let browser = browser!(served);
    let id = served.id("digits/1");
    browser.go(&format!("http://{}/run/{id}", served.address));
    let spec = Spec::default();
    wait_for(&browser, &spec, 600);
    let folder = served.root.join("digits/1");
    let history = History::of(&folder);
    let lengths = history.lengths().unwrap();
    made::measure(&history, &spec, 601..=900);
    wait_for(&browser, &spec, 900);
    let soon = [901, 902, 903, 904, 905].map(|step| {
        let measured = Instant::now();
        made::measure(&history, &spec, step..=step);
        wait_for(&browser, &spec, step);
        measured.elapsed().as_millis()
    });
    println!("from a point in the folder to the page: {soon:?} ms");
    history.cut(Some(&lengths));
    wait_for(&browser, &spec, 600);
    // Seen without being loaded anew.
    browser.run("window.same = true");
    let line = json!({ "edit": 3, "outcome": "applied", "step": 555, "epoch": 6, "time": BEGUN + 300.0,
        "changes": [{ "name": "engine.trainer.max_epochs", "change": "6 → 9" }] });
    let index = folder.join("pipelines/index.jsonl");
    fs::write(&index, fs::read_to_string(&index).unwrap() + &line.to_string() + "\n").unwrap();
    browser.click(".tabs button:nth-child(8)");
    browser.wait("return document.body.innerText.includes('edit 3, applied after step 555')");
    assert_eq!(browser.run("return window.same"), true);
    fine(&browser);
}

#[test]
fn a_day_of_a_point_a_second_costs_the_page_no_memory() {
    let served = some();
    let browser = browser!(served);
    let id = served.id("digits/1");
    browser.go(&format!("http://{}/run/{id}", served.address));
    browser.wait("return document.querySelectorAll('.panel canvas').length == 4");
    let history = History::of(&served.root.join("digits/1"));
    let spec = Spec { steps: 86_400, ..Spec::default() };
    let page = |to: u64| {
        wait_for(&browser, &spec, to);
        browser.heap()
    };
    let parts: Vec<u64> = (1..=12).map(|part| 600 + part * 7_150).collect();
    let mut heaps = Vec::new();
    let mut from = 601;
    for to in parts {
        made::measure(&history, &spec, from..=to);
        from = to + 1;
        heaps.push(page(to));
    }
    println!("bytes that the page holds, twelve times in a day: {heaps:?}");
    let (early, late) = (heaps[2], heaps[11]);
    assert!(late < early + 4e6, "bytes after each part, {heaps:?}");
    let curves = served.json(&format!("/api/series?runs={id}&tag=train/loss&pixels=900"));
    assert_eq!(curves["curves"][0]["count"], 86_400);
    fine(&browser);
}

#[test]
fn names_tags_and_notes_are_changed_by_who_has_the_token() {
    let served = some();
    let browser = browser!(served);
    let url = format!("http://{}/run/{}", served.address, served.id("digits/0"));
    browser.go(&url);
    browser.wait("return document.querySelector('header.top .badge')?.innerText == 'read only'");
    assert_eq!(browser.run("return document.querySelectorAll('.notes input').length"), 0);
    // From elsewhere first: only another fragment would not load the page.
    browser.go("about:blank");
    browser.go(&format!("{url}#token={}", served.token));
    browser.fill("input[aria-label='add a tag']", "baseline\n");
    browser.wait("return document.querySelector('.notes .tag')?.innerText.startsWith('baseline')");
    browser.fill("input[aria-label='add a tag']", "two words\n");
    browser.wait("return document.querySelector('.notes .error')?.innerText.includes('cannot be a tag')");
    browser.click("button[aria-label='rename']");
    browser.fill("input[aria-label='group']", "X\n");
    browser.wait("return document.querySelector('h1')?.innerText.includes('ratesX')");
    let about: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(served.root.join("digits/0/about.json")).unwrap()).unwrap();
    assert_eq!((&about["tags"], &about["group"]), (&json!(["baseline"]), &json!("ratesX")));
    let complaints = browser.complaints();
    assert!(complaints.iter().all(|line| line.contains("400")), "{complaints:?}");
}

#[test]
fn what_a_run_refuses_is_shown_at_its_line() {
    let (served, _lock) = two();
    let browser = browser!(served);
    let url = format!("http://{}/run/{}/pipeline", served.address, served.id("live"));
    browser.go(&url);
    browser.wait("return document.querySelector('table.toml') !== null");
    assert_eq!(browser.run("return document.querySelectorAll('[data-ask]').length"), 0, "not without the token");
    browser.go("about:blank");
    browser.go(&format!("{url}#token={}", served.token));
    browser.click("button[data-ask=edit]");
    browser.fill("input[aria-label='your name']", "ada");
    browser.wait("return document.querySelector('.editing button.main')?.disabled === false");
    browser.click(".editing button.main");
    let requests = Requests::of(&served.root.join("live"));
    browser.wait("return document.querySelector('.editing .asked')?.innerText.includes('not read yet')");
    let (name, request) = requests.unread().remove(0);
    assert_eq!(
        (request.text, request.version.as_deref()),
        (Some(fs::read_to_string(served.root.join("live/pipeline.toml")).unwrap()), Some("000_step_000000.toml"))
    );
    let request = requests.unread().remove(0).1;
    let mut answer = Answer::to(&request, Stage::Refused, "edit 3 by ada has errors");
    answer.diagnostics =
        json!([{ "severity": "error", "message": "a layer does not fit", "line": 4, "column": 1, "help": null }]);
    requests.answer(&name, &answer).unwrap();
    browser.wait(
        "return document.querySelector('.editing .asked.refused')?.innerText.includes('edit 3 by ada has errors')",
    );
    let marked =
        "return [...document.querySelector('.editor').shadowRoot.querySelectorAll('.cm-lint-marker-error')].length";
    assert_eq!(browser.wait(marked), 1);
    fine(&browser);
}

#[test]
fn the_queue_is_seen_and_steered() {
    let mut job = Process::start();
    let served = served(|root| {
        submitted(root, "waits", "local", &job.0.id().to_string());
        submitted(root, "gone", "slurm", "4000000000");
    });
    let browser = browser!(served);
    let id = served.id("waits");
    let url = format!("http://{}", served.address);
    browser.go(&format!("{url}/#token={}", served.token));
    let state = "document.querySelector('.job')?.innerText";
    // The state comes by itself once the engine has answered.
    browser.wait(&format!("return document.querySelector(\"tr[data-run='{id}'] .job\")?.innerText == 'RUNNING'"));
    let badge = browser.run(&format!("return document.querySelector(\"tr[data-run='{id}'] .status\").innerText"));
    assert!(badge.as_str().is_some_and(|badge| badge.ends_with("submitted")), "{badge}");
    browser.go(&format!("{url}/run/{id}/job"));
    browser.wait("return document.querySelector('pre.console')?.innerText.includes('the module is not there')");
    assert_eq!(browser.run("return document.querySelector('[data-job=requeue]')"), json!(null), "SLURM's alone");
    browser.click("[data-job=unqueue]");
    browser.click(".ask button.main");
    assert!(job.was_ended());
    browser.wait(&format!("return {state} == 'ENDED'"));
    fine(&browser);
    browser.go(&format!("{url}/run/{}", served.id("gone")));
    browser.click("[data-job=requeue]");
    browser.click(".ask button.main");
    browser.wait("return document.querySelector('.ask .error')?.innerText.includes('scontrol')");
    assert_eq!(browser.run(&format!("return {state}")), "state unknown");
}

#[test]
fn without_the_token_there_is_a_field_for_it() {
    let served = served_with(Some("a-token-of-16-characters"), |root| drop(made::run(root, "a", &Spec::default())));
    let browser = browser!(served);
    browser.go(&format!("http://{}/", served.address));
    browser.fill("input[type=password]", "wrong-token-of-16\n");
    browser.wait("return document.querySelector('.error')?.innerText == 'that is not the token'");
    browser.run("document.querySelector('input').select()");
    browser.fill("input[type=password]", &format!("{}\n", served.token));
    browser.wait("return document.querySelectorAll('tbody tr').length == 1");
}

#[test]
fn markup_of_a_run_stays_text() {
    let served = hostile();
    let browser = browser!(served);
    let (url, id) = (format!("http://{}", served.address), served.id("evil"));
    let views =
        ["", "/text", "/console", "/pipeline", "/graph", "/about", "/files"].map(|view| format!("/run/{id}{view}"));
    let all = ["/".to_owned(), format!("/compare?runs={id}&tab=options&same=1"), format!("/compare?runs={id}")];
    for path in all.into_iter().chain(views) {
        browser.go(&format!("{url}{path}"));
        browser.wait(&format!(
            "return document.body.innerText.includes({}) || document.body.innerHTML.includes('onerror')",
            json!(&MARKUP[..40])
        ));
        assert_eq!(browser.run("return document.querySelectorAll('img[onerror], main script').length"), 0, "{path}");
        assert_ne!(browser.run("return document.title"), "taken", "{path}");
    }
    fine(&browser);
}
