//! States on their way to another rank.

use anyhow::{Context, Result, bail, ensure};
use pipe_plugin::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tch::{Device, Kind, Tensor};

/// What there is besides the numbers of the tensors, which come after it in their order.
#[derive(Serialize, Deserialize)]
struct Head {
    values: Map<String, Value>,
    tensors: Vec<(String, String, Vec<i64>)>,
}

/// The kinds that states have.
const KINDS: [Kind; 8] =
    [Kind::Float, Kind::Double, Kind::Int64, Kind::Int, Kind::Uint8, Kind::Bool, Kind::Half, Kind::BFloat16];

/// A state as bytes.
///
/// # Errors
/// When a tensor is of a kind that no state has.
pub(super) fn to_bytes(state: &State) -> Result<Vec<u8>> {
    let described = |(name, tensor): (&String, &Tensor)| (name.clone(), format!("{:?}", tensor.kind()), tensor.size());
    let head = Head { values: state.values.clone(), tensors: state.tensors.iter().map(described).collect() };
    let head = serde_json::to_vec(&head)?;
    let mut bytes = (head.len() as u64).to_le_bytes().to_vec();
    bytes.extend(head);
    for (name, tensor) in &state.tensors {
        ensure!(KINDS.contains(&tensor.kind()), "`{name}` is of kind {:?}, which cannot be sent", tensor.kind());
        let tensor = tensor.detach().to_device(Device::Cpu).f_contiguous()?;
        let begin = bytes.len();
        bytes.resize(begin + tensor.numel() * tensor.kind().elt_size_in_bytes(), 0);
        tensor.f_copy_data_u8(&mut bytes[begin..], tensor.numel())?;
    }
    Ok(bytes)
}

/// The state that such bytes are of, its tensors on the CPU.
///
/// # Errors
/// When they are none.
pub(super) fn of_bytes(bytes: &[u8]) -> Result<State> {
    let take = |from: usize, length: usize| bytes.get(from..from + length).context("a state was cut off on its way");
    let length = u64::from_le_bytes(take(0, 8)?.try_into()?) as usize;
    let head: Head = serde_json::from_slice(take(8, length)?)?;
    let mut at = 8 + length;
    let mut state = State { values: head.values, ..State::default() };
    for (name, kind, size) in head.tensors {
        let Some(kind) = KINDS.into_iter().find(|one| format!("{one:?}") == kind) else {
            bail!("`{name}` is of kind {kind}, which is none of a state");
        };
        let length = size.iter().product::<i64>() as usize * kind.elt_size_in_bytes();
        state.tensors.insert(name, Tensor::f_from_data_size(take(at, length)?, &size, kind)?);
        at += length;
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_state_goes_as_it_is() {
        let mut state = State::of(&json!({ "samples": 7, "names": ["a", "b"] })).unwrap();
        state.tensors.insert("sums".into(), Tensor::from_slice(&[1.5, f64::NAN]));
        state.tensors.insert("none".into(), Tensor::zeros([0, 4], (Kind::Float, Device::Cpu)));
        state.tensors.insert("counts".into(), Tensor::from_slice(&[[1_i64, 2], [3, 4]].concat()).view([2, 2]).tr());
        let there = of_bytes(&to_bytes(&state).unwrap()).unwrap();
        assert_eq!(there.values, state.values);
        for ((name, own), (there_name, there)) in state.tensors.iter().zip(&there.tensors) {
            assert_eq!((name, own.size(), own.kind()), (there_name, there.size(), there.kind()));
            let bits =
                |tensor: &Tensor| format!("{:?}", Vec::<f64>::try_from(tensor.to_kind(Kind::Double).reshape(-1)));
            assert_eq!(bits(own), bits(there));
        }
        assert!(of_bytes(&to_bytes(&state).unwrap()[..40]).is_err());
    }
}
