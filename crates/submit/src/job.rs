//! What is to be run.

use std::path::PathBuf;

/// A run, or one for each value of an option.
#[derive(Debug, Clone)]
pub struct Job {
    /// What the engine's lists call it.
    pub name: String,
    /// The folder in which relative paths are meant.
    pub from: PathBuf,
    /// The program, as it is called there.
    pub program: String,
    /// The pipeline as it is submitted, which is kept in the job's folder: later edits of its files are of no effect.
    pub pipeline: String,
    /// The run's folder, which is kept where all machines see it; of an array the folder of its runs.
    pub folder: PathBuf,
    /// Further arguments of `pipe run`.
    pub more: Vec<String>,
    /// Where there are several runs, what they differ in.
    pub array: Option<Array>,
}

/// Runs that differ in one option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Array {
    /// `--set` of each.
    pub sets: Vec<String>,
    /// How many are at work at a time at most.
    pub at_most: Option<u32>,
}

impl Array {
    /// Of `KEY=VALUE,VALUE,…`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str, at_most: Option<u32>) -> Result<Array, String> {
        let (key, values) = text.split_once('=').ok_or_else(|| format!("`{text}`: write OPTION=VALUE,VALUE,…"))?;
        let sets: Vec<String> = values.split(',').map(|value| format!("{}={}", key.trim(), value.trim())).collect();
        match sets.iter().any(|set| set.ends_with('=')) || key.trim().is_empty() {
            true => Err(format!("`{text}`: write OPTION=VALUE,VALUE,…, none of them empty")),
            false => Ok(Array { sets, at_most }),
        }
    }
}

/// In the run's folder, what is the job's: its file, the pipeline, what it says before the run begins, and its receipt.
pub const OWN: &str = "job";

/// What the pipeline is called there.
pub const KEPT: &str = "pipeline.json";

impl Job {
    /// Where the job's own files are.
    pub fn own(&self) -> PathBuf {
        self.folder.join(OWN)
    }

    /// Where the pipeline is kept.
    pub fn kept(&self) -> PathBuf {
        self.own().join(KEPT)
    }

    /// The words of the command but for the folder and what an array's runs differ in. The command is the same for every life of the run.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec![self.program.clone(), "run".into(), self.kept().display().to_string()];
        words.extend(["--resume".into(), "auto".into()]);
        words.extend(self.more.iter().cloned());
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_an_option_and_its_values() {
        let array = Array::parse("pipeline.seed=1, 2,3", Some(2)).unwrap();
        assert_eq!(array.sets, ["pipeline.seed=1", "pipeline.seed=2", "pipeline.seed=3"]);
        for wrong in ["seed", "seed=", "seed=1,,2", "=1"] {
            assert!(Array::parse(wrong, None).unwrap_err().contains("write OPTION=VALUE"), "{wrong}");
        }
    }
}
