//! What a run is called that nobody has named: an adjective, a noun and a number, the same wherever its folder lies.

use sha2::{Digest, Sha256};

const ADJECTIVES: [&str; 64] = [
    "agile", "amber", "ample", "apt", "azure", "bold", "brave", "brief", "bright", "brisk", "calm", "clear", "clever",
    "cosy", "crisp", "deep", "deft", "dry", "eager", "early", "even", "fair", "fast", "firm", "fond", "fresh",
    "gentle", "glad", "golden", "grand", "green", "happy", "hardy", "honest", "humble", "jolly", "keen", "kind",
    "late", "light", "lively", "lucid", "lucky", "mellow", "merry", "mild", "neat", "nimble", "noble", "plain",
    "polite", "proud", "quick", "quiet", "rapid", "round", "silent", "silver", "smooth", "steady", "sunny", "tidy",
    "warm", "wise",
];

const NOUNS: [&str; 64] = [
    "acorn", "anchor", "arch", "aspen", "badger", "barley", "beacon", "birch", "bridge", "brook", "candle", "canyon",
    "cedar", "cliff", "clover", "comet", "coral", "crane", "creek", "dune", "ember", "falcon", "fern", "field",
    "finch", "fjord", "forest", "garden", "glade", "harbor", "hazel", "heron", "hill", "island", "lake", "lantern",
    "larch", "lark", "maple", "meadow", "moss", "oak", "orchard", "otter", "owl", "pebble", "pine", "plover", "pond",
    "reef", "ridge", "river", "robin", "shore", "spruce", "stone", "swift", "thrush", "tide", "valley", "willow",
    "wind", "wren", "yarrow",
];

/// The name of a run by its pipeline and the time at which it was created.
pub fn generated(pipeline: &str, created: f64) -> String {
    let digest = Sha256::digest(format!("{pipeline} {created:.6}"));
    let number = digest.iter().take(8).fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    let (adjective, noun) = (ADJECTIVES[(number % 64) as usize], NOUNS[(number / 64 % 64) as usize]);
    format!("{adjective}-{noun}-{}", number / 4096 % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_of_distinct_words_and_stay_the_same() {
        for words in [ADJECTIVES, NOUNS] {
            assert_eq!(words.iter().collect::<BTreeSet<_>>().len(), 64);
        }
        assert_eq!(generated("digits", 1.5), generated("digits", 1.5));
        let names: BTreeSet<String> = (0..1000).map(|time| generated("digits", f64::from(time))).collect();
        assert!(names.len() > 990, "{}", names.len());
    }
}
