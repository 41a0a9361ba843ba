//! Who checks pipelines that are edited on the page: the program, as this crate knows none.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

type Check = dyn Fn(&Path, &str) -> Value + Send + Sync;

/// Says what another text of its pipeline would mean to the run in a folder.
#[derive(Clone)]
pub struct Checker(Arc<Check>);

impl Checker {
    /// One that asks a function, whose answer the page is given as it is.
    pub fn new(check: impl Fn(&Path, &str) -> Value + Send + Sync + 'static) -> Checker {
        Checker(Arc::new(check))
    }

    pub(crate) fn check(&self, run: &Path, text: &str) -> Value {
        (self.0)(run, text)
    }
}

impl fmt::Debug for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Checker")
    }
}
