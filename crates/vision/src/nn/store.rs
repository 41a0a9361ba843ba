//! The parameters and buffers of a model, by name and in order.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use indexmap::IndexMap;
use tch::{Device, Kind, Tensor, no_grad};

use super::StateDict;
use super::load::{self, LoadOptions, LoadReport};

/// What a tensor of a model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// May be trained.
    Parameter,
    /// State that no gradient reaches, such as running statistics.
    Buffer,
}

#[derive(Debug)]
struct Entry {
    tensor: Tensor,
    role: Role,
    /// Whether it is trained. Its `requires_grad` says the same, but where a run holds it still for a part of its time.
    trained: bool,
}

#[derive(Debug)]
struct Inner {
    entries: IndexMap<String, Entry>,
    device: Device,
}

/// The tensors of a model under PyTorch's names, in the order of PyTorch's `state_dict()`.
///
/// Clones share the tensors. Layers hold handles to the same tensors, so what happens here (loading, freezing,
/// moving to a device) happens to the layers.
#[derive(Debug, Clone)]
pub struct ParameterStore {
    inner: Arc<Mutex<Inner>>,
}

impl Default for ParameterStore {
    fn default() -> Self {
        Self::new()
    }
}

impl ParameterStore {
    /// An empty store on the CPU; build the model, then move it with [`Self::to`].
    pub fn new() -> Self {
        Self { inner: Arc::new(Mutex::new(Inner { entries: IndexMap::new(), device: Device::Cpu })) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place without a name, from which all names start.
    pub fn root(&self) -> Scope {
        Scope { store: self.clone(), name: String::new() }
    }

    /// Where the tensors are.
    pub fn device(&self) -> Device {
        self.lock().device
    }

    /// All names, in order.
    pub fn names(&self) -> Vec<String> {
        self.lock().entries.keys().cloned().collect()
    }

    /// The tensor of this name, sharing memory with the model.
    pub fn get(&self, name: &str) -> Option<Tensor> {
        self.lock().entries.get(name).map(|entry| entry.tensor.shallow_clone())
    }

    /// Every parameter and buffer, detached, in order. The tensors share memory with the model: copy them where the
    /// model trains on while they are kept.
    pub fn state_dict(&self) -> StateDict {
        self.lock().entries.iter().map(|(name, entry)| (name.clone(), entry.tensor.detach())).collect()
    }

    /// Every parameter, trained or frozen, in order.
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        self.select(|entry| entry.role == Role::Parameter)
    }

    /// The parameters that are not frozen, in order: what an optimizer takes.
    pub fn trainable(&self) -> Vec<(String, Tensor)> {
        self.select(|entry| entry.role == Role::Parameter && entry.trained)
    }

    /// The buffers, in order: what a forward pass in training may change by itself.
    pub fn buffers(&self) -> Vec<(String, Tensor)> {
        self.select(|entry| entry.role == Role::Buffer)
    }

    fn select(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<(String, Tensor)> {
        let inner = self.lock();
        let chosen = inner.entries.iter().filter(|(_, entry)| wanted(entry));
        chosen.map(|(name, entry)| (name.clone(), entry.tensor.shallow_clone())).collect()
    }

    /// Numbers held by the trained and by all parameters: `(trainable, all)`.
    pub fn parameter_count(&self) -> (usize, usize) {
        let count = |list: Vec<(String, Tensor)>| list.iter().map(|(_, tensor)| tensor.numel()).sum();
        (count(self.trainable()), count(self.parameters()))
    }

    /// Sets for each parameter whether it is trained; `None` leaves it. Returns how many changed. Buffers are never trained.
    pub fn set_trainable(&self, choose: impl Fn(&str) -> Option<bool>) -> usize {
        let mut inner = self.lock();
        let mut changed = 0;
        for (name, entry) in inner.entries.iter_mut().filter(|(_, entry)| entry.role == Role::Parameter) {
            if let Some(wanted) = choose(name).filter(|wanted| *wanted != entry.trained) {
                let _ = entry.tensor.set_requires_grad(wanted);
                entry.trained = wanted;
                changed += 1;
            }
        }
        changed
    }

    /// Moves every tensor to `device`; layers follow. Gradients are dropped.
    ///
    /// # Errors
    /// The device is absent or out of memory; the tensors moved before that stay there.
    pub fn to(&self, device: Device) -> Result<()> {
        let mut inner = self.lock();
        for (name, entry) in &mut inner.entries {
            if entry.tensor.device() == device {
                continue;
            }
            let moved = no_grad(|| entry.tensor.f_to_device(device))
                .with_context(|| format!("moving `{name}` to {device:?}"))?;
            entry.tensor.f_set_data(&moved).with_context(|| format!("moving `{name}` to {device:?}"))?;
        }
        inner.device = device;
        Ok(())
    }

    /// Fills the store from `state`; see [`LoadOptions`].
    ///
    /// # Errors
    /// With `strict`, anything missing, unexpected or of another shape; then nothing has changed.
    pub fn load_state_dict(&self, state: &StateDict, options: &LoadOptions) -> Result<LoadReport> {
        load::load(
            &self.lock().entries.iter().map(|(n, e)| (n.clone(), e.tensor.shallow_clone())).collect(),
            state,
            options,
        )
    }

    /// Orders the names by the first of `prefixes` they start with, keeping the order within each; others go last.
    /// For models whose parts are made in another order than PyTorch lists them.
    pub fn order_by(&self, prefixes: &[&str]) {
        let rank = |name: &str| prefixes.iter().position(|prefix| name.starts_with(prefix)).unwrap_or(prefixes.len());
        self.lock().entries.sort_by(|a, _, b, _| rank(a).cmp(&rank(b)));
    }

    /// Takes out what has a name that begins so. Layers that hold it keep it.
    pub fn remove(&self, prefix: &str) {
        self.lock().entries.retain(|name, _| !name.starts_with(prefix));
    }

    fn insert(&self, name: String, tensor: &Tensor, role: Role) -> Result<()> {
        let mut inner = self.lock();
        if inner.entries.contains_key(&name) {
            bail!("two layers of the model have the same name `{name}`");
        }
        let trained = tensor.requires_grad();
        inner.entries.insert(name, Entry { tensor: tensor.shallow_clone(), role, trained });
        Ok(())
    }
}

/// A place in a [`ParameterStore`], such as `layer1.0.conv1`: layers make their parameters in one.
#[derive(Debug, Clone)]
pub struct Scope {
    store: ParameterStore,
    name: String,
}

impl Scope {
    /// The place `part` within this one; parts are joined by dots.
    #[must_use]
    pub fn sub(&self, part: impl Display) -> Self {
        Self { store: self.store.clone(), name: self.qualify(part) }
    }

    /// The full name of this place; empty at the root.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The store this is a place in.
    pub fn store(&self) -> &ParameterStore {
        &self.store
    }

    /// Where new tensors are made.
    pub fn device(&self) -> Device {
        self.store.device()
    }

    /// Adds a trained float parameter of zeros; the caller initialises it.
    ///
    /// # Errors
    /// The name is taken, or a size is not positive.
    pub fn parameter(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let name = self.qualify(name);
        ensure!(shape.iter().all(|size| *size > 0), "parameter `{name}` cannot have the shape {shape:?}");
        let tensor = Tensor::f_zeros(shape, (Kind::Float, self.device()))
            .and_then(|tensor| tensor.f_set_requires_grad(true))
            .with_context(|| format!("making parameter `{name}` of shape {shape:?}"))?;
        self.store.insert(name, &tensor, Role::Parameter)?;
        Ok(tensor)
    }

    /// Adds a parameter that was made elsewhere; whether it is trained, its `requires_grad` says.
    ///
    /// # Errors
    /// The name is taken.
    pub fn adopt(&self, name: &str, tensor: &Tensor) -> Result<()> {
        self.store.insert(self.qualify(name), tensor, Role::Parameter)
    }

    /// Adds a buffer: saved and loaded with the model, never trained.
    ///
    /// # Errors
    /// The name is taken.
    pub fn buffer(&self, name: &str, tensor: Tensor) -> Result<Tensor> {
        self.store.insert(self.qualify(name), &tensor, Role::Buffer)?;
        Ok(tensor)
    }

    fn qualify(&self, part: impl Display) -> String {
        if self.name.is_empty() { part.to_string() } else { format!("{}.{part}", self.name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Conv2d, Conv2dOptions, Norm, NormKind};

    fn small() -> ParameterStore {
        let store = ParameterStore::new();
        let root = store.root();
        let options = Conv2dOptions { kernel: 3, bias: false, ..Default::default() };
        Conv2d::new(&root.sub("conv1"), 2, 4, options).unwrap();
        Norm::new(&root.sub("bn1"), NormKind::Batch, 4).unwrap();
        store
    }

    #[test]
    fn names_follow_pytorch() {
        let names = small().names();
        assert_eq!(
            names,
            [
                "conv1.weight",
                "bn1.weight",
                "bn1.bias",
                "bn1.running_mean",
                "bn1.running_var",
                "bn1.num_batches_tracked"
            ]
        );
    }

    #[test]
    fn freezing_takes_parameters_out_of_training() {
        let store = small();
        assert_eq!(store.trainable().len(), 3);
        let freeze = |name: &str| name.starts_with("bn1.").then_some(false);
        assert_eq!(store.set_trainable(freeze), 2);
        assert_eq!(store.set_trainable(freeze), 0);
        let left: Vec<_> = store.trainable().into_iter().map(|(name, _)| name).collect();
        assert_eq!(left, ["conv1.weight"]);
        assert_eq!(store.parameter_count(), (72, 80));
        assert_eq!(store.set_trainable(|_| Some(true)), 2);
    }

    #[test]
    fn a_name_is_given_once() {
        let store = small();
        let error = store.root().sub("conv1").parameter("weight", &[1]).unwrap_err();
        assert!(error.to_string().contains("`conv1.weight`"), "{error}");
    }

    #[test]
    fn names_are_ordered_by_their_first_parts() {
        let store = small();
        store.order_by(&["bn1.", "conv1."]);
        assert_eq!(store.names()[0], "bn1.weight");
        assert_eq!(store.names()[5], "conv1.weight");
    }

    #[test]
    fn the_state_is_shared_with_the_model() {
        let store = small();
        let state = store.state_dict();
        let _ = state["conv1.weight"].shallow_clone().fill_(2.0);
        assert_eq!(store.get("conv1.weight").unwrap().double_value(&[0, 0, 0, 0]), 2.0);
        assert!(!state["conv1.weight"].requires_grad());
    }
}
