//! The CUSTOM SCALARS page: several series on one chart.

use super::proto::Message;
use super::summary;

/// Under which tag the page looks for its layout.
const TAG: &str = "custom_scalars__config__";

/// `tensorboard.plugin.custom_scalar.Layout` (layout.proto): one category of charts, each of the series with these tags. Tags are
/// regular expressions there, so they are written as such.
pub(super) fn value(category: &str, charts: &[(&str, &[&str])]) -> Message {
    let mut content = Message::new().string(1, category);
    for (title, tags) in charts {
        let series = tags.iter().fold(Message::new(), |series, tag| series.string(1, &format!("^{}$", escaped(tag))));
        content = content.message(2, &Message::new().string(1, title).message(2, &series));
    }
    let layout = Message::new().message(2, &content);
    let metadata = summary::plugin_metadata("custom_scalars", Message::new(), Some(summary::DATA_CLASS_TENSOR));
    let tensor = Message::new().int(1, summary::DT_STRING).message(2, &Message::new()).bytes(8, &layout.into_bytes());
    Message::new().string(1, TAG).message(9, &metadata).message(8, &tensor)
}

/// A text as a regular expression that matches it alone.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, c| {
        if !c.is_alphanumeric() && c != '_' && c != '/' {
            escaped.push('\\');
        }
        escaped.push(c);
        escaped
    })
}
