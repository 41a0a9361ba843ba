//! Keypoints of boxes and heatmaps, one made from the other.

use anyhow::{Result, ensure};
use tch::{Kind, Tensor};

use super::ImageSize;
use super::boxes::columns;

/// Keypoints `[N, K, 3]` of an image resized from one size to another.
///
/// # Errors
/// The shape is another.
pub fn resize(keypoints: &Tensor, from: ImageSize, to: ImageSize) -> Result<Tensor> {
    if from == to {
        return Ok(keypoints.shallow_clone());
    }
    // The ratios in single precision, as torchvision computes them.
    let ratio = |new: i64, old: i64| f64::from(new as f32 / old as f32);
    let [x, y, v] = parts(keypoints)?;
    Ok(Tensor::f_stack(&[x * ratio(to.1, from.1), y * ratio(to.0, from.0), v], -1)?)
}

/// Where in heatmaps of `side` × `side` keypoints `[B, K, 3]` lie that belong to boxes `[B, 4]`: i64 `[B, K]`, counted row by row, and
/// which of them are labelled and lie in their box: bool `[B, K]`. As torchvision's `keypoints_to_heatmap`.
///
/// # Errors
/// The shapes are others.
pub fn to_heatmap(keypoints: &Tensor, boxes: &Tensor, side: i64) -> Result<(Tensor, Tensor)> {
    let [x, y, v] = parts(keypoints)?;
    let [x1, y1, x2, y2] = columns(&boxes.f_unsqueeze(1)?)?;
    let cell = |at: &Tensor, low: &Tensor, high: &Tensor| -> Result<Tensor> {
        // As PyTorch divides a number by a tensor: a quotient's last bit decides between two cells.
        let scale = high.f_sub(low)?.f_reciprocal()? * side as f64;
        let cell = ((at - low) * scale).f_floor()?;
        // A keypoint on the far edge belongs to the last cell.
        let last = Tensor::f_full_like(&cell, (side - 1) as f64)?;
        Ok(last.f_where_self(&at.f_eq_tensor(high)?, &cell)?.f_to_kind(Kind::Int64)?)
    };
    let (x, y) = (cell(&x, &x1, &x2)?, cell(&y, &y1, &y2)?);
    let within = |cell: &Tensor| cell.f_ge(0)?.f_logical_and(&cell.f_lt(side)?);
    let valid = within(&x)?.f_logical_and(&within(&y)?)?.f_logical_and(&v.f_gt(0)?)?;
    Ok((y * side + x, valid))
}

/// The keypoints `[B, K, 3]` of boxes `[B, 4]`, each where its heatmap of `[B, K, H, W]`, as large as the box, is highest; and the values
/// there, `[B, K]`. As torchvision's `heatmaps_to_keypoints`.
///
/// # Errors
/// The shapes are others, or memory is short.
pub fn from_heatmaps(maps: &Tensor, boxes: &Tensor) -> Result<(Tensor, Tensor)> {
    let (count, points, _, _) = maps.size4()?;
    ensure!(boxes.size() == [count, 4], "heatmaps of {count} boxes for boxes {:?}", boxes.size());
    let options = (maps.kind(), maps.device());
    if count == 0 {
        return Ok((Tensor::f_zeros([0, points, 3], options)?, Tensor::f_zeros([0, points], options)?));
    }
    let [x1, y1, x2, y2] = columns(boxes)?;
    let (widths, heights) = ((x2 - &x1).f_clamp_min(1)?, (y2 - &y1).f_clamp_min(1)?);
    let (columns, rows) = (widths.f_ceil()?, heights.f_ceil()?);
    // All sizes come to the host at once: asking for each would wait for the device each time.
    let sizes: Vec<i64> =
        Tensor::f_stack(&[&rows, &columns], 1)?.f_to_kind(Kind::Int64)?.f_flatten(0, -1)?.try_into()?;
    let (mut places, mut scores) = (Vec::new(), Vec::new());
    for (index, size) in sizes.chunks_exact(2).enumerate() {
        let map = maps.f_narrow(0, index as i64, 1)?.f_upsample_bicubic2d([size[0], size[1]], false, None, None)?;
        let (score, place) = map.f_view([points, -1])?.f_max_dim(1, false)?;
        places.push(place);
        scores.push(score);
    }
    let (places, columns, rows) = (Tensor::f_stack(&places, 0)?, columns.f_unsqueeze(1)?, rows.f_unsqueeze(1)?);
    let width = columns.f_to_kind(Kind::Int64)?;
    let row = places.f_div_tensor_mode(&width, "floor")?;
    let column = &places - &row * width;
    // The middle of a pixel of the enlarged map, whose sides are whole numbers, in the box, whose sides are not.
    let at = |cell: Tensor, length: Tensor, cells: Tensor, low: Tensor| -> Result<Tensor> {
        Ok((cell.f_to_kind(maps.kind())? + 0.5) * (length.f_unsqueeze(1)? / cells) + low.f_unsqueeze(1)?)
    };
    let (x, y) = (at(column, widths, columns, x1)?, at(row, heights, rows, y1)?);
    let ones = x.f_ones_like()?;
    Ok((Tensor::f_stack(&[x, y, ones], -1)?, Tensor::f_stack(&scores, 0)?))
}

