//! Detections, or ground truth, over their image.

use super::canvas::{Canvas, Rect};
use super::image::RgbImage;
use super::labels::{self, Label};
use super::mask::{self, MaskRef, MaskStyle};
use super::palette::class_color;

/// One object to show. What it lacks is skipped.
#[derive(Clone, Copy, Debug)]
pub struct Instance<'a> {
    /// `x1, y1, x2, y2` in pixels of the image.
    pub bbox: Option<[f32; 4]>,
    /// Its mask, of the size of the image.
    pub mask: Option<MaskRef<'a>>,
    /// Its keypoints: x and y in pixels of the image, and above 0 where it is to be seen.
    pub keypoints: &'a [[f32; 3]],
    /// The name of its class; empty for no label.
    pub label: &'a str,
    /// Decides the color.
    pub class_id: i64,
    /// Shown behind the name with two digits.
    pub score: Option<f32>,
    /// A crowd region of COCO: its box is dashed and its label says so.
    pub crowd: bool,
}

/// How [`draw_instances`] draws.
#[derive(Clone, Debug, PartialEq)]
pub struct DrawOptions {
    /// Whether boxes and keypoints are drawn.
    pub boxes: bool,
    /// Whether masks are drawn.
    pub masks: bool,
    /// Whether labels are drawn.
    pub labels: bool,
    /// Opacity of masks, 0 to 1.
    pub mask_alpha: f32,
    /// Small images are enlarged by a whole factor until their longer side has this many pixels, so that labels are legible;
    /// 0 never enlarges.
    pub min_side: usize,
}

impl Default for DrawOptions {
    fn default() -> Self {
        Self { boxes: true, masks: true, labels: true, mask_alpha: 0.45, min_side: 448 }
    }
}

impl DrawOptions {
    /// The factor by which an image of `height` × `width` pixels is enlarged.
    pub fn enlargement(&self, height: usize, width: usize) -> usize {
        self.min_side.div_ceil(height.max(width).max(1)).max(1)
    }
}

/// `image` with `instances` over it, enlarged where it is small (see [`DrawOptions::min_side`]).
///
/// Masks lie below boxes, boxes below keypoints and those below labels; among each, large objects lie below small ones. Boxes that are not finite
/// and empty masks are skipped.
pub fn draw_instances(image: &RgbImage, instances: &[Instance], options: &DrawOptions) -> RgbImage {
    let factor = options.enlargement(image.height(), image.width());
    let mut canvas = Canvas::new(image.enlarged(factor));
    let style = Style::for_image(canvas.image(), instances.len());
    let mut shown: Vec<Shown> = instances.iter().map(|instance| Shown::new(instance, factor)).collect();
    shown.sort_by(|a, b| b.area().total_cmp(&a.area()));
    if options.masks {
        for Shown { instance, .. } in &shown {
            if let Some(mask) = &instance.mask {
                let color = class_color(instance.class_id);
                let alpha = options.mask_alpha.clamp(0.0, 1.0);
                mask::paint(&mut canvas, mask, &MaskStyle { color, alpha, contour: style.contour, enlarged: factor });
            }
        }
    }
    if options.boxes {
        for Shown { instance, bbox, .. } in &shown {
            let Some(bbox) = *bbox else { continue };
            let dash = instance.crowd.then_some(style.line * 5.0);
            // A dark rim keeps the line visible on a background of its own color.
            canvas.outline(bbox, style.line + 2.0, dash, [0, 0, 0], 0.3);
            canvas.outline(bbox, style.line, dash, class_color(instance.class_id), 1.0);
        }
    }
    if options.boxes {
        let radius = style.line + 1.0;
        for Shown { instance, .. } in &shown {
            for [x, y, _] in instance.keypoints.iter().filter(|[_, _, v]| *v > 0.0) {
                let (x, y) = (x * factor as f32, y * factor as f32);
                canvas.disc(x, y, radius + 1.5, [0, 0, 0]);
                canvas.disc(x, y, radius + 0.5, [255, 255, 255]);
                canvas.disc(x, y, radius - 0.5, class_color(instance.class_id));
            }
        }
    }
    if options.labels {
        let labels: Vec<Label> = shown.iter().filter_map(|shown| shown.label(&style)).collect();
        labels::draw(&mut canvas, &labels, style.text);
    }
    canvas.into_image()
}

