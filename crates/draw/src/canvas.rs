//! Anti-aliased shapes and text on an image.

use super::image::RgbImage;
use super::palette::Color;
use super::text::Line;

/// A rectangle in pixels: `x` to the right, `y` down, edges between pixels; `(0, 0)` is the outer corner of the first one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    /// Left edge.
    pub x1: f32,
    /// Top edge.
    pub y1: f32,
    /// Right edge.
    pub x2: f32,
    /// Bottom edge.
    pub y2: f32,
}

impl Rect {
    /// The rectangle between two corners, in whichever order.
    pub fn new(x1: f32, y1: f32, x2: f32, y2: f32) -> Self {
        Self { x1: x1.min(x2), y1: y1.min(y2), x2: x1.max(x2), y2: y1.max(y2) }
    }

    /// A rectangle by its top left corner and its size.
    pub fn sized(x: f32, y: f32, width: f32, height: f32) -> Self {
        Self::new(x, y, x + width, y + height)
    }

    /// The area in square pixels.
    pub fn area(&self) -> f32 {
        (self.x2 - self.x1) * (self.y2 - self.y1)
    }

    /// What two rectangles share; of zero area when they are apart.
    pub fn intersection(&self, other: &Self) -> Self {
        let (x1, y1) = (self.x1.max(other.x1), self.y1.max(other.y1));
        Self { x1, y1, x2: self.x2.min(other.x2).max(x1), y2: self.y2.min(other.y2).max(y1) }
    }

    /// The rectangle with each edge moved outwards by `by` pixels.
    pub fn grown(&self, by: f32) -> Self {
        Self { x1: self.x1 - by, y1: self.y1 - by, x2: self.x2 + by, y2: self.y2 + by }
    }

    fn is_finite(&self) -> bool {
        [self.x1, self.y1, self.x2, self.y2].iter().all(|edge| edge.is_finite())
    }
}

/// Draws on an image, clipped to it.
#[derive(Clone, Debug)]
pub struct Canvas {
    image: RgbImage,
}

impl Canvas {
    /// Draws on `image`.
    pub fn new(image: RgbImage) -> Self {
        Self { image }
    }

    /// What was drawn so far.
    pub fn image(&self) -> &RgbImage {
        &self.image
    }

    /// Ends the drawing.
    pub fn into_image(self) -> RgbImage {
        self.image
    }

    /// The whole area.
    pub fn bounds(&self) -> Rect {
        Rect::new(0.0, 0.0, self.image.width() as f32, self.image.height() as f32)
    }

    /// Mixes `color` into one pixel; `alpha` 0 leaves it, 1 replaces it.
    pub fn blend(&mut self, y: usize, x: usize, color: Color, alpha: f32) {
        self.image.blend(y, x, color, alpha);
    }

    /// Fills a rectangle; pixels that it covers in part are mixed in part. A rectangle that is not finite is skipped.
    pub fn fill(&mut self, rect: Rect, color: Color, alpha: f32) {
        self.fill_rounded(rect, 0.0, color, alpha);
    }

    /// Fills a rectangle whose corners are rounded with `radius` pixels.
    pub fn fill_rounded(&mut self, rect: Rect, radius: f32, color: Color, alpha: f32) {
        if !rect.is_finite() {
            return;
        }
        let seen = rect.intersection(&self.bounds());
        if seen.area() <= 0.0 {
            return;
        }
        let radius = radius.min((rect.x2 - rect.x1) / 2.0).min((rect.y2 - rect.y1) / 2.0);
        for y in seen.y1 as usize..seen.y2.ceil() as usize {
            let rows = overlap(y, rect.y1, rect.y2);
            for x in seen.x1 as usize..seen.x2.ceil() as usize {
                let covered = rows * overlap(x, rect.x1, rect.x2) * corner(x, y, &rect, radius);
                self.image.blend(y, x, color, alpha * covered);
            }
        }
    }

    /// Fills a disc around a point between pixels. One that is not finite is skipped.
    pub fn disc(&mut self, x: f32, y: f32, radius: f32, color: Color) {
        self.fill_rounded(Rect { x1: x - radius, y1: y - radius, x2: x + radius, y2: y + radius }, radius, color, 1.0);
    }

