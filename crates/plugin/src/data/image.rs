//! Images on the CPU, as workers handle them before batches are made.

use serde::{Deserialize, Serialize};

/// An image, rows first, channels interleaved (HWC).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// Channels: 1 (gray) or 3 (RGB).
    pub channels: usize,
    /// `height * width * channels` values.
    pub pixels: Pixels,
}

/// Pixel values: bytes as decoded, or floats after normalisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Pixels {
    /// 0..=255.
    U8(#[serde(with = "serde_bytes")] Vec<u8>),
    /// 0..1 before normalisation, any range after it.
    F32(Vec<f32>),
}

impl Image {
    /// An image of bytes.
    ///
    /// # Panics
    /// When `pixels` has not `height * width * channels` values: a mistake of the caller, not of the user.
    pub fn from_u8(height: usize, width: usize, channels: usize, pixels: Vec<u8>) -> Image {
        assert_eq!(pixels.len(), height * width * channels, "image buffer of the wrong length");
        Image { height, width, channels, pixels: Pixels::U8(pixels) }
    }

    /// An image of floats.
    ///
    /// # Panics
    /// As [`Image::from_u8`].
    pub fn from_f32(height: usize, width: usize, channels: usize, pixels: Vec<f32>) -> Image {
        assert_eq!(pixels.len(), height * width * channels, "image buffer of the wrong length");
        Image { height, width, channels, pixels: Pixels::F32(pixels) }
    }

    /// The values as floats in 0..1 (bytes divided by 255), interleaved.
    pub fn to_f32(&self) -> Vec<f32> {
        match &self.pixels {
            Pixels::U8(bytes) => bytes.iter().map(|&b| f32::from(b) / 255.0).collect(),
            Pixels::F32(values) => values.clone(),
        }
    }
}
