//! The models against torchvision's. Their own tests lie beside the code.

mod common;
mod detection;
mod evaluated;
mod losses;
mod one_stage;
mod resnet;
mod segmentation;
