//! `Summary.Value` messages, one function per kind.

use anyhow::{Context, Result, ensure};

use super::histogram::Histogram;
use super::proto::Message;

/// `DataType` of `types.proto`.
pub(super) const DT_FLOAT: i64 = 1;
pub(super) const DT_STRING: i64 = 7;
/// `DataClass` of `summary.proto`.
pub(super) const DATA_CLASS_TENSOR: i64 = 2;

/// `SummaryMetadata` that hands a value to a plugin.
pub(super) fn plugin_metadata(plugin: &str, content: Message, data_class: Option<i64>) -> Message {
    let data = Message::new().string(1, plugin).message(2, &content);
    let metadata = Message::new().message(1, &data);
    match data_class {
        Some(class) => metadata.int(4, class),
        None => metadata,
    }
}

/// A scalar; event files hold it in single precision.
pub(super) fn scalar(tag: &str, value: f64) -> Message {
    Message::new().string(1, tag).float(2, value as f32)
}

/// Markdown text, as a string tensor of rank 0.
pub(super) fn text(tag: &str, markdown: &str) -> Message {
    let metadata = plugin_metadata("text", Message::new().int(1, 0), Some(DATA_CLASS_TENSOR));
    let tensor = Message::new().int(1, DT_STRING).message(2, &Message::new()).string(8, markdown);
    Message::new().string(1, tag).message(9, &metadata).message(8, &tensor)
}

/// A PNG image of `height` × `width` pixels.
pub(super) fn image(tag: &str, height: usize, width: usize, png: &[u8]) -> Result<Message> {
    let header = PngHeader::read(png).with_context(|| format!("image `{tag}` is not a PNG file"))?;
    ensure!(
        (header.height as usize, header.width as usize) == (height, width),
        "image `{tag}` is declared as {height} × {width} (height × width) but its PNG is {} × {}",
        header.height,
        header.width
    );
    let image =
        Message::new().int(1, header.height.into()).int(2, header.width.into()).int(3, header.channels).bytes(4, png);
    Ok(Message::new().string(1, tag).message(4, &image))
}

/// A histogram in the original form (`HistogramProto`), which every TensorBoard reads.
pub(super) fn histogram(tag: &str, histogram: &Histogram) -> Message {
    let proto = Message::new()
        .double(1, histogram.min)
        .double(2, histogram.max)
        .double(3, histogram.num as f64)
        .double(4, histogram.sum)
        .double(5, histogram.sum_squares)
        .doubles(6, &histogram.bucket_limits)
        .doubles(7, &histogram.bucket_counts);
    Message::new().string(1, tag).message(5, &proto)
}

/// What the first chunk of a PNG says.
struct PngHeader {
    height: u32,
    width: u32,
    channels: i64,
}

impl PngHeader {
    /// Reads the signature and the IHDR chunk (PNG specification, 5.2 and 11.2.2).
    fn read(png: &[u8]) -> Result<Self> {
        ensure!(png.starts_with(b"\x89PNG\r\n\x1a\n"), "the PNG signature is missing");
        ensure!(png.get(12..16) == Some(b"IHDR".as_slice()), "the IHDR chunk is missing");
        let number = |at: usize| -> Option<u32> { Some(u32::from_be_bytes(png.get(at..at + 4)?.try_into().ok()?)) };
        let (width, height) =
            (number(16).context("the file is truncated")?, number(20).context("the file is truncated")?);
        let channels = match png.get(25) {
            Some(0) => 1,
            Some(4) => 2,
            Some(6) => 4,
            Some(_) => 3,
            None => anyhow::bail!("the file is truncated"),
        };
        Ok(Self { height, width, channels })
    }
}
