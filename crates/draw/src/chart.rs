//! Charts: curves over two axes, and a table of numbers as colors.

use super::canvas::{Canvas, Rect};
use super::image::RgbImage;
use super::palette::{Color, mix, text_color_on};
use super::text::Line;

const BACKGROUND: Color = [26, 27, 31];
const GRID: Color = [58, 60, 68];
const TEXT: Color = [236, 237, 240];
const FULL: Color = [64, 156, 255];
/// Pixels of letters from descent to ascent.
const LETTERS: f32 = 14.0;
/// More curves than these are not named one by one.
const MOST_NAMES: usize = 20;

/// One curve of a [`Chart`].
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What the legend calls it.
    pub name: String,
    /// Points from left to right in the chart's units; a point that is not finite is a gap.
    pub points: Vec<[f64; 2]>,
    /// Its color.
    pub color: Color,
    /// Drawn thick, above the others, and named however many there are.
    pub main: bool,
}

/// Curves over an axis to the right and one from 0 to 1 upwards.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// Above the chart.
    pub title: String,
    /// What the axes are: to the right, upwards.
    pub axes: [String; 2],
    /// First and last value to the right.
    pub range: [f64; 2],
    /// The curves.
    pub series: Vec<Series>,
    /// A value to the right that is marked by an upright line.
    pub mark: Option<f64>,
}

impl Chart {
    /// The chart as an image of 1000 × 640 pixels.
    pub fn draw(&self) -> RgbImage {
        let (width, height) = (1000.0, 640.0);
        let mut canvas = Canvas::new(RgbImage::filled(height as usize, width as usize, BACKGROUND));
        let plot = Rect::new(70.0, 50.0, width - 240.0, height - 60.0);
        canvas.text(&self.title, plot.x1, 18.0, LETTERS * 1.2, width - plot.x1, TEXT);
        self.axes(&mut canvas, &plot);
        let place = |[x, y]: [f64; 2]| {
            let share = (x - self.range[0]) / (self.range[1] - self.range[0]).max(f64::MIN_POSITIVE);
            [plot.x1 + (plot.x2 - plot.x1) * share as f32, plot.y2 - (plot.y2 - plot.y1) * y as f32]
        };
        if let Some(mark) = self.mark {
            let ([x, top], [_, bottom]) = (place([mark, 1.0]), place([mark, 0.0]));
            canvas.fill(Rect::new(x - 0.5, top, x + 0.5, bottom), TEXT, 0.6);
        }
        let mut order: Vec<&Series> = self.series.iter().collect();
        order.sort_by_key(|series| series.main);
        for series in order {
            let thickness = if series.main { 3.5 } else { 1.5 };
            for pair in series.points.windows(2) {
                canvas.stroke(place(pair[0]), place(pair[1]), thickness, series.color);
            }
        }
        let all = self.series.len() <= MOST_NAMES;
        let named = self.series.iter().filter(|series| all || series.main);
        for (row, series) in named.enumerate() {
            let (x, y) = (plot.x2 + 16.0, plot.y1 + row as f32 * LETTERS * 1.6);
            canvas.fill(Rect::sized(x, y + 1.0, 14.0, 10.0), series.color, 1.0);
            canvas.text(&series.name, x + 22.0, y, LETTERS, width - x - 28.0, TEXT);
        }
        canvas.into_image()
    }

    fn axes(&self, canvas: &mut Canvas, plot: &Rect) {
        for step in 0..=5u8 {
            let share = f32::from(step) / 5.0;
            let (x, y) = (plot.x1 + (plot.x2 - plot.x1) * share, plot.y2 - (plot.y2 - plot.y1) * share);
            canvas.fill(Rect::new(x - 0.5, plot.y1, x + 0.5, plot.y2), GRID, 1.0);
            canvas.fill(Rect::new(plot.x1, y - 0.5, plot.x2, y + 0.5), GRID, 1.0);
            let right = self.range[0] + (self.range[1] - self.range[0]) * f64::from(share);
            let [right, up] = [right, f64::from(share)].map(|value| Line::new(&format!("{value:.1}"), LETTERS));
            canvas.line(&right, x - right.width / 2.0, plot.y2 + 8.0, TEXT);
            canvas.line(&up, plot.x1 - 10.0 - up.width, y - up.cap_height / 2.0, TEXT);
        }
        let [right, up] = self.axes.each_ref().map(|name| Line::new(name, LETTERS));
        canvas.line(&right, (plot.x1 + plot.x2 - right.width) / 2.0, plot.y2 + 32.0, TEXT);
        upright(canvas, &up, 12.0, (plot.y1 + plot.y2 + up.width) / 2.0, TEXT);
    }
}

/// A table of counts as colors: darker to brighter by each count's share of its row.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Above the table.
    pub title: String,
    /// What rows and columns are.
    pub axes: [String; 2],
    /// Names of the rows and columns `[N]`.
    pub names: Vec<String>,
    /// Counts `[N, N]`.
    pub counts: Vec<Vec<u32>>,
}

