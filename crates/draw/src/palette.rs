//! Colors: one per class, and what is readable on them.

/// Red, green and blue, 0 to 255.
pub type Color = [u8; 3];

/// Told apart at a glance next to each other, and bright enough to stand out from a photograph.
const BASE: [Color; 20] = [
    [255, 82, 82],
    [64, 156, 255],
    [76, 207, 96],
    [255, 193, 40],
    [190, 110, 255],
    [32, 205, 205],
    [255, 135, 45],
    [255, 110, 190],
    [165, 220, 50],
    [120, 130, 255],
    [0, 180, 130],
    [205, 85, 140],
    [200, 165, 60],
    [110, 215, 255],
    [225, 60, 230],
    [165, 195, 140],
    [230, 130, 110],
    [85, 140, 170],
    [200, 175, 255],
    [150, 120, 70],
];

/// The color of a class: the same in every run, different for neighboring ids; after 60 classes colors come again.
pub fn class_color(class_id: i64) -> Color {
    let count = BASE.len() as i64;
    let base = BASE[class_id.rem_euclid(count) as usize];
    match class_id.div_euclid(count).rem_euclid(3) {
        0 => base,
        1 => mix(base, [255, 255, 255], 0.5),
        _ => mix(base, [0, 0, 0], 0.4),
    }
}

/// Black or white, whichever has the greater contrast to `background` (WCAG 2.2, contrast ratio).
pub fn text_color_on(background: Color) -> Color {
    let light = luminance(background);
    let (on_black, on_white) = ((light + 0.05) / 0.05, 1.05 / (light + 0.05));
    if on_black >= on_white { [0, 0, 0] } else { [255, 255, 255] }
}

/// `share` of `b` in `a`, channel by channel.
pub(super) fn mix(a: Color, b: Color, share: f32) -> Color {
    std::array::from_fn(|i| (f32::from(a[i]) + (f32::from(b[i]) - f32::from(a[i])) * share).round() as u8)
}

/// Relative luminance of an sRGB color, 0 to 1 (WCAG 2.2).
fn luminance(color: Color) -> f32 {
    let [r, g, b] = color.map(|channel| {
        let value = f32::from(channel) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    });
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_have_colors_of_their_own() {
        let colors: Vec<Color> = (0..60).map(class_color).collect();
        for (i, a) in colors.iter().enumerate() {
            for b in &colors[..i] {
                let distance: i32 = a.iter().zip(b).map(|(&a, &b)| (i32::from(a) - i32::from(b)).abs()).sum();
                assert!(distance >= 20, "{a:?} and {b:?}");
            }
        }
        assert_eq!(class_color(-1), class_color(59));
        let _ = (class_color(i64::MIN), class_color(i64::MAX));
    }

    #[test]
    fn text_is_readable_on_every_class_color() {
        for color in (0..60).map(class_color) {
            let (a, b) = (luminance(color), luminance(text_color_on(color)));
            let contrast = (a.max(b) + 0.05) / (a.min(b) + 0.05);
            assert!(contrast >= 4.5, "{color:?} has {contrast}");
        }
    }
}
