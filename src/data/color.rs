//! Brightness, contrast, saturation, hue, gray: on bytes and on floats in 0..1, with torchvision's formulas.
