//! What is known of a run, from its folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pipe_history::standing::{self, Status};
use pipe_history::{Curve, Point, Scalars};
use pipe_vocab::record::{number, read_number};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::about::About;
use crate::job::Job;
use crate::{names, options};

/// A value and when it was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct At {
    /// The value; as JSON one that is not finite is a text.
    #[serde(serialize_with = "write", deserialize_with = "read")]
    pub value: f64,
    /// The step.
    pub step: u64,
    /// The epoch.
    pub epoch: u64,
}

fn write<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    number(*value).serialize(serializer)
}

fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    read_number(&Value::deserialize(deserializer)?).ok_or_else(|| serde::de::Error::custom("a number is expected"))
}

impl From<Point> for At {
    fn from(point: Point) -> At {
        At { value: point.value, step: point.step, epoch: point.epoch }
    }
}

/// What a curve of a run came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// The node that measured it.
    pub node: String,
    /// How many values were measured.
    pub count: u64,
    /// How many of them are not finite.
    pub non_finite: u64,
    /// The latest.
    pub last: At,
    /// The first of the smallest finite ones.
    pub min: Option<At>,
    /// The first of the largest finite ones.
    pub max: Option<At>,
}

/// What is known of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its folder.
    pub folder: PathBuf,
    /// What it is called: by its owners, or a name made for it.
    pub name: String,
    /// The name of its pipeline.
    pub pipeline: String,
    /// How it stands.
    pub status: Status,
    /// When it was created, in seconds since 1970.
    pub created: f64,
    /// How long its latest life took, in seconds; nothing while it is at work.
    pub seconds: Option<f64>,
    /// How many steps it has recorded.
    pub steps: u64,
    /// How many epochs it has begun.
    pub epochs: u64,
    /// The device.
    pub device: Option<String>,
    /// The seed.
    pub seed: Option<u64>,
    /// Words that it is found by.
    pub tags: Vec<String>,
    /// What runs it belongs to.
    pub group: Option<String>,
    /// What its owners say.
    pub note: String,
    /// Why it failed.
    pub error: Option<String>,
    /// The run that it is a fork of, with the checkpoint and its step.
    pub forked_from: Option<Value>,
    /// How often its records were cut off, so that it could go on from before.
    pub generation: u64,
    /// The options of its latest pipeline.
    pub options: BTreeMap<String, Value>,
    /// What its curves came to, by tag.
    pub metrics: BTreeMap<String, Metric>,
    /// What of it could not be read.
    pub problem: Option<String>,
    /// The job by which it was submitted.
    pub job: Option<Job>,
}

impl Run {
    /// Reads the run in a folder; `None` where there is none.
    pub fn of(folder: &Path) -> Option<Run> {
        let info = standing::read(folder);
        let job = Job::of(folder);
        let waits = || (job.is_some() && info.is_empty()).then_some(Status::Submitted);
        let status = standing::status(folder).or_else(waits)?;
        let about = About::of(folder);
        let curves = Scalars::open(folder).and_then(|scalars| scalars.curves());
        let (curves, problem) = match curves {
            Ok(curves) => (curves, None),
            Err(error) => (Vec::new(), Some(format!("{error:#}"))),
        };
        let mut created = standing::created(&info);
        let mut pipeline = text(&info, "name").unwrap_or_default();
        if let (Status::Submitted, Some(job)) = (status, &job) {
            (created, pipeline) = (job.receipt.submitted as f64, job.receipt.name.clone());
        }
        let most = |of: &dyn Fn(&Curve) -> u64| curves.iter().map(of).max().unwrap_or_default();
        Some(Run {
            folder: folder.to_owned(),
            name: about.name.unwrap_or_else(|| names::generated(&pipeline, created)),
            pipeline,
            status,
            created,
            seconds: info.get("seconds").and_then(Value::as_f64),
            steps: most(&|curve| curve.steps.1),
            epochs: most(&|curve| curve.last.epoch),
            device: text(&info, "device"),
            seed: info.get("seed").and_then(Value::as_u64),
            tags: about.tags.into_iter().collect(),
            group: about.group,
            note: about.note,
            error: text(&info, "error"),
            forked_from: info.get("forked_from").filter(|fork| !fork.is_null()).cloned(),
            generation: standing::generation(&info),
            options: options::of(folder),
            metrics: curves.into_iter().map(|curve| (curve.tag.clone(), Metric::from(curve))).collect(),
            problem,
            job,
        })
    }
}

impl From<Curve> for Metric {
    fn from(curve: Curve) -> Metric {
        Metric {
            node: curve.node,
            count: curve.count,
            non_finite: curve.non_finite,
            last: curve.last.into(),
            min: curve.min.map(At::from),
            max: curve.max.map(At::from),
        }
    }
}

fn text(info: &Map<String, Value>, key: &str) -> Option<String> {
    info.get(key)?.as_str().map(str::to_owned)
}
