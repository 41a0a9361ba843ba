//! Tables of runs as text.

use jiff::Timestamp;
use pipe_core::record;
use pipe_runs::filter::text_of;
use pipe_runs::{Key, Run};
use pipe_vocab::shown::shown_name;
use serde_json::Value;

use crate::source::shown;

/// No cell is wider.
const WIDEST: usize = 40;

/// Lines with columns of the same width; the first row is the heading.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// What a run has in a column, for people.
pub fn cell(run: &Run, key: &Key) -> String {
    let Some(value) = key.value(run) else { return "-".into() };
    match key.name.as_str() {
        "created" => time(run.created),
        "seconds" => duration(run.seconds.unwrap_or_default()),
        "folder" => shown(&run.folder),
        // As it is written, to the last digit.
        name if key.which.is_none() && run.options.contains_key(name) => plain(&value),
        _ => short(&value),
    }
}

/// A value for people, in one cell.
pub fn short(value: &Value) -> String {
    let text = match value {
        Value::Number(number) if !number.is_i64() && !number.is_u64() => {
            number.as_f64().map_or_else(|| number.to_string(), record::short)
        }
        Value::Null => "-".into(),
        other => text_of(other),
    };
    clipped(&text)
}

/// A value to the last digit, in one cell.
pub fn plain(value: &Value) -> String {
    if value.is_null() { "-".into() } else { clipped(&text_of(value)) }
}

/// A text in one cell: without what steers a terminal, and not too long.
pub fn clipped(text: &str) -> String {
    let text = shown_name(text);
    match text.chars().count() > WIDEST {
        true => text.chars().take(WIDEST - 1).chain(['…']).collect(),
        false => text.into_owned(),
    }
}

/// A time, in UTC.
pub fn time(seconds: f64) -> String {
    let time = Timestamp::from_second(seconds as i64).map(|time| time.strftime("%Y-%m-%d %H:%M").to_string());
    time.unwrap_or_else(|_| "-".into())
}

/// `1:02:03`, or `2:03`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match seconds / 3600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}
