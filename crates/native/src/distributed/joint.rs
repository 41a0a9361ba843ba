//! Layers whose statistics are those of all ranks' batches together: which group they sum over, while a model works.

use std::cell::RefCell;
use std::rc::Rc;

use super::Group;

thread_local! {
    static AT_WORK: RefCell<Option<Rc<Group>>> = const { RefCell::new(None) };
}

/// Puts back what was there before, whatever happens.
struct Before(Option<Rc<Group>>);

impl Drop for Before {
    fn drop(&mut self) {
        AT_WORK.set(self.0.take());
    }
}

/// Does something in which batch normalization sums over this group. Every rank does it together.
pub fn jointly<T>(group: &Rc<Group>, work: impl FnOnce() -> T) -> T {
    let _before = Before(AT_WORK.replace(Some(group.clone())));
    work()
}

/// The group to sum over, if there is one.
pub fn joint() -> Option<Rc<Group>> {
    AT_WORK.with_borrow(Clone::clone)
}