impl Table {
    /// The table as an image of about 1000 × 1000 pixels. Counts are written in cells that have room.
    pub fn draw(&self) -> RgbImage {
        let count = self.names.len().max(1);
        let cell = (840 / count).clamp(9, 90) as f32;
        let letters = (cell * 0.8).min(LETTERS);
        let names: Vec<Line> = self.names.iter().map(|name| Line::fitted(name, letters, 130.0)).collect();
        let room = names.iter().map(|name| name.width).fold(0.0, f32::max) + 50.0;
        let side = cell * count as f32;
        // A title is wider than a small table.
        let size = (room + side + 20.0).max(460.0);
        let mut canvas = Canvas::new(RgbImage::filled((40.0 + side + room) as usize, size as usize, BACKGROUND));
        canvas.text(&self.title, 14.0, 14.0, LETTERS * 1.2, size - 28.0, TEXT);
        let (left, top) = (room, 40.0);
        for (row, counts) in self.counts.iter().enumerate() {
            let sum = counts.iter().map(|count| u64::from(*count)).sum::<u64>().max(1) as f32;
            for (column, count) in counts.iter().enumerate() {
                let (x, y) = (left + column as f32 * cell, top + row as f32 * cell);
                let color = mix(GRID, FULL, *count as f32 / sum);
                canvas.fill(Rect::sized(x, y, cell - 1.0, cell - 1.0), color, 1.0);
                let text = Line::new(&count.to_string(), letters);
                if *count > 0 && text.width < cell - 4.0 && cell >= 18.0 {
                    let (x, y) = (x + (cell - text.width) / 2.0, y + (cell - text.cap_height) / 2.0);
                    canvas.line(&text, x, y, text_color_on(color));
                }
            }
        }
        for (i, name) in names.iter().enumerate() {
            let middle = top + (i as f32 + 0.5) * cell - name.cap_height / 2.0;
            canvas.line(name, left - name.width - 8.0, middle, TEXT);
            let middle = left + (i as f32 + 0.5) * cell - name.cap_height / 2.0;
            upright(&mut canvas, name, middle, top + side + 8.0 + name.width, TEXT);
        }
        let [rows, columns] = self.axes.each_ref().map(|name| Line::new(name, LETTERS));
        upright(&mut canvas, &rows, 12.0, top + (side + rows.width) / 2.0, TEXT);
        canvas.line(&columns, left + (side - columns.width) / 2.0, top + side + room - 22.0, TEXT);
        canvas.into_image()
    }
}

/// Writes a line from bottom to top: its capitals begin at `x`, its first glyph at `y`.
fn upright(canvas: &mut Canvas, line: &Line, x: f32, y: f32, color: Color) {
    line.rasterise(0.0, 0.0, |down, right, coverage| {
        let (y, x) = (y.round() as i64 - right, x.round() as i64 + down);
        if let (Ok(y), Ok(x)) = (usize::try_from(y), usize::try_from(x)) {
            canvas.blend(y, x, color, coverage);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(series: Vec<Series>) -> Chart {
        let axes = ["confidence".to_owned(), "F1".to_owned()];
        Chart { title: "F1".into(), axes, range: [0.0, 1.0], series, mark: Some(0.5) }
    }

    fn series(points: &[[f64; 2]], color: Color, main: bool) -> Series {
        Series { name: "cat".into(), points: points.to_vec(), color, main }
    }

    fn count(image: &RgbImage, color: Color) -> usize {
        image.data().chunks_exact(3).filter(|pixel| *pixel == color).count()
    }

    #[test]
    fn a_curve_lies_where_its_points_are() {
        let flat = chart(vec![series(&[[0.0, 0.5], [1.0, 0.5]], [200, 0, 0], true)]).draw();
        // The middle of the plot, 50 to 580 pixels from the top.
        assert_eq!(flat.pixel(315, 200), Some([200, 0, 0]));
        assert_eq!(flat.pixel(335, 200), Some(BACKGROUND));
        let gap = chart(vec![series(&[[0.0, 0.5], [0.4, f64::NAN], [0.8, 0.5]], [200, 0, 0], true)]).draw();
        assert_eq!(count(&gap, [200, 0, 0]), 140, "only the legend");
        assert_eq!(count(&gap, [0, 0, 0]), 0);
    }

    #[test]
    fn of_many_curves_the_main_one_is_named() {
        let line = |main| series(&[[0.0, 0.2], [1.0, 0.8]], if main { [200, 0, 0] } else { [0, 200, 0] }, main);
        let many: Vec<Series> = (0..30).map(|i| line(i == 3)).collect();
        let image = chart(many).draw();
        let legend = |color| (770..800).filter(|&x| image.pixel(56, x) == Some(color)).count();
        assert_eq!((legend([200, 0, 0]), legend([0, 200, 0])), (14, 0));
    }

    #[test]
    fn a_table_is_brighter_where_more_of_a_row_is() {
        let names = vec!["cat".to_owned(), "background".to_owned()];
        let axes = ["is".to_owned(), "found as".to_owned()];
        let table = Table { title: "Confusion".into(), axes, names, counts: vec![vec![9, 0], vec![0, 0]] };
        let image = table.draw();
        assert!(count(&image, FULL) > 5000 && count(&image, GRID) > 15000);
        let empty = Table { names: Vec::new(), counts: Vec::new(), ..table };
        assert!(empty.draw().encode_png().is_ok());
    }
}
