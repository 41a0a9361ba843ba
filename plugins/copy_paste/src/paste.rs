//! Pasting chosen objects of one sample into another.

use pipe_plugin::prelude::*;

/// How far the pixels around an object are taken along with `blending`.
const MARGIN: usize = 2;

/// Pastes the objects `chosen` (indices, rising) of `source` into `sample`; see [`crate::CopyPaste`].
///
/// # Errors
/// When a sample has no image or no masks, the images are of differing types, or a field of objects is in one only.
pub fn paste(sample: &mut Sample, source: &Sample, chosen: &[usize], blending: bool) -> Result<()> {
    let (height, width) = (sample.image()?.height, sample.image()?.width);
    let mut pasted = source.clone();
    let keep: Vec<bool> = (0..source.instances().unwrap_or(0)).map(|i| chosen.contains(&i)).collect();
    pasted.keep_instances(&keep);
    resize(&mut pasted, height, width)?;

    let alpha = alpha(masks(&pasted)?, blending);
    copy_pixels(sample.image_mut()?, pasted.image()?, &alpha)?;
    uncover(sample, &alpha)?;
    append(sample, &pasted)?;
    if sample.get(fields::AREA).is_some() {
        let areas = masks(sample)?.instances.iter().map(|mask| mask.area() as f32).collect();
        sample.set(fields::AREA, Field::Numbers(areas));
    }
    drop_flat_boxes(sample);
    Ok(())
}

fn masks(sample: &Sample) -> Result<&Masks> {
    match sample.get(fields::MASKS) {
        Some(Field::Masks(masks)) => Ok(masks),
        _ => bail!("the sample {} has no masks", sample.source()),
    }
}

/// Resizes image (bilinearly, without smoothing before), masks and boxes.
fn resize(sample: &mut Sample, height: usize, width: usize) -> Result<()> {
    let image = sample.image()?;
    let (old_height, old_width) = (image.height, image.width);
    if (old_height, old_width) == (height, width) {
        return Ok(());
    }
    let resized = resize_image(image, height, width);
    *sample.image_mut()? = resized;
    let (x, y) = (width as f32 / old_width as f32, height as f32 / old_height as f32);
    for (_, field) in sample.iter_mut() {
        match field {
            Field::Masks(masks) => masks.resize(height, width),
            Field::Boxes(boxes) => boxes.iter_mut().for_each(|b| *b = [b[0] * x, b[1] * y, b[2] * x, b[3] * y]),
            Field::Keypoints(instances) => {
                instances.iter_mut().flatten().for_each(|k| (k[0], k[1]) = (k[0] * x, k[1] * y))
            }
            _ => {}
        }
    }
    Ok(())
}

fn resize_image(image: &Image, height: usize, width: usize) -> Image {
    let values = match &image.pixels {
        Pixels::U8(bytes) => bytes.iter().map(|&byte| f32::from(byte)).collect(),
        Pixels::F32(values) => values.clone(),
    };
    // For each new position the two old ones around it and the share of the second (`align_corners = False`).
    let taps = |from: usize, to: usize| -> Vec<(usize, usize, f32)> {
        let scale = from as f32 / to as f32;
        let tap = |i: usize| {
            let at = ((i as f32 + 0.5) * scale - 0.5).max(0.0);
            let first = (at as usize).min(from - 1);
            (first, (first + 1).min(from - 1), at - first as f32)
        };
        (0..to).map(tap).collect()
    };
    let (rows, columns, channels) = (taps(image.height, height), taps(image.width, width), image.channels);
    let at = |y: usize, x: usize, c: usize| values[(y * image.width + x) * channels + c];
    let mut resized = Vec::with_capacity(height * width * channels);
    for (top, bottom, down) in &rows {
        for (left, right, across) in &columns {
            for c in 0..channels {
                let between = |y: usize| at(y, *left, c) * (1.0 - across) + at(y, *right, c) * across;
                resized.push(between(*top) * (1.0 - down) + between(*bottom) * down);
            }
        }
    }
    let pixels = match &image.pixels {
        Pixels::U8(_) => Pixels::U8(resized.into_iter().map(|value| value.round_ties_even() as u8).collect()),
        Pixels::F32(_) => Pixels::F32(resized),
    };
    Image { height, width, channels, pixels }
}

