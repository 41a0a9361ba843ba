//! The numbers of a run: whatever is written is read again, and any view is what a look at every point gives.

use std::fs::{self, OpenOptions};
use std::path::Path;

use pipe_history::scalars::Writer;
use pipe_history::{Axis, Column, Point, Refresh, Scalars, Span};
use proptest::prelude::*;

fn point(step: u64, value: f64) -> Point {
    Point { step, epoch: step / 100, time: 1.7e9 + step as f64 * 0.25, value }
}

/// A writer with these points of the tag `a`.
fn written(run: &Path, points: &[Point]) -> Writer {
    let mut writer = Writer::open(run, None).unwrap();
    for point in points {
        writer.push("a", &"engine.trainer", *point).unwrap();
    }
    writer.flush().unwrap();
    writer
}

fn all(scalars: &Scalars, tag: &str) -> Vec<Point> {
    scalars.points(tag, 0..u64::MAX).unwrap()
}

/// To the bit, also what is not a number.
#[track_caller]
fn assert_same(found: &[Point], expected: &[Point]) {
    let bits = |points: &[Point]| -> Vec<(u64, u64, f64, u64)> {
        points.iter().map(|point| (point.step, point.epoch, point.time, point.value.to_bits())).collect()
    };
    assert_eq!(bits(found), bits(expected));
}

/// As a view is defined.
fn by_looking_at_all(points: &[Point], span: Span, pixels: u32) -> Vec<Column> {
    let place = |point: &Point| match span.axis {
        Axis::Step => point.step as i64,
        Axis::Time => (point.time * 1e6).round() as i64,
    };
    let pixel = |point: &Point| {
        let (since, length) = (i128::from(place(point) - span.from), i128::from(span.to - span.from + 1));
        (since * i128::from(pixels) / length) as u32
    };
    let mut columns: Vec<Column> = Vec::new();
    let mut inside: Vec<&Point> = points.iter().filter(|p| (span.from..=span.to).contains(&place(p))).collect();
    inside.sort_by_key(|point| pixel(point));
    for point in inside {
        if columns.last().is_none_or(|column| column.pixel != pixel(point)) {
            columns.push(Column { pixel: pixel(point), count: 0, non_finite: 0, min: None, max: None });
        }
        let Some(column) = columns.last_mut() else { continue };
        column.count += 1;
        if !point.value.is_finite() {
            column.non_finite += 1;
            continue;
        }
        if column.min.is_none_or(|min| point.value < min.value) {
            column.min = Some(*point);
        }
        if column.max.is_none_or(|max| point.value > max.value) {
            column.max = Some(*point);
        }
    }
    columns
}

fn values() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => -1e3..1e3f64,
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::MAX, f64::MIN_POSITIVE]),
        1 => prop::num::f64::ANY,
    ]
}

