//! The images that are looked at: which, and under which ids.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use pipe_coco::index::{Index, LoadOptions};
use pipe_core::Dataset;
use pipe_data::Image;
use pipe_data::decode::{is_image_file, read_image};
use pipe_vocab::files::read_text;

use crate::output::refuse_foreign;

/// A list of images is not longer.
const MAX_LIST: u64 = 256 << 20;

/// An image to look at.
pub struct Picture {
    /// The number in its name, as COCO names its files (`000000000139.jpg`), else its place in the list from 1 on.
    pub id: i64,
    /// Its file; of a sample without one its number.
    pub path: PathBuf,
    /// What annotations call it.
    listed: Option<String>,
    /// The sample, if it is one of a dataset.
    sample: Option<(Arc<dyn Dataset>, usize)>,
    /// Whether the id is a mere place, so that the results must say the name.
    pub counted: bool,
    /// Whether another image has the same name in another folder, or with another ending.
    pub shared: bool,
}

impl Picture {
    /// What files about it are called, without ending.
    pub fn name(&self) -> String {
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        if self.shared { format!("{}_{stem}", self.id) } else { stem.into_owned() }
    }

    /// What the results call it: as annotations do, else the path.
    pub fn file_name(&self) -> String {
        self.listed.clone().unwrap_or_else(|| self.path.display().to_string())
    }

    /// The image, turned upright by its EXIF orientation if `exif`, or a word on why it is left out.
    pub fn read_or_tell<'p>(&'p self, exif: bool, unread: &mut usize) -> Option<(&'p Picture, Image)> {
        let read = match &self.sample {
            Some((dataset, index)) => dataset.get(*index).and_then(|sample| Ok(sample.image()?.clone())),
            None => read_image(&self.path, exif),
        };
        match read {
            Ok(image) => Some((self, image)),
            Err(error) => {
                tracing::error!("{error:#}; it is left out");
                *unread += 1;
                None
            }
        }
    }
}

/// All images that the paths name: files, folders (those in them, by name), patterns such as `val/*.jpg`, and lists (`.txt`, a path a
/// line).
///
/// # Errors
/// When a path names nothing, or a folder or list cannot be read.
pub fn pictures(paths: &[PathBuf]) -> Result<Vec<Picture>> {
    let mut files = Vec::new();
    for path in paths {
        add(path, &mut files)?;
    }
    let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<i64>().ok().filter(|id| *id >= 0);
    let numbers: Option<Vec<i64>> = files.iter().map(number).collect();
    let distinct = |ids: &Vec<i64>| ids.iter().collect::<BTreeSet<_>>().len() == ids.len();
    let counted = numbers.as_ref().is_none_or(|ids| !distinct(ids));
    let ids = numbers.filter(|_| !counted).unwrap_or_else(|| (1..=files.len() as i64).collect());
    let picture = |(path, id): (PathBuf, i64)| Picture { id, counted, shared: false, path, listed: None, sample: None };
    Ok(with_names(files.into_iter().zip(ids).map(picture).collect()))
}

/// Those of a dataset, with its ids, and the ids of its categories by name.
pub fn of_dataset(dataset: &Arc<dyn Dataset>) -> (Vec<Picture>, BTreeMap<String, u32>) {
    let index = dataset.extension().and_then(|extension| extension.downcast_ref::<Arc<Index>>());
    let entry = |place: usize| index.and_then(|index| index.images().get(place));
    let picture = |place: usize| Picture {
        id: entry(place).map_or(place as i64, |image| image.id),
        listed: entry(place).map(|image| image.file_name.to_string()),
        path: dataset.file(place).unwrap_or_else(|| place.to_string().into()),
        sample: Some((dataset.clone(), place)),
        counted: false,
        shared: false,
    };
    let category = |(label, name): (i64, String)| Some((name, u32::try_from(label).ok()?));
    let categories = dataset.class_names().into_iter().filter_map(category).collect();
    (with_names((0..dataset.len()).map(picture).collect()), categories)
}

/// Finds out which have a name for themselves.
fn with_names(mut pictures: Vec<Picture>) -> Vec<Picture> {
    let mut stems: BTreeMap<OsString, usize> = BTreeMap::new();
    let stem = |path: &Path| path.file_stem().unwrap_or_default().to_owned();
    pictures.iter().for_each(|picture| *stems.entry(stem(&picture.path)).or_default() += 1);
    pictures.iter_mut().for_each(|picture| picture.shared = stems[&stem(&picture.path)] > 1);
    pictures
}

