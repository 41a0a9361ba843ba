//! What losses are the sums of, by image and object: for who asks what made one so large.
//!
//! A loss that is told of ([`tell`]) costs nothing unless somebody listens in the same thread ([`listen`], [`heard`]).

use std::cell::RefCell;
use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor, no_grad};

thread_local! {
    static HEARD: RefCell<Option<Vec<Terms>>> = const { RefCell::new(None) };
}

/// A loss as the sum of its parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// Its name.
    pub loss: String,
    /// Its parts, by image and object. Their sum is the loss but for rounding.
    pub parts: Vec<Part>,
}

/// What an object, or the background of an image, adds to a loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Where it comes from.
    pub place: Place,
    /// How much it adds.
    pub value: f64,
}

/// Where a part of a loss comes from: the image's place in the batch, and the number of the object in its ground truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The image.
    pub image: usize,
    /// The object; none for the background, and for losses of whole images.
    pub object: Option<usize>,
}

/// Listens to the losses of this thread from now on.
pub fn listen() {
    HEARD.set(Some(Vec::new()));
}

/// What was heard since; nobody listens any more.
pub fn heard() -> Vec<Terms> {
    HEARD.take().unwrap_or_default()
}

/// Tells of a loss: the terms `[T]` whose sum it is, and the place of each. Asked for only where somebody listens.
///
/// # Errors
/// There are not as many places as terms, or memory is short.
pub fn tell(loss: &str, terms: impl FnOnce() -> Result<(Tensor, Vec<Place>)>) -> Result<()> {
    if HEARD.with_borrow(Option::is_none) {
        return Ok(());
    }
    let (values, places) = no_grad(terms)?;
    let values = Vec::<f64>::try_from(values.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?)?;
    ensure!(values.len() == places.len(), "{loss} has {} terms of {} places", values.len(), places.len());
    let mut sums: BTreeMap<Place, f64> = BTreeMap::new();
    for (place, value) in places.into_iter().zip(values) {
        *sums.entry(place).or_default() += value;
    }
    let parts = sums.into_iter().map(|(place, value)| Part { place, value }).collect();
    HEARD.with_borrow_mut(|heard| heard.get_or_insert_default().push(Terms { loss: loss.to_owned(), parts }));
    Ok(())
}

/// The places of terms that each belong to an object, image by image: `objects` has for each image the numbers of their objects, i64,
/// negative for the background.
///
/// # Errors
/// The numbers are of another type.
pub fn of_objects(objects: &[Tensor]) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    for (image, objects) in objects.iter().enumerate() {
        let objects = Vec::<i64>::try_from(objects.f_to_device(Device::Cpu)?)?;
        places.extend(objects.into_iter().map(|object| Place { image, object: object.try_into().ok() }));
    }
    Ok(places)
}

/// The places of terms of whole images, so many of each.
pub fn of_images(counts: impl IntoIterator<Item = i64>) -> Vec<Place> {
    let each = |(image, count): (usize, i64)| (0..count).map(move |_| Place { image, object: None });
    counts.into_iter().enumerate().flat_map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_add_up_by_place_where_somebody_listens() {
        let terms = || {
            let objects = [Tensor::from_slice(&[0i64, -1, 0]), Tensor::from_slice(&[1i64])];
            Ok((Tensor::from_slice(&[1f32, 2.0, 4.0, 8.0]), of_objects(&objects)?))
        };
        tell("unheard", || unreachable!()).unwrap();
        listen();
        tell("loss", terms).unwrap();
        let found = heard();
        let part = |image, object, value| Part { place: Place { image, object }, value };
        let parts = vec![part(0, None, 2.0), part(0, Some(0), 5.0), part(1, Some(1), 8.0)];
        assert_eq!(found, [Terms { loss: "loss".into(), parts }]);
        assert!(heard().is_empty());
    }
}
