//! Text in DejaVu Sans Bold, which the `dejavu` crate carries (the font is free: Bitstream Vera licence and public domain).

use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, Glyph, PxScale, ScaleFont, point};

static FONT: LazyLock<FontRef<'static>> =
    LazyLock::new(|| FontRef::try_from_slice(dejavu::sans::bold()).expect("the built-in font is valid"));

/// One line of text laid out at a size: its extent and its glyphs, relative to the top left corner.
pub(super) struct Line {
    /// Pixels from the first to behind the last glyph.
    pub(super) width: f32,
    /// Pixels from the top of capitals to the baseline.
    pub(super) cap_height: f32,
    glyphs: Vec<Glyph>,
}

impl Line {
    /// Lays out `text` with letters `size` pixels high from descent to ascent. Control characters become spaces.
    pub(super) fn new(text: &str, size: f32) -> Self {
        let font = FONT.as_scaled(PxScale::from(size));
        // A capital H gives the height that the eye centres on.
        let cap_height =
            font.outline_glyph(font.scaled_glyph('H')).map_or(size * 0.7, |outline| outline.px_bounds().height());
        let (mut width, mut last) = (0.0, None);
        let mut glyphs = Vec::new();
        for character in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
            let mut glyph = font.scaled_glyph(character);
            if let Some(last) = last {
                width += font.kern(last, glyph.id);
            }
            glyph.position = point(width, cap_height);
            width += font.h_advance(glyph.id);
            last = Some(glyph.id);
            glyphs.push(glyph);
        }
        Self { width, cap_height, glyphs }
    }

    /// `text` laid out, ending in an ellipsis where it is wider than `room` pixels.
    pub(super) fn fitted(text: &str, size: f32, room: f32) -> Self {
        let whole = Self::new(text, size);
        if whole.width <= room {
            return whole;
        }
        let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        let cut = |end: usize| Self::new(&format!("{}…", text[..ends[end]].trim_end()), size);
        // The width grows with the number of characters.
        let (mut fits, mut too_long) = (0, ends.len());
        while too_long - fits > 1 {
            let middle = (fits + too_long) / 2;
            if cut(middle).width <= room { fits = middle } else { too_long = middle }
        }
        cut(fits)
    }

    /// Calls `paint(y, x, coverage)` for each pixel of the text with its top left corner at (`top`, `left`).
    pub(super) fn rasterise(&self, top: f32, left: f32, mut paint: impl FnMut(i64, i64, f32)) {
        for glyph in &self.glyphs {
            let mut glyph = glyph.clone();
            glyph.position += point(left, top);
            let Some(outline) = FONT.outline_glyph(glyph) else {
                continue;
            };
            let bounds = outline.px_bounds();
            let (x0, y0) = (bounds.min.x as i64, bounds.min.y as i64);
            outline.draw(|x, y, coverage| paint(y0 + i64::from(y), x0 + i64::from(x), coverage.min(1.0)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Line;

    #[test]
    fn lines_fit_their_room() {
        let text = "traffic light 0.93";
        let whole = Line::fitted(text, 16.0, 1e9);
        assert!(whole.width > 100.0 && whole.cap_height > 8.0);
        for room in [150.0, 60.0, 30.0] {
            let line = Line::fitted(text, 16.0, room);
            assert!(line.width <= room && line.width > room / 3.0, "{} in {room}", line.width);
        }
        // Nothing fits here, and nothing breaks.
        for text in ["", "x", "日本語", "a\tb\n"] {
            assert!(Line::fitted(text, 16.0, 0.0).width >= 0.0);
        }
    }
}
