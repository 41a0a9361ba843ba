//! Images in one folder per class.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::files;
use super::split::{Part, Split};
use pipe_core::Dataset;
use pipe_core::facts::{Contents, Facts, Reads};
use pipe_core::{
    BuildContext, Component, Config, Contract, Instance, Kind, PathValue, Problems, Property, PropertyType,
};
use pipe_data::decode::read_image;
use pipe_data::{Field, Fingerprint, Sample, fields};

/// Images in one folder per class: `root/cat/1.jpg`, `root/dog/deeper/2.png`.
///
/// Classes are the sorted names of the folders, labels start at 0, as in torchvision's `ImageFolder`; folders and files whose name
/// begins with a dot are none. With `class_names` the labels are those of that list, also of a class of which this folder has no
/// images: give a validation set those of the training set. What is no image is left out and counted in
/// the report.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageFolderConfig {
    /// Root folder, with one subfolder per class.
    pub root: PathValue,
    /// A subfolder of `root` with the class folders, such as `train`; or a part of the images of each class, such as
    /// `{ part = "train", fraction = 0.8 }`, and `part = "val"` of the same for the evaluation.
    #[serde(default)]
    pub split: Option<Split>,
    /// The classes in the order of their labels, such as `"dataset.train:class_names"`; those of the folders by default. A folder
    /// that is not among them is an error.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub class_names: Option<Vec<String>>,
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

    fn facts(&self) -> Facts {
        let whole = || Reads { what: self.root.as_str().into(), part: None };
        let reads = self.split.as_ref().map_or_else(whole, |split| split.of(self.root.as_str()));
        Facts { reads: Some(reads), ..Facts::default() }
    }

    fn properties() -> &'static [Property] {
        &[
            Property { name: "num_classes", ty: PropertyType::Integer, doc: "Number of classes." },
            Property { name: "class_names", ty: PropertyType::Strings, doc: "Class names by label." },
        ]
    }

    fn check(&self, problems: &mut Problems) {
        if let Some(split) = &self.split {
            split.check(problems);
        }
    }

    fn contract(&self) -> Contract {
        Contract::default().adds([fields::IMAGE, fields::LABEL, fields::ORIGINAL_SIZE, fields::SOURCE])
    }
}

impl Component for ImageFolderConfig {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let root = self.root.path().with_context(|| format!("there is no builtin dataset {:?}", self.root.as_str()))?;
        let (root, part) = match &self.split {
            None => (root.to_owned(), None),
            Some(Split::Name(name)) => (root.join(name), None),
            Some(Split::Part(part)) => (root.to_owned(), Some(part)),
        };
        Ok(Instance::dataset(ImageFolder::open(&root, part, self.class_names, self.allow_empty, self.exif)?))
    }
}

pipe_core::register!(ImageFolderConfig);

/// See [`ImageFolderConfig`].
pub struct ImageFolder {
    root: PathBuf,
    classes: Vec<String>,
    samples: Vec<(PathBuf, usize)>,
    left_out: LeftOut,
    exif: bool,
}

/// What is no image of a class.
#[derive(Default)]
struct LeftOut {
    /// Hidden folders beside those of the classes.
    hidden: Vec<String>,
    /// Files in the classes' folders, by ending.
    files: BTreeMap<String, usize>,
}

impl LeftOut {
    fn told(&self) -> String {
        let mut told = String::new();
        if !self.hidden.is_empty() {
            told += &format!("; hidden folders left out: {}", self.hidden.join(", "));
        }
        if !self.files.is_empty() {
            let files = self.files.iter().map(|(ending, count)| format!("{count} {ending}"));
            told += &format!("; files left out: {}", files.collect::<Vec<_>>().join(", "));
        }
        told
    }
}

