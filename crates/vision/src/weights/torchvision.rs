//! The weights that torchvision publishes, by its names.

use std::collections::BTreeMap;
use std::path::Path;

/// One file of weights.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    /// torchvision's name of the model: `maskrcnn_resnet50_fpn`.
    pub model: &'static str,
    /// Which of its weights: `coco_v1`.
    pub tag: &'static str,
    /// The file's name; it ends with the first eight digits of the file's SHA-256.
    pub file: &'static str,
}

const fn named(model: &'static str, tag: &'static str, file: &'static str) -> Named {
    Named { model, tag, file }
}

/// Of the segmentation networks: trained on COCO's images with the classes of Pascal VOC.
const VOC: &str = "coco_with_voc_labels_v1";

/// Of torchvision 0.26. The last of a model is its `DEFAULT`.
const ALL: &[Named] = &[
    named("resnet18", "imagenet1k_v1", "resnet18-f37072fd.pth"),
    named("resnet34", "imagenet1k_v1", "resnet34-b627a593.pth"),
    named("resnet50", "imagenet1k_v1", "resnet50-0676ba61.pth"),
    named("resnet50", "imagenet1k_v2", "resnet50-11ad3fa6.pth"),
    named("resnet101", "imagenet1k_v1", "resnet101-63fe2227.pth"),
    named("resnet101", "imagenet1k_v2", "resnet101-cd907fc2.pth"),
    named("resnet152", "imagenet1k_v1", "resnet152-394f9c45.pth"),
    named("resnet152", "imagenet1k_v2", "resnet152-f82ba261.pth"),
    named("resnext50_32x4d", "imagenet1k_v1", "resnext50_32x4d-7cdf4587.pth"),
    named("resnext50_32x4d", "imagenet1k_v2", "resnext50_32x4d-1a0047aa.pth"),
    named("resnext101_32x8d", "imagenet1k_v1", "resnext101_32x8d-8ba56ff5.pth"),
    named("resnext101_32x8d", "imagenet1k_v2", "resnext101_32x8d-110c445d.pth"),
    named("wide_resnet50_2", "imagenet1k_v1", "wide_resnet50_2-95faca4d.pth"),
    named("wide_resnet50_2", "imagenet1k_v2", "wide_resnet50_2-9ba9bcbe.pth"),
    named("wide_resnet101_2", "imagenet1k_v1", "wide_resnet101_2-32ee1156.pth"),
    named("wide_resnet101_2", "imagenet1k_v2", "wide_resnet101_2-d733dc28.pth"),
    named("vgg11", "imagenet1k_v1", "vgg11-8a719046.pth"),
    named("vgg11_bn", "imagenet1k_v1", "vgg11_bn-6002323d.pth"),
    named("vgg13", "imagenet1k_v1", "vgg13-19584684.pth"),
    named("vgg13_bn", "imagenet1k_v1", "vgg13_bn-abd245e5.pth"),
    // Without a classifier: what torchvision's SSD starts from.
    named("vgg16", "imagenet1k_features", "vgg16_features-amdegroot-88682ab5.pth"),
    named("vgg16", "imagenet1k_v1", "vgg16-397923af.pth"),
    named("vgg16_bn", "imagenet1k_v1", "vgg16_bn-6c64b313.pth"),
    named("vgg19", "imagenet1k_v1", "vgg19-dcbb9e9d.pth"),
    named("vgg19_bn", "imagenet1k_v1", "vgg19_bn-c79401a0.pth"),
    named("mobilenet_v3_large", "imagenet1k_v1", "mobilenet_v3_large-8738ca79.pth"),
    named("mobilenet_v3_large", "imagenet1k_v2", "mobilenet_v3_large-5c1a4163.pth"),
    named("mobilenet_v3_small", "imagenet1k_v1", "mobilenet_v3_small-047dcff4.pth"),
    named("fasterrcnn_resnet50_fpn", "coco_v1", "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"),
    named("fasterrcnn_resnet50_fpn_v2", "coco_v1", "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth"),
    named("fasterrcnn_mobilenet_v3_large_fpn", "coco_v1", "fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth"),
    named("fasterrcnn_mobilenet_v3_large_320_fpn", "coco_v1", "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth"),
    named("maskrcnn_resnet50_fpn", "coco_v1", "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth"),
    named("maskrcnn_resnet50_fpn_v2", "coco_v1", "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth"),
    named("keypointrcnn_resnet50_fpn", "coco_legacy", "keypointrcnn_resnet50_fpn_coco-9f466800.pth"),
    named("keypointrcnn_resnet50_fpn", "coco_v1", "keypointrcnn_resnet50_fpn_coco-fc266e95.pth"),
    named("retinanet_resnet50_fpn", "coco_v1", "retinanet_resnet50_fpn_coco-eeacb38b.pth"),
    named("retinanet_resnet50_fpn_v2", "coco_v1", "retinanet_resnet50_fpn_v2_coco-5905b1c5.pth"),
    named("fcos_resnet50_fpn", "coco_v1", "fcos_resnet50_fpn_coco-99b0c9b7.pth"),
    named("ssd300_vgg16", "coco_v1", "ssd300_vgg16_coco-b556d3b4.pth"),
    named("ssdlite320_mobilenet_v3_large", "coco_v1", "ssdlite320_mobilenet_v3_large_coco-a79551df.pth"),
    named("fcn_resnet50", VOC, "fcn_resnet50_coco-1167a1af.pth"),
    named("fcn_resnet101", VOC, "fcn_resnet101_coco-7ecb50ca.pth"),
    named("deeplabv3_resnet50", VOC, "deeplabv3_resnet50_coco-cd0a2569.pth"),
    named("deeplabv3_resnet101", VOC, "deeplabv3_resnet101_coco-586e9e4e.pth"),
];

