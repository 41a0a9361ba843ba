//! What detectors are taught with and what they answer, image by image.

use tch::Tensor;

/// The ground truth of one image with N objects; N may be 0.
#[derive(Debug)]
pub struct Target {
    /// `[N, 4]`, corners in pixels, of positive width and height.
    pub boxes: Tensor,
    /// i64 `[N]`, from 1 to the number of classes less one.
    pub labels: Tensor,
    /// `[N, H, W]` of the image's size, 1 inside and 0 outside (u8 or bool).
    pub masks: Option<Tensor>,
    /// `[N, K, 3]`: x and y in pixels, and above 0 where a keypoint is labelled; f32.
    pub keypoints: Option<Tensor>,
}

/// What was found in one image, best first.
#[derive(Debug)]
pub struct Detections {
    /// `[N, 4]`, corners in pixels of the image as given.
    pub boxes: Tensor,
    /// i64 `[N]`.
    pub labels: Tensor,
    /// `[N]`, 0 to 1.
    pub scores: Tensor,
    /// Probabilities: `[N, 1, H, W]`, or `[N, 1, 28, 28]` within the boxes where pasting is off.
    pub masks: Option<Tensor>,
    /// `[N, K, 3]`: x and y in pixels of the image as given, and 1.
    pub keypoints: Option<Tensor>,
    /// `[N, K]`: what the heatmap has at each keypoint; higher is surer, of any scale.
    pub keypoints_scores: Option<Tensor>,
}

impl Detections {
    /// Objects without masks and keypoints.
    pub fn new(boxes: Tensor, labels: Tensor, scores: Tensor) -> Self {
        Self { boxes, labels, scores, masks: None, keypoints: None, keypoints_scores: None }
    }
}