impl ImageFolder {
    /// Lists the images of all classes below `root`, or of each class a part.
    ///
    /// # Errors
    /// When the folder cannot be read, has no classes or others than `names`, or a class of its own has no images and `allow_empty`
    /// is not set.
    pub fn open(
        root: &Path,
        part: Option<&Part>,
        names: Option<Vec<String>>,
        allow_empty: bool,
        exif: bool,
    ) -> Result<ImageFolder> {
        let mut classes = Vec::new();
        let mut left_out = LeftOut::default();
        for entry in files::sorted(root).max_depth(1) {
            let entry = entry.map_err(files::unreadable)?;
            let path = entry.path();
            if path.is_dir() {
                let name = entry.file_name().to_str();
                let name = name.with_context(|| format!("the name of {} is no UTF-8", path.display()))?;
                let list = if name.starts_with('.') { &mut left_out.hidden } else { &mut classes };
                list.push(name.to_owned());
            }
        }
        ensure!(!classes.is_empty(), "{} has no subfolders; it needs one per class", root.display());
        let own = classes.clone();
        if let Some(names) = names {
            let unknown: Vec<&str> = own.iter().filter(|own| !names.contains(own)).map(String::as_str).collect();
            ensure!(
                unknown.is_empty(),
                "{} has folders that are not among `class_names`: {}; the classes are {}",
                root.display(),
                unknown.join(", "),
                names.join(", ")
            );
            classes = names;
        }
        let mut samples = Vec::new();
        let mut empty = Vec::new();
        for (label, class) in classes.iter().enumerate().filter(|(_, class)| own.contains(class)) {
            let mut images = Vec::new();
            for path in files::below(&root.join(class)) {
                let path: PathBuf = path?;
                if files::is_shown_image(&path) {
                    images.push(path);
                } else {
                    *left_out.files.entry(ending(&path)).or_default() += 1;
                }
            }
            if images.is_empty() {
                empty.push(class.as_str());
            }
            if let Some(part) = part {
                let name = |path: &PathBuf| path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
                let names: Vec<String> = images.iter().map(name).collect();
                let chosen = part.choose(&names.iter().map(String::as_str).collect::<Vec<_>>());
                images = chosen.into_iter().map(|place| images[place].clone()).collect();
            }
            samples.extend(images.into_iter().map(|path| (path, label)));
        }
        ensure!(
            empty.is_empty() || allow_empty,
            "no images of the classes {} in {}; remove their folders, or set `allow_empty = true`",
            empty.join(", "),
            root.display()
        );
        Ok(ImageFolder { root: root.to_owned(), classes, samples, left_out, exif })
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

    fn file(&self, index: usize) -> Option<PathBuf> {
        self.samples.get(index).map(|(path, _)| path.clone())
    }

    fn property(&self, name: &str) -> Result<Value> {
        match name {
            "num_classes" => Ok(self.classes.len().into()),
            "class_names" => Ok(json!(self.classes)),
            _ => bail!("an image folder has no property `{name}`"),
        }
    }

    /// Of the listing.
    fn classes(&self, index: usize) -> Option<Vec<i64>> {
        Some(vec![self.samples.get(index)?.1 as i64])
    }

    fn contents(&self) -> Option<Contents> {
        Some(Contents::of_labels(self.samples.iter().map(|(_, label)| *label as i64)))
    }

    fn fingerprint(&self) -> Option<String> {
        let name =
            |path: &Path| path.strip_prefix(&self.root).unwrap_or(path).as_os_str().as_encoded_bytes().to_owned();
        let add = |sum: Fingerprint, (path, label): &(PathBuf, usize)| sum.with(&name(path)).with(&label.to_le_bytes());
        Some(self.samples.iter().fold(Fingerprint::default(), add).text())
    }

    fn class_names(&self) -> Vec<(i64, String)> {
        self.classes.iter().enumerate().map(|(label, name)| (label as i64, name.clone())).collect()
    }

    fn report(&self) -> Option<String> {
        let left_out = self.left_out.told();
        let mut sorts: BTreeMap<String, usize> = BTreeMap::new();
        self.samples.iter().for_each(|(path, _)| *sorts.entry(ending(path)).or_default() += 1);
        let sorts: Vec<String> = sorts.into_iter().map(|(ending, count)| format!("{count} {ending}")).collect();
        let sorts = if sorts.len() > 1 { format!(" ({})", sorts.join(", ")) } else { String::new() };
        Some(format!("{} images of {} classes{sorts}{left_out}", self.samples.len(), self.classes.len()))
    }
}

/// `.txt files`, or what a file without an ending is.
fn ending(path: &Path) -> String {
    match path.extension() {
        _ if files::has_hidden_name(path) => "hidden".into(),
        Some(ending) => format!(".{}", ending.to_string_lossy().to_lowercase()),
        None => "without an ending".into(),
    }
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
        let moved = tempfile::tempdir().unwrap();
        for (i, name) in ["dog/b.png", "dog/a.PNG", "cat/deeper/z.png", "cat/a.png"].into_iter().enumerate() {
            write(moved.path(), name, i as i64 * 10);
        }
        let again = |root: &Path| dataset("image_folder", json!({ "root": root })).unwrap().fingerprint();
        assert_eq!(again(moved.path()), set.fingerprint(), "wherever the folder lies");
        std::fs::rename(moved.path().join("dog/b.png"), moved.path().join("dog/c.png")).unwrap();
        assert_ne!(again(moved.path()), set.fingerprint());
        assert_eq!(set.get(3).unwrap().image().unwrap().to_f32()[0], 0.0);
    }