fn add(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_dir() {
        return add_folder(path, files);
    }
    let text = path.to_string_lossy();
    if !path.exists() && text.contains(['*', '?', '[']) {
        let found = glob::glob(&text).with_context(|| format!("the pattern {text}"))?;
        let before = files.len();
        files.extend(found.flatten().filter(|path| path.is_file() && !is_hidden(path) && is_image_file(path)));
        ensure!(files.len() > before, "no image is called {text}");
        return Ok(());
    }
    if path.extension().is_some_and(|ending| ending == "txt") && !is_image_file(path) {
        let list = read_text(path, MAX_LIST).with_context(|| format!("cannot read the list {}", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        for line in list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            // As they stand, from where the program runs; else from where the list lies.
            let (here, beside) = (PathBuf::from(line), folder.join(line));
            files.push(if here.exists() || !beside.exists() { here } else { beside });
        }
        return Ok(());
    }
    ensure!(path.exists(), "there is no image or folder {}", path.display());
    files.push(path.to_owned());
    Ok(())
}

/// `.DS_Store`, `._cat.jpg`.
fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// Refuses to write over what is read.
///
/// # Errors
/// When the file `out`, or a file about an image in one of the `folders`, would replace an image; when `out` is something else than
/// results.
pub fn refuse_overwriting(pictures: &[Picture], out: Option<&Path>, folders: &[&Path]) -> Result<()> {
    let whole = |path: &Path| std::fs::canonicalize(path).ok();
    let inputs: BTreeSet<PathBuf> = pictures.iter().filter_map(|picture| whole(&picture.path)).collect();
    if let Some(out) = out {
        ensure!(
            whole(out).is_none_or(|out| !inputs.contains(&out)),
            "{} is one of the images: choose another --out",
            out.display()
        );
        refuse_foreign(out)?;
    }
    for folder in folders {
        let same = whole(folder).is_some_and(|folder| inputs.iter().any(|input| input.parent() == Some(&folder)));
        ensure!(!same, "the images lie in {}: choose another folder for what is written", folder.display());
    }
    Ok(())
}

fn add_folder(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    let all = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file() && !is_hidden(path));
    let (mut inside, others): (Vec<PathBuf>, Vec<PathBuf>) = all.partition(|path| is_image_file(path));
    if !others.is_empty() {
        tracing::warn!("{}: no images of a format that is read: {}", path.display(), endings(&others));
    }
    ensure!(!inside.is_empty(), "{} contains no images; folders in it are not looked into", path.display());
    inside.sort();
    tracing::info!("{}: {} images ({})", path.display(), inside.len(), endings(&inside));
    files.extend(inside);
    Ok(())
}

/// How many files have which ending: `2 .bmp, 1 .tif`.
fn endings(files: &[PathBuf]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for file in files {
        let ending = file.extension().map(|ending| format!(".{}", ending.to_string_lossy().to_lowercase()));
        *counts.entry(ending.unwrap_or_else(|| "without an ending".into())).or_default() += 1;
    }
    counts.into_iter().map(|(ending, count)| format!("{count} {ending}")).collect::<Vec<_>>().join(", ")
}

/// Gives the images the ids that annotations have for their names. Returns the ids of the categories by name.
///
/// # Errors
/// When the annotations have no image of a name, or several.
pub fn take_ids(pictures: &mut [Picture], annotations: &Path) -> Result<BTreeMap<String, u32>> {
    let index = Index::open(annotations, &LoadOptions { strict: false, images: false, ..LoadOptions::default() })?;
    let base = |name: &str| name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
    let mut ids: BTreeMap<String, Vec<(i64, &str)>> = BTreeMap::new();
    for image in index.images() {
        ids.entry(base(&image.file_name)).or_default().push((image.id, &image.file_name));
    }
    for picture in pictures {
        let name = base(&picture.path.display().to_string());
        let (id, listed) = match ids.get(&name).map(Vec::as_slice) {
            Some([one]) => *one,
            Some(_) => bail!("{} has several images called {name}", annotations.display()),
            None => bail!("{} has no image called {name}", annotations.display()),
        };
        (picture.id, picture.listed) = (id, Some(listed.to_owned()));
    }
    Ok(index.categories().iter().map(|category| (category.name.clone(), category.id)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_numbered_by_name_or_place() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["000000000139.jpg", "7.png", "notes.txt"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let by_name = pictures(&[folder.path().to_owned()]).unwrap();
        assert_eq!(by_name.iter().map(|p| p.id).collect::<Vec<_>>(), [139, 7]);
        std::fs::write(folder.path().join("cat.jpg"), "").unwrap();
        let by_place = pictures(&[folder.path().join("7.png"), folder.path().join("cat.jpg")]).unwrap();
        assert_eq!(by_place.iter().map(|p| (p.id, p.counted)).collect::<Vec<_>>(), [(1, true), (2, true)]);
        let empty = tempfile::tempdir().unwrap();
        assert!(pictures(&[empty.path().to_owned()]).is_err());
        assert_eq!(endings(&["a.BMP".into(), "b.bmp".into(), "c".into()]), "2 .bmp, 1 without an ending");
    }

    #[test]
    fn files_are_called_after_images_and_never_replace_them() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("more")).unwrap();
        for name in ["a.jpg", "b.png", ".hidden.jpg", "more/b.jpg"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let all = pictures(&[folder.path().to_owned(), folder.path().join("more")]).unwrap();
        assert_eq!(all.iter().map(Picture::name).collect::<Vec<_>>(), ["a", "2_b", "3_b"]);
        let (input, other) = (folder.path().join("a.jpg"), folder.path().join("out.json"));
        let error = refuse_overwriting(&all, Some(&input), &[]).unwrap_err().to_string();
        assert!(error.contains("a.jpg is one of the images"), "{error}");
        assert!(refuse_overwriting(&all, Some(&other), &[folder.path()]).is_err());
        assert!(refuse_overwriting(&all, Some(&other), &[&folder.path().join("drawn")]).is_ok());
    }

    #[test]
    fn patterns_and_lists_name_images() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["1.jpg", "2.jpg", "3.png"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let ids = |path: PathBuf| pictures(&[path]).unwrap().iter().map(|p| p.id).collect::<Vec<_>>();
        assert_eq!(ids(folder.path().join("*.jpg")), [1, 2]);
        std::fs::write(folder.path().join("list.txt"), "3.png\n\n1.jpg\n").unwrap();
        assert_eq!(ids(folder.path().join("list.txt")), [3, 1]);
        assert!(pictures(&[folder.path().join("*.gif")]).is_err());
    }
}
