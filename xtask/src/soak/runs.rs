//! `cargo xtask soak runs`: the figures of many runs and of their page, which docs/benchmarks.md has.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::setup::{Options, setup};
use crate::shell::{cargo, must, step};

/// Benches first, then the tests that print what they measure.
pub(crate) fn runs(root: &Path, arguments: &[String]) -> Result<()> {
    ensure!(arguments.is_empty(), "`soak runs` takes no arguments");
    let libtorch = setup(root, &Options::default())?;
    step("curves, their size, the index, the table");
    must(cargo(root, &libtorch).args(["bench", "--package", "pipe-runs"]))?;
    step("the server's answers");
    must(cargo(root, &libtorch).args(["bench", "--package", "pipe-ui"]))?;
    step("the page in Chromium: how soon it has a point, and what a day of points costs it");
    let tests = ["test", "--release", "--package", "pipe-ui", "--test", "it", "--", "--nocapture", "page::"];
    must(cargo(root, &libtorch).args(tests))?;
    step("the processors' time that capture takes, in an epoch of the demo");
    let tests = ["test", "--release", "--test", "it", "--", "--nocapture", "capture_takes"];
    must(
        cargo(root, &libtorch)
            .args(tests)
            .env("PIPE_CAPTURE_RUN", "pipelines/maskrcnn_coco.toml --profile demo --set engine.trainer.max_epochs=1"),
    )
}
