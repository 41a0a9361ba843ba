//! Keypoints of objects, as in `person_keypoints_*.json`.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

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

    /// Adds those of annotations that come later.
    pub fn append(&mut self, later: Self) {
        for (id, points) in later.right {
            self.right.entry(id).or_insert(points);
        }
        self.odd.extend(later.odd);
    }

    /// Those of an annotation; none of one without.
    pub fn of(&self, id: i64) -> &[[f32; 3]] {
        self.right.get(&id).map_or(&[], |points| points)
    }

    /// The most that an annotation has.
    pub fn most(&self) -> usize {
        self.right.values().map(|points| points.len()).max().unwrap_or(0)
    }

    /// Takes over those of an annotation.
    pub fn take_from(&mut self, other: &Points, id: i64) {
        if let Some(points) = other.right.get(&id) {
            self.right.insert(id, points.clone());
        }
    }

    /// Leaves those of an annotation out that are not as many as they should be. A number of 0 says nothing.
    pub fn expect(&mut self, id: i64, count: usize) {
        if count > 0 && self.right.get(&id).is_some_and(|points| points.len() != count) {
            self.right.remove(&id);
            self.odd.push(id);
        }
    }

    /// The annotations whose keypoints are left out.
    pub fn take_odd(&mut self) -> Vec<i64> {
        std::mem::take(&mut self.odd)
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
    use crate::index::{Index, LoadOptions, Problem};

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
        Index::read(
            std::io::Cursor::new(file.to_string()),
            "f.json",
            &LoadOptions { keypoints, ..LoadOptions::default() },
        )
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
