//! A run in ClearML's words.

use serde_json::{Map, Value, json};

use super::config::ClearmlConfig;
use crate::tracker::facts::option_text;
use crate::tracker::{Batch, Facts, Scalar};

/// The project's name.
pub(super) fn project<'a>(config: &'a ClearmlConfig, run: &'a Facts) -> &'a str {
    config.project.as_deref().unwrap_or(run.pipeline())
}

/// The task's name.
pub(super) fn name(config: &ClearmlConfig, run: &Facts) -> String {
    config.name.clone().unwrap_or_else(|| run.name())
}

/// What `tasks.edit` and an offline session take of the run: script, options, the pipeline as it is written.
pub(super) fn described(run: &Facts) -> Map<String, Value> {
    let text = |path: &[&str]| run.text(path).unwrap_or_default();
    let options = run.options.iter().map(|(key, value)| {
        let value = option_text(value, usize::MAX).0;
        let option = json!({ "section": "General", "name": key, "value": value, "type": "str", "description": "" });
        (key.clone(), option)
    });
    let pipeline = pipe_vocab::files::read_text(&run.folder.join("pipeline.toml"), 16 << 20).unwrap_or_default();
    let fields = json!({
        "script": {
            "binary": "pipe", "repository": "", "branch": text(&["git", "branch"]), "version_num": text(&["git", "commit"]),
            "entry_point": text(&["command"]), "working_dir": text(&["pipeline_folder"]),
        },
        "hyperparams": { "General": options.collect::<Map<_, _>>() },
        "configuration": { "pipeline": { "name": "pipeline", "value": pipeline, "type": "toml" } },
        "runtime": {
            "pipe": text(&["versions", "pipe"]), "device": text(&["device"]), "seed": text(&["seed"]),
            "generation": text(&["generation"]), "folder": run.folder.display().to_string(),
        },
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// `train/loss` is the series `loss` of the plot `train`.
pub(super) fn metric_and_variant(tag: &str) -> (&str, &str) {
    tag.split_once('/').unwrap_or((tag, tag))
}

/// The events of a batch; images have events of their own, see [`image`].
pub(super) fn events(batch: &Batch, task: &str) -> Vec<Value> {
    match batch {
        Batch::Scalars(scalars) => scalars.iter().map(|scalar| number(scalar, task)).collect(),
        Batch::Text(text) => vec![log(&format!("{} at step {}\n{}", text.tag, text.step, text.what), text.time, task)],
        Batch::Image(_) | Batch::Nothing => Vec::new(),
    }
}

/// ClearML draws no NaN and no infinity: the log says that there was one.
fn number(scalar: &Scalar, task: &str) -> Value {
    if !scalar.value.is_finite() {
        return log(&format!("{} is {} at step {}", scalar.tag, scalar.value, scalar.step), scalar.time, task);
    }
    let (metric, variant) = metric_and_variant(&scalar.tag);
    json!({
        "timestamp": milliseconds(scalar.time), "type": "training_stats_scalar", "task": task, "iter": scalar.step,
        "metric": metric, "variant": variant, "value": scalar.value,
    })
}

fn log(text: &str, time: f64, task: &str) -> Value {
    json!({
        "timestamp": milliseconds(time), "type": "log", "task": task, "level": "info", "worker": "pipe", "msg": text,
    })
}

/// The event of an image that lies under `key`.
pub(super) fn image(tag: &str, step: u64, time: f64, task: &str, key: &str, url: &str) -> Value {
    let (metric, variant) = metric_and_variant(tag);
    json!({
        "timestamp": milliseconds(time), "type": "training_debug_image", "task": task, "iter": step, "metric": metric,
        "variant": variant, "key": key, "url": url,
    })
}

/// Where the file of an image lies, below the files of all projects.
pub(super) fn key(project: &str, name: &str, task: &str, tag: &str, step: u64, time: f64) -> String {
    let (metric, variant) = metric_and_variant(tag);
    let plain = |text: &str| -> String {
        let plain = |c: char| if c.is_alphanumeric() || "_-. ".contains(c) { c } else { '_' };
        text.chars().map(plain).collect::<String>().trim_start_matches('.').to_owned()
    };
    let (project, name, metric, variant) = (plain(project), plain(name), plain(metric), plain(variant));
    let time = milliseconds(time);
    format!("{project}/{name}.{task}/metrics/{metric}/{variant}/{metric}_{variant}_{step:08}_{time}.png")
}

pub(super) fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}
