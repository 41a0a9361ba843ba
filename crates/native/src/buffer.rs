//! Values of tensors on the CPU, written in place and read without a detour.

use std::mem::MaybeUninit;

use anyhow::{Result, ensure};
use tch::kind::Element;
use tch::{Device, Kind, Tensor};

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

/// As [`written`], but without zeros first: values that `write` leaves out are whatever the memory held.
///
/// # Errors
/// When libtorch cannot make a tensor of that shape.
pub fn filled<T: Element + Copy>(size: &[i64], write: impl FnOnce(&mut [MaybeUninit<T>])) -> Result<Tensor> {
    let tensor = Tensor::f_empty(size, (T::KIND, Device::Cpu))?;
    let count = tensor.numel();
    ensure!(tensor.is_contiguous(), "a new tensor of {size:?} is not contiguous");
    if count > 0 {
        // SAFETY: as in `written`, but that the memory is not initialised, which the type of the slice says.
        write(unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<MaybeUninit<T>>(), count) });
    }
    Ok(tensor)
}

/// A copy of a tensor's bytes.
///
/// # Errors
/// It is not u8, contiguous and on the CPU.
pub fn bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    let fits = tensor.kind() == Kind::Uint8 && tensor.device() == Device::Cpu && tensor.is_contiguous();
    ensure!(fits, "{:?} of {:?} on {:?} are no bytes in a row", tensor.size(), tensor.kind(), tensor.device());
    if tensor.numel() == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: the memory of a contiguous u8 tensor on the CPU holds `numel` bytes, and `tensor` keeps it while they are copied.
    Ok(unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<u8>(), tensor.numel()) }.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_as_they_were_filled_in() {
        let tensor = filled(&[2, 2], |values| {
            values.iter_mut().zip([3u8, 1, 4, 1]).for_each(|(place, value)| {
                place.write(value);
            });
        })
        .unwrap();
        assert_eq!(bytes(&tensor).unwrap(), [3, 1, 4, 1]);
        assert!(bytes(&tensor.transpose(0, 1)).is_err());
        assert!(bytes(&Tensor::zeros([0], (Kind::Uint8, Device::Cpu))).unwrap().is_empty());
        assert!(filled(&[-1], |_: &mut [MaybeUninit<u8>]| {}).is_err());
    }

    #[test]
    fn values_are_where_they_were_written() {
        let tensor = written(&[2, 3], |values: &mut [i64]| values[4] = 7).unwrap();
        assert_eq!(Vec::<i64>::try_from(tensor.view([6])).unwrap(), [0, 0, 0, 0, 7, 0]);
        let empty = written(&[0, 3], |values: &mut [f32]| assert!(values.is_empty())).unwrap();
        assert_eq!(empty.size(), [0, 3]);
        assert!(written(&[-1], |_: &mut [u8]| {}).is_err());
    }
}
