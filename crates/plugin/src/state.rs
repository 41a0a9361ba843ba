//! What a checkpoint saves: one trait for everything that has state.

use anyhow::{Result, anyhow};
use indexmap::IndexMap;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tch::Tensor;

/// The state of one node: plain values and tensors.
#[derive(Debug, Default)]
pub struct State {
    /// Numbers, texts, lists.
    pub values: Map<String, Value>,
    /// Tensors by name.
    pub tensors: IndexMap<String, Tensor>,
}

impl State {
    /// A state without tensors.
    ///
    /// # Errors
    /// When `value` is not a struct or map that JSON can hold.
    pub fn of(value: &impl Serialize) -> Result<State> {
        match serde_json::to_value(value)? {
            Value::Object(values) => Ok(State { values, tensors: IndexMap::new() }),
            other => Err(anyhow!("a state must be a table, not {other}")),
        }
    }

    /// The plain values, read back.
    ///
    /// # Errors
    /// When they do not fit `T`: the checkpoint was made by another component.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_value(Value::Object(self.values.clone()))?)
    }

    /// The same state, its tensors shared.
    pub fn shallow_clone(&self) -> State {
        let tensors = self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        State { values: self.values.clone(), tensors }
    }

    /// Whether there is anything to save.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.tensors.is_empty()
    }
}

/// Something whose state belongs into a checkpoint.
pub trait Stateful {
    /// Everything needed to go on exactly from here.
    ///
    /// # Errors
    /// When the state cannot be read from its device.
    fn state(&self) -> Result<State> {
        Ok(State::default())
    }

    /// Goes back to a saved state.
    ///
    /// # Errors
    /// When the state is of another component or another shape.
    fn load_state(&mut self, _state: &State) -> Result<()> {
        Ok(())
    }
}
