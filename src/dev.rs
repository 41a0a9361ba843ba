//! `pipe dev FILE`: a verdict on each save.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use clap::Args;

use crate::output::{Format, Status, error_text, say};
use crate::run::seconds;
use crate::signals::{Signals, Words};
use crate::source::{PipelineArgs, runs_folder, shown, tell};
use pipe_components::scene::drawn;
use pipe_core::{Reload, Requests};
use pipe_draw::{RgbImage, Tile, Verdict, grid};
use pipe_run::RunOptions;
use pipe_run::load::{Loaded, Snapshot};
use pipe_run::reload::inbox::{Inbox, What};
use pipe_run::reload::rehearsal::{Picture, Rehearsal, Tried};
use pipe_run::reload::watch::WatchOptions;
use pipe_run::reload::{Outcome, watch};

/// Arguments of `pipe dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Iterations of each top-level engine; engines run by events make one.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..))]
    iterations: u64,
    /// Path of the image of a batch; default `runs/dev/<name>.png`.
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// Device, instead of the pipeline's: auto, cpu, cuda, cuda:N.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Poll the files at this interval instead of using file system notifications: for network file systems.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = seconds)]
    watch_poll: Option<Duration>,
    /// Check once, then exit; exit status 2 if something is wrong.
    #[arg(long)]
    once: bool,
}

/// Tries the pipeline now and on each save, until Ctrl-C.
///
/// # Errors
/// When files cannot be watched.
pub fn dev(args: &DevArgs) -> Result<Status> {
    let words = Words { first: None, still: "the try is still running", json: false };
    let requests = Signals::listen(words)?.requests;
    let interrupt = requests.interrupt.clone();
    let source = args.pipeline.source();
    let mut loaded = source.load();
    let inbox = Arc::new(Inbox::default());
    if !args.once {
        let options = WatchOptions { poll: args.watch_poll };
        watch::start(source.clone(), loaded.snapshot.clone(), options, inbox.clone())?;
    }
    let mut session = Session { args, requests, rehearsal: None };
    let mut since = Instant::now();
    loop {
        let good = session.verdict(loaded, since)?;
        if args.once {
            return Ok(if good { Status::Done } else { Status::Wrong });
        }
        say!("waiting for the next save of {} (Ctrl-C quits)", shown(&args.pipeline.file));
        let Some(snapshot) = next(&inbox, &interrupt) else { return Ok(Status::Done) };
        since = saved(&snapshot);
        loaded = source.load_snapshot(&snapshot);
    }
}