    #[test]
    fn labels_are_those_of_the_names_that_are_given() {
        let root = tempfile::tempdir().unwrap();
        for name in
            ["bee/1.png", "cow/2.png", ".ipynb_checkpoints/3.png", "cow/._2.png", "cow/.cache/4.png", "cow/a.TXT"]
        {
            write(root.path(), name, 1);
        }
        std::fs::write(root.path().join("cow/a.TXT"), "no image").unwrap();
        let own = dataset("image_folder", json!({ "root": root.path() })).unwrap();
        assert_eq!(own.class_names(), [(0, "bee".to_owned()), (1, "cow".to_owned())]);
        assert_eq!(
            own.report().unwrap(),
            "2 images of 2 classes; hidden folders left out: .ipynb_checkpoints; files left out: 1 .txt, 1 hidden"
        );
        let names = json!(["ant", "bee", "cow"]);
        let set = dataset("image_folder", json!({ "root": root.path(), "class_names": names })).unwrap();
        let labels: Vec<_> = (0..set.len()).map(|i| set.get(i).unwrap().get(fields::LABEL).cloned()).collect();
        assert_eq!(labels, [Some(Field::Integer(1)), Some(Field::Integer(2))]);
        assert_eq!(set.property("num_classes").unwrap(), 3);
        let error = error("image_folder", json!({ "root": root.path(), "class_names": ["ant", "bee"] }));
        assert!(
            error.contains("has folders that are not among `class_names`: cow; the classes are ant, bee"),
            "{error}"
        );
    }

    #[test]
    fn links_are_followed_but_not_round_in_circles() {
        use std::os::unix::fs::symlink;
        let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in ["cat/b.png", "cat/inner/c.png"] {
            write(root.path(), name, 0);
        }
        write(elsewhere.path(), "deep/d.png", 0);
        let link = |to: &Path, name: &str| symlink(to, root.path().join(name)).unwrap();
        link(elsewhere.path(), "dog");
        link(&root.path().join("cat/b.png"), "cat/a.png");
        link(&root.path().join("cat"), "cat/inner/back");
        link(elsewhere.path(), "cat/there");
        link(Path::new("nowhere"), "cat/z.png");
        link(Path::new("nowhere"), "cat/z.txt");
        link(Path::new("."), "every");
        let set = ImageFolder::open(root.path(), None, None, false, false).unwrap();
        assert_eq!(set.classes, ["cat", "dog", "every"]);
        let names: Vec<_> =
            set.samples.iter().map(|(path, label)| (path.strip_prefix(root.path()).unwrap(), *label)).collect();
        let cat = ["a.png", "b.png", "inner/c.png", "there/deep/d.png", "z.png"];
        let every =
            ["cat/a.png", "cat/b.png", "cat/inner/c.png", "cat/there/deep/d.png", "cat/z.png", "dog/deep/d.png"];
        let expected = cat.map(|name| (Path::new("cat").join(name), 0)).into_iter();
        let expected = expected.chain([(PathBuf::from("dog/deep/d.png"), 1)]);
        let expected = expected.chain(every.map(|name| (Path::new("every").join(name), 2)));
        assert!(expected.eq(names.iter().map(|(path, label)| (path.to_path_buf(), *label))), "{names:?}");
        assert!(set.get(4).is_err());
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
