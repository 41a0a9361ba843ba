//! One image: what is in it, what can be seen of that, and how COCO would annotate it.

use anyhow::Result;
use serde_json::{Value, json};

use super::outline::{KINDS, Kind, Point, clip, outline};
use super::paint::{Canvas, Fill, color};
use super::trace::trace;
use crate::dice::Dice;
use crate::mask::Rle;

/// The least visible share of an object; one more hidden would be annotated by nobody.
const LEAST_VISIBLE: f64 = 0.4;
/// The least visible pixels of an object.
const LEAST_PIXELS: u64 = 40;

/// An object, or a crowd of them.
struct Thing {
    kind: usize,
    outlines: Vec<Vec<Point>>,
    fills: Vec<Fill>,
    crowd: bool,
    /// Pixels before others came in front.
    whole: u64,
    visible: Rle,
}

/// An image and its annotations.
pub(super) struct Scene {
    /// `[H, W, 3]`.
    pub rgb: Vec<u8>,
    /// COCO annotations without `id` and `image_id`.
    pub annotations: Vec<Value>,
    /// Of each annotation x, y and visibility of [`KEYPOINTS`], as COCO writes them.
    pub keypoints: Vec<Vec<f64>>,
    /// `[H, W]`: the place in [`KINDS`] of what is seen at each pixel, from 1 on; 0 is the background.
    pub classes: Vec<u8>,
}

/// What objects look like.
pub(super) struct Look {
    /// The least radius and what may be added to it, as shares of the shorter side.
    pub radius: [f64; 2],
    /// Whether there are crowds.
    pub crowds: bool,
}

/// Draws a scene of at most `most` objects, and now and then a crowd or nothing at all.
pub(super) fn scene(width: u32, height: u32, most: usize, look: &Look, dice: &mut Dice) -> Result<Scene> {
    let mut canvas = Canvas::background(width as usize, height as usize, dice);
    let mut things: Vec<Thing> = Vec::new();
    let empty = dice.chance(0.02);
    if !empty && look.crowds && dice.chance(0.08) {
        things.push(crowd(&canvas, dice)?);
    }
    let wanted = if empty { 0 } else { 1 + dice.below(most) };
    for _ in 0..wanted {
        // A place that hides too much of what is there is given up after a few tries.
        for _ in 0..8 {
            let thing = single(&canvas, look.radius, dice)?;
            if thing.whole < LEAST_PIXELS {
                continue;
            }
            let left = things.iter().map(|other| other.visible.minus(&thing.visible)).collect::<Result<Vec<_>, _>>()?;
            let enough = |(other, left): (&Thing, &Rle)| {
                left.area() >= LEAST_PIXELS && left.area() as f64 >= LEAST_VISIBLE * other.whole as f64
            };
            if things.iter().zip(&left).all(enough) {
                things.iter_mut().zip(left).for_each(|(other, left)| other.visible = left);
                things.push(thing);
                break;
            }
        }
    }
    for thing in &things {
        for (outline, fill) in thing.outlines.iter().zip(&thing.fills) {
            canvas.fill(outline, fill, dice);
        }
    }
    let frame = [f64::from(width), f64::from(height)];
    let mut classes = vec![0; (width * height) as usize];
    for thing in &things {
        let seen = thing.visible.decode();
        let seen = classes.iter_mut().zip(seen).filter(|(_, seen)| *seen > 0);
        seen.for_each(|(class, _)| *class = thing.kind as u8 + 1);
    }
    Ok(Scene {
        rgb: canvas.to_rgb(),
        annotations: things.iter().map(|thing| annotate(thing, frame)).collect(),
        keypoints: things.iter().map(|thing| keypoints(thing, frame)).collect(),
        classes,
    })
}

fn single(canvas: &Canvas, [least, more]: [f64; 2], dice: &mut Dice) -> Result<Thing> {
    let short = canvas.width.min(canvas.height) as f64;
    // Squared, so that small ones are more frequent.
    let radius = short * (least + more * dice.unit().powi(2));
    let within = |end: usize, dice: &mut Dice| dice.between(0.5 * radius, end as f64 - 0.5 * radius);
    let center = [within(canvas.width, dice), within(canvas.height, dice)];
    let kind = dice.below(KINDS.len());
    let outlines = vec![outline(KINDS[kind].0, center, radius, dice.unit())];
    let fills = vec![fill(canvas, center, dice)];
    thing(canvas, kind, outlines, fills, false)
}

/// A heap of small shapes of one kind.
fn crowd(canvas: &Canvas, dice: &mut Dice) -> Result<Thing> {
    let short = canvas.width.min(canvas.height) as f64;
    let kind = dice.below(KINDS.len());
    let middle = [canvas.width, canvas.height].map(|end| dice.between(0.3, 0.7) * end as f64);
    let count = 7 + dice.below(6);
    let (mut outlines, mut fills) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let center = middle.map(|v| v + short * 0.09 * dice.normal());
        outlines.push(outline(KINDS[kind].0, center, short * dice.between(0.04, 0.07), dice.unit()));
        fills.push(fill(canvas, center, dice));
    }
    thing(canvas, kind, outlines, fills, true)
}

