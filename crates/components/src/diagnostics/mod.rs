//! What is shown of a detector's diagnostics: text, charts, precision-recall curves, and the files of them.

mod charts;
mod text;

use std::path::Path;

use anyhow::{Context, Result};
use pipe_coco::diagnose::Diagnostics;
use pipe_core::RecordValue;
use pipe_vocab::atomic;

pub use text::text;

/// Writes `diagnostics.json` and the charts into the folder of an IoU type (`FOLDER/bbox`).
///
/// # Errors
/// When a file cannot be written.
pub fn write(folder: &Path, diagnostics: &Diagnostics) -> Result<()> {
    let folder = folder.join(diagnostics.iou);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for (name, image) in charts::charts(diagnostics) {
        atomic::write(&folder.join(format!("{name}.png")), &image.encode_png()?)?;
    }
    let mut json = serde_json::to_vec(diagnostics)?;
    json.push(b'\n');
    atomic::write(&folder.join("diagnostics.json"), &json)?;
    Ok(())
}

/// The charts, the confusion matrix and, where scores are from 0 to 1, a precision-recall curve of each class that has objects.
pub fn records(diagnostics: &Diagnostics) -> Vec<(String, RecordValue)> {
    let mut records = Vec::new();
    for (name, image) in charts::charts(diagnostics) {
        let (height, width) = (image.height(), image.width());
        let value = RecordValue::Image { height, width, rgb: image.into_data(), objects: None };
        records.push((format!("{}/{name}", diagnostics.iou), value));
    }
    let confusion = &diagnostics.confusion;
    let value = RecordValue::Confusion { names: confusion.names.clone(), cells: cells(&confusion.matrix) };
    records.push((format!("{}/confusion", diagnostics.iou), value));
    let confidence = &diagnostics.curves.confidence;
    if confidence.first() == Some(&0.0) && confidence.last() == Some(&1.0) {
        for class in diagnostics.curves.classes.iter().filter(|class| class.objects > 0) {
            let value = RecordValue::PrCurve {
                true_positives: class.true_positives.clone(),
                false_positives: class.false_positives.clone(),
                positives: class.objects,
            };
            records.push((format!("{}/pr/{}", diagnostics.iou, class.name), value));
        }
    }
    records
}

/// What of a matrix is not 0.
pub fn cells(matrix: &[Vec<u32>]) -> Vec<[u32; 3]> {
    let each = |(row, values): (usize, &Vec<u32>)| {
        let cell = move |(column, count): (usize, &u32)| [row as u32, column as u32, *count];
        values.iter().enumerate().map(cell).filter(|cell| cell[2] > 0).collect::<Vec<_>>()
    };
    matrix.iter().enumerate().flat_map(each).collect()
}
