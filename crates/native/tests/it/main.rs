//! The native layer against numbers that torch and torchvision made (`tests/parity/make.py`).

use std::collections::HashMap;
use std::path::Path;

use tch::{Kind, Tensor};

mod device;
mod distributed;
mod image;
mod ops;
mod optim;
mod scaler;

/// The tensors of one file of `tests/parity`.
struct Parity(HashMap<String, Tensor>);

impl Parity {
    fn read(name: &str) -> Self {
        // Asked for when it runs, not when it is built: `scripts/gpu_suite.py` runs this binary on other machines.
        let root = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| ".".into());
        let path = Path::new(&root).join("tests/parity").join(name);
        Self(Tensor::read_safetensors(path).unwrap().into_iter().collect())
    }

    fn get(&self, name: &str) -> Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("{name} is not in the file")).shallow_clone()
    }
}

/// The largest difference between two tensors of one shape.
fn difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    if a.numel() == 0 {
        return 0.0;
    }
    let gap = (a.to_kind(Kind::Double) - b.to_kind(Kind::Double)).abs().max();
    f64::try_from(gap).unwrap()
}
