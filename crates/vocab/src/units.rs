//! Values with a syntax of their own: durations, sizes in bytes, sizes of images.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

/// A span of time: `"90s"`, `"10m"`, `"1h30m"`, `"250ms"`, or a number of seconds.
///
/// Units are `d`, `h`, `m`, `s` and `ms`; several may follow one another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(std::time::Duration);

impl Duration {
    /// The span as the standard library has it.
    pub fn get(self) -> std::time::Duration {
        self.0
    }

    fn from_seconds(seconds: f64) -> Result<Self, String> {
        std::time::Duration::try_from_secs_f64(seconds)
            .map(Self)
            .map_err(|_| format!("`{seconds}` is not a duration: it must be 0 or more seconds, and not too large"))
    }
}

impl From<std::time::Duration> for Duration {
    fn from(duration: std::time::Duration) -> Self {
        Self(duration)
    }
}

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            |why: &str| format!("`{text}` is not a duration: {why}; write it like \"90s\", \"10m\" or \"1h30m\"");
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(wrong("it is empty"));
        }
        if let Ok(seconds) = rest.parse::<f64>() {
            return Self::from_seconds(seconds);
        }
        let mut seconds = 0.0;
        while !rest.is_empty() {
            let (number, after) = split_at(rest, |c| c.is_ascii_digit() || c == '.');
            let (unit, after) = split_at(after, char::is_alphabetic);
            let count: f64 = number.parse().map_err(|_| wrong("a number is missing"))?;
            seconds += count
                * match unit {
                    "d" => 86_400.0,
                    "h" => 3_600.0,
                    "m" | "min" => 60.0,
                    "s" => 1.0,
                    "ms" => 0.001,
                    "" => return Err(wrong("a unit is missing")),
                    other => return Err(wrong(&format!("`{other}` is not one of d, h, m, s, ms"))),
                };
            rest = after.trim_start();
        }
        Self::from_seconds(seconds)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let parts = [
            (millis / 3_600_000, "h"),
            (millis / 60_000 % 60, "m"),
            (millis / 1_000 % 60, "s"),
            (millis % 1_000, "ms"),
        ];
        for (count, unit) in parts.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{count}{unit}")?;
        }
        if millis == 0 { f.write_str("0s") } else { Ok(()) }
    }
}

/// Sides of images that options ask for are not longer, in pixels: a digit too many would take all memory there is.
pub const MAX_SIDE: u32 = 16_384;

/// Height and width in pixels: `512` for a square, or `[height, width]`. Both are at least 1, and at most [`MAX_SIDE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Size2d {
    /// Height in pixels.
    pub height: u32,
    /// Width in pixels.
    pub width: u32,
}

fn split_at(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    text.split_at(end)
}

struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"90s\", \"10m\" or \"1h30m\", or a number of seconds")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Duration, E> {
        Ok(Duration(std::time::Duration::from_secs(seconds)))
    }

    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Duration, E> {
        Duration::from_seconds(seconds as f64).map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Duration, E> {
        Duration::from_seconds(seconds).map_err(E::custom)
    }
}

struct Size2dVisitor;

impl Size2dVisitor {
    fn side<E: de::Error>(pixels: i64) -> Result<u32, E> {
        u32::try_from(pixels)
            .ok()
            .filter(|pixels| (1..=MAX_SIDE).contains(pixels))
            .ok_or_else(|| E::custom(format!("`{pixels}` is not a size in pixels: it must be 1 to {MAX_SIDE}")))
    }
}

