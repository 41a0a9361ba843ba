//! `pipe score --diagnostics` and `--against`: what is behind the numbers.

use serde_json::{Value, json};

use super::program::Pipe;

/// Twelve images with two cats and a dog each, and detections of all kinds: right ones, ill localized, of another class, twice, on nothing; dogs of
/// the last images are missed.
fn files() -> Pipe {
    let pipe = Pipe::new();
    let (mut images, mut annotations, mut found) = (Vec::new(), Vec::new(), Vec::new());
    let mut detection = |image: usize, class: u32, bbox: [usize; 4], score: f64| {
        found.push(json!({ "image_id": image, "category_id": class, "bbox": bbox, "score": score }));
    };
    for image in 1..=12 {
        images.push(json!({ "id": image, "width": 200, "height": 100, "file_name": format!("{image:02}.jpg") }));
        let sure = 1.0 - image as f64 / 25.0;
        for (class, bbox) in [(1, [10, 10, 40, 40]), (1, [60, 10, 30, 60]), (2, [120, 20, 50, 50])] {
            annotations.push(json!({
                "id": annotations.len() + 1, "image_id": image, "category_id": class, "bbox": bbox,
                "area": bbox[2] * bbox[3], "iscrowd": 0, "segmentation": [],
            }));
        }
        detection(image, 1, [11, 10, 40, 40], sure);
        match image % 4 {
            0 => detection(image, 1, [10, 12, 40, 40], sure - 0.3),
            1 => detection(image, 1, [60, 30, 30, 70], sure - 0.2),
            2 => detection(image, 2, [60, 10, 30, 58], sure - 0.1),
            _ => detection(image, 2, [0, 80, 20, 20], sure - 0.4),
        }
        if image < 9 {
            detection(image, 2, [120, 20, 48, 50], sure - 0.05);
        }
    }
    let categories = [(1, "cat"), (2, "dog"), (3, "cow")].map(|(id, name)| json!({ "id": id, "name": name }));
    let truth = json!({ "images": images, "categories": categories, "annotations": annotations });
    pipe.write("truth.json", &truth.to_string());
    // Another model: no second detections of an object, dogs found with less overlap.
    let other = found.iter().filter(|one| one["bbox"] != json!([10, 12, 40, 40])).cloned().map(|mut one| {
        if one["bbox"] == json!([120, 20, 48, 50]) {
            one["bbox"] = json!([120, 20, 35, 50]);
        }
        one
    });
    pipe.write("other.json", &Value::from_iter(other).to_string());
    pipe.write("found.json", &Value::from(found).to_string());
    pipe
}

#[test]
fn errors_are_told_by_kind_class_and_image() {
    let pipe = files();
    let said = pipe.ok(&["score", "truth.json", "found.json", "--per-class", "--diagnostics", "told"]).stdout;
    let (_, diagnostics) = said.split_once("diagnostics at").unwrap();
    let files =
        ["confusion_matrix.png", "diagnostics.json", "f1.png", "precision.png", "precision_recall.png", "recall.png"];
    assert_eq!(pipe.names("told/bbox"), files);
    let whole = pipe.json("told/bbox/diagnostics.json");
    assert_eq!(whole["confusion"]["names"], json!(["cat", "dog", "cow", "background"]));
    let (matrix, worst) = (&whole["confusion"]["matrix"], &whole["worst_images"][0]);
    insta::assert_snapshot!(format!("diagnostics at{diagnostics}\n{matrix}\n{worst}\n"));
    assert_eq!(whole["curves"]["confidence"][29], json!(0.29));
    assert_eq!(whole["curves"]["classes"][2]["best"], Value::Null);

    let json = pipe.ok(&["score", "truth.json", "found.json", "--diagnostics", "told", "--format", "json"]).stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["diagnostics"], "told/bbox/diagnostics.json");
    assert_eq!(json["stats"]["AP50"], whole["tide"]["ap50"]);
    let wrong = pipe.run(&["score", "truth.json", "found.json", "--diagnostics", "truth.json"]);
    assert!(wrong.stderr.contains("truth.json is a file; diagnostics are written into a folder"), "{}", wrong.stderr);
}

#[test]
fn a_difference_has_an_interval() {
    let pipe = files();
    let said = pipe.ok(&["score", "truth.json", "found.json", "--against", "other.json"]).stdout;
    let (_, difference) = said.split_once("difference to").unwrap();
    insta::assert_snapshot!(format!("difference to{difference}"));
    let score = |other: &str| -> Value {
        let said = pipe.ok(&["score", "truth.json", "found.json", "--against", other, "--format", "json"]).stdout;
        serde_json::from_str(&said).unwrap()
    };
    let json = score("other.json");
    let [whole, first] = [&json["stats"]["AP"], &json["against"]["AP"]["first"]].map(|value| value.as_f64().unwrap());
    assert!((whole - first).abs() < 1e-12, "{whole} {first}");
    let same = &score("found.json")["against"];
    assert_eq!([&same["AP"]["difference"], &same["AP50"]["interval"]], [&json!(0.0), &json!([0.0, 0.0])]);

    // Of files of other images those of both.
    let all = pipe.json("found.json");
    let of = |keep: fn(i64) -> bool| {
        Value::from_iter(all.as_array().unwrap().iter().filter(|one| keep(one["image_id"].as_i64().unwrap())).cloned())
    };
    pipe.write("first.json", &of(|id| id < 6).to_string());
    pipe.write("last.json", &of(|id| id > 3).to_string());
    let both = ["score", "truth.json", "first.json", "--against", "last.json", "--detected-only", "--format", "json"];
    let both: Value = serde_json::from_str(&pipe.ok(&both).stdout).unwrap();
    assert_eq!((&both["images"], &both["against"]["images"]), (&json!(12), &json!(12)));

    pipe.write("foreign.json", r#"[{"image_id": 99, "category_id": 1, "bbox": [1, 1, 2, 2], "score": 0.5}]"#);
    let wrong = pipe.run(&["score", "truth.json", "found.json", "--against", "foreign.json"]);
    assert!(wrong.stderr.contains("in foreign.json") && wrong.stderr.contains("id 99"), "{}", wrong.stderr);
}