impl Named {
    /// Whether it is a detector's.
    pub fn is_detector(&self) -> bool {
        ["coco_v1", "coco_legacy"].contains(&self.tag)
    }

    /// Whether it is a segmentation network's.
    pub fn is_segmentation(&self) -> bool {
        self.tag == VOC
    }

    /// The classes that these weights tell apart, by label; detectors begin at 1, behind the background, which segmentation counts.
    pub fn classes(&self) -> BTreeMap<i64, String> {
        let text = match () {
            () if self.model.starts_with("keypointrcnn") => "\nperson\n",
            () if self.is_detector() => include_str!("classes/coco.txt"),
            () if self.is_segmentation() => include_str!("classes/voc.txt"),
            () => include_str!("classes/imagenet.txt"),
        };
        let named = text.lines().enumerate().filter(|(_, name)| !name.is_empty());
        named.map(|(label, name)| (label as i64, name.to_owned())).collect()
    }

    /// The epsilon that the frozen batch norm of these weights was trained with, where it is not the usual one (torchvision's
    /// `overwrite_eps`).
    pub fn frozen_eps(&self) -> Option<f64> {
        let models =
            ["fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn", "retinanet_resnet50_fpn"];
        (models.contains(&self.model) && self.tag == "coco_v1").then_some(0.0)
    }
}

/// Weights by torchvision's names, upper or lower case: `maskrcnn_resnet50_fpn.coco_v1`, `ResNet50_Weights.IMAGENET1K_V2`;
/// without a tag, or with `default`, what torchvision calls `DEFAULT`.
///
/// # Errors
/// A name that is not among them: what there is.
pub fn find(name: &str) -> Result<&'static Named, String> {
    let lower = name.to_ascii_lowercase();
    let (model, tag) = lower.split_once('.').unwrap_or((&lower, "default"));
    // The classes of detectors are called `MaskRCNN_ResNet50_FPN_Weights`.
    let model = model.strip_suffix("_weights").unwrap_or(model);
    let of_model: Vec<&Named> = ALL.iter().filter(|named| named.model == model).collect();
    let Some(default) = of_model.last() else {
        let near = |named: &&Named| strsim::jaro_winkler(named.model, model);
        let nearest = ALL.iter().max_by(|a, b| near(a).total_cmp(&near(b))).map_or("", |named| named.model);
        return Err(format!("torchvision has no weights of `{model}` that are known here; did you mean `{nearest}`?"));
    };
    if tag == "default" {
        return Ok(default);
    }
    of_model.iter().find(|named| named.tag == tag).copied().ok_or_else(|| {
        let tags: Vec<&str> = of_model.iter().map(|named| named.tag).collect();
        format!("torchvision has no weights `{tag}` of `{model}`; there are: {}", tags.join(", "))
    })
}

/// The weights that a file holds, by its name.
pub fn of_file(path: &Path) -> Option<&'static Named> {
    let name = path.file_name()?.to_str()?;
    ALL.iter().find(|named| named.file == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_torchvisions() {
        let file = |name| find(name).unwrap().file;
        assert_eq!(file("resnet50"), "resnet50-11ad3fa6.pth");
        assert_eq!(file("resnet50.imagenet1k_v1"), "resnet50-0676ba61.pth");
        assert_eq!(file("ResNet50_Weights.IMAGENET1K_V1"), "resnet50-0676ba61.pth");
        assert_eq!(file("ResNeXt50_32X4D_Weights.DEFAULT"), "resnext50_32x4d-1a0047aa.pth");
        assert_eq!(file("MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1"), "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth");
        assert_eq!(
            find("maskrcnn_resnet50").unwrap_err(),
            "torchvision has no weights of `maskrcnn_resnet50` that are known here; did you mean `maskrcnn_resnet50_fpn`?"
        );
        assert_eq!(
            find("resnet50.coco_v1").unwrap_err(),
            "torchvision has no weights `coco_v1` of `resnet50`; there are: imagenet1k_v1, imagenet1k_v2"
        );
    }

    #[test]
    fn classes_are_those_of_the_data() {
        let classes = |name: &str| find(name).unwrap().classes();
        let (coco, imagenet) = (classes("maskrcnn_resnet50_fpn"), classes("resnet50"));
        let person = BTreeMap::from([(1, "person".to_owned())]);
        assert_eq!(classes("KeypointRCNN_ResNet50_FPN_Weights.COCO_LEGACY"), person);
        let voc = classes("FCN_ResNet101_Weights.COCO_WITH_VOC_LABELS_V1");
        assert_eq!((voc.len(), voc[&0].as_str(), voc[&20].as_str()), (21, "background", "tvmonitor"));
        assert_eq!((coco.len(), coco[&1].as_str(), coco[&90].as_str()), (80, "person", "toothbrush"));
        assert_eq!((imagenet.len(), imagenet[&0].as_str(), imagenet[&999].as_str()), (1000, "tench", "toilet tissue"));
    }

    #[test]
    fn the_first_detectors_were_trained_without_an_epsilon() {
        let eps = |name| find(name).unwrap().frozen_eps();
        assert_eq!(
            ["maskrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2", "resnet50"].map(eps),
            [Some(0.0), Some(0.0), None, None]
        );
        assert_eq!(["keypointrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn.coco_legacy"].map(eps), [Some(0.0), None]);
        assert_eq!(of_file(Path::new("a/resnet18-f37072fd.pth")), Some(&ALL[0]));
        assert_eq!(of_file(Path::new("a/resnet18.pth")), None);
    }
}