/// 1 where the pasted objects cover the image, row by row.
///
/// torchvision blurs this mask and makes it a yes-or-no mask again, by which every pixel that a 5 by 5 kernel reaches
/// counts: the objects grow by two pixels on all sides.
fn alpha(masks: &Masks, blending: bool) -> Vec<u8> {
    let mut plane = vec![0; masks.height * masks.width];
    for mask in &masks.instances {
        or_into(&mut plane, masks.width, mask);
    }
    if blending { grown(&plane, masks.height, masks.width) } else { plane }
}

fn or_into(plane: &mut [u8], width: usize, mask: &Mask) {
    for (y, bits) in mask.bits.chunks_exact(mask.width.max(1)).enumerate() {
        let row = &mut plane[(mask.top + y) * width + mask.left..][..mask.width];
        row.iter_mut().zip(bits).for_each(|(to, bit)| *to |= bit);
    }
}

fn grown(plane: &[u8], height: usize, width: usize) -> Vec<u8> {
    let reach = |at: usize, end: usize| at.saturating_sub(MARGIN)..(at + MARGIN + 1).min(end);
    let mut wide = vec![0; plane.len()];
    for (y, row) in plane.chunks_exact(width.max(1)).enumerate() {
        for (x, _) in row.iter().enumerate().filter(|(_, bit)| **bit == 1) {
            wide[y * width..][reach(x, width)].fill(1);
        }
    }
    let mut grown = vec![0; plane.len()];
    for (y, row) in wide.chunks_exact(width.max(1)).enumerate() {
        for near in reach(y, height) {
            grown[near * width..][..width].iter_mut().zip(row).for_each(|(to, bit)| *to |= bit);
        }
    }
    grown
}

fn copy_pixels(image: &mut Image, from: &Image, alpha: &[u8]) -> Result<()> {
    ensure!(image.channels == from.channels, "pictures of {} and {} channels", image.channels, from.channels);
    let channels = image.channels;
    match (&mut image.pixels, &from.pixels) {
        (Pixels::U8(to), Pixels::U8(from)) => copy_where(to, from, alpha, channels),
        (Pixels::F32(to), Pixels::F32(from)) => copy_where(to, from, alpha, channels),
        _ => bail!("one picture of the batch has bytes, another numbers"),
    }
    Ok(())
}

fn copy_where<T: Copy>(to: &mut [T], from: &[T], alpha: &[u8], channels: usize) {
    let pixels = to.chunks_exact_mut(channels).zip(from.chunks_exact(channels)).zip(alpha);
    pixels.filter(|(_, bit)| **bit == 1).for_each(|((to, from), _)| to.copy_from_slice(from));
}

/// Takes what is covered out of the sample's own objects; drops those that are gone; boxes come from the masks.
fn uncover(sample: &mut Sample, alpha: &[u8]) -> Result<()> {
    let mut left = masks(sample)?.clone();
    for mask in &mut left.instances {
        for (y, bits) in mask.bits.chunks_exact_mut(mask.width.max(1)).enumerate() {
            let covered = &alpha[(mask.top + y) * left.width + mask.left..][..mask.width];
            bits.iter_mut().zip(covered).for_each(|(bit, covered)| *bit &= 1 - covered);
        }
        *mask = mask.trimmed();
    }
    let seen: Vec<bool> = left.instances.iter().map(|mask| mask.area() > 0).collect();
    let frames = |masks: &Masks| {
        let frame = |m: &Mask| [m.left, m.top, m.left + m.width, m.top + m.height].map(|v| v as f32);
        masks.instances.iter().map(frame).collect()
    };
    sample.set(fields::BOXES, Field::Boxes(frames(&left)));
    sample.set(fields::MASKS, Field::Masks(left));
    sample.keep_instances(&seen);
    Ok(())
}