impl<'de> Visitor<'de> for Size2dVisitor {
    type Value = Size2d;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size in pixels: an integer for a square, or [height, width]")
    }

    fn visit_i64<E: de::Error>(self, pixels: i64) -> Result<Size2d, E> {
        let side = Self::side(pixels)?;
        Ok(Size2d { height: side, width: side })
    }

    fn visit_u64<E: de::Error>(self, pixels: u64) -> Result<Size2d, E> {
        self.visit_i64(i64::try_from(pixels).unwrap_or(i64::MAX))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Size2d, A::Error> {
        let mut sides = Vec::new();
        while let Some(side) = sequence.next_element::<i64>()? {
            sides.push(side);
            if sides.len() > 2 {
                break;
            }
        }
        let [height, width] = sides[..] else {
            return Err(de::Error::custom("a size has two sides: [height, width]"));
        };
        Ok(Size2d { height: Self::side(height)?, width: Self::side(width)? })
    }
}

/// The serde and schema plumbing that every unit has.
macro_rules! unit_value {
    ($type:ty, $visitor:expr, $name:literal, $schema:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any($visitor)
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

unit_value!(
    Duration,
    DurationVisitor,
    "Duration",
    json_schema!({
        "anyOf": [
            { "type": "number", "minimum": 0 },
            { "type": "string", "pattern": r"^\s*([0-9.]+\s*(d|h|m|min|s|ms)?\s*)+$" }
        ]
    })
);
unit_value!(
    Size2d,
    Size2dVisitor,
    "Size2d",
    json_schema!({
        "anyOf": [
            { "type": "integer", "minimum": 1, "maximum": MAX_SIDE },
            { "type": "array", "items": { "type": "integer", "minimum": 1, "maximum": MAX_SIDE }, "minItems": 2, "maxItems": 2 }
        ]
    })
);

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Size2d {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.height, self.width).serialize(serializer)
    }
}

/// A count with thousands separators: `43,710,759`.
pub fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;

    fn read<T: DeserializeOwned>(value: Value) -> Result<T, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn counts_are_grouped_by_thousands() {
        let all = [0, 7, 999, 1000, 43_710_759, 100_000].map(grouped);
        assert_eq!(all, ["0", "7", "999", "1,000", "43,710,759", "100,000"]);
    }

    #[test]
    fn durations() {
        let millis = |value| read::<Duration>(value).map(|found| found.get().as_millis());
        for (value, expected) in [
            (json!("90s"), 90_000),
            (json!("10m"), 600_000),
            (json!("1h30m"), 5_400_000),
            (json!("1h 30m"), 5_400_000),
            (json!("1.5s"), 1_500),
            (json!("250ms"), 250),
            (json!("2d"), 172_800_000),
            (json!("45"), 45_000),
            (json!(45), 45_000),
            (json!(0.5), 500),
        ] {
            assert_eq!(millis(value.clone()), Ok(expected), "{value}");
        }
        for wrong in [
            json!(""),
            json!("m"),
            json!("10 parsecs"),
            json!("5m3"),
            json!(-1),
            json!(1e300),
            json!("-3s"),
            json!("nan"),
        ] {
            assert!(millis(wrong.clone()).is_err(), "{wrong}");
        }
        insta::assert_snapshot!(millis(json!("10x")).unwrap_err(), @r#"`10x` is not a duration: `x` is not one of d, h, m, s, ms; write it like "90s", "10m" or "1h30m""#);
        assert!(millis(json!([])).unwrap_err().contains("a duration such as"));
        assert_eq!(read::<Duration>(json!("90m")).unwrap().to_string(), "1h30m");
        assert_eq!(Duration::default().to_string(), "0s");
    }

    #[test]
    fn sizes() {
        let sides = |value| read::<Size2d>(value).map(|size| (size.height, size.width));
        assert_eq!(sides(json!(512)), Ok((512, 512)));
        assert_eq!(sides(json!([480, 640])), Ok((480, 640)));
        for wrong in [json!(0), json!(-3), json!([1]), json!([1, 2, 3]), json!([0, 4]), json!("512"), json!(1.5)] {
            assert!(sides(wrong.clone()).is_err(), "{wrong}");
        }
        assert_eq!(json!(Size2d { height: 1, width: 2 }), json!([1, 2]));
    }
}
