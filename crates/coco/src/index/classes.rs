//! An [`Index`] of only some classes, numbered anew.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};

use super::{Category, Index};

/// The name of class 0 in a list of class names.
pub const BACKGROUND: &str = "background";

/// What choosing classes left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// How many annotations are of other classes.
    pub annotations: usize,
    /// Those classes.
    pub classes: Vec<String>,
    /// Names that were given and that the file does not have.
    pub unknown: Vec<String>,
}

impl Index {
    /// Keeps the annotations of the classes that are named and gives them the ids of their places: from 1 on, or, in a list
    /// that begins with `background`, from 0 on. An empty name is an id without a class.
    ///
    /// # Errors
    /// When a name is given twice, or two categories have it.
    pub fn with_classes(mut self, names: &[String]) -> Result<(Self, LeftOut)> {
        let first = u32::from(names.first().is_none_or(|name| name != BACKGROUND));
        let mut ids: BTreeMap<&str, u32> = BTreeMap::new();
        for (id, name) in (first..).zip(names).filter(|(id, name)| *id > 0 && !name.is_empty()) {
            ensure!(ids.insert(name, id).is_none(), "`classes` names {name:?} twice");
        }
        let mut new: BTreeMap<u32, u32> = BTreeMap::new();
        let mut found: BTreeMap<&str, u32> = BTreeMap::new();
        for category in &self.categories {
            let Some(id) = ids.get(category.name.as_str()) else { continue };
            if let Some(other) = found.insert(&category.name, category.id) {
                bail!(
                    "the categories {other} and {} are both called {:?}: `classes` cannot tell them apart",
                    category.id,
                    category.name
                );
            }
            new.insert(category.id, *id);
        }
        let mut left_out = LeftOut {
            unknown: ids.keys().filter(|name| !found.contains_key(*name)).map(|name| (*name).to_owned()).collect(),
            ..LeftOut::default()
        };
        let others = self.categories.iter().filter(|category| !new.contains_key(&category.id));
        left_out.classes = others.map(|category| category.name.clone()).collect();
        let before = self.annotations.len();
        self.renumber(&new);
        left_out.annotations = before - self.annotations.len();
        let category = |(name, id): (&str, u32)| {
            let old = self.categories.iter().find(|category| category.name == name);
            let keypoints = old.map(|category| category.keypoints.clone()).unwrap_or_default();
            Category { id, name: name.to_owned(), keypoints }
        };
        self.categories = ids.into_iter().map(category).collect();
        self.categories.sort_by_key(|category| category.id);
        Ok((self, left_out))
    }

    /// Gives annotations the ids that their categories have now, and drops those of the others.
    fn renumber(&mut self, new: &BTreeMap<u32, u32>) {
        let mut starts = vec![0];
        let mut kept = Vec::with_capacity(self.annotations.len());
        for position in 0..self.images.len() {
            for annotation in self.annotations(position) {
                if let Some(id) = new.get(&annotation.category_id) {
                    kept.push(super::Annotation { category_id: *id, ..annotation.clone() });
                }
            }
            starts.push(kept.len() as u32);
        }
        self.annotations = kept;
        self.starts = starts;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{LoadOptions, build};

    fn index() -> Index {
        let categories = [(0, "ant"), (5, "bee"), (9, "cow")];
        let mut builder = build::Builder::new(categories.map(|(id, name)| (id, name.to_owned())));
        for image in 1..=2 {
            builder.image(image, &format!("{image}.jpg"), [10, 10]);
            for (category, _) in categories {
                let object = build::Object { category, bbox: [1.0, 1.0, 2.0, 2.0], ..Default::default() };
                builder.object(image, &object).unwrap();
            }
        }
        builder.finish(&LoadOptions::default()).unwrap()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn classes_are_numbered_by_their_places() {
        let (index, left_out) = index().with_classes(&names(&["cow", "ant", "dog"])).unwrap();
        let ids = |position| index.annotations(position).iter().map(|a| a.category_id).collect::<Vec<_>>();
        assert_eq!([ids(0), ids(1)], [[2, 1], [2, 1]]);
        assert_eq!(
            (index.category_name(1), index.category_name(2), index.num_classes()),
            (Some("cow"), Some("ant"), 4)
        );
        assert_eq!(left_out, LeftOut { annotations: 2, classes: names(&["bee"]), unknown: names(&["dog"]) });
    }

    #[test]
    fn a_list_of_another_dataset_keeps_its_numbers() {
        let (index, _) = index().with_classes(&names(&["background", "", "bee"])).unwrap();
        assert_eq!(index.annotations(0).iter().map(|a| a.category_id).collect::<Vec<_>>(), [2]);
        let error = self::index().with_classes(&names(&["bee", "bee"])).unwrap_err().to_string();
        assert_eq!(error, "`classes` names \"bee\" twice");
    }
}
