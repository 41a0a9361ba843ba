//! Detectors and backbones against torchvision.

mod detection;
mod resnet;
