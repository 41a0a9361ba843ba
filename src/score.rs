//! `pipe score GT DT`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::output::{Format, Status, print};
use pipe_coco::eval;
use pipe_coco::eval::{IouType, Score, ScoreOptions, Scored, Summary};

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
    let options = ScoreOptions { images, oks_sigmas: args.oks_sigmas.clone(), lenient: args.lenient };
    let Score { summary, notes } = eval::score(&args.truth, &args.results, iou, &options)?;
    for note in &notes {
        tracing::warn!("{note}");
    }
    print(&match args.format {
        Format::Text => text(&summary, args.per_class),
        Format::Json => serde_json::to_string_pretty(&json(&summary, args.per_class))? + "\n",
    })
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