fn thing(canvas: &Canvas, kind: usize, outlines: Vec<Vec<Point>>, fills: Vec<Fill>, crowd: bool) -> Result<Thing> {
    let (width, height) = (canvas.width as u32, canvas.height as u32);
    let mut parts = vec![Rle::empty(height, width)?];
    for outline in &outlines {
        let polygon = clip(outline, f64::from(width), f64::from(height));
        if polygon.len() >= 3 {
            parts.push(Rle::from_polygon(polygon.as_flattened(), height, width)?);
        }
    }
    let visible = Rle::union(&parts)?;
    Ok(Thing { kind, outlines, fills, crowd, whole: visible.area(), visible })
}

/// A fill that stands out from what is behind it.
fn fill(canvas: &Canvas, center: Point, dice: &mut Dice) -> Fill {
    let behind = canvas.around(center);
    let distance = |a: &[f64; 3]| a.iter().zip(behind).map(|(a, b)| (a - b).abs()).sum::<f64>();
    let mut best = color(dice);
    for _ in 0..10 {
        if distance(&best) > 160.0 {
            break;
        }
        let other = color(dice);
        if distance(&other) > distance(&best) {
            best = other;
        }
    }
    let slope = [dice.between(-0.5, 0.5), dice.between(-0.5, 0.5)];
    Fill { color: best, slope, grain: dice.between(0.0, 8.0) }
}

/// Polygons where polygons can say it, run lengths for crowds and for what has a hole.
fn annotate(thing: &Thing, [width, height]: [f64; 2]) -> Value {
    let (_, category, _) = KINDS[thing.kind];
    let visible = &thing.visible;
    let outline = clip(&thing.outlines[0], width, height);
    let hidden = visible.area() < thing.whole;
    let polygons = match (thing.crowd, hidden) {
        (true, _) => None,
        (false, false) => Some(vec![outline.as_flattened().to_vec()]),
        (false, true) => trace(visible),
    };
    let bbox = polygons.as_ref().map_or_else(|| visible.bbox(), |polygons| extent(polygons));
    let segmentation = match polygons {
        Some(polygons) => json!(polygons),
        None => json!({"size": [visible.height(), visible.width()], "counts": visible.counts()}),
    };
    json!({
        "category_id": category, "bbox": bbox, "area": visible.area() as f64,
        "iscrowd": u8::from(thing.crowd), "segmentation": segmentation,
    })
}

/// The keypoints of a shape, whatever its kind and turn.
pub(super) const KEYPOINTS: [&str; 5] = ["center", "top", "right", "bottom", "left"];

/// The middle of a whole shape and its extremes, to hundredths; a crowd has none. One outside the image is not labelled, and one behind
/// another shape is hidden.
fn keypoints(thing: &Thing, frame: [f64; 2]) -> Vec<f64> {
    if thing.crowd {
        return vec![0.0; 3 * KEYPOINTS.len()];
    }
    let outline = &thing.outlines[0];
    let middle = [0, 1].map(|axis| outline.iter().map(|point| point[axis]).sum::<f64>() / outline.len() as f64);
    let furthest = |axis: usize, sign: f64| {
        outline.iter().copied().fold(middle, |a, b| if sign * b[axis] > sign * a[axis] { b } else { a })
    };
    let all = [middle, furthest(1, -1.0), furthest(0, 1.0), furthest(1, 1.0), furthest(0, -1.0)];
    let seen = thing.visible.decode();
    let one = |point: Point| {
        if [0, 1].iter().any(|&axis| !(0.0..=frame[axis]).contains(&point[axis])) {
            return [0.0; 3];
        }
        // A little inside: the pixel of a tip is hardly covered.
        let [x, y] =
            [0, 1].map(|axis| (point[axis] + 0.2 * (middle[axis] - point[axis])).clamp(0.0, frame[axis] - 1.0));
        let visible = seen.get(y as usize * frame[0] as usize + x as usize).is_some_and(|seen| *seen > 0);
        let [x, y] = point.map(|v| (v * 100.0).round() / 100.0);
        [x, y, if visible { 2.0 } else { 1.0 }]
    };
    all.into_iter().flat_map(one).collect()
}

/// The box `[x, y, width, height]` around polygons, in hundredths.
fn extent(polygons: &[Vec<f64>]) -> [f64; 4] {
    let of = |axis: usize| polygons.iter().flat_map(move |polygon| polygon.iter().skip(axis).step_by(2)).copied();
    let round = |v: f64| (v * 100.0).round() / 100.0;
    let (left, top) = (of(0).fold(f64::MAX, f64::min), of(1).fold(f64::MAX, f64::min));
    let (right, bottom) = (of(0).fold(f64::MIN, f64::max), of(1).fold(f64::MIN, f64::max));
    [left, top, round(right - left), round(bottom - top)]
}

impl Kind {
    /// Names and ids as COCO's `categories`.
    pub fn categories() -> Value {
        let entry = |(_, id, name): &(Self, u32, &str)| json!({"id": id, "name": name, "supercategory": "shape"});
        KINDS.iter().map(entry).collect()
    }
}
