//! Arguments and results as bytes and tensors.

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tch::Tensor;

/// Arguments or results on their way out.
#[derive(Debug, Default)]
pub(crate) struct Message {
    pub(crate) bytes: Vec<u8>,
    pub(crate) tensors: Vec<Tensor>,
}

impl Message {
    /// A message of one thing.
    pub(crate) fn of<T: Wire>(value: &T) -> Result<Message> {
        let mut message = Message::default();
        value.pack(&mut message)?;
        Ok(message)
    }

    /// A message of one plain value.
    pub(crate) fn plain<T: Serialize + ?Sized>(value: &T) -> Result<Message> {
        let mut message = Message::default();
        message.put(value)?;
        Ok(message)
    }

    /// Adds a plain value.
    pub(crate) fn put<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let bytes = std::mem::take(&mut self.bytes);
        self.bytes = postcard::to_extend(value, bytes).context("an argument cannot be written")?;
        Ok(())
    }

    /// Adds a value of any form, as JSON.
    pub(crate) fn json(&mut self, value: &Value) -> Result<()> {
        self.put(&value.to_string())
    }
}

/// Arguments or results on their way in, read in the order in which they were put.
pub(crate) struct Reader<'m> {
    bytes: &'m [u8],
    tensors: std::vec::IntoIter<Tensor>,
}

impl<'m> Reader<'m> {
    pub(crate) fn new(bytes: &'m [u8], tensors: Vec<Tensor>) -> Reader<'m> {
        Reader { bytes, tensors: tensors.into_iter() }
    }

    /// Takes a plain value.
    pub(crate) fn get<T: DeserializeOwned>(&mut self) -> Result<T> {
        let (value, rest) = postcard::take_from_bytes(self.bytes)
            .with_context(|| format!("what crossed the plugin's border is no {}", std::any::type_name::<T>()))?;
        self.bytes = rest;
        Ok(value)
    }

    /// Takes a value that was put by [`Message::json`].
    pub(crate) fn json(&mut self) -> Result<Value> {
        Ok(serde_json::from_str(&self.get::<String>()?)?)
    }
}

/// Something that crosses the border, with its tensors beside its bytes.
pub(crate) trait Wire: Sized {
    fn pack(&self, to: &mut Message) -> Result<()>;
    fn unpack(from: &mut Reader<'_>) -> Result<Self>;
}

impl Wire for Tensor {
    fn pack(&self, to: &mut Message) -> Result<()> {
        to.tensors.push(self.shallow_clone());
        Ok(())
    }

    fn unpack(from: &mut Reader<'_>) -> Result<Self> {
        from.tensors.next().context("a tensor is missing in what crossed the plugin's border")
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn pack(&self, to: &mut Message) -> Result<()> {
        to.put(&self.len())?;
        self.iter().try_for_each(|item| item.pack(to))
    }

    fn unpack(from: &mut Reader<'_>) -> Result<Self> {
        (0..from.get::<usize>()?).map(|_| T::unpack(from)).collect()
    }
}

impl<T: Wire> Wire for Option<T> {
    fn pack(&self, to: &mut Message) -> Result<()> {
        to.put(&self.is_some())?;
        self.iter().try_for_each(|item| item.pack(to))
    }

    fn unpack(from: &mut Reader<'_>) -> Result<Self> {
        if from.get()? { T::unpack(from).map(Some) } else { Ok(None) }
    }
}

/// A thing with its name.
impl<T: Wire> Wire for (String, T) {
    fn pack(&self, to: &mut Message) -> Result<()> {
        to.put(&self.0)?;
        self.1.pack(to)
    }

    fn unpack(from: &mut Reader<'_>) -> Result<Self> {
        Ok((from.get()?, T::unpack(from)?))
    }
}
