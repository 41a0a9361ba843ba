//! `pipe data`: what is in the datasets, before anything is trained.

use serde_json::json;

use super::program::Pipe;

const PIPELINE: &str = r#"
[pipeline]
name = "shapes"
device = "cpu"
[dataset.train]
type = "coco"
root = "data"
classes = ["cat", "dog", "owl"]
[dataset.val]
type = "coco"
root = "data"
split = "val2017"
classes = ["cat", "dog", "owl"]
[loader.train]
type = "batch"
dataset = "dataset.train"
batch_size = 2
shuffle = true
[model.net]
type = "faster_rcnn"
backbone = "resnet18"
num_classes = "dataset.train:num_classes"
min_size = 100
max_size = 1000
[optimizer.sgd]
type = "sgd"
model = "model.net"
lr = 0.01
[engine.trainer]
type = "train"
model = "model.net"
optimizer = "optimizer.sgd"
loader = "loader.train"
max_epochs = 1
"#;

/// Images of 50 × 50 pixels of one gray each, with boxes `[label, side]`.
fn write_split(pipe: &Pipe, split: &str, images: &[(&str, u8, &[[i64; 2]])]) {
    std::fs::create_dir_all(pipe.path(&format!("data/{split}"))).unwrap();
    std::fs::create_dir_all(pipe.path("data/annotations")).unwrap();
    let (mut of_images, mut boxes) = (Vec::new(), Vec::new());
    for (index, (name, gray, objects)) in images.iter().enumerate() {
        let pixels = [b"P6 50 50 255\n".to_vec(), vec![*gray; 50 * 50 * 3]].concat();
        std::fs::write(pipe.path(&format!("data/{split}/{name}")), pixels).unwrap();
        of_images.push(json!({ "id": index + 1, "height": 50, "width": 50, "file_name": name }));
        for [label, side] in *objects {
            boxes.push(json!({
                "id": boxes.len() + 1, "image_id": index + 1, "category_id": label, "iscrowd": 0, "area": side * side,
                "bbox": [0, 0, side, side], "segmentation": [[0, 0, side, 0, side, side, 0, side]],
            }));
        }
    }
    let names = [(1, "cat"), (2, "dog"), (3, "owl")].map(|(id, name)| json!({ "id": id, "name": name }));
    let text = json!({ "images": of_images, "annotations": boxes, "categories": names }).to_string();
    std::fs::write(pipe.path(&format!("data/annotations/instances_{split}.json")), text).unwrap();
}

#[test]
fn classes_sizes_and_images_that_are_there_twice_are_told() {
    let pipe = Pipe::with("shapes.toml", PIPELINE);
    let train: [(&str, u8, &[[i64; 2]]); 4] =
        [("a.ppm", 10, &[[1, 4], [1, 40]]), ("b.ppm", 20, &[[2, 40]]), ("c.ppm", 10, &[]), ("d.ppm", 30, &[[1, 7]])];
    write_split(&pipe, "train2017", &train);
    write_split(&pipe, "val2017", &[("e.ppm", 20, &[[2, 20]]), ("f.ppm", 40, &[[1, 20]])]);
    let text = pipe.ok(&["data", "shapes.toml"]).stdout;
    for line in [
        "images                 4",
        "objects of an image    1 in the middle, 2 at most; 1 images have none",
        "classes                3, of which 2 occur, 4 times",
        "  cat                  3 (75.0 %)",
        "  dog                  1 (25.0 %)",
        "  never                owl",
        // Images are shown twice as large; half the smallest anchor is 16 pixels.
        "as model.net sees    50.0 % below half its smallest anchor (32 px), 0.0 % above twice its largest (512 px)",
        "1 images of dataset.train are there twice: a.ppm = c.ppm",
        "1 images of dataset.val have the same content as images of dataset.train: b.ppm = e.ppm",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    let found: serde_json::Value =
        serde_json::from_str(&pipe.ok(&["data", "shapes.toml", "--format", "json"]).stdout).unwrap();
    let train = &found["datasets"]["dataset.train"];
    assert_eq!(train["objects_per_image"], json!({ "without": 1, "median": 1, "most": 2 }));
    assert_eq!(train["boxes"]["coco_areas"], json!({ "small": 0.5, "medium": 0.5, "large": 0.0 }));
    assert_eq!(train["classes"][2], json!({ "label": 3, "name": "owl", "count": 0 }));
    assert_eq!(found["same_content"].as_array().unwrap().len(), 2);
}

#[test]
fn a_dataset_that_cannot_be_opened_does_not_hide_the_others() {
    let pipe = Pipe::with("shapes.toml", PIPELINE);
    write_split(&pipe, "train2017", &[("a.ppm", 10, &[[1, 4]])]);
    let done = pipe.run(&["data", "shapes.toml"]);
    assert_eq!(done.status, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("unusable-data") && done.stdout.contains("dataset.train"), "{}", done.stdout);
}

#[test]
fn a_page_shows_the_first_batches_after_every_step() {
    let steps = "\n[transform.train]\ntype = \"compose\"\nsteps = [{ type = \"random_horizontal_flip\", p = 1.0 }, { type = \"resize\", size = 40 }]\n";
    let with = PIPELINE.replace("batch_size = 2", "batch_size = 2\ntransform = \"transform.train\"");
    let pipe = Pipe::with("shapes.toml", &(with + steps));
    write_split(&pipe, "train2017", &[("a.ppm", 10, &[[1, 4], [1, 40]]), ("b.ppm", 20, &[[2, 40]])]);
    write_split(&pipe, "val2017", &[("c.ppm", 20, &[[2, 20]])]);
    pipe.ok(&["data", "shapes.toml", "--page", "pages/data.html"]);
    let page = pipe.read("pages/data.html");
    let captions = |name: &str| page.matches(&format!("<figcaption>{name}</figcaption>")).count();
    assert_eq!(["dataset.train", "random_horizontal_flip", "resize"].map(captions), [2; 3]);
    assert!(page.contains("<tr><td>cat<td class=\"number\">2<td class=\"bar\"><div style=\"width:100.0%\">"), "{page}");
    assert!(page.contains("<tr><td>4–8 px<td class=\"number\">1"), "{page}");
    // As large as the model sees them, those near its anchors are marked.
    assert!(page.contains("<tr><td>64–128 px<td class=\"number\">2<td class=\"bar\"><div class=\"marked\""), "{page}");
}
