//! Event files, read back by a small reader of ours, by `torch.utils.tensorboard`'s numbers and by the real TensorBoard.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use pipe_tensorboard::{EventWriter, HParam, Histogram, SessionStatus};
use pipe_test_support::{python, skip};
use serde_json::{Value, json};

/// A decoded protobuf message: the raw values of each field, in order.
#[derive(Debug, Default)]
struct Fields(BTreeMap<u64, Vec<Raw>>);

#[derive(Debug, PartialEq)]
enum Raw {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(Vec<u8>),
}

impl Fields {
    fn parse(mut data: &[u8]) -> Self {
        let mut fields = Self::default();
        while !data.is_empty() {
            let key = varint(&mut data);
            let raw = match key & 7 {
                0 => Raw::Varint(varint(&mut data)),
                1 => Raw::Fixed64(u64::from_le_bytes(take(&mut data, 8).try_into().unwrap())),
                5 => Raw::Fixed32(u32::from_le_bytes(take(&mut data, 4).try_into().unwrap())),
                2 => {
                    let length = varint(&mut data) as usize;
                    Raw::Bytes(take(&mut data, length).to_vec())
                }
                wire => panic!("wire type {wire}"),
            };
            fields.0.entry(key >> 3).or_default().push(raw);
        }
        fields
    }

    fn bytes(&self, field: u64) -> &[u8] {
        match &self.0[&field][0] {
            Raw::Bytes(bytes) => bytes,
            other => panic!("field {field} is {other:?}"),
        }
    }

    fn text(&self, field: u64) -> &str {
        std::str::from_utf8(self.bytes(field)).unwrap()
    }

    fn message(&self, field: u64) -> Fields {
        Fields::parse(self.bytes(field))
    }

    fn has(&self, field: u64) -> bool {
        self.0.contains_key(&field)
    }
}

fn varint(data: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(data, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

fn take<'a>(data: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (head, tail) = data.split_at(count);
    *data = tail;
    head
}

/// CRC-32C bit by bit, so that a fault of the crate in use would show, then TensorFlow's mask.
fn masked_crc(data: &[u8]) -> u32 {
    let crc = !data.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    });
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// All events of a file; panics on a broken record.
fn read_events(path: &Path) -> Vec<Fields> {
    let file = std::fs::read(path).unwrap();
    let (mut data, mut events) = (file.as_slice(), Vec::new());
    while !data.is_empty() {
        let head = take(&mut data, 8);
        assert_eq!(take(&mut data, 4), masked_crc(head).to_le_bytes());
        let body = take(&mut data, u64::from_le_bytes(head.try_into().unwrap()) as usize);
        assert_eq!(take(&mut data, 4), masked_crc(body).to_le_bytes());
        events.push(Fields::parse(body));
    }
    events
}

/// A 2 × 3 RGB image and its PNG file.
fn small_png() -> (Vec<u8>, Vec<u8>) {
    let pixels: Vec<u8> = (0..18).map(|i| i * 14).collect();
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 3, 2);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    (pixels, file)
}

#[test]
fn records_are_framed_and_fields_are_where_they_belong() {
    let dir = tempfile::tempdir().unwrap();
    let (_, png) = small_png();
    let mut writer = EventWriter::create(dir.path(), None).unwrap();
    writer.scalar("loss/box", 7, 12.5, 0.0).unwrap();
    writer.scalar("loss/box", -1, 12.5, 1e300).unwrap();
    writer.image_png("debug", 8, 13.0, 2, 3, &png).unwrap();
    let path = writer.path().to_owned();
    writer.close().unwrap();

    let events = read_events(&path);
    assert_eq!(events.len(), 4);
    assert_eq!(events[0].text(3), "brain.Event:2");
    assert_eq!(events[1].0[&1], [Raw::Fixed64(12.5f64.to_bits())]);
    assert_eq!(events[1].0[&2], [Raw::Varint(7)]);
    let value = events[1].message(5).message(1);
    assert_eq!(value.text(1), "loss/box");
    assert_eq!(value.0[&2], [Raw::Fixed32(0)], "a zero is written, or the value would have no kind");
    assert_eq!(events[2].0[&2], [Raw::Varint(u64::MAX)]);
    assert_eq!(events[2].message(5).message(1).0[&2], [Raw::Fixed32(f32::INFINITY.to_bits())]);
    let image = events[3].message(5).message(1).message(4);
    assert_eq!(image.bytes(4), png);
    assert_eq!((&image.0[&1], &image.0[&2]), (&vec![Raw::Varint(2)], &vec![Raw::Varint(3)]));
}

#[test]
fn a_resumed_file_comes_later_and_starts_a_session_at_its_step() {
    let dir = tempfile::tempdir().unwrap();
    let first = EventWriter::create(dir.path(), None).unwrap().path().to_owned();
    let second = EventWriter::create_resumed(dir.path(), 40).unwrap().path().to_owned();
    assert!(first.file_name() < second.file_name());
    let events = read_events(&second);
    assert_eq!(events[0].text(3), "brain.Event:2");
    for start in &events[1..] {
        assert_eq!(start.0[&2], [Raw::Varint(40)]);
        assert_eq!(start.message(7).0[&1], [Raw::Varint(1)]);
        assert!(!start.has(3));
    }
}

