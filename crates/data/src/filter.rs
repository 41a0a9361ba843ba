//! Blurring and sharpening, as `torchvision.transforms.v2.functional` does them.

use anyhow::{Result, ensure};

use super::image::{Image, Pixels};

/// Blurs with a Gaussian of `sigma` pixels, cut off at `kernel` (width and height in pixels, odd); the image is mirrored at its
/// borders.
///
/// # Errors
/// When the kernel reaches beyond the mirrored image.
pub fn gaussian_blur(image: &mut Image, kernel: [usize; 2], sigma: f64) -> Result<()> {
    let (height, width, channels) = (image.height, image.width, image.channels);
    ensure!(
        kernel[0] / 2 < width && kernel[1] / 2 < height,
        "a kernel of {} × {} pixels is too large for an image of {width} × {height}; lower `kernel_size`",
        kernel[0],
        kernel[1]
    );
    let values = floats(image);
    let row = width * channels;
    // Along rows, then along columns: a Gaussian is the product of both.
    let mut across = vec![0.0; values.len()];
    let taps = taps(&gaussian(kernel[0], sigma), width);
    for (from, to) in values.chunks_exact(row.max(1)).zip(across.chunks_exact_mut(row.max(1))) {
        for (pixel, taps) in to.chunks_exact_mut(channels).zip(&taps) {
            for (c, value) in pixel.iter_mut().enumerate() {
                *value = taps.iter().map(|(x, weight)| from[x * channels + c] * weight).sum();
            }
        }
    }
    let mut blurred = vec![0.0; values.len()];
    let taps = self::taps(&gaussian(kernel[1], sigma), height);
    for (to, taps) in blurred.chunks_exact_mut(row.max(1)).zip(&taps) {
        for (y, weight) in taps {
            let from = &across[y * row..][..row];
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from * weight);
        }
    }
    match &mut image.pixels {
        Pixels::U8(bytes) => {
            bytes.iter_mut().zip(blurred).for_each(|(to, v)| *to = v.round_ties_even().clamp(0.0, 255.0) as u8);
        }
        Pixels::F32(values) => *values = blurred,
    }
    Ok(())
}

/// Moves the image away from its blurred self (`factor` over 1) or towards it; the border of one pixel stays.
pub fn adjust_sharpness(image: &mut Image, factor: f64) {
    let (height, width, channels) = (image.height, image.width, image.channels);
    if height <= 2 || width <= 2 {
        return;
    }
    let values = floats(image);
    let at = |y: usize, x: usize, c: usize| values[(y * width + x) * channels + c];
    let bytes = matches!(image.pixels, Pixels::U8(_));
    let new = |y: usize, x: usize, c: usize| {
        let middle = at(y, x, c);
        let around = (y - 1..=y + 1).flat_map(|y| (x - 1..=x + 1).map(move |x| (y, x)));
        let blurred: f32 =
            around.map(|(ny, nx)| at(ny, nx, c) * if (ny, nx) == (y, x) { 5.0 / 13.0 } else { 1.0 / 13.0 }).sum();
        let blurred = if bytes { blurred.round_ties_even() } else { blurred };
        middle + (1.0 - factor) as f32 * (blurred - middle)
    };
    for y in 1..height - 1 {
        for x in 1..width - 1 {
            for c in 0..channels {
                let (place, value) = ((y * width + x) * channels + c, new(y, x, c));
                match &mut image.pixels {
                    Pixels::U8(bytes) => bytes[place] = value.clamp(0.0, 255.0) as u8,
                    Pixels::F32(values) => values[place] = value.clamp(0.0, 1.0),
                }
            }
        }
    }
}

/// Bytes as they are, 0..255; floats as they are.
fn floats(image: &Image) -> Vec<f32> {
    match &image.pixels {
        Pixels::U8(bytes) => bytes.iter().map(|&v| f32::from(v)).collect(),
        Pixels::F32(values) => values.clone(),
    }
}

/// torchvision's `_get_gaussian_kernel1d`: its weights lie at distances of less than a pixel from each other.
fn gaussian(size: usize, sigma: f64) -> Vec<f32> {
    let reach = (size as f64 - 1.0) / (2.0 * 2f64.sqrt());
    let place = |i: usize| if size < 2 { 0.0 } else { -reach + 2.0 * reach * i as f64 / (size as f64 - 1.0) };
    let weights: Vec<f64> = (0..size).map(|i| (-(place(i) / sigma).powi(2)).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| (weight / sum) as f32).collect()
}

/// For each of `side` pixels the pixels that it is made of, with their weights. Beyond a border the image is mirrored about its last
/// pixel.
fn taps(kernel: &[f32], side: usize) -> Vec<Vec<(usize, f32)>> {
    let (side, half) = (side as i64, kernel.len() as i64 / 2);
    let inside = |at: i64| {
        if at < 0 {
            -at
        } else if at >= side {
            2 * side - 2 - at
        } else {
            at
        }
    };
    let of = |at: i64| kernel.iter().zip(at - half..).map(|(weight, from)| (inside(from) as usize, *weight)).collect();
    (0..side).map(of).collect()
}
