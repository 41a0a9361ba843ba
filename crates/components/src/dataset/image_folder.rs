//! Images in one folder per class.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use pipe_core::Dataset;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, PathValue, Property, PropertyType};
use pipe_data::decode::{EXTENSIONS, is_image_file, read_image};
use pipe_data::{Field, Sample, fields};

/// Images in one folder per class: `root/cat/1.jpg`, `root/dog/deeper/2.png`.
///
/// Classes are the sorted names of the folders, labels start at 0, as in torchvision's `ImageFolder`. Files
/// other than JPEG, PNG, WebP and GIF are ignored.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageFolderConfig {
    /// Root folder, with one subfolder per class.
    pub root: PathValue,
    /// A subfolder of `root` with the class folders, such as `train`.
    #[serde(default)]
    pub split: Option<String>,
    /// Whether a class may have no images.
    #[serde(default)]
    pub allow_empty: bool,
    /// Whether to apply the EXIF orientation. torchvision does not.
    #[serde(default = "yes")]
    pub exif: bool,
}

fn yes() -> bool {
    true
}

impl Config for ImageFolderConfig {
    const KIND: Kind = Kind::Dataset;
    const TYPE: &'static str = "image_folder";
    const EXAMPLE: &'static str = r#"
[dataset.train]
type = "image_folder"
root = "data/flowers"
split = "train"
"#;

    fn properties() -> &'static [Property] {
        &[
            Property { name: "num_classes", ty: PropertyType::Integer, doc: "Number of classes." },
            Property { name: "class_names", ty: PropertyType::Strings, doc: "Class names by label." },
        ]
    }

    fn contract(&self) -> Contract {
        Contract::default().adds([fields::IMAGE, fields::LABEL, fields::ORIGINAL_SIZE, fields::SOURCE])
    }
}

impl Component for ImageFolderConfig {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let root = self.root.path().with_context(|| format!("there is no builtin dataset {:?}", self.root.as_str()))?;
        let root = self.split.as_ref().map_or(root.to_owned(), |split| root.join(split));
        Ok(Instance::dataset(ImageFolder::open(&root, self.allow_empty, self.exif)?))
    }
}

pipe_core::register!(ImageFolderConfig);

/// See [`ImageFolderConfig`].
pub struct ImageFolder {
    classes: Vec<String>,
    samples: Vec<(PathBuf, usize)>,
    exif: bool,
}

impl ImageFolder {
    /// Lists the images of all classes below `root`.
    ///
    /// # Errors
    /// When the folder cannot be read, has no classes, or a class has no images and `allow_empty` is not set.
    pub fn open(root: &Path, allow_empty: bool, exif: bool) -> Result<ImageFolder> {
        let mut classes = Vec::new();
        for path in sorted_entries(root)? {
            let name = path.file_name().unwrap_or_default();
            if path.is_dir() {
                let name = name.to_str().with_context(|| format!("the name of {} is not UTF-8", path.display()))?;
                classes.push(name.to_owned());
            }
        }
        ensure!(!classes.is_empty(), "{} has no subfolders; it needs one per class", root.display());
        let mut samples = Vec::new();
        let mut empty = Vec::new();
        for (label, class) in classes.iter().enumerate() {
            let before = samples.len();
            collect(&root.join(class), &mut |path| samples.push((path, label)))?;
            if samples.len() == before {
                empty.push(class.as_str());
            }
        }
        ensure!(
            empty.is_empty() || allow_empty,
            "no images ({}) of the classes {} in {}; remove their folders, or set `allow_empty = true`",
            EXTENSIONS.join(", "),
            empty.join(", "),
            root.display()
        );
        Ok(ImageFolder { classes, samples, exif })
    }
}

