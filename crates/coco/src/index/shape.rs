//! A segmentation in JSON: polygons or run lengths.

use std::fmt;

use anyhow::Result;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::loose::Loose;
use super::segments::{Segmentation, Segments, Slot};
use crate::mask::compress;

/// One annotation's polygons, kept between annotations for their memory.
#[derive(Default)]
#[cfg_attr(test, derive(Debug))]
pub(super) struct Scratch {
    values: Vec<f64>,
    ends: Vec<usize>,
}

/// A segmentation: a list of polygons, or an object with run lengths.
pub(super) struct Shape<'a, K> {
    pub keep: K,
    pub scratch: &'a mut Scratch,
}

/// What becomes of a segmentation.
pub(super) trait Keep {
    type Kept: Default;
    /// Polygons, of which `ends[i]` is where polygon `i` ends in `values`.
    fn polygons(self, values: &[f64], ends: &[usize]) -> Result<Self::Kept>;
    fn runs(self, size: [u32; 2], counts: Vec<u8>) -> Result<Self::Kept>;
}

impl Keep for &mut Segments {
    type Kept = Slot;
    fn polygons(self, values: &[f64], ends: &[usize]) -> Result<Slot> {
        self.push_polygons(values, ends)
    }
    fn runs(self, size: [u32; 2], counts: Vec<u8>) -> Result<Slot> {
        self.push_runs(size, &counts)
    }
}

/// On its own.
struct Alone;

impl Keep for Alone {
    type Kept = Segmentation;
    fn polygons(self, values: &[f64], ends: &[usize]) -> Result<Segmentation> {
        let starts = [0].iter().chain(ends);
        let polygons: Vec<_> = starts.zip(ends).map(|(&start, &end)| values[start..end].to_vec()).collect();
        Ok(if polygons.is_empty() { Segmentation::None } else { Segmentation::Polygons(polygons) })
    }
    fn runs(self, size: [u32; 2], counts: Vec<u8>) -> Result<Segmentation> {
        Ok(Segmentation::Runs { size, counts })
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum RunsField {
    Size,
    Counts,
    #[serde(other)]
    Other,
}

impl<'de, K: Keep> DeserializeSeed<'de> for Shape<'_, K> {
    type Value = K::Kept;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<K::Kept, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, K: Keep> Visitor<'de> for Shape<'_, K> {
    type Value = K::Kept;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a segmentation: a list of polygons, or an object with `size` and `counts`")
    }

    // Something else that is no mask: the object has none.
    fn visit_unit<E: Error>(self) -> Result<K::Kept, E> {
        Ok(K::Kept::default())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<K::Kept, E> {
        Ok(K::Kept::default())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<K::Kept, E> {
        Ok(K::Kept::default())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<K::Kept, E> {
        Ok(K::Kept::default())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<K::Kept, E> {
        Ok(K::Kept::default())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<K::Kept, E> {
        Ok(K::Kept::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<K::Kept, A::Error> {
        let Scratch { values, ends } = self.scratch;
        values.clear();
        ends.clear();
        while seq.next_element_seed(Polygon(values))?.is_some() {
            ends.push(values.len());
        }
        self.keep.polygons(values, ends).map_err(A::Error::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<K::Kept, A::Error> {
        let (mut size, mut counts) = (None, None);
        while let Some(field) = map.next_key()? {
            match field {
                RunsField::Size => size = Some(map.next_value::<[u32; 2]>()?),
                RunsField::Counts => counts = Some(map.next_value::<Counts>()?.0),
                RunsField::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let size = size.ok_or_else(|| A::Error::missing_field("size"))?;
        let counts = counts.ok_or_else(|| A::Error::missing_field("counts"))?;
        self.keep.runs(size, counts).map_err(A::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Segmentation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Shape { keep: Alone, scratch: &mut Scratch::default() }.deserialize(deserializer)
    }
}

/// One polygon, appended to a buffer.
struct Polygon<'a>(&'a mut Vec<f64>);

impl<'de> DeserializeSeed<'de> for Polygon<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Polygon<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a polygon: a list of numbers x, y, x, y, … (a segmentation is a list of such lists)")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let before = self.0.len();
        let mut odd = false;
        while let Some(value) = seq.next_element::<Loose<f64>>()? {
            match value.right().filter(|value| value.is_finite()) {
                Some(value) => self.0.push(value),
                None => odd = true,
            }
        }
        if odd {
            // One without points is found, counted and passed over later.
            self.0.truncate(before);
        }
        Ok(())
    }
}

/// Run lengths, compressed or as a list, as their compressed string.
struct Counts(pub Vec<u8>);

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("run lengths: a string, or a list of numbers")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
                Ok(text.as_bytes().to_vec())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u8>, A::Error> {
                let mut counts: Vec<u32> = Vec::new();
                while let Some(count) = seq.next_element()? {
                    counts.push(count);
                }
                Ok(compress(&counts).into_bytes())
            }
        }
        deserializer.deserialize_any(Either).map(Self)
    }
}
