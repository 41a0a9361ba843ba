//! The protobuf wire format, encoding only: <https://protobuf.dev/programming-guides/encoding/>.

/// The wire types used here; groups and 32-bit integers do not occur in event files.
#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Length = 2,
    Fixed32 = 5,
}

/// A message under construction: fields are appended in call order. Every call writes its field, defaults included,
/// because the members of a `oneof` have to be present even when they are zero.
#[derive(Clone, Debug, Default)]
pub(super) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// `int32`, `int64`, `enum`; negative numbers take ten bytes, as protobuf has it.
    pub(super) fn int(mut self, field: u32, value: i64) -> Self {
        self.key(field, Wire::Varint);
        self.varint(value as u64);
        self
    }

    pub(super) fn bool(self, field: u32, value: bool) -> Self {
        self.int(field, i64::from(value))
    }

    pub(super) fn float(mut self, field: u32, value: f32) -> Self {
        self.key(field, Wire::Fixed32);
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn double(mut self, field: u32, value: f64) -> Self {
        self.key(field, Wire::Fixed64);
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.key(field, Wire::Length);
        self.varint(value.len() as u64);
        self.bytes.extend_from_slice(value);
        self
    }

    pub(super) fn string(self, field: u32, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    pub(super) fn message(self, field: u32, value: &Message) -> Self {
        self.bytes(field, &value.bytes)
    }

    /// A packed `repeated float`.
    pub(super) fn floats(mut self, field: u32, values: &[f32]) -> Self {
        self.key(field, Wire::Length);
        self.varint(values.len() as u64 * 4);
        values.iter().for_each(|value| self.bytes.extend_from_slice(&value.to_le_bytes()));
        self
    }

    /// A packed `repeated double`.
    pub(super) fn doubles(mut self, field: u32, values: &[f64]) -> Self {
        self.key(field, Wire::Length);
        self.varint(values.len() as u64 * 8);
        for value in values {
            self.bytes.extend_from_slice(&value.to_le_bytes());
        }
        self
    }

    fn key(&mut self, field: u32, wire: Wire) {
        self.varint(u64::from(field) << 3 | wire as u64);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::Message;

    #[track_caller]
    fn check(message: Message, expected: &[u8]) {
        assert_eq!(message.into_bytes(), expected);
    }

    /// The byte strings were made by Google's own encoder (or stand in the encoding guide: 150 is `96 01`).
    #[test]
    fn fields_are_encoded_as_protobuf_has_them() {
        check(Message::new().int(1, 150), &[0x08, 0x96, 0x01]);
        check(Message::new().int(2, -1), &[0x10, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]);
        check(Message::new().int(16, 0), &[0x80, 0x01, 0x00]);
        check(Message::new().bool(3, true), &[0x18, 1]);
        check(Message::new().float(2, 1.0), &[0x15, 0, 0, 0x80, 0x3f]);
        check(Message::new().double(1, -2.0), &[0x09, 0, 0, 0, 0, 0, 0, 0, 0xc0]);
        check(Message::new().string(2, "testing"), b"\x12\x07testing");
        check(Message::new().message(3, &Message::new().int(1, 150)), &[0x1a, 0x03, 0x08, 0x96, 0x01]);
        check(Message::new().floats(5, &[1.0, 0.0]), &[0x2a, 8, 0, 0, 0x80, 0x3f, 0, 0, 0, 0]);
        check(Message::new().doubles(6, &[1.0]), &[0x32, 8, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
    }
}
