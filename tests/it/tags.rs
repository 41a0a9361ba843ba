//! The tags under which a run records its values.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Every tag of the article's program (`pipelines/maskrcnn_coco.toml` keeps them by options of its nodes), with numbers where
/// they count images.
const ARTICLE: [&str; 14] = [
    "loss/loss_classifier",
    "loss/loss_box_reg",
    "loss/loss_mask",
    "loss/loss_objectness",
    "loss/loss_rpn_box_reg",
    "loss/total_loss",
    "learning rate/lr",
    "training/image_0",
    "training/image_0_mask",
    "evaluation/image_1_0",
    "evaluation/image_1_0_mask",
    "evaluation/image_1_0_predicted_mask",
    "validation-bbox/average precision 0_5",
    "validation-segm/average precision 0_5",
];

#[test]
fn the_article_finds_all_of_its_tags() {
    let folder = tempfile::tempdir().unwrap();
    let pipeline = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/maskrcnn_coco.toml");
    let mut pipe = Command::new(env!("CARGO_BIN_EXE_pipe"));
    pipe.arg("run").arg(pipeline).args(["--profile", "demo", "--device", "cpu", "--quiet", "--out", "run"]);
    for set in ["engine.trainer.max_iterations=1", "engine.trainer.log_interval=1", "dataset.val.limit=4"] {
        pipe.args(["--set", set]);
    }
    let done = pipe.current_dir(folder.path()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let records = std::fs::read_to_string(folder.path().join("run/records.jsonl")).unwrap();
    let tags: BTreeSet<String> = records
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["tag"].as_str().unwrap().to_owned())
        .collect();
    let missing: Vec<&str> = ARTICLE.into_iter().filter(|tag| !tags.contains(*tag)).collect();
    assert!(missing.is_empty(), "{missing:?} are missing of {tags:?}");
    assert!(tags.contains("val/coco/segm/AP"), "{tags:?}");
}