    /// Strokes the edges of a rectangle with a line of `thickness` pixels, its middle on the edges. A `dash` breaks the line
    /// into pieces of that many pixels with gaps of two thirds of it.
    pub fn outline(&mut self, rect: Rect, thickness: f32, dash: Option<f32>, color: Color, alpha: f32) {
        // Far beyond the image nothing shows, and floats of that size no longer tell pixels apart.
        let near = self.bounds().grown(4.0 * thickness + 8.0);
        if !rect.is_finite() || !thickness.is_finite() || thickness <= 0.0 {
            return;
        }
        let clamp = |value: f32, low: f32, high: f32| value.clamp(low, high);
        let rect = Rect {
            x1: clamp(rect.x1, near.x1, near.x2),
            y1: clamp(rect.y1, near.y1, near.y2),
            x2: clamp(rect.x2, near.x1, near.x2),
            y2: clamp(rect.y2, near.y1, near.y2),
        };
        let (outer, half) = (rect.grown(thickness / 2.0), thickness / 2.0);
        let (top, bottom) = (rect.y1 + half, (rect.y2 - half).max(rect.y1 + half));
        let (left, right) = (rect.x1 + half, (rect.x2 - half).max(rect.x1 + half));
        // The sides stop where the top and the bottom begin, so that no pixel is mixed twice.
        for (y1, y2) in [(outer.y1, top), (bottom, outer.y2)] {
            for (x1, x2) in dashes(outer.x1, outer.x2, dash) {
                self.fill(Rect { x1, y1, x2, y2 }, color, alpha);
            }
        }
        for (x1, x2) in [(outer.x1, left), (right, outer.x2)] {
            for (y1, y2) in dashes(top, bottom, dash) {
                self.fill(Rect { x1, y1, x2, y2 }, color, alpha);
            }
        }
    }

    /// Draws a straight line of `thickness` pixels with round ends between two points, `[x, y]`. One that is not finite is skipped.
    pub fn stroke(&mut self, from: [f32; 2], to: [f32; 2], thickness: f32, color: Color) {
        if ![from, to].as_flattened().iter().all(|value| value.is_finite()) {
            return;
        }
        let half = thickness / 2.0;
        let around = Rect::new(from[0], from[1], to[0], to[1]).grown(half + 1.0);
        let seen = around.intersection(&self.bounds());
        if seen.area() <= 0.0 {
            return;
        }
        let along = [to[0] - from[0], to[1] - from[1]];
        let length = along[0] * along[0] + along[1] * along[1];
        for y in seen.y1 as usize..seen.y2.ceil() as usize {
            for x in seen.x1 as usize..seen.x2.ceil() as usize {
                let away = [x as f32 + 0.5 - from[0], y as f32 + 0.5 - from[1]];
                let share = (away[0] * along[0] + away[1] * along[1]) / length.max(f32::MIN_POSITIVE);
                let share = share.clamp(0.0, 1.0);
                let distance = (away[0] - share * along[0]).hypot(away[1] - share * along[1]);
                self.image.blend(y, x, color, (half + 0.5 - distance).clamp(0.0, 1.0));
            }
        }
    }

    /// Writes one line with the top left corner of its capitals at (`x`, `y`), `size` pixels from descent to ascent, cut off
    /// with an ellipsis at `room` pixels. Returns its width in pixels.
    pub fn text(&mut self, text: &str, x: f32, y: f32, size: f32, room: f32, color: Color) -> f32 {
        let line = Line::fitted(text, size, room);
        self.line(&line, x, y, color);
        line.width
    }

    pub(super) fn paste(&mut self, image: &RgbImage, y: usize, x: usize) {
        self.image.paste(image, y, x);
    }

    pub(super) fn line(&mut self, line: &Line, x: f32, y: f32, color: Color) {
        let image = &mut self.image;
        line.rasterise(y, x, |y, x, coverage| {
            if let (Ok(y), Ok(x)) = (usize::try_from(y), usize::try_from(x)) {
                image.blend(y, x, color, coverage);
            }
        });
    }
}

/// How much of the pixel from `at` to `at + 1` lies between `low` and `high`.
fn overlap(at: usize, low: f32, high: f32) -> f32 {
    let at = at as f32;
    ((at + 1.0).min(high) - at.max(low)).clamp(0.0, 1.0)
}

