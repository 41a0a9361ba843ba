//! What losses were divided by: for ranks that divide by what is in the parts of all of them.
//!
//! A loss is told of ([`tell`]) where it is a sum over what the images happen to have (foreground, masks, keypoints, pixels that count), and not
//! over images. That costs nothing unless somebody listens in the same thread ([`heard`]).

use std::cell::RefCell;

use anyhow::Result;
use tch::{Kind, Tensor, no_grad};

thread_local! {
    static HEARD: RefCell<Option<Vec<(String, Divisor)>>> = const { RefCell::new(None) };
}

/// What a loss was divided by.
#[derive(Debug)]
pub struct Divisor {
    /// What there was, `[]`.
    count: Tensor,
    /// What it was divided by where there was less.
    at_least: f64,
}

impl Divisor {
    /// What there was.
    pub fn count(&self) -> f64 {
        self.count.double_value(&[])
    }

    /// What a sum is divided by where there is so much.
    pub fn of(&self, count: f64) -> f64 {
        count.max(self.at_least)
    }
}

/// Does some work, and gives what losses were divided by meanwhile, by their names.
pub fn heard<T>(work: impl FnOnce() -> T) -> (T, Vec<(String, Divisor)>) {
    HEARD.set(Some(Vec::new()));
    let done = work();
    (done, HEARD.take().unwrap_or_default())
}

/// Tells of losses what their sums were divided by, or by `at_least`. Asked for only where somebody listens.
///
/// # Errors
/// Those of `count`.
pub fn tell(losses: &[&str], at_least: f64, count: impl FnOnce() -> Result<Tensor>) -> Result<()> {
    if HEARD.with_borrow(Option::is_none) {
        return Ok(());
    }
    let count = no_grad(count)?.f_to_kind(Kind::Double)?;
    let each = losses.iter().map(|loss| ((*loss).to_owned(), Divisor { count: count.shallow_clone(), at_least }));
    HEARD.with_borrow_mut(|heard| heard.get_or_insert_default().extend(each));
    Ok(())
}

/// As [`tell`], of a number that the host knows, or 1.
///
/// # Errors
/// Memory is short.
pub fn tell_count(losses: &[&str], count: i64) -> Result<()> {
    tell(losses, 1.0, || Ok(Tensor::from(count)))
}
