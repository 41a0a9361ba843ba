//! How much memory a sample will take.

use serde::{Deserialize, Serialize};

/// What of a sample decides how much memory it takes, known without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Extent {
    /// The image's height in pixels.
    pub height: usize,
    /// The image's width in pixels.
    pub width: usize,
    /// Annotated objects.
    pub objects: usize,
}

impl Extent {
    /// With an image of another size, `[height, width]`.
    pub fn resized(self, [height, width]: [usize; 2]) -> Extent {
        Extent { height, width, ..self }
    }

    /// The most of both, side by side.
    pub fn or(self, other: Extent) -> Extent {
        Extent {
            height: self.height.max(other.height),
            width: self.width.max(other.width),
            objects: self.objects.max(other.objects),
        }
    }
}
