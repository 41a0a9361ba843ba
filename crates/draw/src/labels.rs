//! Label chips: text on a rounded patch of the class's color.

use super::canvas::{Canvas, Rect};
use super::palette::{Color, text_color_on};
use super::text::Line;

/// A label waiting for its place.
pub(super) struct Label {
    pub(super) text: String,
    pub(super) color: Color,
    /// What it names: it goes to the top left corner of this.
    pub(super) anchor: Rect,
}

/// Draws labels on top of everything else, keeping them inside the image and, where there is room, apart from each other.
pub(super) fn draw(canvas: &mut Canvas, labels: &[Label], size: f32) {
    let bounds = canvas.bounds();
    let (pad_x, pad_y) = (size * 0.35, size * 0.24);
    let mut taken: Vec<Rect> = Vec::new();
    for label in labels {
        let line = Line::fitted(&label.text, size, bounds.x2 - 2.0 * pad_x);
        let (width, height) = ((line.width + 2.0 * pad_x).ceil(), (line.cap_height + 2.0 * pad_y).ceil());
        let place = place(&label.anchor, (width, height), &bounds, &taken);
        canvas.fill_rounded(place, size * 0.2, label.color, 0.92);
        canvas.line(&line, place.x1 + pad_x, place.y1 + (height - line.cap_height) / 2.0, text_color_on(label.color));
        taken.push(place);
    }
}

/// The first of a few places around the anchor's corners that covers no other label, or the one that covers least.
fn place(anchor: &Rect, (width, height): (f32, f32), bounds: &Rect, taken: &[Rect]) -> Rect {
    // Whole pixels keep the edges of the chips crisp.
    let left = anchor.x1.floor();
    let right = (anchor.x2 - width).floor();
    let above = (anchor.y1 - height).floor();
    let (inside_top, inside_bottom) = (anchor.y1.floor(), (anchor.y2 - height).floor());
    let below = anchor.y2.ceil();
    let mut places = vec![
        (left, above),
        (left, inside_top),
        (right, above),
        (right, inside_top),
        (left, below),
        (left, inside_bottom),
        (right, below),
        (right, inside_bottom),
    ];
    for row in (1..=4).map(|row| row as f32 * (height + 1.0)) {
        places.extend([(left, above - row), (left, inside_top + row), (right, above - row), (right, below + row)]);
    }
    let covered = |place: &Rect| taken.iter().map(|other| place.intersection(other).area()).sum::<f32>();
    let mut best: Option<(f32, Rect)> = None;
    for (x, y) in places {
        // Moved into the image, the place of a box at the edge still stands next to the box.
        let x = x.min(bounds.x2 - width).max(0.0);
        let moved = y.min(bounds.y2 - height).max(0.0);
        let place = Rect::sized(x, moved, width, height);
        let cost = covered(&place);
        if cost <= 0.0 && moved == y {
            return place;
        }
        // Between equals the earlier place wins, and one that had to be moved comes last.
        let cost = cost + if moved == y { 0.0 } else { 1.0 };
        if best.is_none_or(|(least, _)| cost < least) {
            best = Some((cost, place));
        }
    }
    best.map_or(Rect::sized(0.0, 0.0, width, height), |(_, place)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_one_box_stand_apart_and_inside() {
        let bounds = Rect::new(0.0, 0.0, 400.0, 300.0);
        let anchor = Rect::new(350.0, 5.0, 390.0, 120.0);
        let mut taken: Vec<Rect> = Vec::new();
        for _ in 0..6 {
            let place = place(&anchor, (80.0, 20.0), &bounds, &taken);
            assert_eq!(place.intersection(&bounds), place);
            assert!(taken.iter().all(|other| other.intersection(&place).area() == 0.0), "{place:?} {taken:?}");
            taken.push(place);
        }
    }

    #[test]
    fn the_usual_place_is_above_the_corner() {
        let bounds = Rect::new(0.0, 0.0, 400.0, 300.0);
        let place = place(&Rect::new(50.0, 60.0, 150.0, 160.0), (80.0, 20.0), &bounds, &[]);
        assert_eq!(place, Rect::sized(50.0, 40.0, 80.0, 20.0));
    }
}
