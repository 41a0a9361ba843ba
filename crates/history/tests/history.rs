//! What a run at work writes to be looked at.

use std::fs;
use std::path::Path;

use pipe_history::history::{clear, copy};
use pipe_history::{History, Lengths, Media, Refresh, Scalars};
use pipe_vocab::{Record, RecordValue};
use serde_json::json;

fn record(tag: &str, step: u64, value: RecordValue) -> Record {
    let node = "engine.trainer".parse().expect("a node");
    Record { tag: tag.into(), value, step, epoch: 1, node, time: 1.7e9 + step as f64 }
}

fn scalar(step: u64) -> Record {
    record("train/loss", step, RecordValue::Scalar(1.0 / step as f64))
}

fn image(step: u64, shade: u8) -> Record {
    record("images", step, RecordValue::Image { height: 3, width: 2, rgb: vec![shade; 18], objects: None })
}

/// The records of a run in its file, as the run writes them.
fn write_records(run: &Path, records: &[Record]) {
    let lines: String = records.iter().map(|record| format!("{}\n", record.to_json())).collect();
    fs::write(run.join("records.jsonl"), lines).unwrap();
}

fn images(run: &Path) -> usize {
    fs::read_dir(run.join("images")).map_or(0, Iterator::count)
}

fn losses(run: &Path) -> u64 {
    Scalars::open(run).unwrap().count("train/loss")
}

