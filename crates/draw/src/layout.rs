//! Several images in one image.

use super::canvas::Canvas;
use super::image::RgbImage;
use super::palette::Color;
use super::text::Line;

const BACKGROUND: Color = [26, 27, 31];
const TEXT: Color = [236, 237, 240];
const RIGHT: Color = [96, 214, 122];
const WRONG: Color = [255, 96, 96];

/// Two images beside each other under a strip of titles, such as ground truth and prediction. The lower one is centered.
pub fn side_by_side(left: &RgbImage, right: &RgbImage, titles: [&str; 2]) -> RgbImage {
    let height = left.height().max(right.height());
    let size = 11.0 + height.max(left.width()).max(right.width()) as f32 / 100.0;
    let (gap, strip) = ((size / 2.0).round() as usize, (size * 1.9).round() as usize);
    let width = left.width() + gap + right.width();
    let mut picture = RgbImage::filled(strip + height, width, BACKGROUND);
    let places = [(left, 0), (right, left.width() + gap)];
    for (image, x) in places {
        picture.paste(image, strip + (height - image.height()) / 2, x);
    }
    let mut canvas = Canvas::new(picture);
    for ((image, x), title) in places.into_iter().zip(titles) {
        let line = Line::fitted(title, size, image.width() as f32 - size);
        let top = (strip as f32 - line.cap_height) / 2.0;
        canvas.line(&line, x as f32 + size / 2.0, top, TEXT);
    }
    canvas.into_image()
}

/// Whether what a caption says is right; decides its color.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing to judge.
    #[default]
    Neutral,
    /// Green caption.
    Right,
    /// Red caption and a red frame.
    Wrong,
}

/// One image of a [`grid`].
#[derive(Clone, Debug)]
pub struct Tile {
    /// The image.
    pub image: RgbImage,
    /// One line or a few below it, such as `7 (was 1)`.
    pub caption: String,
    /// Whether the caption is right.
    pub verdict: Verdict,
}

/// Images in rows, each with its caption below it. Small images are enlarged by whole factors to a common size of about 128
/// pixels. `columns` of 0 makes the grid about as wide as high.
pub fn grid(tiles: &[Tile], columns: usize) -> RgbImage {
    if tiles.is_empty() {
        return RgbImage::filled(0, 0, BACKGROUND);
    }
    let columns = if columns == 0 { (tiles.len() as f32).sqrt().ceil() as usize } else { columns.min(tiles.len()) };
    let longest = |tile: &Tile| tile.image.height().max(tile.image.width()).max(1);
    let common = tiles.iter().map(longest).max().unwrap_or(1).max(128);
    let images: Vec<RgbImage> = tiles.iter().map(|tile| tile.image.enlarged(common / longest(tile))).collect();
    let cell = Cell::for_tiles(tiles, &images);
    let (cell_height, cell_width) = (cell.height + cell.strip + cell.gap, cell.width + cell.gap);
    let rows = tiles.len().div_ceil(columns);
    let mut canvas =
        Canvas::new(RgbImage::filled(rows * cell_height + cell.gap, columns * cell_width + cell.gap, BACKGROUND));
    for (at, (tile, image)) in tiles.iter().zip(&images).enumerate() {
        let (y, x) = (cell.gap + at / columns * cell_height, cell.gap + at % columns * cell_width);
        cell.draw(&mut canvas, tile, image, y, x);
    }
    canvas.into_image()
}

/// The sizes that all cells of a grid share, in pixels.
struct Cell {
    height: usize,
    width: usize,
    /// Below the image, for the caption.
    strip: usize,
    gap: usize,
    text: f32,
}

