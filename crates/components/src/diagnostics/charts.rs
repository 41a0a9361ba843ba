//! Diagnostics as images.

use pipe_coco::diagnose::{Best, ClassCurve, Curves, Diagnostics};
use pipe_draw::{Chart, Color, RgbImage, Series, Table, class_color};

const MEAN: Color = [255, 255, 255];

/// Precision, recall and F1 over confidence, precision over recall, and the confusion matrix, each with the name of its file.
pub(super) fn charts(diagnostics: &Diagnostics) -> Vec<(&'static str, RgbImage)> {
    let curves = &diagnostics.curves;
    let iou = format!("{}, IoU {:.2}", diagnostics.iou, diagnostics.iou_threshold);
    let over = |name: &str, curve: Curve, of_best: fn(&Best) -> f64, mean: Vec<f64>| Chart {
        title: format!("{name} over confidence ({iou})"),
        axes: ["confidence".to_owned(), name.to_owned()],
        range: range(curves),
        series: over_confidence(curves, curve, of_best, &mean),
        mark: curves.best.map(|best| best.confidence),
    };
    let precision = over("precision", |class| known(&class.precision), |best| best.precision, known(&curves.precision));
    let recall = over("recall", |class| known(&class.recall), |best| best.recall, curves.recall.clone());
    let f1 = over("F1", |class| class.f1.clone(), |best| best.f1, curves.f1.clone());
    let confusion = &diagnostics.confusion;
    let at = confusion.confidence.map_or("all detections".to_owned(), |at| format!("confidence ≥ {at:.3}"));
    let table = Table {
        title: format!("objects and what they are found as ({iou}, {at})"),
        axes: ["object".to_owned(), "found as".to_owned()],
        names: confusion.names.clone(),
        counts: confusion.matrix.clone(),
    };
    vec![
        ("f1", f1.draw()),
        ("precision", precision.draw()),
        ("recall", recall.draw()),
        ("precision_recall", precision_recall(diagnostics, &iou).draw()),
        ("confusion_matrix", table.draw()),
    ]
}

fn range(curves: &Curves) -> [f64; 2] {
    [curves.confidence.first(), curves.confidence.last()].map(|end| end.copied().unwrap_or(0.0))
}

fn points(right: &[f64], up: &[f64]) -> Vec<[f64; 2]> {
    right.iter().zip(up).map(|(right, up)| [*right, *up]).collect()
}

/// One class's curve.
type Curve = fn(&ClassCurve) -> Vec<f64>;

fn known(values: &[Option<f64>]) -> Vec<f64> {
    values.iter().map(|value| value.unwrap_or(f64::NAN)).collect()
}

/// The classes that have objects, and their mean; with each the value at its best threshold.
fn over_confidence(curves: &Curves, curve: Curve, of_best: fn(&Best) -> f64, mean: &[f64]) -> Vec<Series> {
    let named = |name: &str, best: &Option<Best>| match best {
        Some(best) => format!("{name} ({:.2} at {:.3})", of_best(best), best.confidence),
        None => name.to_owned(),
    };
    let class = |class: &ClassCurve| Series {
        name: named(&class.name, &class.best),
        points: points(&curves.confidence, &curve(class)),
        color: class_color(class.id.into()),
        main: false,
    };
    let name = named("mean", &curves.best);
    let mean = Series { name, points: points(&curves.confidence, mean), color: MEAN, main: true };
    curves.classes.iter().filter(|class| class.objects > 0).map(class).chain([mean]).collect()
}

fn precision_recall(diagnostics: &Diagnostics, iou: &str) -> Chart {
    let recall: Vec<f64> = (0..=100).map(|r| f64::from(r) / 100.0).collect();
    let mut series = Vec::new();
    let mut mean = vec![0.0; recall.len()];
    let count = diagnostics.precision_recall.len().max(1) as f64;
    for class in &diagnostics.precision_recall {
        mean.iter_mut().zip(&class.precision).for_each(|(mean, precision)| *mean += precision / count);
        let name = format!("{} ({:.2})", class.name, class.ap50);
        let points = points(&recall, &class.precision);
        series.push(Series { name, points, color: class_color(class.id.into()), main: false });
    }
    let ap50 = mean.iter().sum::<f64>() / mean.len() as f64;
    series.push(Series { name: format!("mean ({ap50:.2})"), points: points(&recall, &mean), color: MEAN, main: true });
    Chart {
        title: format!("precision over recall ({iou})"),
        axes: ["recall".to_owned(), "precision".to_owned()],
        range: [0.0, 1.0],
        series,
        mark: None,
    }
}