/// x, y and v of `[…, 3]`.
fn parts(keypoints: &Tensor) -> Result<[Tensor; 3]> {
    let size = keypoints.size();
    let parts: Result<[Tensor; 3], _> = keypoints.f_unbind(-1)?.try_into();
    parts.map_err(|_| anyhow::anyhow!("keypoints must have a last dimension of 3, not {size:?}"))
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn keypoints_on_the_far_edge_are_inside_and_others_beyond_are_not() {
        let points = [[10f32, 20.0, 2.0], [30.0, 60.0, 1.0], [19.9, 39.9, 2.0], [9.9, 30.0, 2.0], [15.0, 30.0, 0.0]];
        let points = Tensor::from_slice2(&points).unsqueeze(0);
        let boxes = Tensor::from_slice2(&[[10f32, 20.0, 30.0, 60.0]]);
        let (places, valid) = to_heatmap(&points, &boxes, 4).unwrap();
        assert_eq!(Vec::<bool>::try_from(valid.flatten(0, -1)).unwrap(), [true, true, true, false, false]);
        assert_eq!(Vec::<i64>::try_from(places.flatten(0, -1)).unwrap()[..3], [0, 15, 5]);
    }

    #[test]
    fn the_highest_place_of_a_heatmap_is_found_in_the_box() {
        let maps = Tensor::zeros([2, 2, 4, 4], (Kind::Float, Device::Cpu));
        for (index, (row, column)) in [(0, 0), (3, 3), (1, 2), (2, 1)].into_iter().enumerate() {
            let (index, map) = (index as i64, maps.shallow_clone());
            let _ = map.get(index / 2).get(index % 2).get(row).get(column).fill_(5.0);
        }
        let boxes = Tensor::from_slice2(&[[10f32, 20.0, 14.0, 24.0], [0.0, 0.0, 4.0, 4.0]]);
        let (points, scores) = from_heatmaps(&maps, &boxes).unwrap();
        assert_eq!((points.size(), scores.size()), (vec![2, 2, 3], vec![2, 2]));
        let expected = [10.5f32, 20.5, 1.0, 13.5, 23.5, 1.0, 2.5, 1.5, 1.0, 1.5, 2.5, 1.0];
        assert_eq!(Vec::<f32>::try_from(points.flatten(0, -1)).unwrap(), expected);
        assert_eq!(from_heatmaps(&maps.narrow(0, 0, 0), &boxes.narrow(0, 0, 0)).unwrap().0.size(), [0, 2, 3]);
    }
}