/// Curves of 0 to 12,000 points, with steps that stand still, jump, and in some go back.
fn curves() -> impl Strategy<Value = Vec<Point>> {
    let gaps = prop_oneof![6 => 0u64..4, 1 => 0u64..5000, 1 => Just(1u64 << 40)];
    let pattern = prop::collection::vec((gaps, values()), 1..60);
    (pattern, 0usize..12_000, any::<bool>()).prop_map(|(pattern, length, back)| {
        let mut step = 0;
        let points = (0..length).map(|at| {
            let (gap, value) = pattern[at * 7 % pattern.len()];
            step = if back && at % 997 == 996 { step / 2 } else { step + gap };
            Point { step, epoch: step / 1000, time: 1.7e9 + at as f64 * 0.013, value: value * (1.0 + at as f64) }
        });
        points.map(|point| Point { time: (point.time * 1e6).round() / 1e6, ..point }).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn what_is_written_is_read_and_views_are_exact(
        points in curves(), flushes in 1usize..900, parts in prop::array::uniform4(0.0..1.0f64), pixels in 1u32..700,
    ) {
        let run = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(run.path(), None).unwrap();
        let mut reader = Scalars::open(run.path()).unwrap();
        for (at, point) in points.iter().enumerate() {
            writer.push("a", &"n", *point).unwrap();
            if at % flushes == 0 {
                writer.flush().unwrap();
                reader.refresh().unwrap();
                prop_assert_eq!(reader.count("a"), at as u64 + 1);
            }
        }
        writer.flush().unwrap();
        prop_assert_ne!(reader.refresh().unwrap(), Refresh::Restarted);
        for scalars in [&reader, &Scalars::open(run.path()).unwrap()] {
            assert_same(&all(scalars, "a"), &points);
            let cut = |part: f64, end: i64| (end as f64 * part) as i64;
            let last = points.iter().map(|point| point.step).max().unwrap_or_default() as i64;
            let spans = [
                Span { axis: Axis::Step, from: 0, to: last },
                Span { axis: Axis::Step, from: cut(parts[0].min(parts[1]), last), to: cut(parts[0].max(parts[1]), last) },
                Span::times(1.7e9 + 200.0 * parts[2].min(parts[3]), 1.7e9 + 200.0 * parts[2].max(parts[3])),
            ];
            for span in spans {
                let view = scalars.view("a", span, pixels).unwrap();
                prop_assert_eq!(&view.columns, &by_looking_at_all(&points, span, pixels));
                prop_assert!(view.columns.len() <= pixels as usize);
            }
            if let Some(curve) = scalars.curve("a").unwrap() {
                let expected = by_looking_at_all(&points, Span { axis: Axis::Step, from: 0, to: i64::MAX - 1 }, 1);
                prop_assert_eq!((curve.count, curve.non_finite), (expected[0].count, expected[0].non_finite));
                prop_assert_eq!((curve.min, curve.max), (expected[0].min, expected[0].max));
                assert_same(&[curve.last], &points[points.len() - 1..]);
            }
        }
    }

    #[test]
    fn a_run_that_goes_back_has_what_it_had(points in curves(), to in 0.0..1.0f64, more in 0usize..700) {
        let run = tempfile::tempdir().unwrap();
        let mut writer = written(run.path(), &points);
        writer.push("later", &"n", point(1, 1.0)).unwrap();
        drop(writer);
        let mut reader = Scalars::open(run.path()).unwrap();
        let kept = (points.len() as f64 * to) as usize;
        let keep = [("a".to_owned(), kept as u64)].into();
        let mut writer = Writer::open(run.path(), Some(&keep)).unwrap();
        let other: Vec<Point> = (0..more as u64).map(|step| point(step, -7.0)).collect();
        for point in &other {
            writer.push("a", &"n", *point).unwrap();
        }
        writer.flush().unwrap();
        // The tag `later` goes, whatever is kept of the other.
        prop_assert_eq!(reader.refresh().unwrap(), Refresh::Restarted);
        let expected: Vec<Point> = points[..kept].iter().chain(&other).copied().collect();
        reader.refresh().unwrap();
        for scalars in [&reader, &Scalars::open(run.path()).unwrap()] {
            assert_same(&all(scalars, "a"), &expected);
            prop_assert_eq!(scalars.count("later"), 0);
            let span = Span { axis: Axis::Step, from: 0, to: 1 << 20 };
            prop_assert_eq!(scalars.view("a", span, 99).unwrap().columns, by_looking_at_all(&expected, span, 99));
        }
    }
}

#[test]
fn a_spike_in_a_million_points_is_seen_by_reading_about_as_many_blocks_as_pixels() {
    let run = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(run.path(), None).unwrap();
    for step in 0..1_000_000 {
        let value = if step == 777_777 { 1e6 } else { (step as f64 * 1e-3).sin() };
        writer.push("loss", &"n", point(step, value)).unwrap();
    }
    writer.flush().unwrap();
    let scalars = Scalars::open(run.path()).unwrap();
    let view = scalars.view("loss", Span::steps(0, 999_999), 500).unwrap();
    assert_eq!(view.columns.len(), 500);
    assert_eq!(view.columns.iter().map(|column| column.count).sum::<u64>(), 1_000_000);
    let highest = view.columns.iter().filter(|column| column.max.is_some_and(|max| max.value == 1e6));
    assert_eq!(highest.map(|column| column.pixel).collect::<Vec<_>>(), [777_777 * 500 / 1_000_000]);
    assert!(view.blocks_read <= 501, "{}", view.blocks_read);
    let sizes = fs::read_dir(run.path().join("scalars")).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    let size: u64 = sizes.sum();
    assert!(size < 17_000_000, "{size} bytes");
}

#[test]
fn what_is_torn_is_not_there_yet() {
    let points: Vec<Point> = (0..1000).map(|step| point(step, step as f64)).collect();
    let run = tempfile::tempdir().unwrap();
    let mut writer = written(run.path(), &points[..990]);
    let whole = fs::metadata(run.path().join("scalars/open.log")).unwrap().len();
    for point in &points[990..] {
        writer.push("a", &"n", *point).unwrap();
    }
    drop(writer);
    let log = run.path().join("scalars/open.log");
    let mut writer = Writer::open(run.path(), None).unwrap();
    assert_eq!(writer.counts()["a"], 990, "what was not flushed was never there");
    for point in &points[990..] {
        writer.push("a", &"n", *point).unwrap();
    }
    let before = fs::metadata(&log).unwrap().len();
    writer.flush().unwrap();
    drop(writer);
    let after = fs::metadata(&log).unwrap().len();
    assert!(whole > 0 && before < after);
    let bytes = fs::read(&log).unwrap();
    let mut reader = Scalars::open(run.path()).unwrap();
    for length in before..after {
        fs::write(&log, &bytes[..length as usize]).unwrap();
        assert_same(&all(&Scalars::open(run.path()).unwrap(), "a"), &points[..990]);
    }
    fs::write(&log, &bytes).unwrap();
    reader.refresh().unwrap();
    assert_same(&all(&reader, "a"), &points);
    // A block and a summary whose writing was cut off.
    for name in ["0000.index", "0000.points"] {
        let path = run.path().join("scalars").join(name);
        let length = fs::metadata(&path).unwrap().len();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(length + 5).unwrap();
    }
    assert_same(&all(&Scalars::open(run.path()).unwrap(), "a"), &points);
    let more: Vec<Point> = (1000..1600).map(|step| point(step, step as f64)).collect();
    drop(written(run.path(), &more));
    assert_same(&all(&Scalars::open(run.path()).unwrap(), "a"), &[points, more].concat());
}

#[test]
fn damage_is_told_and_never_a_number() {
    let points: Vec<Point> = (0..600).map(|step| point(step, step as f64)).collect();
    let run = tempfile::tempdir().unwrap();
    drop(written(run.path(), &points));
    for name in ["0000.index", "0000.points", "open.log"] {
        let path = run.path().join("scalars").join(name);
        let bytes = fs::read(&path).unwrap();
        for at in (0..bytes.len()).step_by(13) {
            let mut broken = bytes.clone();
            broken[at] ^= 0x41;
            fs::write(&path, &broken).unwrap();
            let read = Scalars::open(run.path()).and_then(|scalars| {
                scalars.view("a", Span::steps(3, 590), 700)?;
                scalars.points("a", 0..u64::MAX)
            });
            match read {
                // Of a log the frames behind are not there then.
                Ok(found) => assert_same(&found, &points[..found.len()]),
                Err(error) => assert!(format!("{error:#}").contains(name), "{error:#}"),
            }
            // Going on finds it, too, or has lost nothing that it knows of.
            if let Ok(writer) = Writer::open(run.path(), None) {
                assert!(writer.counts().get("a").copied().unwrap_or_default() <= 600);
            }
            fs::remove_dir_all(run.path().join("scalars")).unwrap();
            drop(written(run.path(), &points));
        }
    }
}

#[test]
fn any_tag_has_a_file_of_its_own() {
    let run = tempfile::tempdir().unwrap();
    let tags = ["a/b", "a_b", "A/B", "../../x", "", "\u{1b}[31m<script>", "a\nb", &"long".repeat(200)];
    let mut writer = Writer::open(run.path(), None).unwrap();
    for step in 0..300 {
        for (at, tag) in tags.iter().enumerate() {
            writer.push(tag, &"n", point(step, at as f64)).unwrap();
        }
    }
    writer.flush().unwrap();
    let scalars = Scalars::open(run.path()).unwrap();
    assert_eq!(scalars.tags().collect::<Vec<_>>(), tags);
    for (at, tag) in tags.iter().enumerate() {
        assert!(all(&scalars, tag).iter().all(|point| point.value == at as f64));
        assert_eq!(scalars.count(tag), 300);
    }
    assert_eq!(fs::read_dir(run.path()).unwrap().count(), 1, "nothing lies elsewhere");
}

#[test]
fn the_log_stays_short_and_a_reader_misses_nothing() {
    let run = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(run.path(), None).unwrap();
    let mut reader = Scalars::open(run.path()).unwrap();
    for step in 0..200_000 {
        writer.push("a", &"n", point(step, step as f64)).unwrap();
        if step % 1000 == 0 {
            writer.flush().unwrap();
        }
        if step % 37_000 == 0 {
            assert_ne!(reader.refresh().unwrap(), Refresh::Restarted, "at step {step}");
            assert!(reader.count("a") >= step / 1000 * 1000);
        }
    }
    writer.flush().unwrap();
    let length = fs::metadata(run.path().join("scalars/open.log")).unwrap().len();
    assert!(length < 2 << 20, "{length}");
    reader.refresh().unwrap();
    assert!(all(&reader, "a").iter().zip(0..).all(|(point, step)| point.step == step && point.value == step as f64));
    assert_eq!(reader.count("a"), 200_000);
}

#[test]
fn a_run_with_records_alone_is_read_from_them() {
    let run = tempfile::tempdir().unwrap();
    let line = |tag: &str, step: u64, value: &str| {
        format!(
            "{{\"kind\":\"scalar\",\"tag\":\"{tag}\",\"value\":{value},\"step\":{step},\"epoch\":1,\"node\":\"n\",\"time\":1.5}}\n"
        )
    };
    let path = run.path().join("records.jsonl");
    let text = line("a", 1, "0.5") + "no record\n" + &line("a", 2, "\"NaN\"") + &line("b", 2, "3");
    fs::write(&path, text.clone() + "{\"kind\":\"sca").unwrap();
    let mut scalars = Scalars::open(run.path()).unwrap();
    assert_eq!((scalars.count("a"), scalars.count("b")), (2, 1));
    assert_eq!(scalars.curve("a").unwrap().unwrap().non_finite, 1);
    assert_eq!(scalars.refresh().unwrap(), Refresh::Same);
    fs::write(&path, text + &line("a", 3, "1")).unwrap();
    assert_eq!(scalars.refresh().unwrap(), Refresh::Grown);
    assert_eq!(scalars.count("a"), 3);
    fs::write(&path, line("a", 1, "1")).unwrap();
    assert_eq!(scalars.refresh().unwrap(), Refresh::Restarted);
    assert_eq!((scalars.count("a"), scalars.count("b")), (1, 0));
}
