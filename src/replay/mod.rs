//! `pipe replay RUN --step N`: that step's batch once more, drawn after every step of the transform, and what each of its images and
//! objects added to the loss.
//!
//! - [`witness`]: what is kept of the step
//! - [`report`]: that beside what the run recorded, as text, JSON and page

mod report;
mod witness;

use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use clap::Args;
use pipe_core::{Instance, Kind, Which};
use pipe_run::state_at::{StateAt, replay as made_again};

use self::report::Report;
use self::witness::Seen;
use crate::output::{Format, Status, print, say};
use crate::page;
use crate::partial::port_of;
use crate::signals::{Signals, Words};
use crate::source::shown;
use crate::stages::{self, Drawing, class_names};

/// Arguments of `pipe replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The folder of a run.
    run: PathBuf,
    /// The step, counted from 1 over the whole run, as in its records.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    step: u64,
    /// Device, instead of the pipeline's.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// The HTML page with the drawn batch; default `RUN/replays/step_N.html`.
    #[arg(long, value_name = "FILE.html")]
    page: Option<PathBuf>,
    /// Images of the batch that are drawn, at most.
    #[arg(long, value_name = "N", default_value_t = 16)]
    images: usize,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Makes a step of a run again, from the newest checkpoint before it.
///
/// # Errors
/// The folder is no run, or its pipeline or data are not what they were.
pub fn replay(args: &ReplayArgs) -> Result<Status> {
    ensure!(args.run.is_dir(), "{} is not the folder of a run", args.run.display());
    let page = args.page.clone().unwrap_or_else(|| args.run.join(format!("replays/step_{:06}.html", args.step)));
    page::check(&page)?;
    let words = Words {
        first: Some("stopping; press Ctrl-C again to stop immediately"),
        still: "the step is still running",
        json: false,
    };
    let signals = Signals::listen(words)?;
    let seen = Rc::new(Seen::default());
    let requests = signals.requests.clone();
    let at = match made_again(&args.run, args.step, seen.clone(), args.device.as_deref(), requests.clone()) {
        Err(_) if requests.interrupt.load(std::sync::atomic::Ordering::Relaxed) => {
            return Ok(Status::Signalled(signals.status()));
        }
        at => at?,
    };
    let engine = seen.engine().with_context(|| format!("nothing was trained in step {}", args.step))?;
    let loader = port_of(&at.plan, &engine, Kind::Loader).with_context(|| format!("{engine} has no loader"))?;
    let names = class_names(port_of(&at.plan, loader, Kind::Dataset), &at.running.graph);
    let class = |label: i64| names.get(&label).cloned().unwrap_or_else(|| label.to_string());
    let report = Report::of(&seen, &args.run, args.step, &class)?;
    let ways = {
        let Instance::Loader(loader) = at.running.graph.node(loader)? else { return Ok(Status::Failed) };
        let drawing = Drawing { most: args.images, class: &class, numbered: true };
        stages::ways(&mut *loader.borrow_mut(), Which::Last, &drawing)?
    };
    page::write(&page, &report.page(&heading(args, &at), &ways)?)?;
    let status = print(&match args.format {
        Format::Text => format!("{}\n{}", heading(args, &at), report.text()),
        Format::Json => serde_json::to_string_pretty(&report.json())? + "\n",
    })?;
    say!("page: {}", shown(&page));
    Ok(status)
}

fn heading(args: &ReplayArgs, at: &StateAt) -> String {
    let from = match &at.checkpoint {
        Some(checkpoint) => checkpoint.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        None => "the beginning".into(),
    };
    let clock = at.running.context().clock.get();
    format!(
        "step {} of {}, epoch {}: made again from {from}, the last of {} steps",
        args.step,
        shown(&args.run),
        clock.epoch,
        at.before
    )
}
