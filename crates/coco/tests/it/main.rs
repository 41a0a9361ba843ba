//! COCO annotations, masks and evaluation, against pycocotools where it has a say.

mod diagnose;
mod eval;
mod index;
mod mask;
mod synthetic;
