//! `pipe score GT DT`.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::output::{Format, Status, print};
use pipe_coco::diagnose::{Comparison, Difference, compare, diagnose};
use pipe_coco::eval;
use pipe_coco::eval::{IouType, ScoreOptions, Scored, Summary};
use pipe_components::diagnostics;

/// Arguments of `pipe score`.
#[derive(Debug, Args)]
pub struct ScoreArgs {
    /// The annotations, a COCO file such as `instances_val2017.json`.
    #[arg(value_name = "GT")]
    truth: PathBuf,
    /// The detections, a COCO results file.
    #[arg(value_name = "DT")]
    results: PathBuf,
    /// What to evaluate: boxes, masks or keypoints.
    #[arg(long, value_enum, default_value_t)]
    iou: Iou,
    /// For keypoints, the constant of each, separated by commas. Default: COCO's for a person's 17, otherwise 0.067 for each.
    #[arg(long, value_name = "SIGMA", value_delimiter = ',')]
    oks_sigmas: Option<Vec<f64>>,
    /// Also print average precision and recall per class.
    #[arg(long)]
    per_class: bool,
    /// Also diagnose: tell the best threshold, errors by kind and the worst images, and write all of it as `diagnostics.json` with charts into
    /// this folder, for each kind of `--iou` a folder of its own.
    #[arg(long, value_name = "DIR")]
    diagnostics: Option<PathBuf>,
    /// Compare with the detections of another file: the difference of AP and AP50 with the 95 % interval of a paired bootstrap over the
    /// images.
    #[arg(long, value_name = "OTHER")]
    against: Option<PathBuf>,
    /// Evaluate only images that have a detection; pycocotools evaluates all images of the annotations.
    #[arg(long)]
    detected_only: bool,
    /// Leave out annotations whose image or category does not exist or whose id was taken, in place of an error.
    #[arg(long)]
    lenient: bool,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What to evaluate.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Iou {
    /// Boxes.
    #[default]
    Bbox,
    /// Masks.
    Segm,
    /// Keypoints.
    Keypoints,
}

/// Evaluates a results file as COCO does.
///
/// # Errors
/// When a file cannot be read or does not match the other.
pub fn score(args: &ScoreArgs) -> Result<Status> {
    let iou = match args.iou {
        Iou::Bbox => IouType::Bbox,
        Iou::Segm => IouType::Segm,
        Iou::Keypoints => IouType::Keypoints,
    };
    let images = if args.detected_only { Scored::WithDetections } else { Scored::All };
    let options = ScoreOptions {
        images,
        oks_sigmas: args.oks_sigmas.clone(),
        lenient: args.lenient,
        errors: args.diagnostics.is_some(),
    };
    let (score, compared) = match &args.against {
        None => (eval::score(&args.truth, &args.results, iou, &options)?, None),
        Some(other) => {
            let [own, other] = eval::score_both(&args.truth, [&args.results, other], iou, &options)?;
            let compared = compare(&own.truth, &own.state, &other.state, RESAMPLES, SEED)?;
            (own, Some((compared, other.notes)))
        }
    };
    let others = compared.iter().flat_map(|(_, notes)| notes);
    for note in score.notes.iter().chain(others) {
        tracing::warn!("{note}");
    }
    let compared = compared.map(|(compared, _)| compared);
    let mut diagnosed = None;
    if let Some(folder) = &args.diagnostics {
        ensure!(!folder.is_file(), "{} is a file; diagnostics are written into a folder", folder.display());
        let found = diagnose(&score.truth, &score.state, &score.summary)?;
        diagnostics::write(folder, &found)?;
        diagnosed = Some(found);
    }
    print(&match args.format {
        Format::Text => {
            let mut text = text(&score.summary, args.per_class);
            if let Some(compared) = &compared {
                text += &difference(compared, args);
            }
            if let (Some(found), Some(folder)) = (&diagnosed, &args.diagnostics) {
                let written = folder.join(found.iou);
                text += &format!("\n{}\nmore in {}\n", diagnostics::text(found, args.per_class), written.display());
            }
            text
        }
        Format::Json => {
            let mut json = json(&score.summary, args.per_class);
            if let Some(compared) = &compared {
                json["against"] = serde_json::to_value(compared)?;
            }
            if let (Some(found), Some(folder)) = (&diagnosed, &args.diagnostics) {
                json["diagnostics"] = folder.join(found.iou).join("diagnostics.json").display().to_string().into();
            }
            serde_json::to_string_pretty(&json)? + "\n"
        }
    })
}

/// How often the images are drawn anew for an interval.
const RESAMPLES: usize = 1000;
/// What the drawing starts from, so that the same files give the same interval.
const SEED: u64 = 0;

fn difference(compared: &Comparison, args: &ScoreArgs) -> String {
    let Comparison { images, resamples, seed, .. } = compared;
    let other = args.against.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
    let mut text = format!(
        "\ndifference to {other}, with the 95 % interval of {resamples} resamples of {images} images (seed {seed})\n\
         {:5} {:>8} {:>8} {:>11}   interval\n",
        "", "DT", "OTHER", "difference"
    );
    for (name, Difference { first, second, difference, interval: [low, high], .. }) in
        [("AP", compared.ap), ("AP50", compared.ap50)]
    {
        text += &format!("{name:5} {first:8.3} {second:8.3} {difference:+11.4}   {low:+.4} to {high:+.4}\n");
    }
    text
}

fn text(summary: &Summary, per_class: bool) -> String {
    let mut text = format!("{summary}\n");
    if per_class {
        let width = summary.per_class.iter().map(|class| class.name.chars().count()).max().unwrap_or(0).max(5);
        text.push_str(&format!("\n{:width$}      AP    AP50    AP75      AR\n", "class"));
        for class in &summary.per_class {
            let numbers = [class.ap, class.ap50, class.ap75, class.ar].map(|value| format!("{value:8.3}")).concat();
            text.push_str(&format!("{:width$}{numbers}\n", class.name));
        }
    }
    if summary.unknown_categories > 0 {
        let count = summary.unknown_categories;
        text.push_str(&format!(
            "\n{count} detections have categories that are not in the annotations; they are ignored\n"
        ));
    }
    text
}

fn json(summary: &Summary, per_class: bool) -> Value {
    let stats: serde_json::Map<String, Value> =
        summary.named().map(|(name, value)| (name.to_owned(), json!(value))).collect();
    let mut result = json!({
        "iou": summary.iou.name(), "images": summary.images, "detections": summary.detections,
        "unknown_categories": summary.unknown_categories, "stats": stats,
    });
    if per_class {
        let class = |class: &eval::ClassSummary| {
            json!({
                "id": class.id, "name": class.name, "AP": class.ap, "AP50": class.ap50, "AP75": class.ap75, "AR": class.ar,
            })
        };
        result["per_class"] = summary.per_class.iter().map(class).collect();
    }
    result
}