impl Cell {
    fn for_tiles(tiles: &[Tile], images: &[RgbImage]) -> Self {
        let height = images.iter().map(RgbImage::height).max().unwrap_or(0);
        let width = images.iter().map(RgbImage::width).max().unwrap_or(0).max(64);
        let text = 12.0 + height.max(width) as f32 / 100.0;
        let lines = tiles.iter().map(|tile| tile.caption.lines().count()).max().unwrap_or(0);
        Self { height, width, strip: (lines as f32 * line_height(text) + text * 0.4) as usize, gap: 10, text }
    }

    fn draw(&self, canvas: &mut Canvas, tile: &Tile, image: &RgbImage, y: usize, x: usize) {
        let (top, left) = (y + (self.height - image.height()) / 2, x + (self.width - image.width()) / 2);
        let color = match tile.verdict {
            Verdict::Neutral => TEXT,
            Verdict::Right => RIGHT,
            Verdict::Wrong => WRONG,
        };
        if tile.verdict == Verdict::Wrong {
            let (x, y) = (left as f32, top as f32);
            let frame = super::Rect::sized(x, y, image.width() as f32, image.height() as f32);
            canvas.fill(frame.grown(3.0), color, 1.0);
        }
        canvas.paste(image, top, left);
        for (row, caption) in tile.caption.lines().enumerate() {
            let line = Line::fitted(caption, self.text, self.width as f32);
            let middle = x as f32 + (self.width as f32 - line.width) / 2.0;
            let top = (y + self.height) as f32 + self.text * 0.5 + row as f32 * line_height(self.text);
            canvas.line(&line, middle.round(), top.round(), color);
        }
    }
}

fn line_height(text: f32) -> f32 {
    (text * 1.15).round()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_images_are_there_under_a_strip() {
        let (left, right) = (RgbImage::filled(40, 100, [200, 0, 0]), RgbImage::filled(60, 120, [0, 0, 200]));
        let picture = side_by_side(&left, &right, ["ground truth", "prediction"]);
        let strip = picture.height() - 60;
        let count = |color| picture.data().chunks_exact(3).filter(|pixel| *pixel == color).count();
        assert_eq!((count([200, 0, 0]), count([0, 0, 200])), (40 * 100, 60 * 120));
        assert_eq!(picture.pixel(strip, picture.width() - 1), Some([0, 0, 200]));
        let written =
            picture.data()[..strip * picture.width() * 3].chunks_exact(3).filter(|p| *p != BACKGROUND).count();
        assert!(written > 200, "{written} pixels of titles");
    }

    #[test]
    fn wrong_ones_are_red_and_small_ones_enlarged() {
        let tile = |side, caption: &str, verdict| Tile {
            image: RgbImage::filled(side, side, [7, 7, 7]),
            caption: caption.into(),
            verdict,
        };
        let reds = |picture: &RgbImage| picture.data().chunks_exact(3).filter(|pixel| *pixel == WRONG).count();
        let right = grid(&[tile(28, "7", Verdict::Right), tile(28, "3", Verdict::Neutral)], 0);
        let wrong = grid(&[tile(28, "7", Verdict::Right), tile(28, "3", Verdict::Wrong)], 0);
        assert_eq!(reds(&right), 0);
        assert!(reds(&wrong) > 4 * 112 * 3);
        let pixels = right.data().chunks_exact(3).filter(|pixel| *pixel == [7, 7, 7]).count();
        assert_eq!(pixels, 2 * 112 * 112);
    }

    #[test]
    fn odd_grids_break_nothing() {
        assert_eq!(grid(&[], 3).height(), 0);
        let tile =
            |h, w| Tile { image: RgbImage::filled(h, w, [1; 3]), caption: "a\nb\n".into(), verdict: Verdict::Wrong };
        for columns in [0, 1, 100] {
            let picture = grid(&[tile(0, 0), tile(1, 300), tile(300, 1), tile(28, 28)], columns);
            assert!(picture.encode_png().is_ok());
        }
        let none = RgbImage::filled(0, 0, [0; 3]);
        let _ = side_by_side(&none, &none, ["a", "b"]);
    }
}