/// Sizes in pixels that suit an image.
struct Style {
    line: f32,
    contour: usize,
    text: f32,
}

impl Style {
    fn for_image(image: &RgbImage, instances: usize) -> Self {
        let side = image.height().max(image.width()) as f32;
        // A crowded image gets smaller labels: three quarters from 30 instances on.
        let crowded = ((instances as f32 - 10.0) / 20.0).clamp(0.0, 1.0);
        Self {
            line: (side / 280.0).round().max(1.0),
            contour: (side / 340.0).round().max(1.0) as usize,
            text: (8.0 + side / 75.0) * (1.0 - 0.25 * crowded),
        }
    }
}

/// An instance with its geometry in pixels of the canvas.
struct Shown<'a> {
    instance: &'a Instance<'a>,
    bbox: Option<Rect>,
    /// The box or, without one, the bounds of the mask.
    extent: Option<Rect>,
}

impl<'a> Shown<'a> {
    fn new(instance: &'a Instance<'a>, factor: usize) -> Self {
        let scaled = |[x1, y1, x2, y2]: [f32; 4]| {
            // Whole pixels keep the lines crisp.
            let at = |edge: f32| (edge * factor as f32).round();
            Rect::new(at(x1), at(y1), at(x2), at(y2))
        };
        let bbox = instance.bbox.filter(|edges| edges.iter().all(|edge| edge.is_finite())).map(scaled);
        let extent = bbox.or_else(|| {
            let Rect { x1, y1, x2, y2 } = instance.mask.as_ref()?.bounds()?;
            Some(scaled([x1, y1, x2, y2]))
        });
        Self { instance, bbox, extent }
    }

    fn area(&self) -> f32 {
        self.extent.map_or(0.0, |extent| extent.area())
    }