#[test]
fn images_that_are_not_what_they_are_said_to_be_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = EventWriter::create(dir.path(), None).unwrap();
    let (_, png) = small_png();
    let swapped = writer.image_png("x", 0, 0.0, 3, 2, &png).unwrap_err().to_string();
    assert!(swapped.contains("`x`") && swapped.contains("2 × 3"), "{swapped}");
    for cut in 0..26 {
        assert!(writer.image_png("x", 0, 0.0, 2, 3, &png[..cut]).is_err(), "cut at {cut}");
    }
    assert!(writer.image_png("x", 0, 0.0, 2, 3, b"JFIF").is_err());
}

#[test]
fn a_removed_folder_and_a_file_in_its_place_are_errors_that_name_it() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let mut writer = EventWriter::create(&run, None).unwrap();
    writer.scalar("loss", 0, 0.0, 1.0).unwrap();
    std::fs::remove_dir_all(&run).unwrap();
    let error = format!("{:#}", writer.flush().unwrap_err());
    assert!(error.contains("was removed") && error.contains(writer.path().to_str().unwrap()), "{error}");

    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = format!("{:#}", EventWriter::create(&file, None).unwrap_err());
    assert!(error.contains(file.to_str().unwrap()), "{error}");
}

/// The writer in a process whose files may not grow beyond a few KiB: whole records stay, the rest is tried again.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_may_not_grow_keeps_whole_records() {
    const FOLDER: &str = "PIPE_TEST_LIMITED_FOLDER";
    if let Some(dir) = std::env::var_os(FOLDER) {
        let mut writer = EventWriter::create(Path::new(&dir), None).unwrap();
        writer.text("a", 0, 0.0, &"a".repeat(1000)).unwrap();
        writer.flush().unwrap();
        writer.text("b", 1, 0.0, &"b".repeat(50_000)).unwrap();
        let error = format!("{:#}", writer.flush().unwrap_err());
        assert!(error.contains(writer.path().to_str().unwrap()), "{error}");
        assert!(writer.flush().is_err(), "what is pending is tried again");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let test = "a_file_that_may_not_grow_keeps_whole_records";
    let limited = r#"trap '' XFSZ; ulimit -f 16; exec "$0" --exact "$1""#;
    let child = Command::new("sh")
        .args(["-c", limited])
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env(FOLDER, dir.path())
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let events = read_events(&files[0]);
    assert_eq!(events.len(), 2, "the version and the text that fitted");
}

fn parity(name: &str) -> Vec<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity/tensorboard").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A number, or the text of one that must come through exactly: `serde_json` may be off by a unit in the last place.
fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

fn floats(value: &Value) -> Vec<f32> {
    numbers(value).into_iter().map(|number| number as f32).collect()
}

#[test]
fn histograms_equal_torchs() {
    let cases = parity("histograms.json");
    assert_eq!(cases.len(), 10);
    for case in cases {
        let name = &case["name"];
        let ours = Histogram::of(&floats(&case["values"])).unwrap();
        assert_eq!(ours.bucket_limits, numbers(&case["bucket_limits"]), "{name}");
        assert_eq!(ours.bucket_counts, numbers(&case["bucket_counts"]), "{name}");
        let expected = ["min", "max", "num"].map(|key| number(&case[key]));
        assert_eq!([ours.min, ours.max, ours.num as f64], expected, "{name}");
        // numpy adds in another order.
        let size: f64 = numbers(&case["values"]).iter().map(|value| value.abs()).sum();
        assert!((ours.sum - number(&case["sum"])).abs() <= 1e-12 * size, "{name}");
        let squares = number(&case["sum_squares"]);
        assert!((ours.sum_squares - squares).abs() <= 1e-12 * squares, "{name}");
    }
}

#[test]
fn values_that_are_not_finite_are_left_out_of_histograms() {
    let clean = [0.5, -1.5, 3.0];
    let dirty = [f32::NAN, 0.5, f32::INFINITY, -1.5, f32::NEG_INFINITY, 3.0];
    assert_eq!(Histogram::of(&dirty), Histogram::of(&clean));
    assert_eq!(Histogram::of(&[f32::NAN, f32::INFINITY]), None);
    assert_eq!(Histogram::of(&[]), None);
    let beyond = Histogram::of(&[1e30, 2e30]).unwrap();
    assert_eq!((beyond.bucket_limits, beyond.bucket_counts), (vec![f64::from(2e30f32)], vec![2.0]));
}

/// Why a test is left out that reads what was written with the real `tensorboard`.
const NO_TENSORBOARD: &str = "PIPE_TEST_PYTHON names no Python with the `tensorboard` package";