#[test]
fn images_and_distributions_are_kept_whole_and_once() {
    let run = tempfile::tempdir().unwrap();
    let history = History::of(run.path());
    history.add(&image(1, 7));
    history.add(&image(2, 9));
    history.add(&image(3, 7));
    let values = vec![f32::NAN, 0.0, 1.0, 2.0, 64.0];
    history.add(&record("weights", 3, RecordValue::Histogram(values)));
    history.add(&record("weights", 4, RecordValue::Histogram(vec![2.5; 10])));
    history.add(&record("weights", 5, RecordValue::Histogram(Vec::new())));
    let curve = RecordValue::PrCurve { true_positives: vec![3, 1], false_positives: vec![2, 0], positives: 4 };
    history.add(&record("pr", 5, curve));
    history.add(&record("text", 5, RecordValue::Text("# <b>\n".into())));
    history.flush();
    let media = Media::open(run.path()).unwrap();
    let value = |at: usize| media.value(&media.items[at]).unwrap();
    assert_eq!(media.items.iter().map(|item| item.step).collect::<Vec<_>>(), [1, 2, 3, 3, 4, 5, 5, 5]);
    assert_eq!((value(0)["file"].clone(), images(run.path())), (value(2)["file"].clone(), 2));
    let path = media.image(value(1)["file"].as_str().unwrap()).unwrap();
    let mut reader = png::Decoder::new(std::io::BufReader::new(fs::File::open(path).unwrap())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    assert_eq!(pixels, [9; 18]);
    let bars = value(3);
    assert_eq!(
        (&bars["count"], &bars["non_finite"], &bars["min"], &bars["max"]),
        (&json!(5), &json!(1), &json!(0.0), &json!(64.0))
    );
    let counts = bars["counts"].as_array().unwrap();
    assert_eq!(
        (counts.len(), &counts[0], &counts[1], &counts[2], &counts[63]),
        (64, &json!(1), &json!(1), &json!(1), &json!(1))
    );
    assert_eq!(value(4)["counts"], json!([10]));
    assert_eq!((&value(5)["counts"], &value(5)["min"]), (&json!([]), &json!("Infinity")));
    assert_eq!(value(6), json!({ "true_positives": [3, 1], "false_positives": [2, 0], "positives": 4 }));
    assert_eq!(value(7), "# <b>\n");
    for name in ["../x", "images/../../x.png", "images/x.png", "/etc/passwd"] {
        assert_eq!(media.image(name), None);
    }
}

#[test]
fn it_is_visible_soon_without_being_asked() {
    let run = tempfile::tempdir().unwrap();
    let history = History::of(run.path());
    history.add(&scalar(1));
    history.add(&image(1, 1));
    let began = std::time::Instant::now();
    while losses(run.path()) == 0 || Media::open(run.path()).unwrap().items.is_empty() {
        assert!(began.elapsed().as_secs() < 60, "it did not come");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_run_that_goes_back_has_what_it_had() {
    let run = tempfile::tempdir().unwrap();
    let history = History::of(run.path());
    let records: Vec<Record> = (1..=700).map(scalar).collect();
    records[..400].iter().for_each(|record| history.add(record));
    history.add(&image(400, 1));
    let lengths = history.lengths().unwrap();
    assert_eq!((lengths.scalars["train/loss"], lengths.media > 0), (400, true));
    records[400..].iter().for_each(|record| history.add(record));
    history.add(&image(700, 1));
    history.add(&image(700, 2));
    drop(history);
    let (mut scalars, mut media) = (Scalars::open(run.path()).unwrap(), Media::open(run.path()).unwrap());
    assert_eq!((images(run.path()), media.items.len()), (2, 3));
    write_records(run.path(), &records[..400]);
    let history = History::of(run.path());
    history.cut(Some(&lengths));
    assert_eq!((losses(run.path()), images(run.path())), (400, 1));
    history.add(&scalar(401));
    history.add(&image(401, 3));
    history.flush();
    assert_eq!((scalars.refresh().unwrap(), media.refresh().unwrap()), (Refresh::Restarted, Refresh::Restarted));
    assert_eq!((scalars.count("train/loss"), media.items.len()), (401, 2));
    // Lengths that cannot be: the numbers are made again from the records.
    let wrong = Lengths { scalars: [("train/loss".to_owned(), 9999)].into(), media: 0 };
    drop(history);
    let history = History::of(run.path());
    history.cut(Some(&wrong));
    assert_eq!((losses(run.path()), Media::open(run.path()).unwrap().items.len()), (400, 0));
    history.cut(None);
    assert_eq!(losses(run.path()), 400);
    // A run that begins again has nothing.
    write_records(run.path(), &[]);
    history.cut(Some(&Lengths::default()));
    assert_eq!((losses(run.path()), images(run.path())), (0, 0));
}

#[test]
fn a_fork_has_what_was_shown_by_then() {
    let (run, fork) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let history = History::of(run.path());
    history.add(&scalar(1));
    history.add(&image(1, 1));
    let lengths = history.lengths().unwrap();
    history.add(&image(2, 2));
    drop(history);
    // What its former life left.
    History::of(fork.path()).add(&scalar(9));
    write_records(fork.path(), &[scalar(1)]);
    copy(run.path(), fork.path(), Some(&lengths)).unwrap();
    let history = History::of(fork.path());
    history.add(&scalar(2));
    drop(history);
    assert_eq!((losses(fork.path()), images(fork.path())), (2, 1));
    clear(fork.path()).unwrap();
    assert_eq!((images(fork.path()), images(run.path())), (0, 2), "the other run keeps its own");
}

#[test]
fn what_cannot_be_written_is_read_from_the_records() {
    let run = tempfile::tempdir().unwrap();
    // A file where the folder would be.
    fs::write(run.path().join("scalars"), "").unwrap();
    write_records(run.path(), &[scalar(1)]);
    let history = History::of(run.path());
    history.add(&scalar(2));
    history.flush();
    assert_eq!(history.lengths(), None);
    fs::remove_file(run.path().join("scalars")).unwrap();
    write_records(run.path(), &[scalar(1), scalar(2)]);
    assert_eq!(losses(run.path()), 2);
    // The next life makes them again.
    drop(history);
    let history = History::of(run.path());
    history.add(&scalar(3));
    drop(history);
    assert_eq!((losses(run.path()), run.path().join("scalars/open.log").exists()), (3, true));
}
