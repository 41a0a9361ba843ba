//! The framing of an event file: length, its checksum, data, its checksum (TensorFlow's "TFRecord").

/// TensorFlow masks each CRC so that the checksum of data that holds checksums stays meaningful.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Appends `data` as one record: `u64 length, u32 crc(length), data, u32 crc(data)`, all little-endian.
pub(super) fn append(out: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&masked_crc(&length).to_le_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(&masked_crc(data).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::masked_crc;

    /// Made by `tensorboard.summary.writer.record_writer.masked_crc32c`.
    #[test]
    fn checksums_are_tensorboards() {
        assert_eq!(masked_crc(b""), 0xa282_ead8);
        assert_eq!(masked_crc(b"123456789"), 0xc78ab0e5);
    }
}
