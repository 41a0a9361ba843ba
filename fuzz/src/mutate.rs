//! New inputs out of known ones: bytes, numbers and pieces changed, put in, taken out, moved and spliced.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Inputs do not grow beyond this.
pub const MAX_INPUT: usize = 16 << 10;

/// Numbers at which readers go wrong.
const NUMBERS: [u64; 16] = [
    0,
    1,
    2,
    7,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 40,
    u64::MAX,
];
/// The same as text.
const TEXTS: [&str; 14] = [
    "0",
    "-1",
    "1e308",
    "-0.0",
    "NaN",
    "99999999",
    "4294967296",
    "9223372036854775807",
    "18446744073709551616",
    "null",
    "[]",
    "{}",
    "\"\\u001b[31m\"",
    "../../x",
];

/// Changes an input in a few places; `other` is one to take pieces from, `words` are what the format is made of.
pub fn mutated(input: &[u8], other: &[u8], words: &[&[u8]], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    // Mostly few changes; now and then very many.
    let changes = 1 << rng.random_range(0..6);
    for _ in 0..changes {
        change(&mut bytes, other, words, rng);
    }
    bytes.truncate(MAX_INPUT);
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], words: &[&[u8]], rng: &mut ChaCha8Rng) {
    let at = rng.random_range(0..=bytes.len());
    match rng.random_range(0..10) {
        0 => put(bytes, at, &[rng.random()], true),
        1 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
        2 if at < bytes.len() => bytes[at] = bytes[at].wrapping_add(rng.random_range(-16i8..=16) as u8),
        3 => {
            let number =
                NUMBERS[rng.random_range(0..NUMBERS.len())].wrapping_add(rng.random_range(0..3)).wrapping_sub(1);
            let width = 1 << rng.random_range(0..4);
            let little = rng.random();
            let bytes_of = if little { number.to_le_bytes() } else { number.to_be_bytes() };
            let part = if little { &bytes_of[..width] } else { &bytes_of[8 - width..] };
            put(bytes, at, part, true);
        }
        4 => put(bytes, at, TEXTS[rng.random_range(0..TEXTS.len())].as_bytes(), rng.random()),
        5 if !words.is_empty() => put(bytes, at, words[rng.random_range(0..words.len())], rng.random()),
        6 => {
            let end = (at + length(rng)).min(bytes.len());
            bytes.drain(at..end);
        }
        7 => {
            let from = rng.random_range(0..=bytes.len());
            let piece = bytes[from..(from + length(rng)).min(bytes.len())].to_vec();
            let times = if rng.random_range(0..8) == 0 { rng.random_range(2..64) } else { 1 };
            put(bytes, at, &piece.repeat(times), rng.random());
        }
        8 if !other.is_empty() => {
            let from = rng.random_range(0..other.len());
            let piece = &other[from..(from + length(rng)).min(other.len())];
            put(bytes, at, piece, rng.random());
        }
        9 => bytes.truncate(at),
        _ => {}
    }
}

/// Mostly short, sometimes long.
fn length(rng: &mut ChaCha8Rng) -> usize {
    let most = 1 << rng.random_range(1..12);
    rng.random_range(1..=most)
}

/// Puts a piece at a place: over what is there, or before it.
fn put(bytes: &mut Vec<u8>, at: usize, piece: &[u8], over: bool) {
    let end = if over { (at + piece.len()).min(bytes.len()) } else { at };
    bytes.splice(at..end, piece.iter().copied());
    bytes.truncate(2 * MAX_INPUT);
}
