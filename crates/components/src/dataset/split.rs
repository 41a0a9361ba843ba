//! A part of a dataset that comes in one piece.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Problems;
use pipe_core::facts::Reads;

/// Which images a dataset has: those of a split that is called so, or a part of all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Split {
    /// A split by its name.
    Name(String),
    /// A part of the images, drawn by their names.
    Part(Part),
}

/// A part of the images, drawn by their names: `{ part = "train", fraction = 0.8 }`. The parts of one `fraction`, `test` and `seed`
/// have no image in common and together have all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Which part.
    pub part: PartName,
    /// The share of `train`.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub fraction: f64,
    /// The share of `test`. `val` has the rest.
    #[schemars(range(min = 0.0, max = 1.0))]
    #[serde(default)]
    pub test: f64,
    /// The seed of the draw: the same parts on every machine, independent of the pipeline's seed.
    #[serde(default)]
    pub seed: u64,
}

/// The parts that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PartName {
    /// The first `fraction`.
    Train,
    /// What the others leave.
    Val,
    /// The last `test`.
    Test,
}

impl Split {
    /// The name, if it is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Split::Name(name) => Some(name),
            Split::Part(_) => None,
        }
    }

    /// What a dataset in `root` reads under this split.
    pub fn of(&self, root: &str) -> Reads {
        let what = self.name().map_or_else(|| root.to_owned(), |name| format!("{root} {name}"));
        Reads { what, part: self.part() }
    }

    /// The part, as rules know it.
    pub fn part(&self) -> Option<[String; 2]> {
        let Split::Part(Part { part, fraction, test, seed }) = self else { return None };
        Some([format!("{part:?}"), format!("{fraction} {test} {seed}")])
    }

    /// Says what is wrong with shares.
    pub fn check(&self, problems: &mut Problems) {
        let Split::Part(Part { part, fraction, test, .. }) = self else { return };
        if fraction + test > 1.0 {
            problems.at("split.test", "together with `fraction` it is more than 1", "lower one of them");
        }
        if *part == PartName::Test && *test == 0.0 {
            problems.at("split.part", "the part `test` has no share", "give it one, in each part: test = 0.1");
        }
    }
}

impl Part {
    /// The places in `names` of those that belong to the part, in order. Names are ranked by a hash of seed and name, so that an
    /// image that is added moves few others from one part to another.
    pub fn choose(&self, names: &[&str]) -> Vec<usize> {
        let mut ranked: Vec<usize> = (0..names.len()).collect();
        ranked.sort_by_cached_key(|&place| (rank(self.seed, names[place]), names[place]));
        let count = |share: f64| ((names.len() as f64 * share).round() as usize).min(names.len());
        let train = count(self.fraction);
        let test = count(self.test).min(names.len() - train);
        let range = match self.part {
            PartName::Train => 0..train,
            PartName::Val => train..names.len() - test,
            PartName::Test => names.len() - test..names.len(),
        };
        let mut chosen = ranked[range].to_vec();
        chosen.sort_unstable();
        chosen
    }
}

/// FNV-1a over seed and name, its bits mixed by SplitMix64's last step.
fn rank(seed: u64, name: &str) -> u64 {
    let hash = seed
        .to_le_bytes()
        .iter()
        .chain(name.as_bytes())
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let mixed = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(part: PartName, fraction: f64, test: f64, seed: u64) -> Part {
        Part { part, fraction, test, seed }
    }

    #[test]
    fn parts_are_disjoint_and_together_everything() {
        let names: Vec<String> = (0..103).map(|i| format!("{i}.jpg")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for seed in 0..20 {
            let of = |name| part(name, 0.7, 0.2, seed).choose(&names);
            let [train, val, test] = [PartName::Train, PartName::Val, PartName::Test].map(of);
            assert_eq!([train.len(), val.len(), test.len()], [72, 10, 21]);
            let mut all = [train, val, test].concat();
            all.sort_unstable();
            assert_eq!(all, (0..103).collect::<Vec<_>>());
        }
        assert_ne!(
            part(PartName::Train, 0.5, 0.0, 0).choose(&names),
            part(PartName::Train, 0.5, 0.0, 1).choose(&names)
        );
    }

    #[test]
    fn an_added_image_moves_few_others() {
        let names: Vec<String> = (0..200).map(|i| format!("{i}.jpg")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let before = part(PartName::Val, 0.8, 0.0, 3).choose(&names[..199]);
        let after = part(PartName::Val, 0.8, 0.0, 3).choose(&names);
        assert!(before.iter().filter(|place| !after.contains(place)).count() <= 1);
    }
}