/// The latest edit, once there is one; `None` on Ctrl-C.
fn next(inbox: &Inbox, interrupt: &AtomicBool) -> Option<Snapshot> {
    while !interrupt.load(Ordering::Relaxed) {
        if let Some(What::Files(snapshot)) = inbox.take().pop().map(|arrival| arrival.what) {
            return Some(snapshot);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

/// When the latest file of a snapshot was saved.
fn saved(snapshot: &Snapshot) -> Instant {
    let modified = snapshot.files.keys().filter_map(|path| std::fs::metadata(path).ok()?.modified().ok()).max();
    let age = modified.and_then(|time| SystemTime::now().duration_since(time).ok());
    // A file with the time of another day was put there, not written: count from now.
    let age = age.filter(|age| *age < Duration::from_secs(60)).unwrap_or_default();
    Instant::now().checked_sub(age).unwrap_or_else(Instant::now)
}

struct Session<'a> {
    args: &'a DevArgs,
    requests: Requests,
    /// What is built, kept from save to save.
    rehearsal: Option<Rehearsal>,
}

impl Session<'_> {
    /// Reports on a pipeline; returns whether it is OK.
    fn verdict(&mut self, loaded: Loaded, since: Instant) -> Result<bool> {
        let name = shown(&self.args.pipeline.file);
        tell(&loaded, Format::Text)?;
        if loaded.plan.is_none() {
            say!("{name}: invalid ({})", spent("", since.elapsed()));
            return Ok(false);
        }
        let iterations = self.args.iterations;
        let tried = match self.take(loaded) {
            Ok(Some(rehearsal)) => rehearsal.run(iterations),
            // Refused: the reason has been reported.
            Ok(None) => {
                say!("{name}: failed ({})", spent("", since.elapsed()));
                return Ok(false);
            }
            Err(error) => Err(error),
        };
        match tried {
            Ok(tried) => self.tell(&name, &tried, since).map(|()| true),
            Err(error) => {
                say!("{name}: failed ({})\n{}", spent("", since.elapsed()), error_text(&error));
                Ok(false)
            }
        }
    }

    /// Applies the pipeline to what is built; rebuilds where that is not possible; `None` where it was refused.
    fn take(&mut self, loaded: Loaded) -> Result<Option<&Rehearsal>> {
        let mut loaded = Some(loaded);
        if let Some(rehearsal) = &self.rehearsal
            && let Some(edited) = loaded.take()
        {
            let again = self.args.pipeline.source();
            let snapshot = edited.snapshot.clone();
            let report = rehearsal.apply(edited)?;
            let fixed = report.changes.iter().any(|line| line.class == Reload::Fixed);
            match report.outcome {
                Outcome::Refused if fixed => loaded = Some(again.load_snapshot(&snapshot)),
                Outcome::Refused => return Ok(None),
                _ => {}
            }
        }
        if let Some(loaded) = loaded {
            // The old one first: its memory may be needed.
            self.rehearsal = None;
            let options = RunOptions { device: self.args.device.clone(), quiet: true, ..RunOptions::default() };
            let source = self.args.pipeline.source();
            self.rehearsal = Some(Rehearsal::start(loaded, source, options, self.requests.clone())?);
        }
        Ok(self.rehearsal.as_ref())
    }

    fn tell(&self, name: &str, tried: &Tried, since: Instant) -> Result<()> {
        for (engine, values) in &tried.losses {
            let shown: Vec<String> = values.iter().map(|loss| format!("{loss:.4}")).collect();
            say!("{engine}: loss {}", shown.join(" "));
        }
        for (metric, value) in &tried.values {
            say!("{metric} = {value:.4}");
        }
        if let Some(why) = &tried.no_picture {
            say!("no image: {why}");
        } else if let Some(path) = self.draw(&tried.pictures)? {
            say!("image: {}", shown(&path));
        }
        let total = since.elapsed();
        let own = spent(" in iterations and evaluation", tried.at_work);
        let rest = spent(" for the rest", total.saturating_sub(tried.at_work));
        say!("{name}: OK; {} since the save: {own}, {rest}", spent("", total));
        Ok(())
    }

    /// Writes the images of a batch into one file.
    fn draw(&self, pictures: &[Picture]) -> Result<Option<PathBuf>> {
        let images = pictures.iter().map(|p| {
            let image = RgbImage::from_data(p.height, p.width, p.rgb.clone())?;
            p.objects.as_ref().map_or(Ok(image.clone()), |objects| drawn(&image, objects))
        });
        let images = images.collect::<Result<Vec<_>>>()?;
        let picture = match images.as_slice() {
            [] => return Ok(None),
            [only] => only.clone(),
            several => {
                let tile =
                    |image: &RgbImage| Tile { image: image.clone(), caption: String::new(), verdict: Verdict::Neutral };
                grid(&several.iter().map(tile).collect::<Vec<_>>(), 0)
            }
        };
        let default = || runs_folder().join("dev").join(format!("{}.png", self.args.pipeline.stem()));
        let path = self.args.picture.clone().unwrap_or_else(default);
        if let Some(folder) = path.parent().filter(|folder| *folder != Path::new("")) {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        pipe_vocab::atomic::write(&path, &picture.encode_png()?)?;
        Ok(Some(path))
    }
}

fn spent(what: &str, time: Duration) -> String {
    format!("{:.2} s{what}", time.as_secs_f64())
}