    fn label(&self, style: &Style) -> Option<Label> {
        let instance = self.instance;
        let score = instance.score.map(|score| format!("{score:.2}"));
        let crowd = instance.crowd.then(|| "(crowd)".to_owned());
        let name = Some(instance.label.trim().to_owned()).filter(|name| !name.is_empty());
        let text = [name, crowd, score].into_iter().flatten().collect::<Vec<_>>().join(" ");
        let anchor = self.extent?.grown(style.line / 2.0);
        (!text.is_empty()).then(|| Label { text, color: class_color(instance.class_id), anchor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gray() -> RgbImage {
        RgbImage::filled(60, 80, [90; 3])
    }

    fn plain() -> DrawOptions {
        DrawOptions { min_side: 0, ..DrawOptions::default() }
    }

    fn instance<'a>(bbox: [f32; 4]) -> Instance<'a> {
        Instance { bbox: Some(bbox), mask: None, keypoints: &[], label: "", class_id: 0, score: None, crowd: false }
    }

    fn changed(image: &RgbImage) -> Vec<(usize, usize)> {
        let all = (0..image.height()).flat_map(|y| (0..image.width()).map(move |x| (y, x)));
        all.filter(|&(y, x)| image.pixel(y, x) != Some([90; 3])).collect()
    }

    #[test]
    fn a_box_marks_its_edges_and_spares_its_inside_and_outside() {
        let image = draw_instances(&gray(), &[instance([20.0, 15.0, 60.0, 45.0])], &plain());
        let near = |value: usize, edge: usize| value.abs_diff(edge) <= 2;
        for (y, x) in changed(&image) {
            assert!(near(y, 15) || near(y, 45) || near(x, 20) || near(x, 60), "{y} {x}");
            assert!((12..48).contains(&y) && (17..63).contains(&x), "{y} {x}");
        }
        assert_ne!(image.pixel(15, 40), Some([90; 3]));
    }

    #[test]
    fn a_crowd_is_dashed() {
        let bbox = [10.0, 10.0, 70.0, 50.0];
        let solid = changed(&draw_instances(&gray(), &[instance(bbox)], &plain())).len();
        let crowd = Instance { crowd: true, ..instance(bbox) };
        let dashed = changed(&draw_instances(&gray(), &[crowd], &DrawOptions { labels: false, ..plain() })).len();
        assert!(dashed > solid / 3 && dashed < solid * 5 / 6, "{dashed} of {solid}");
    }

    #[test]
    fn labels_name_the_class_and_stay_inside() {
        let long = "an exceedingly long label that no image has room for ".repeat(4);
        let image = draw_instances(
            &gray(),
            &[Instance { label: &long, score: Some(0.93), ..instance([70.0, 50.0, 79.0, 59.0]) }],
            &plain(),
        );
        assert_eq!((image.height(), image.width()), (60, 80));
        let with = Instance { label: "dog", ..instance([20.0, 30.0, 60.0, 45.0]) };
        let label = draw_instances(&gray(), &[with], &DrawOptions { boxes: false, ..plain() });
        assert!(changed(&label).iter().all(|&(y, _)| y < 30), "above the box");
        assert!(changed(&label).len() > 100);
        let none = DrawOptions { boxes: false, labels: false, ..plain() };
        assert_eq!(draw_instances(&gray(), &[with], &none), gray());
    }

    #[test]
    fn keypoints_are_dots_where_they_are_labelled() {
        let keypoints = [[30.0, 20.0, 2.0], [50.0, 40.0, 0.0], [f32::NAN, 1.0, 2.0], [900.0, -5.0, 1.0]];
        let none = Instance { bbox: None, ..instance([0.0; 4]) };
        let image = draw_instances(&gray(), &[Instance { keypoints: &keypoints, ..none }], &plain());
        let changed = changed(&image);
        assert!((20..60).contains(&changed.len()), "{}", changed.len());
        assert!(changed.iter().all(|&(y, x)| (14..26).contains(&y) && (24..36).contains(&x)), "{changed:?}");
        assert_eq!(image.pixel(20, 30), Some(class_color(0)));
    }

    #[test]
    fn small_images_are_enlarged() {
        for (side, expected) in [(28, 448), (128, 512), (448, 448), (500, 500)] {
            let image = draw_instances(&RgbImage::filled(side, side / 2, [9; 3]), &[], &DrawOptions::default());
            assert_eq!((image.height(), image.width()), (expected, expected / side * (side / 2)));
        }
    }

    #[test]
    fn odd_instances_break_nothing() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        let boxes = [
            [nan, 0.0, 5.0, 5.0],
            [-inf, 0.0, inf, 5.0],
            [500.0, 500.0, 600.0, 600.0],
            [-1e30, -1e30, 1e30, 1e30],
            [5.0, 5.0, 5.0, 5.0],
            [40.0, 40.0, 10.0, 10.0],
            [-20.0, -20.0, 10.0, 10.0],
        ];
        let small = [1u8; 12];
        let mask = MaskRef::new(&small, 3, 4).unwrap();
        let large = vec![1u8; 200 * 200];
        let large = MaskRef::new(&large, 200, 200).unwrap();
        for bbox in boxes {
            for (mask, crowd) in [(None, true), (Some(mask), false), (Some(large), true)] {
                let odd = Instance {
                    mask,
                    crowd,
                    label: "日本\u{0}語 x",
                    score: Some(nan),
                    class_id: i64::MIN,
                    ..instance(bbox)
                };
                for image in [
                    gray(),
                    RgbImage::filled(1, 1, [0; 3]),
                    RgbImage::filled(0, 0, [0; 3]),
                    RgbImage::filled(0, 9, [0; 3]),
                ] {
                    let _ = draw_instances(&image, &[odd, odd], &plain());
                }
            }
        }
        let empty = draw_instances(&RgbImage::filled(0, 0, [0; 3]), &[], &DrawOptions::default());
        assert!(empty.encode_png().is_err());
    }
}
