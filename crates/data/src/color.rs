//! Brightness, contrast, saturation, hue, gray, and other maps of values: on bytes and on floats in 0..1.
//!
//! The formulas and roundings are those of `torchvision.transforms.v2.functional`, so bytes come out the same.

use super::image::{Image, Pixels};

/// Multiplies all values by `factor`.
pub fn adjust_brightness(image: &mut Image, factor: f64) {
    match &mut image.pixels {
        Pixels::U8(bytes) => {
            let table: [u8; 256] = std::array::from_fn(|v| clip(v as f32 * factor as f32));
            bytes.iter_mut().for_each(|v| *v = table[usize::from(*v)]);
        }
        Pixels::F32(values) => values.iter_mut().for_each(|v| *v = (*v * factor as f32).clamp(0.0, 1.0)),
    }
}

/// Moves all values away from the image's mean gray (`factor` over 1) or towards it.
pub fn adjust_contrast(image: &mut Image, factor: f64) {
    let gray = gray_plane(image);
    let mean = (gray.iter().map(|&v| f64::from(v)).sum::<f64>() / gray.len().max(1) as f64) as f32;
    match &mut image.pixels {
        Pixels::U8(bytes) => {
            let table: [u8; 256] = std::array::from_fn(|v| clip(blend(v as f32, mean, factor)));
            bytes.iter_mut().for_each(|v| *v = table[usize::from(*v)]);
        }
        Pixels::F32(values) => {
            values.iter_mut().for_each(|v| *v = blend(*v, mean, factor).clamp(0.0, 1.0));
        }
    }
}

/// Moves colors away from gray (`factor` over 1) or towards it (0: gray).
pub fn adjust_saturation(image: &mut Image, factor: f64) {
    if image.channels != 3 {
        return;
    }
    let gray = gray_plane(image);
    match &mut image.pixels {
        Pixels::U8(bytes) => {
            for (pixel, gray) in bytes.as_chunks_mut::<3>().0.iter_mut().zip(gray) {
                *pixel = pixel.map(|v| clip(blend(f32::from(v), gray, factor)));
            }
        }
        Pixels::F32(values) => {
            for (pixel, gray) in values.as_chunks_mut::<3>().0.iter_mut().zip(gray) {
                *pixel = pixel.map(|v| blend(v, gray, factor).clamp(0.0, 1.0));
            }
        }
    }
}

/// Shifts hues by `turn` of the full circle (-0.5..0.5).
pub fn adjust_hue(image: &mut Image, turn: f64) {
    if image.channels != 3 {
        return;
    }
    let turn = turn as f32;
    match &mut image.pixels {
        Pixels::U8(bytes) => {
            for pixel in bytes.as_chunks_mut::<3>().0 {
                let turned = turn_hue(pixel.map(|v| f32::from(v) / 255.0), turn);
                // torchvision's conversion of floats to bytes: 256 equal steps.
                *pixel = turned.map(|v| (v * (256.0 - 1e-3)) as u8);
            }
        }
        Pixels::F32(values) => {
            values.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| *pixel = turn_hue(*pixel, turn));
        }
    }
}

/// Converts the image to grayscale with 1 or 3 channels.
pub fn grayscale(image: &mut Image, channels: usize) {
    let gray = gray_plane(image);
    let repeated = gray.iter().flat_map(|&v| std::iter::repeat_n(v, channels));
    image.pixels = match &image.pixels {
        Pixels::U8(_) => Pixels::U8(repeated.map(|v| v as u8).collect()),
        Pixels::F32(_) => Pixels::F32(repeated.collect()),
    };
    image.channels = channels;
}

/// Keeps the highest `bits` of each value (0 to 8).
pub fn posterize(image: &mut Image, bits: u32) {
    let levels = 1u32 << bits.min(8);
    match &mut image.pixels {
        Pixels::U8(bytes) => {
            let mask = ((levels - 1) << 8u32.saturating_sub(bits)) as u8;
            bytes.iter_mut().for_each(|v| *v &= mask);
        }
        Pixels::F32(values) => {
            let levels = levels as f32;
            values.iter_mut().for_each(|v| *v = (*v * levels).floor().clamp(0.0, levels - 1.0) * (1.0 / levels));
        }
    }
}

/// Inverts all values from a threshold on, a fraction of the largest value.
pub fn solarize(image: &mut Image, threshold: f64) {
    match &mut image.pixels {
        Pixels::U8(bytes) => {
            // In single precision, as torch compares.
            let threshold = (255.0 * threshold) as f32;
            bytes.iter_mut().filter(|v| f32::from(**v) >= threshold).for_each(|v| *v = 255 - *v);
        }
        Pixels::F32(values) => {
            values.iter_mut().filter(|v| **v >= threshold as f32).for_each(|v| *v = 1.0 - *v);
        }
    }
}

