//! Names of the standard fields of samples, batches and model outputs.

/// The image: an [`super::Image`] in a sample, `[N, C, H, W]` or a list of `[C, H, W]` in a batch.
pub const IMAGE: &str = "image";
/// The class of the whole image: an integer; `[N]` i64 in a batch.
pub const LABEL: &str = "label";
/// Boxes `[N, 4]`, xyxy in pixels.
pub const BOXES: &str = "boxes";
/// The class of each box: `[N]` i64.
pub const LABELS: &str = "labels";
/// Instance masks: `[N, H, W]` u8 in a batch.
pub const MASKS: &str = "masks";
/// Area of each instance in square pixels: `[N]` f32.
pub const AREA: &str = "area";
/// 1 for crowd regions: `[N]` i64.
pub const ISCROWD: &str = "iscrowd";
/// Keypoints `[N, K, 3]`: x, y, visibility.
pub const KEYPOINTS: &str = "keypoints";
/// The image's id in its dataset: an integer.
pub const IMAGE_ID: &str = "image_id";
/// Per-pixel classes: `[H, W]` i64; 255 is ignored.
pub const SEGMENTATION: &str = "segmentation";
/// Size of the image as it lies on disk: `[2]` i64, height and width.
pub const ORIGINAL_SIZE: &str = "original_size";
/// Where the sample came from, for messages: a text.
pub const SOURCE: &str = "source";
/// Numbers to predict: `[N]` or `[N, D]` f32 in a batch.
pub const TARGET: &str = "target";

/// Output: unnormalised class scores `[N, C]`.
pub const LOGITS: &str = "logits";
/// Output: per image [`super::Detections`].
pub const DETECTIONS: &str = "detections";
/// Output: instance masks inside the detections.
pub const DETECTION_MASKS: &str = "detection_masks";
/// Output: keypoints inside the detections.
pub const DETECTION_KEYPOINTS: &str = "detection_keypoints";
/// Output: unnormalised per-pixel class scores `[N, C, H, W]`.
pub const SEGMENTATION_LOGITS: &str = "segmentation_logits";
/// Output: what each image adds to the losses, times the images of the batch: `[N]` f64, on the CPU.
pub const IMAGE_LOSSES: &str = "image_losses";
/// Output: predicted numbers `[N, D]`.
pub const PREDICTION: &str = "prediction";
