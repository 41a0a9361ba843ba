//! The image that everything here reads and draws.

use anyhow::{Context, Result, ensure};
use jpeg_encoder::{ColorType, Encoder};

use super::palette::{Color, class_color};

/// An 8-bit RGB image, `[height, width, 3]` in row-major order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RgbImage {
    height: usize,
    width: usize,
    data: Vec<u8>,
}

impl RgbImage {
    /// An image of one color.
    pub fn filled(height: usize, width: usize, color: Color) -> Self {
        let data = color.iter().copied().cycle().take(height * width * 3).collect();
        Self { height, width, data }
    }

    /// Takes `data`, `[height, width, 3]`.
    ///
    /// # Errors
    /// `data` is not of that size.
    pub fn from_data(height: usize, width: usize, data: Vec<u8>) -> Result<Self> {
        let expected = height.checked_mul(width).and_then(|pixels| pixels.checked_mul(3));
        ensure!(
            expected == Some(data.len()),
            "an RGB image of {height} × {width} pixels needs {height} × {width} × 3 bytes, got {}",
            data.len()
        );
        Ok(Self { height, width, data })
    }

    /// The number of rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The number of columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The bytes, `[height, width, 3]`.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Gives the bytes away, `[height, width, 3]`.
    pub fn into_data(self) -> Vec<u8> {
        self.data
    }

    /// The color at row `y` and column `x`; `None` outside the image.
    pub fn pixel(&self, y: usize, x: usize) -> Option<Color> {
        let at = self.offset(y, x)?;
        Some([self.data[at], self.data[at + 1], self.data[at + 2]])
    }

    /// The image with every pixel repeated `factor` times both ways; 0 counts as 1.
    pub fn enlarged(&self, factor: usize) -> Self {
        if factor <= 1 || self.data.is_empty() {
            return self.clone();
        }
        let mut data = Vec::with_capacity(self.data.len() * factor * factor);
        for row in self.data.chunks_exact(self.width * 3) {
            let start = data.len();
            for pixel in row.chunks_exact(3) {
                (0..factor).for_each(|_| data.extend_from_slice(pixel));
            }
            let end = data.len();
            (1..factor).for_each(|_| data.extend_from_within(start..end));
        }
        Self { height: self.height * factor, width: self.width * factor, data }
    }

    /// The image as a PNG file.
    ///
    /// # Errors
    /// An image without pixels, or with more of them than PNG can hold.
    pub fn encode_png(&self) -> Result<Vec<u8>> {
        ensure!(!self.data.is_empty(), "an image of {} × {} pixels cannot be a PNG file", self.height, self.width);
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, u32::try_from(self.width)?, u32::try_from(self.height)?);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().context("cannot encode the image as PNG")?;
        writer.write_image_data(&self.data).context("cannot encode the image as PNG")?;
        writer.finish().context("cannot encode the image as PNG")?;
        Ok(file)
    }

    /// The image of a PNG file of 8-bit RGB, as [`RgbImage::encode_png`] makes them.
    ///
    /// # Errors
    /// Another file.
    pub fn decode_png(file: &[u8]) -> Result<RgbImage> {
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().context("this is no PNG file")?;
        let (info, bytes) = (reader.info(), reader.output_buffer_size());
        let plain = info.color_type == png::ColorType::Rgb && info.bit_depth == png::BitDepth::Eight;
        ensure!(plain, "this is no PNG file of 8-bit RGB");
        let mut data = vec![0; bytes.context("the image is too large")?];
        let frame = reader.next_frame(&mut data).context("the PNG file is damaged")?;
        data.truncate(frame.buffer_size());
        RgbImage::from_data(frame.height as usize, frame.width as usize, data)
    }

    /// The image as a JPEG file; `quality`: 1 to 100.
    ///
    /// # Errors
    /// An image without pixels, or with more of them than JPEG can hold.
    pub fn encode_jpeg(&self, quality: u8) -> Result<Vec<u8>> {
        ensure!(!self.data.is_empty(), "an image of {} × {} pixels cannot be a JPEG file", self.height, self.width);
        let mut file = Vec::new();
        let (width, height) = (u16::try_from(self.width)?, u16::try_from(self.height)?);
        let encoded = Encoder::new(&mut file, quality).encode(&self.data, width, height, ColorType::Rgb);
        encoded.context("cannot encode the image as JPEG")?;
        Ok(file)
    }

    /// Mixes `color` into a pixel: 0 leaves it, 1 replaces it. Outside the image nothing happens.
    pub(super) fn blend(&mut self, y: usize, x: usize, color: Color, alpha: f32) {
        let Some(at) = self.offset(y, x) else { return };
        for (channel, new) in self.data[at..at + 3].iter_mut().zip(color) {
            let mixed = f32::from(*channel) + (f32::from(new) - f32::from(*channel)) * alpha;
            *channel = mixed.round() as u8;
        }
    }

    /// Copies `other` so that its first pixel comes to row `y` and column `x`; what does not fit is cut off.
    pub(super) fn paste(&mut self, other: &Self, y: usize, x: usize) {
        let columns = other.width.min(self.width.saturating_sub(x));
        for row in 0..other.height.min(self.height.saturating_sub(y)) {
            let (from, to) = (row * other.width * 3, ((y + row) * self.width + x) * 3);
            self.data[to..to + columns * 3].copy_from_slice(&other.data[from..from + columns * 3]);
        }
    }

    fn offset(&self, y: usize, x: usize) -> Option<usize> {
        (y < self.height && x < self.width).then(|| (y * self.width + x) * 3)
    }
}
/// Classes by pixel, rows of `width`, as a PNG file whose pixels are their numbers, with a palette: black for 0, then the classes' colors.
///
/// # Errors
/// Not `height` rows, no pixels, or more of them than PNG can hold.
pub fn encode_classes(classes: &[u8], height: usize, width: usize) -> Result<Vec<u8>> {
    ensure!(!classes.is_empty() && classes.len() == height * width, "a mask needs a class for each pixel");
    let color = |class: i64| if class == 0 { [0; 3] } else { class_color(class) };
    let palette: Vec<Color> = (0..=255).map(color).collect();
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, u32::try_from(width)?, u32::try_from(height)?);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(palette.as_flattened());
    let mut writer = encoder.write_header().context("cannot encode the mask as PNG")?;
    writer.write_image_data(classes).context("cannot encode the mask as PNG")?;
    writer.finish().context("cannot encode the mask as PNG")?;
    Ok(file)
}
