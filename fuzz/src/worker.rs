//! The loop of one process: change an input, read it, keep it where it reached something new.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::coverage::Coverage;
use crate::mutate::{MAX_INPUT, mutated};
use crate::targets::{Folder, Target};
use crate::{corpus, inputs};

/// What the watcher reads while the worker is at work: runs, edges, inputs kept, length of the input, the input.
pub const HEADER: usize = 32;

/// Reads changed inputs for a time. `kept` is the folder of inputs that reached something new.
///
/// # Errors
/// When a file cannot be read or written. A panic in a reader ends the process, as every other finding does.
pub fn work(target: &Target, kept: &Path, at_work: &Path, time: Duration, seed: u64) -> Result<()> {
    let start = Instant::now();
    let folder = Folder::new()?;
    let current = File::options().write(true).create(true).truncate(true).open(at_work)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut coverage = Coverage::default();
    let mut known: Vec<Vec<u8>> = Vec::new();
    let (mut runs, mut saved) = (0u64, 0u64);
    let mut run = |input: &[u8], coverage: &mut Coverage, known: usize| -> Result<bool> {
        runs += 1;
        let mut said = Vec::with_capacity(HEADER + input.len());
        for number in [runs, coverage.edges() as u64, known as u64, input.len() as u64] {
            said.extend(number.to_le_bytes());
        }
        said.extend(input);
        current.write_all_at(&said, 0).context("cannot write the input at work")?;
        coverage.reset();
        read(target, &folder, input);
        Ok(coverage.take())
    };
    let own = inputs(&corpus(target.name))?.into_iter().chain(inputs(kept)?);
    for (_, input) in own.filter(|(_, input)| input.len() <= MAX_INPUT) {
        run(&input, &mut coverage, known.len())?;
        known.push(input);
    }
    if known.is_empty() {
        known.push(Vec::new());
    }
    while start.elapsed() < time {
        // Half of the time among the newest, which nobody has looked behind yet.
        let newest = known.len().saturating_sub(if rng.random() { 16 } else { known.len() });
        let input = &known[rng.random_range(newest..known.len())];
        let other = &known[rng.random_range(0..known.len())];
        let input = mutated(input, other, target.words, &mut rng);
        if run(&input, &mut coverage, known.len())? {
            saved += 1;
            std::fs::write(kept.join(format!("{seed:016x}-{saved:06}")), &input)?;
            known.push(input);
        }
    }
    Ok(())
}

/// Reads one input. Ends the process when the reader panics or runs out of memory.
pub fn read(target: &Target, folder: &Folder, input: &[u8]) {
    let answer = catch_unwind(AssertUnwindSafe(|| (target.run)(folder, input)));
    let memory = |error: &anyhow::Error| {
        let text = format!("{error:#}");
        text.contains("can't allocate memory") || text.contains("bad_alloc")
    };
    match answer {
        Err(_) => std::process::abort(),
        Ok(Err(error)) if memory(&error) => {
            eprintln!("out of memory: {error:#}");
            std::process::abort();
        }
        Ok(_) => {}
    }
}