/// Stretches the values of each channel over the whole range.
pub fn autocontrast(image: &mut Image) {
    let channels = image.channels;
    for c in 0..channels {
        match &mut image.pixels {
            Pixels::U8(bytes) => {
                let channel = || bytes.iter().skip(c).step_by(channels);
                let (min, max) = channel().fold((255u8, 0u8), |(min, max), v| (min.min(*v), max.max(*v)));
                if min < max {
                    let scale = f32::from(max - min) * (1.0 / 255.0);
                    let channel = bytes.iter_mut().skip(c).step_by(channels);
                    channel.for_each(|v| *v = clip(f32::from(*v - min) / scale));
                }
            }
            Pixels::F32(values) => {
                let channel = || values.iter().skip(c).step_by(channels);
                let (min, max) =
                    channel().fold((f32::INFINITY, f32::NEG_INFINITY), |(min, max), v| (min.min(*v), max.max(*v)));
                let (min, scale) = if min < max { (min, max - min) } else { (0.0, 1.0) };
                let channel = values.iter_mut().skip(c).step_by(channels);
                channel.for_each(|v| *v = ((*v - min) / scale).clamp(0.0, 1.0));
            }
        }
    }
}

/// Maps the values of each channel so that all are about equally frequent, by PIL's rule; floats are rounded to bytes for it.
pub fn equalize(image: &mut Image) {
    let channels = image.channels;
    let mut bytes = match &image.pixels {
        Pixels::U8(bytes) => bytes.clone(),
        Pixels::F32(values) => values.iter().map(|v| (v * (256.0 - 1e-3)) as u8).collect(),
    };
    for c in 0..channels {
        let mut histogram = [0usize; 256];
        bytes.iter().skip(c).step_by(channels).for_each(|v| histogram[usize::from(*v)] += 1);
        let pixels: usize = histogram.iter().sum();
        let Some(last) = histogram.iter().rposition(|count| *count > 0) else { continue };
        let step = (pixels - histogram[last]) / 255;
        if step == 0 {
            continue;
        }
        let mut below = 0;
        let table = histogram.map(|count| {
            let to = ((below + step / 2) / step).min(255) as u8;
            below += count;
            to
        });
        bytes.iter_mut().skip(c).step_by(channels).for_each(|v| *v = table[usize::from(*v)]);
    }
    match &mut image.pixels {
        Pixels::U8(old) => *old = bytes,
        Pixels::F32(values) => values.iter_mut().zip(bytes).for_each(|(to, v)| *to = f32::from(v) / 255.0),
    }
}

/// Puts the channels in another order: channel `i` becomes what `order[i]` was.
pub fn permute_channels(image: &mut Image, order: [usize; 3]) {
    if image.channels != 3 {
        return;
    }
    match &mut image.pixels {
        Pixels::U8(bytes) => bytes.as_chunks_mut::<3>().0.iter_mut().for_each(|p| *p = order.map(|i| p[i])),
        Pixels::F32(values) => values.as_chunks_mut::<3>().0.iter_mut().for_each(|p| *p = order.map(|i| p[i])),
    }
}

/// Weighted gray of each pixel (ITU-R 601-2), rounded down for bytes.
fn gray_plane(image: &Image) -> Vec<f32> {
    let weigh = |r: f32, g: f32, b: f32| 0.2989 * r + 0.587 * g + 0.114 * b;
    match (&image.pixels, image.channels) {
        (Pixels::U8(bytes), 3) => {
            let gray = |&[r, g, b]: &[u8; 3]| weigh(f32::from(r), f32::from(g), f32::from(b)).floor();
            bytes.as_chunks::<3>().0.iter().map(gray).collect()
        }
        (Pixels::F32(values), 3) => values.as_chunks::<3>().0.iter().map(|&[r, g, b]| weigh(r, g, b)).collect(),
        (Pixels::U8(bytes), _) => bytes.iter().map(|&v| f32::from(v)).collect(),
        (Pixels::F32(values), _) => values.clone(),
    }
}

/// `factor` of `value` and the rest of `other`, which a factor over 1 goes away from.
fn blend(value: f32, other: f32, factor: f64) -> f32 {
    value * factor as f32 + (1.0 - factor) as f32 * other
}

/// To a byte, rounded towards zero.
fn clip(value: f32) -> u8 {
    value.clamp(0.0, 255.0) as u8
}

/// Through hue, saturation and value, as in torchvision's `_rgb_to_hsv` and `_hsv_to_rgb`.
fn turn_hue([r, g, b]: [f32; 3], turn: f32) -> [f32; 3] {
    let (max, min) = (r.max(g).max(b), r.min(g).min(b));
    if max == min {
        return [r, g, b];
    }
    let range = max - min;
    let saturation = range / max;
    let [rc, gc, bc] = [r, g, b].map(|v| (max - v) / range);
    let sector = if max == r {
        bc - gc
    } else if max == g {
        2.0 + rc - bc
    } else {
        4.0 + gc - rc
    };
    let hue = ((sector / 6.0 + 1.0).fract() + turn).rem_euclid(1.0);
    let scaled = hue * 6.0;
    let fraction = scaled - scaled.floor();
    let p = (max * (1.0 - saturation)).clamp(0.0, 1.0);
    let q = (max * (1.0 - saturation * fraction)).clamp(0.0, 1.0);
    let t = (max * (1.0 - saturation * (1.0 - fraction))).clamp(0.0, 1.0);
    match scaled.floor() as i32 % 6 {
        0 => [max, t, p],
        1 => [q, max, p],
        2 => [p, max, t],
        3 => [p, q, max],
        4 => [t, p, max],
        _ => [max, p, q],
    }
}
