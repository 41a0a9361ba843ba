//! Semantic segmentation from end to end through the program: the template, run, eval and predict, on the built-in shapes.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;

use serde_json::Value;

use super::program::{Pipe, cache};

/// Few epochs; a model that sees nothing would stay at 0.2, that of the background alone.
const SMALL: [&str; 4] = ["--set", "vars.epochs=6", "--device", "cpu"];

fn templated() -> Pipe {
    let pipe = Pipe::new();
    pipe.ok(&["new", "project", "--template", "segmentation"]);
    pipe
}

#[test]
fn the_template_is_right_and_says_what_it_needs() {
    let pipe = templated();
    for profile in [&[][..], &["--profile", "demo"]] {
        let said = pipe.ok(&[&["check", "project/pipeline.toml"], profile].concat());
        assert_eq!(said.stderr, "", "{profile:?}");
    }
    let readme = pipe.read("project/README.md");
    assert!(readme.contains("data/mine/masks/train/") && readme.contains("--profile demo"), "{readme}");
    let missing = pipe.run(&["run", "project/pipeline.toml", "--device", "cpu", "--set", "model.net.weights=null"]);
    assert_eq!(missing.status, Some(1));
    assert!(missing.stderr.contains("data/mine/images/train"), "{}", missing.stderr);
}

#[test]
fn a_network_learns_shapes_and_predicts_what_its_evaluation_counts() {
    let pipe = templated();
    let run = ["run", "project/pipeline.toml", "--profile", "demo", "--quiet", "--out", "run"];
    pipe.ok(&[&run[..], &SMALL].concat());
    let scores: Vec<f64> = pipe
        .scalars("run")
        .iter()
        .filter(|record| record["tag"].as_str().is_some_and(|tag| tag.ends_with("/mean_iou")))
        .map(|record| record["value"].as_f64().expect("a number"))
        .collect();
    assert_eq!(scores.len(), 6);
    let best = scores.iter().copied().fold(0.0, f64::max);
    assert!(best > 0.25 && best > scores[0] + 0.04, "it learns nothing: {scores:?}");
    let records = pipe.read("run/records.jsonl");
    for tag in ["train/cross_entropy", "train/aux_cross_entropy", "iou/star", "val/image_1_0_predicted_mask"] {
        assert!(records.contains(tag), "{tag} is not in the records");
    }

    let evaluated = pipe.ok(&["eval", "run", "--device", "cpu", "--format", "json"]);
    let values: Value = serde_json::from_str(&evaluated.stdout).expect("JSON");
    let again = values["metric.iou:mean_iou"].as_f64().expect("a number");
    assert!((again - best).abs() < 1e-6, "{again} is not {best}");
    let table = pipe.ok(&["eval", "run", "--device", "cpu"]).stdout;
    assert!(
        table.contains("mean IoU")
            && table.contains("background")
            && table.contains("triangle")
            && table.contains("accuracy"),
        "{table}"
    );

    predicts_as_evaluated(&pipe);
}

/// The images that were evaluated, predicted: with the same pixels right.
fn predicts_as_evaluated(pipe: &Pipe) {
    let shapes = cache().join("shape_masks");
    let images: Vec<String> = (1..=12)
        .map(|number| shapes.join(format!("images/val/{:012}.jpg", 1_000_000 + number)).display().to_string())
        .collect();
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    let predict =
        [&["predict", "run", "--device", "cpu", "--out", "masks", "--draw", "drawn", "--images"], &images[..]];
    let said = pipe.ok(&predict.concat());
    assert!(said.stdout.starts_with("12 images"), "{}", said.stdout);
    let (mut right, mut all, mut seen) = (0, 0, BTreeSet::new());
    for number in 1..=12 {
        let name = format!("{:012}.png", 1_000_000 + number);
        let predicted = mask(&pipe.path("masks").join(&name));
        let truth = mask(&shapes.join("masks/val").join(&name));
        assert_eq!(predicted.len(), truth.len(), "{name} has the size of its image");
        right += predicted.iter().zip(&truth).filter(|(a, b)| **b > 0 && a == b).count();
        all += truth.iter().filter(|class| **class > 0).count();
        seen.extend(predicted);
        assert!(pipe.path("drawn").join(&name).is_file());
    }
    assert!(seen.len() > 1 && seen.iter().all(|class| *class < 5), "{seen:?}");
    assert!(right as f64 > 0.15 * all as f64, "{right} of the {all} pixels of objects are right");
}

/// The numbers of a mask's pixels, which has a palette.
fn mask(path: &std::path::Path) -> Vec<u8> {
    let decoder = png::Decoder::new(BufReader::new(File::open(path).expect("a mask")));
    let mut reader = decoder.read_info().expect("a PNG file");
    assert_eq!(reader.info().color_type, png::ColorType::Indexed);
    let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
    reader.next_frame(&mut pixels).expect("pixels");
    pixels
}
