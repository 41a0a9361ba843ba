//! What is drawn over images, and how right a model is, in a real browser; skipped as those of `page`.

use crate::browser;
use crate::page::{fine, some};

/// The views of a run that `made` made, and what is true in each once it is there.
pub(crate) const VIEWS: [(&str, &str); 11] = [
    ("", "document.querySelectorAll('.panel canvas').length == 4"),
    ("/images", "document.querySelector('figure img')?.naturalWidth == 128"),
    ("/distributions", "document.querySelectorAll('.bars rect').length == 64"),
    ("/pr", "document.querySelector('.pr .curve') !== null"),
    ("/text", "document.querySelector('pre.text')?.innerText.includes('<b>not bold</b>')"),
    ("/console", "document.querySelector('pre.console')?.innerText.includes('epoch 6/6')"),
    ("/machine", "document.querySelectorAll('.panel canvas').length == 8"),
    (
        "/pipeline",
        "document.querySelector('.toml')?.innerText.includes('profile demo') && document.querySelector('.edit.refused') !== null",
    ),
    (
        "/graph",
        "document.querySelectorAll('.graph .node').length == 11 && document.querySelectorAll('.edge.event').length == 3",
    ),
    ("/files", "document.querySelector('.badge.best') !== null && !document.body.innerText.includes('records')"),
    ("/about", "document.body.innerText.includes('versions.libtorch')"),
];

const DRAWN: &str = "[document.querySelectorAll('.picture rect.truth').length, document.querySelectorAll('.picture rect.found').length].join()";

#[test]
fn what_is_seen_on_an_image_is_chosen() {
    let served = some();
    let browser = browser!(served);
    let url = format!("http://{}/run/{}/images", served.address, served.id("digits/1"));
    browser.go(&url);
    // At first what the run's own drawing has: the square has too low a score.
    browser.wait(&format!("return {DRAWN} == '1,1'"));
    let inside = "(() => { const c = document.querySelector('.picture canvas'); if (!c) return -1;
        const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0 ? 1 : 0; return n; })()";
    // The pixels of a disc of radius 22 that is cut at no edge.
    let disc = browser.wait(&format!("const n = {inside}; return n > 0 && n")).as_f64().unwrap();
    assert!((disc - 1520.0).abs() < 30.0, "{disc}");
    assert_eq!(
        browser.run("return document.querySelector('figure img').alt"),
        "samples/batch at step 600: 1 ring, 1 ring (found)"
    );
    browser.go(&format!("{url}?score=0.2"));
    browser.wait(&format!("return {DRAWN} == '1,2'"));
    browser.click(".layers .chip:nth-of-type(2)");
    browser
        .wait(&format!("return {DRAWN} == '1,1' && new URLSearchParams(location.search).get('without') == 'square'"));
    // The ground truth, then the masks.
    browser.click(".layers label:nth-of-type(1) input");
    browser.wait(&format!("return {DRAWN} == '0,1'"));
    browser.click(".layers label:nth-of-type(4) input");
    browser.wait(&format!("return {inside} == -1"));
    // Its state is its address.
    let address = browser.run("return location.href");
    browser.go("about:blank");
    browser.go(address.as_str().unwrap());
    browser.wait(&format!("return {DRAWN} == '0,1' && {inside} == -1"));
    fine(&browser);
}

#[test]
fn a_confusion_is_told_in_words() {
    let served = some();
    let browser = browser!(served);
    browser.go(&format!("http://{}/run/{}/pr", served.address, served.id("digits/1")));
    browser.wait(
        "return document.querySelectorAll('.confusion rect.right').length == 2 && document.querySelector('.pr .curve')",
    );
    let worst = "return document.querySelector('.confused li').innerText";
    assert_eq!(browser.run(worst), "ring found as square: 9 of 100 (9.0 %)");
    let first = "return document.querySelector('.confusion g text').textContent";
    assert_eq!(browser.run(first), "90");
    browser.click(".segments button:nth-child(2)");
    browser.wait("return document.querySelector('.confusion .wrong').getAttribute('fill-opacity') < 0.2");
    browser.run("document.querySelector('.confusion').scrollIntoView({ block: 'center' })");
    // Left of the middle, in the upper row.
    browser.point(".confusion", -60, -150, None);
    browser.wait(
        "return document.querySelector('.panel p[aria-live]').innerText == 'ring found as ring: 90 of 100 (90.0 %)'",
    );
    fine(&browser);
}

#[test]
fn consoles_and_edits_stand_beside_each_other() {
    let served = some();
    let browser = browser!(served);
    let ids = ["digits/0", "digits/1"].map(|name| served.id(name)).join(",");
    browser.go(&format!("http://{}/compare?runs={ids}&tab=console", served.address));
    browser.wait("return [...document.querySelectorAll('pre.console')].filter(e => e.innerText.includes('epoch 6/6')).length == 2");
    browser.fill("input[aria-label='search the consoles']", "epoch 3");
    browser
        .wait("return [...document.querySelectorAll('pre.console')].every(e => e.innerText.startsWith('epoch 3/6'))");
    browser.go(&format!("http://{}/compare?runs={ids}&tab=edits", served.address));
    browser.wait("return document.querySelectorAll('.edit.applied').length == 2 && document.querySelectorAll('.edit.refused').length == 2");
    fine(&browser);
}
