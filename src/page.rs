//! HTML pages that stand alone: no script, nothing loaded from elsewhere, images inside.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use pipe_draw::RgbImage;
use pipe_vocab::atomic;

use crate::output::refuse_other;

/// Of drawn images, 0 to 100.
const JPEG_QUALITY: u8 = 85;

const STYLE: &str = "
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
body { max-width: 110rem; margin: 2rem auto; padding: 0 1.5rem; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid color-mix(in srgb, currentColor 25%, transparent); }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { text-align: left; padding: .15rem 1.2rem .15rem 0; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
td.bar { width: 24rem; }
td.bar div { height: .8rem; margin-top: .3rem; background: #4c8dd6; min-width: 1px; }
td.bar div.marked { background: #e09f3e; }
.row { display: flex; gap: 1rem; overflow-x: auto; padding-bottom: .5rem; }
figure { margin: 0; } figcaption { font-size: .85rem; opacity: .8; }
figure img { height: 300px; display: block; }
";

/// A bar of a chart.
pub struct Bar {
    pub name: String,
    pub count: u64,
    /// Whether it stands out.
    pub marked: bool,
}

/// A page that is being written.
pub struct Page(String);

impl Page {
    /// An empty page.
    pub fn new(title: &str) -> Page {
        let title = escaped(title);
        Page(format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<style>{STYLE}</style>\n<h1>{title}</h1>\n"
        ))
    }

    /// Begins a section.
    pub fn section(&mut self, title: &str) {
        let _ = writeln!(self.0, "<h2>{}</h2>", escaped(title));
    }

    /// Begins a part of a section.
    pub fn part(&mut self, title: &str) {
        let _ = writeln!(self.0, "<h3>{}</h3>", escaped(title));
    }

    /// A paragraph.
    pub fn text(&mut self, text: &str) {
        let _ = writeln!(self.0, "<p>{}</p>", escaped(text));
    }

    /// Names and values.
    pub fn table(&mut self, rows: &[(String, String)]) {
        self.0.push_str("<table>\n");
        for (name, value) in rows {
            let _ = writeln!(self.0, "<tr><th>{}<td>{}", escaped(name), escaped(value));
        }
        self.0.push_str("</table>\n");
    }

    /// How often each is there; some are marked.
    pub fn bars(&mut self, rows: &[Bar]) {
        let most = rows.iter().map(|bar| bar.count).max().unwrap_or(0).max(1);
        self.0.push_str("<table>\n");
        for Bar { name, count, marked } in rows {
            let width = 100.0 * *count as f64 / most as f64;
            let class = if *marked { " class=\"marked\"" } else { "" };
            let bar = format!("<div{class} style=\"width:{width:.1}%\"></div>");
            let _ = writeln!(self.0, "<tr><td>{}<td class=\"number\">{count}<td class=\"bar\">{bar}", escaped(name));
        }
        self.0.push_str("</table>\n");
    }

    /// Images beside each other, each under its name.
    ///
    /// # Errors
    /// One cannot be encoded.
    pub fn images<'a>(&mut self, images: impl IntoIterator<Item = (&'a str, &'a RgbImage)>) -> Result<()> {
        self.0.push_str("<div class=\"row\">\n");
        for (name, image) in images {
            let data = BASE64_STANDARD.encode(image.encode_jpeg(JPEG_QUALITY)?);
            let (name, (height, width)) = (escaped(name), (image.height(), image.width()));
            let _ = writeln!(
                self.0,
                "<figure><figcaption>{name}</figcaption><img alt=\"{name}\" width=\"{width}\" height=\"{height}\" style=\"width:auto\" \
                 src=\"data:image/jpeg;base64,{data}\"></figure>"
            );
        }
        self.0.push_str("</div>\n");
        Ok(())
    }

    /// The whole page.
    pub fn finish(mut self) -> String {
        self.0.push_str("</html>\n");
        self.0
    }
}

/// Refuses a path where something else lies than a page: before the work is done.
///
/// # Errors
/// Such a path.
pub fn check(path: &Path) -> Result<()> {
    refuse_other(path, &["<!"], "HTML page")
}

/// Writes a page that was finished.
///
/// # Errors
/// It cannot be written, or the file that is there is no page.
pub fn write(path: &Path, html: &str) -> Result<()> {
    check(path)?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    atomic::write(path, html.as_bytes())
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_on_a_page_is_text() {
        let mut page = Page::new("<script>alert(1)</script>");
        page.table(&[("\"a\" & b".into(), "<b>".into())]);
        page.images([("<i>", &RgbImage::filled(2, 3, [255; 3]))]).unwrap();
        let html = page.finish();
        assert!(!html.contains("<script>") && !html.contains("<b>") && !html.contains("<i>"), "{html}");
        assert!(html.contains("&quot;a&quot; &amp; b") && html.contains("src=\"data:image/jpeg;base64,/9j/"), "{html}");
    }
}