/// How much of a pixel the rounding of a corner leaves: 1 away from the corners.
fn corner(x: usize, y: usize, rect: &Rect, radius: f32) -> f32 {
    let (x, y) = (x as f32 + 0.5, y as f32 + 0.5);
    let dx = (rect.x1 + radius - x).max(x - (rect.x2 - radius));
    let dy = (rect.y1 + radius - y).max(y - (rect.y2 - radius));
    if radius <= 0.0 || dx <= 0.0 || dy <= 0.0 {
        return 1.0;
    }
    (radius - dx.hypot(dy) + 0.5).clamp(0.0, 1.0)
}

/// The drawn pieces of a line from `low` to `high`, beginning and ending with one.
fn dashes(low: f32, high: f32, dash: Option<f32>) -> Vec<(f32, f32)> {
    let length = high - low;
    let Some(dash) = dash.filter(|&dash| dash >= 1.0 && length > dash) else {
        return vec![(low, high)];
    };
    // n dashes and n - 1 gaps of two thirds, stretched to fit.
    let count = ((length / dash + 2.0 / 3.0) / (5.0 / 3.0)).round().max(2.0);
    let piece = length / (count * 5.0 / 3.0 - 2.0 / 3.0);
    (0..count as usize)
        .map(|i| {
            let start = low + i as f32 * piece * 5.0 / 3.0;
            (start, start + piece)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canvas() -> Canvas {
        Canvas::new(RgbImage::filled(8, 8, [0; 3]))
    }

    fn red(canvas: &Canvas, y: usize, x: usize) -> u8 {
        canvas.image().pixel(y, x).unwrap()[0]
    }

    #[test]
    fn parts_of_pixels_are_mixed_in_part() {
        let mut canvas = canvas();
        canvas.fill(Rect::new(1.5, 1.0, 3.0, 2.0), [200, 0, 0], 1.0);
        assert_eq!([0, 1, 2, 3].map(|x| red(&canvas, 1, x)), [0, 100, 200, 0]);
        assert_eq!(red(&canvas, 2, 2), 0);
    }

    #[test]
    fn an_outline_lies_on_the_edges_and_mixes_no_pixel_twice() {
        let mut canvas = canvas();
        canvas.outline(Rect::new(2.0, 2.0, 6.0, 6.0), 2.0, None, [200, 0, 0], 0.5);
        for (y, x) in [(1, 1), (2, 2), (1, 6), (6, 1), (6, 6), (3, 1), (3, 6)] {
            assert_eq!(red(&canvas, y, x), 100, "{y} {x}");
        }
        for (y, x) in [(3, 3), (4, 4), (0, 0), (7, 7)] {
            assert_eq!(red(&canvas, y, x), 0, "{y} {x}");
        }
    }

    #[test]
    fn dashes_begin_and_end_a_line_and_leave_gaps() {
        let pieces = dashes(10.0, 110.0, Some(9.0));
        assert!(pieces.len() > 4, "{pieces:?}");
        assert_eq!(pieces[0].0, 10.0);
        assert!((pieces[pieces.len() - 1].1 - 110.0).abs() < 1e-3);
        assert!(pieces.windows(2).all(|pair| pair[1].0 > pair[0].1 + 3.0), "{pieces:?}");
        assert_eq!(dashes(0.0, 5.0, Some(9.0)), [(0.0, 5.0)]);
    }

    #[test]
    fn odd_shapes_change_nothing_and_break_nothing() {
        let mut canvas = canvas();
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        for [x1, y1, x2, y2] in
            [[nan, 0.0, 4.0, 4.0], [0.0, 0.0, inf, 4.0], [20.0, 20.0, 30.0, 30.0], [3.0, 3.0, 3.0, 9.0]]
        {
            canvas.fill(Rect { x1, y1, x2, y2 }, [255; 3], 1.0);
        }
        canvas.outline(Rect { x1: nan, y1: nan, x2: nan, y2: nan }, 2.0, Some(4.0), [255; 3], 1.0);
        canvas.outline(Rect::new(-1e30, -1e30, 1e30, 1e30), 2.0, Some(4.0), [255; 3], 1.0);
        canvas.text("far away", 1e6, -1e6, 12.0, 100.0, [255; 3]);
        assert_eq!(canvas.into_image(), RgbImage::filled(8, 8, [0; 3]));
    }
}
