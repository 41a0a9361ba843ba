//! Values that may be of another type than they should: each costs its own entry, not the file.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A value of the type that is expected, or of another one (`null`, a text, a list).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Loose<T> {
    /// As expected.
    Right(T),
    /// `null`.
    Null,
    /// Of another type, or out of range.
    Odd,
}

impl<T> Loose<T> {
    /// The value; `None` for anything else.
    pub fn right(self) -> Option<T> {
        match self {
            Loose::Right(value) => Some(value),
            Loose::Null | Loose::Odd => None,
        }
    }
}

/// What can be made of a number or a list.
pub(super) trait Wanted: Sized {
    fn of_number(_number: f64) -> Option<Self> {
        None
    }
    fn of_whole(number: i64) -> Option<Self> {
        Self::of_number(number as f64)
    }
    fn of_text(_text: &str) -> Option<Self> {
        None
    }
    fn of_numbers(_numbers: &[f64]) -> Option<Self> {
        None
    }
}

impl Wanted for f64 {
    fn of_number(number: f64) -> Option<f64> {
        Some(number)
    }
}

impl Wanted for i64 {
    fn of_number(number: f64) -> Option<i64> {
        // Up to 2⁵³ every integer is exact; some tools write ids as `7.0`.
        (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
    }
    fn of_whole(number: i64) -> Option<i64> {
        Some(number)
    }
}

impl Wanted for Box<str> {
    fn of_text(text: &str) -> Option<Box<str>> {
        Some(text.into())
    }
}

impl Wanted for [f64; 4] {
    fn of_numbers(numbers: &[f64]) -> Option<[f64; 4]> {
        numbers.try_into().ok()
    }
}

impl<'de, T: Wanted> Deserialize<'de> for Loose<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any(PhantomData))
    }
}

struct Any<T>(PhantomData<T>);

fn loose<T>(value: Option<T>) -> Loose<T> {
    value.map_or(Loose::Odd, Loose::Right)
}

impl<'de, T: Wanted> Visitor<'de> for Any<T> {
    type Value = Loose<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(loose(T::of_whole(i64::from(value))))
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(loose(T::of_whole(value)))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(loose(i64::try_from(value).ok().and_then(T::of_whole)))
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(loose(T::of_number(value)))
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(loose(T::of_text(text)))
    }
    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Loose::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut numbers = [0.0; 4];
        let mut count = 0;
        while let Some(number) = seq.next_element::<Loose<f64>>()? {
            if let Some(place) = numbers.get_mut(count) {
                *place = number.right().unwrap_or(f64::NAN);
            }
            count += 1;
        }
        Ok(loose(numbers.get(..count).and_then(T::of_numbers)))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Loose::Odd)
    }
}
