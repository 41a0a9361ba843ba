//! What is to be seen on an image: objects of the ground truth, and those that a model found.

use serde::{Deserialize, Serialize};

/// The objects of an image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Objects {
    /// The ground truth; none where it is not shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truth: Option<Vec<Object>>,
    /// What a model found; none where there is no prediction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Vec<Object>>,
    /// Of what was found, scores below are not drawn at first. None of regions, which have no scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Whether there are masks to be seen and nothing else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_masks: bool,
}

/// An object, or the region of a class.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Object {
    /// The number of its class, which decides its color.
    pub class: i64,
    /// The name of its class.
    pub name: String,
    /// `x1, y1, x2, y2` in pixels of the image, finite.
    #[serde(rename = "box", default, skip_serializing_if = "Option::is_none")]
    pub bbox: Option<[f32; 4]>,
    /// How sure the model is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
    /// A crowd region of COCO.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub crowd: bool,
    /// Its pixels, row by row: how many are outside, then inside, then outside, and so on; empty without a mask.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mask: Vec<u32>,
    /// Keypoints: x and y in pixels of the image, and above 0 where it is to be seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<[f32; 3]>,
}

impl Objects {
    /// Of what was found, what is drawn at first.
    pub fn drawn(&self) -> impl Iterator<Item = &Object> {
        let least = self.threshold.unwrap_or(f64::NEG_INFINITY) as f32;
        self.found.iter().flatten().filter(move |object| object.score.is_none_or(|score| score >= least))
    }
}

/// The runs of a plane in which everything but 0 is inside.
pub fn runs(plane: &[u8]) -> Vec<u32> {
    let (mut runs, mut at, mut inside) = (Vec::new(), 0, false);
    while at < plane.len() {
        let length = plane[at..].iter().position(|pixel| (*pixel != 0) != inside).unwrap_or(plane.len() - at);
        runs.push(length as u32);
        (at, inside) = (at + length, !inside);
    }
    runs
}

/// The plane of some runs, 1 inside; `None` where they are not those of so many pixels.
pub fn plane(runs: &[u32], pixels: usize) -> Option<Vec<u8>> {
    if runs.iter().map(|run| u64::from(*run)).sum::<u64>() != pixels as u64 {
        return None;
    }
    let mut plane = Vec::with_capacity(pixels);
    for (at, run) in runs.iter().enumerate() {
        plane.resize(plane.len() + *run as usize, u8::from(at % 2 == 1));
    }
    Some(plane)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_come_back() {
        for pixels in [&[0u8, 0, 1, 1, 0][..], &[1, 1], &[0, 0], &[], &[1, 0, 1]] {
            assert_eq!(plane(&runs(pixels), pixels.len()).unwrap(), pixels);
        }
        assert_eq!(runs(&[7, 7, 0]), [0, 2, 1]);
        assert_eq!(plane(&[3, 4], 8), None);
        assert_eq!(plane(&[u32::MAX; 3], 8), None);
    }

    #[test]
    fn what_is_drawn_at_first_has_the_score() {
        let found = [0.2, 0.5, 0.9].map(|score| Object { score: Some(score), ..Object::default() });
        let objects = Objects { found: Some(found.to_vec()), threshold: Some(0.5), ..Objects::default() };
        assert_eq!(objects.drawn().count(), 2);
        let text = serde_json::to_string(&objects).unwrap();
        assert_eq!(serde_json::from_str::<Objects>(&text).unwrap(), objects);
    }
}
