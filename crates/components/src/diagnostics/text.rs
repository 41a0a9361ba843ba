//! Diagnostics in a few lines.

use std::fmt::Write;

use pipe_coco::diagnose::{Best, ClassCurve, Diagnostics, ImageCount};

/// How many of the worst are named.
const WORST: usize = 5;

/// The best threshold, errors by kind, the most frequent mistakes and the worst images; each class's best threshold where `per_class` asks
/// for it.
pub fn text(diagnostics: &Diagnostics, per_class: bool) -> String {
    let mut text = format!("diagnostics at IoU {:.2}\n", diagnostics.iou_threshold);
    match diagnostics.curves.best {
        Some(Best { confidence, precision, recall, f1 }) => {
            let _ = writeln!(
                text,
                " best confidence {confidence:.3}: F1 {f1:.3}, precision {precision:.3}, recall {recall:.3} (means of the classes)"
            );
        }
        None => text += " no detection finds an object\n",
    }
    if per_class {
        classes(&mut text, &diagnostics.curves.classes);
    }
    errors(&mut text, diagnostics);
    mistakes(&mut text, diagnostics);
    images(&mut text, &diagnostics.worst_images);
    text
}

fn classes(text: &mut String, classes: &[ClassCurve]) {
    let width = classes.iter().map(|class| class.name.chars().count()).max().unwrap_or(0).max(5);
    let _ = writeln!(text, "\n {:width$}  confidence      F1  precision  recall", "class");
    for class in classes.iter().filter(|class| class.objects > 0) {
        let _ = match class.best {
            Some(Best { confidence, precision, recall, f1 }) => {
                writeln!(text, " {:width$}  {confidence:10.3}  {f1:6.3}  {precision:9.3}  {recall:6.3}", class.name)
            }
            None => writeln!(text, " {:width$}  {:>10}", class.name, "none found"),
        };
    }
}

fn errors(text: &mut String, diagnostics: &Diagnostics) {
    let tide = &diagnostics.tide;
    let _ = writeln!(text, "\n {:30}   count   AP50 {:.3} would rise by", "kind of error", tide.ap50);
    for error in &tide.errors {
        let kind = match error.kind {
            "Cls" => "class wrong",
            "Loc" => "localization wrong",
            "Both" => "class and localization wrong",
            "Dupe" => "duplicate",
            "Bkg" => "background",
            "Miss" => "missed",
            other => other,
        };
        let _ = writeln!(text, " {kind:30} {:>7}   {:+.3}", error.count, error.delta_ap);
    }
}

fn mistakes(text: &mut String, diagnostics: &Diagnostics) {
    let confusion = &diagnostics.confusion;
    let mistakes = confusion.mistakes();
    for (i, (is, found, count)) in mistakes.iter().take(WORST).enumerate() {
        let of: u32 = confusion.matrix[*is].iter().sum();
        let begins = if i == 0 { "\n most often mistaken at the best confidence\n" } else { "" };
        let _ =
            writeln!(text, "{begins} {} found as {}: {count} of {of}", confusion.names[*is], confusion.names[*found]);
    }
}

fn images(text: &mut String, images: &[ImageCount]) {
    let named =
        |image: &ImageCount| if image.file_name.is_empty() { image.id.to_string() } else { image.file_name.clone() };
    for (i, image) in images.iter().filter(|image| image.errors() > 0).take(WORST).enumerate() {
        let begins = if i == 0 { "\n images with the most errors at the best confidence\n" } else { "" };
        let _ = writeln!(text, "{begins} {}: {} missed, {} false", named(image), image.missed, image.false_positives);
    }
    let mut by_loss: Vec<(f64, &ImageCount)> = images.iter().filter_map(|image| Some((image.loss?, image))).collect();
    by_loss.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (i, (loss, image)) in by_loss.into_iter().take(WORST).enumerate() {
        let begins = if i == 0 { "\n images with the highest loss\n" } else { "" };
        let _ = writeln!(text, "{begins} {}: {loss:.4}", named(image));
    }
}
