//! What losses were divided by: for ranks that divide by what is in the parts of all of them.
//!
//! A loss is told of ([`tell`]) where it is a sum over what the images happen to have (foreground, masks, keypoints, pixels that count), and not
//! over images. That costs nothing unless somebody listens in the same thread ([`heard`]).

use std::cell::RefCell;

use anyhow::Result;
use tch::{Kind, Tensor, no_grad};

thread_local! {
    static HEARD: RefCell<Option<Vec<(String, Tensor)>>> = const { RefCell::new(None) };
}

/// Does some work, and gives what losses were divided by meanwhile, by their names: numbers, `[]`.
pub fn heard<T>(work: impl FnOnce() -> T) -> (T, Vec<(String, Tensor)>) {
    HEARD.set(Some(Vec::new()));
    let done = work();
    (done, HEARD.take().unwrap_or_default())
}

/// Tells of losses what their sums were divided by, 0 where they are sums of nothing. Asked for only where somebody listens.
///
/// # Errors
/// Those of `divisor`.
pub fn tell(losses: &[&str], divisor: impl FnOnce() -> Result<Tensor>) -> Result<()> {
    if HEARD.with_borrow(Option::is_none) {
        return Ok(());
    }
    let divisor = no_grad(divisor)?.f_to_kind(Kind::Double)?;
    let each = losses.iter().map(|loss| ((*loss).to_owned(), divisor.shallow_clone()));
    HEARD.with_borrow_mut(|heard| heard.get_or_insert_default().extend(each));
    Ok(())
}

/// As [`tell`], of a number that the host knows.
///
/// # Errors
/// Memory is short.
pub fn tell_count(losses: &[&str], count: i64) -> Result<()> {
    tell(losses, || Ok(Tensor::from(count)))
}
