//! Studies beside Optuna's: what `tests/optuna/make.py` had Optuna do, and the same here.

mod importances;
mod journal;
mod pruners;
mod samplers;

use std::path::Path;

use serde_json::Value;

/// A file that Optuna's script wrote.
fn optuna(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/optuna").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// As [`optuna`], of JSON in which Python wrote its `NaN`.
fn json(name: &str) -> Value {
    let text = optuna(name);
    serde_json::from_str(&text).unwrap_or_else(|_| serde_json::from_str(&text.replace("NaN", "null")).expect(name))
}