/// Runs the script with the Python that has the real `tensorboard`; `None` where there is none.
fn read_with_tensorboard(dir: &Path) -> Option<Value> {
    let python = python()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tensorboard_read.py");
    let output = Command::new(python).arg(script).arg(dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn tensorboard_reads_every_kind() {
    let dir = tempfile::tempdir().unwrap();
    let (pixels, png) = small_png();
    let weights: Vec<f32> = (-20..=20).map(|i| i as f32 / 8.0).collect();
    let markdown = "# Résumé\n\n| a | b |\n|---|---|\n| 1 | 2 |";

    let mut writer = EventWriter::create(dir.path(), Some(".suffix")).unwrap();
    let hparams = [
        ("optimizer.lr", HParam::Number(0.005)),
        ("clip", HParam::Number(f64::INFINITY)),
        ("model", HParam::Text("mask_rcnn".into())),
        ("shuffle", HParam::Bool(true)),
    ];
    writer.hparams(&hparams, &["val/segm AP"]).unwrap();
    for (step, loss) in [2.0, 0.1, f64::NAN, f64::INFINITY].into_iter().enumerate() {
        writer.scalar("train/loss", step as i64, 100.25 + step as f64, loss).unwrap();
    }
    writer.scalar("val/segm AP", 3, 104.0, 0.5).unwrap();
    writer.image_png("val/debug", 3, 105.0, 2, 3, &png).unwrap();
    writer.text("pipeline", 0, 106.0, markdown).unwrap();
    assert_eq!(writer.histogram("weights", 3, 107.0, &weights).unwrap(), 0);
    assert_eq!(writer.histogram("nothing", 3, 107.0, &[f32::NAN; 2]).unwrap(), 2);
    writer.session_end(SessionStatus::Success).unwrap();
    writer.close().unwrap();

    let Some(read) = read_with_tensorboard(dir.path()) else {
        return skip!("{NO_TENSORBOARD}");
    };
    let hex: String = pixels.iter().map(|byte| format!("{byte:02x}")).collect();
    let loss = json!([[0, 100.25, 2.0], [1, 101.25, f64::from(0.1f32)], [2, 102.25, "nan"], [3, 103.25, "inf"]]);
    assert_eq!(read["scalars"], json!({ "train/loss": loss, "val/segm AP": [[3, 104.0, 0.5]] }));
    assert_eq!(read["texts"], json!({ "pipeline": [[0, 106.0, markdown]] }));
    assert_eq!(read["images"], json!({ "val/debug": [[3, 2, 3, [[3, 2]], [hex]]] }));
    check_histogram(&read, &Histogram::of(&weights).unwrap());
    assert_eq!(
        read["hparams"],
        json!({
            "types": {
                "optimizer.lr": "DATA_TYPE_FLOAT64",
                "clip": "DATA_TYPE_STRING",
                "model": "DATA_TYPE_STRING",
                "shuffle": "DATA_TYPE_BOOL",
            },
            "metrics": ["val/segm AP"],
            "sessions": [{
                "status": "STATUS_SUCCESS",
                "ended": true,
                "hparams": { "optimizer.lr": 0.005, "clip": "inf", "model": "mask_rcnn", "shuffle": true },
                "metrics": { "val/segm AP": 0.5 },
            }],
        })
    );
}

fn check_histogram(read: &Value, ours: &Histogram) {
    let proto = &read["histogram_protos"]["weights"][0];
    assert_eq!(numbers(&proto["bucket_limit"]), ours.bucket_limits);
    assert_eq!(numbers(&proto["bucket"]), ours.bucket_counts);
    let moments = ["min", "max", "num", "sum", "sum_squares"].map(|key| number(&proto[key]));
    assert_eq!(moments, [ours.min, ours.max, ours.num as f64, ours.sum, ours.sum_squares]);
    // The page's rows are [left, right, count]; the outermost edges become the extremes.
    let buckets = read["histograms"]["weights"][0][2].as_array().unwrap();
    let total: f64 = buckets.iter().map(|bucket| bucket[2].as_f64().unwrap()).sum();
    assert_eq!((total, &buckets[0][0], &buckets[buckets.len() - 1][1]), (41.0, &json!(-2.5), &json!(2.5)));
    assert_eq!(read["histograms"].as_object().unwrap().len(), 1, "nothing is written of NaN alone");
}

#[test]
fn tensorboard_drops_what_a_resumed_run_makes_void() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = EventWriter::create(dir.path(), None).unwrap();
    for step in 0..6 {
        first.scalar("loss", step, step as f64, step as f64).unwrap();
    }
    first.close().unwrap();
    let mut second = EventWriter::create_resumed(dir.path(), 3).unwrap();
    second.scalar("loss", 3, 10.0, 30.0).unwrap();
    second.close().unwrap();

    let Some(read) = read_with_tensorboard(dir.path()) else {
        return skip!("{NO_TENSORBOARD}");
    };
    let expected = json!([[0, 0.0, 0.0], [1, 1.0, 1.0], [2, 2.0, 2.0], [3, 10.0, 30.0]]);
    assert_eq!(read["scalars"]["loss"], expected);
}
