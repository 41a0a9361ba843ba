//! New tensors on the CPU whose values are written in place, without a copy.

use anyhow::{Result, ensure};
use tch::kind::Element;
use tch::{Device, Tensor};

/// A contiguous tensor of that shape on the CPU, zeros but for what `write` puts into its values, row by row.
///
/// # Errors
/// When libtorch cannot make a tensor of that shape.
pub fn written<T: Element + Copy>(size: &[i64], write: impl FnOnce(&mut [T])) -> Result<Tensor> {
    let tensor = Tensor::f_zeros(size, (T::KIND, Device::Cpu))?;
    let count = tensor.numel();
    ensure!(tensor.is_contiguous(), "a new tensor of {size:?} is not contiguous");
    if count == 0 {
        write(&mut []);
        return Ok(tensor);
    }
    // SAFETY: the tensor was made above and is known to nobody else; its memory holds `count` values of type T (T::KIND's
    // own), zeroed, aligned by libtorch's allocator to 64 bytes, and lives as long as `tensor`, which outlives the slice.
    let values = unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<T>(), count) };
    write(values);
    Ok(tensor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_where_they_were_written() {
        let tensor = written(&[2, 3], |values: &mut [i64]| values[4] = 7).unwrap();
        assert_eq!(Vec::<i64>::try_from(tensor.view([6])).unwrap(), [0, 0, 0, 0, 7, 0]);
        let empty = written(&[0, 3], |values: &mut [f32]| assert!(values.is_empty())).unwrap();
        assert_eq!(empty.size(), [0, 3]);
        assert!(written(&[-1], |_: &mut [u8]| {}).is_err());
    }
}