impl Dataset for ImageFolder {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let (path, label) = &self.samples[index];
        let image = read_image(path, self.exif)?;
        Ok(Sample::new()
            .with(fields::ORIGINAL_SIZE, Field::Size([image.height, image.width]))
            .with(fields::IMAGE, Field::Image(image))
            .with(fields::LABEL, Field::Integer(*label as i64))
            .with(fields::SOURCE, Field::Text(path.display().to_string())))
    }

    fn property(&self, name: &str) -> Result<Value> {
        match name {
            "num_classes" => Ok(self.classes.len().into()),
            "class_names" => Ok(json!(self.classes)),
            _ => bail!("an image folder has no property `{name}`"),
        }
    }

    fn class_names(&self) -> Vec<(i64, String)> {
        self.classes.iter().enumerate().map(|(label, name)| (label as i64, name.clone())).collect()
    }

    fn report(&self) -> Option<String> {
        Some(format!("{} images of {} classes", self.samples.len(), self.classes.len()))
    }
}

/// What a folder holds, sorted by name so that every machine sees one order.
fn sorted_entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("cannot read the folder {}", folder.display());
    let entries = std::fs::read_dir(folder).with_context(context)?;
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>().with_context(context)?;
    paths.sort();
    Ok(paths)
}

/// All pictures in a folder and below it, in order. Links to folders are followed, one level of the same folder at most.
fn collect(folder: &Path, found: &mut impl FnMut(PathBuf)) -> Result<()> {
    fn walk(folder: &Path, parents: &mut Vec<PathBuf>, found: &mut impl FnMut(PathBuf)) -> Result<()> {
        let real = folder.canonicalize().with_context(|| format!("cannot read the folder {}", folder.display()))?;
        if parents.contains(&real) {
            return Ok(());
        }
        parents.push(real);
        for path in sorted_entries(folder)? {
            if path.is_dir() {
                walk(&path, parents, found)?;
            } else if is_image_file(&path) {
                found(path);
            }
        }
        parents.pop();
        Ok(())
    }
    walk(folder, &mut Vec::new(), found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::testing::{dataset, error};

    fn write(root: &Path, name: &str, value: i64) {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let image = tch::Tensor::full([3, 2, 3], value, (tch::Kind::Uint8, tch::Device::Cpu));
        std::fs::write(path, pipe_native::image::encode_png(&image, 1).unwrap()).unwrap();
    }

    #[test]
    fn classes_are_sorted_folders() {
        let root = tempfile::tempdir().unwrap();
        for (i, name) in ["dog/b.png", "dog/a.PNG", "cat/deeper/z.png", "cat/a.png"].into_iter().enumerate() {
            write(root.path(), name, i as i64 * 10);
        }
        std::fs::write(root.path().join("cat/notes.txt"), "").unwrap();
        std::fs::write(root.path().join("readme.png"), "").unwrap();
        let set = dataset("image_folder", json!({ "root": root.path() })).unwrap();
        let label = |i| set.get(i).unwrap().get(fields::LABEL).cloned();
        let name =
            |i: usize| set.get(i).unwrap().source().trim_start_matches(&root.path().display().to_string()).to_owned();
        assert_eq!(
            (0..set.len()).map(name).collect::<Vec<_>>(),
            ["/cat/a.png", "/cat/deeper/z.png", "/dog/a.PNG", "/dog/b.png"]
        );
        assert_eq!([label(1), label(2)], [Some(Field::Integer(0)), Some(Field::Integer(1))]);
        assert_eq!(set.property("num_classes").unwrap(), 2);
        assert_eq!(set.property("class_names").unwrap(), json!(["cat", "dog"]));
        assert!(set.property("colour").is_err());
        assert_eq!(set.get(3).unwrap().image().unwrap().to_f32()[0], 0.0);
    }

    #[test]
    fn empty_classes_are_errors_unless_allowed() {
        let root = tempfile::tempdir().unwrap();
        let config = json!({ "root": root.path() });
        assert!(error("image_folder", config.clone()).contains("has no subfolders"));
        write(root.path(), "cat/a.png", 0);
        std::fs::create_dir(root.path().join("dog")).unwrap();
        assert!(error("image_folder", config.clone()).contains("of the classes dog in"));
        let set = dataset("image_folder", json!({ "root": root.path(), "allow_empty": true })).unwrap();
        assert_eq!(set.class_names(), [(0, "cat".to_owned()), (1, "dog".to_owned())]);
        assert!(
            error("image_folder", json!({ "root": root.path().join("nowhere") })).contains("cannot read the folder")
        );
    }
}