/// The pasted objects behind the sample's own, in every field of objects.
fn append(sample: &mut Sample, pasted: &Sample) -> Result<()> {
    let source = sample.source().to_owned();
    for (name, field) in sample.iter_mut().filter(|(_, field)| field.instances().is_some()) {
        match (field, pasted.get(name)) {
            (Field::Boxes(to), Some(Field::Boxes(from))) => to.extend(from),
            (Field::Masks(to), Some(Field::Masks(from))) => to.instances.extend(from.instances.iter().cloned()),
            (Field::Keypoints(to), Some(Field::Keypoints(from))) => to.extend(from.iter().cloned()),
            (Field::Integers(to), Some(Field::Integers(from))) => to.extend(from),
            (Field::Numbers(to), Some(Field::Numbers(from))) => to.extend(from),
            _ => bail!("field `{name}` of {source} is not in {}, from which objects are pasted", pasted.source()),
        }
    }
    Ok(())
}

/// Drops objects whose box has no height or no width, as resizing may leave them.
fn drop_flat_boxes(sample: &mut Sample) {
    let Some(Field::Boxes(boxes)) = sample.get(fields::BOXES) else { return };
    let solid: Vec<bool> = boxes.iter().map(|b| b[0] < b[2] && b[1] < b[3]).collect();
    sample.keep_instances(&solid);
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipe_plugin::testing::sample;

    fn bytes(hex: &Value) -> Vec<u8> {
        let hex = hex.as_str().unwrap();
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn read(one: &Value, height: usize, width: usize) -> Sample {
        let list = |name: &str| one[name].as_array().unwrap().clone();
        let planes: Vec<Vec<u8>> = list("masks").iter().map(bytes).collect();
        let masks = Masks::from_bitmaps(height, width, planes.iter().map(Vec::as_slice));
        let corner = |corners: &Value, i: usize| corners[i].as_f64().unwrap() as f32;
        let boxes = list("boxes").iter().map(|b| [0, 1, 2, 3].map(|i| corner(b, i))).collect();
        Sample::new()
            .with(fields::IMAGE, Field::Image(Image::from_u8(height, width, 3, bytes(&one["image"]))))
            .with(fields::BOXES, Field::Boxes(boxes))
            .with(fields::LABELS, Field::Integers(list("labels").iter().map(|v| v.as_i64().unwrap()).collect()))
            .with(fields::AREA, Field::Numbers(list("area").iter().map(|v| v.as_f64().unwrap() as f32).collect()))
            .with(fields::MASKS, Field::Masks(masks))
    }

    /// Of `tests/parity/plugins/copy_paste.py`.
    #[test]
    fn pasting_is_that_of_torchvisions_reference() {
        let text = include_str!("../../../tests/parity/plugins/copy_paste.json");
        let file: Value = pipe_plugin::serde_json::from_str(text).unwrap();
        let (height, width) = (file["height"].as_u64().unwrap() as usize, file["width"].as_u64().unwrap() as usize);
        let samples = [0, 1].map(|i| read(&file["samples"][i], height, width));
        for case in file["cases"].as_array().unwrap() {
            let into = case["into"].as_u64().unwrap() as usize;
            let chosen: Vec<usize> =
                case["chosen"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
            let mut pasted = samples[into].clone();
            paste(&mut pasted, &samples[1 - into], &chosen, case["blending"].as_bool().unwrap()).unwrap();
            assert_eq!(pasted, read(case, height, width), "{} {chosen:?}", case["blending"]);
        }
    }

    #[test]
    fn another_size_is_resized() {
        let mut small = sample(10, 10, &[]);
        paste(&mut small, &sample(20, 30, &[[6.0, 4.0, 18.0, 12.0]]), &[0], false).unwrap();
        assert_eq!(small.get(fields::BOXES), Some(&Field::Boxes(vec![[2.0, 2.0, 6.0, 6.0]])));
        let Some(Field::Masks(masks)) = small.get(fields::MASKS) else { panic!("no masks") };
        assert_eq!((masks.height, masks.width, masks.instances[0].area()), (10, 10, 16));
        small.check().unwrap();
    }

    #[test]
    fn samples_that_do_not_fit_are_named() {
        let source = sample(8, 8, &[[1.0, 1.0, 4.0, 4.0]]);
        let mut bare = sample(8, 8, &[]);
        bare.remove(fields::MASKS);
        assert!(paste(&mut bare, &source, &[0], true).unwrap_err().to_string().contains("has no masks"));
        let mut more = sample(8, 8, &[]).with("depths", Field::Numbers(Vec::new()));
        assert!(paste(&mut more, &source, &[0], true).unwrap_err().to_string().contains("field `depths`"));
    }
}
