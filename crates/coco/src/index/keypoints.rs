//! Keypoints of objects, as in `person_keypoints_*.json`.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Annotation, Index, Problem};

/// The keypoints of annotations, by the annotations' ids.
#[derive(Clone, Debug, Default)]
pub(super) struct Points {
    right: HashMap<i64, Box<[[f32; 3]]>>,
    odd: Vec<i64>,
}

impl Points {
    /// Takes what an annotation has for `keypoints`. Of annotations with one id the first counts, as everywhere.
    pub fn add(&mut self, id: i64, value: &Value) {
        match triples(value) {
            Some(points) if points.is_empty() => {}
            Some(points) => drop(self.right.entry(id).or_insert(points)),
            None => self.odd.push(id),
        }
    }
}

/// `x, y, v, x, y, v, …`, all finite. `null` is none.
fn triples(value: &Value) -> Option<Box<[[f32; 3]]>> {
    if value.is_null() {
        return Some(Box::default());
    }
    let numbers: Vec<f32> =
        value.as_array()?.iter().map(|number| Some(number.as_f64()? as f32)).collect::<Option<_>>()?;
    let (points, rest) = numbers.as_chunks::<3>();
    (rest.is_empty() && numbers.iter().all(|number| number.is_finite())).then(|| points.into())
}

/// A category's names of keypoints; none where something else stands there.
pub(super) fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let name = |name: &Value| name.as_str().map(str::to_owned);
    Ok(value.as_array().and_then(|names| names.iter().map(name).collect()).unwrap_or_default())
}

impl Index {
    /// The keypoints of an annotation of this index: x and y in pixels, and 0 for not labelled, 1 for hidden, 2 for visible. Empty for
    /// an object without, and where they were not asked for ([`super::LoadOptions::keypoints`]).
    pub fn keypoints(&self, annotation: &Annotation) -> &[[f32; 3]] {
        self.keypoints.right.get(&annotation.id).map_or(&[], |points| points)
    }

    /// The most keypoints that an object can have, by the categories' names, and where there are none by the objects.
    pub fn keypoint_count(&self) -> usize {
        let named = self.categories.iter().map(|category| category.keypoints.len()).max().unwrap_or(0);
        if named > 0 { named } else { self.keypoints.right.values().map(|points| points.len()).max().unwrap_or(0) }
    }

    /// Takes over the keypoints of an annotation of another index.
    pub(super) fn take_keypoints(&mut self, from: &Index, id: i64) {
        if let Some(points) = from.keypoints.right.get(&id) {
            self.keypoints.right.insert(id, points.clone());
        }
    }

    /// Leaves out, and counts, what are not the keypoints of the object's category.
    pub(super) fn inspect_keypoints(&mut self) {
        let Index { annotations, categories, keypoints, audit, .. } = self;
        for annotation in &*annotations {
            let Some(points) = keypoints.right.get(&annotation.id) else { continue };
            let category = categories.iter().find(|category| category.id == annotation.category_id);
            let wanted = category.map_or(0, |category| category.keypoints.len());
            if wanted > 0 && points.len() != wanted {
                keypoints.right.remove(&annotation.id);
                keypoints.odd.push(annotation.id);
            }
        }
        keypoints.odd.drain(..).for_each(|id| audit.record(Problem::BadKeypoints, id));
    }
}

/// The keypoints, by place, that change sides in a mirror: those whose names are the same but for `left` and `right`.
pub fn mirror_pairs(names: &[String]) -> Vec<[usize; 2]> {
    let other = |name: &str| name.contains("left").then(|| name.replace("left", "right"));
    let place = |name: &String| names.iter().position(|other| other == name);
    let pair = |(left, name): (usize, &String)| Some([left, place(&other(name)?)?]);
    names.iter().enumerate().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::index::LoadOptions;

    fn read(keypoints: bool) -> Index {
        let annotation = |id: i64, points: Value| json!({ "id": id, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4], "keypoints": points });
        let file = json!({
            "images": [{ "id": 1, "file_name": "1.jpg", "height": 10, "width": 20 }],
            "categories": [
                { "id": 1, "name": "person", "keypoints": ["nose", "left_eye", "right_eye"] },
                { "id": 2, "name": "tree", "keypoints": null },
            ],
            "annotations": [
                annotation(1, json!([1, 2, 2, 3.5, 4, 1, 0, 0, 0])),
                annotation(2, json!([1, 2, 2])),
                annotation(3, json!("1 2 2")),
                annotation(4, json!([])),
                annotation(5, Value::Null),
            ],
        });
        Index::read(file.to_string().as_bytes(), "f.json", &LoadOptions { keypoints, ..LoadOptions::default() })
            .unwrap()
    }

    #[test]
    fn objects_have_their_points() {
        let index = read(true);
        let points: Vec<_> = index.annotations(0).iter().map(|object| index.keypoints(object).len()).collect();
        assert_eq!(points, [3, 0, 0, 0, 0]);
        assert_eq!(index.keypoints(&index.annotations(0)[0])[1], [3.5, 4.0, 1.0]);
        assert_eq!((index.keypoint_count(), index.audit().count(Problem::BadKeypoints)), (3, 2));
        let (chosen, _) = index.subset(&[0]).unwrap().with_classes(&["person".to_owned()]).unwrap();
        assert_eq!(chosen.keypoints(&chosen.annotations(0)[0]).len(), 3);
        assert_eq!(mirror_pairs(&chosen.categories()[0].keypoints), [[1, 2]]);
        let without = read(false);
        assert!(
            without.keypoints(&without.annotations(0)[0]).is_empty()
                && without.audit().count(Problem::BadKeypoints) == 0
        );
    }
}
