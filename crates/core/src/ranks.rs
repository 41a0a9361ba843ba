//! The processes that work on one run together, each a rank: which part of a batch is whose, and what all agree on.
//!
//! Every rank drives the same engines over the same batches, of which each takes its part; gradients are the average over the whole
//! batch, so weights stay equal everywhere. Whatever changes the course of the run and only one rank can know (a signal, its losses)
//! is agreed on in the step, so that no rank waits for one that went another way. Rank 0 keeps the run's folder.

mod states;

use std::cell::Cell;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use pipe_native::distributed::{Group, Reducer, Store, jointly};
use pipe_native::generator;
use pipe_plugin::State;
use tch::{Device, Kind, Tensor};

/// How long a rank that fails because another is gone waits for what that one said.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Losses that a step can have.
const LOSSES: usize = 64;
/// The numbers before the losses in what is agreed on.
const FLAGS: usize = 5;

/// The processes of a run.
#[derive(Debug)]
pub struct Ranks {
    rank: usize,
    size: usize,
    links: Option<Links>,
    /// How many samples of the batch at work are this rank's, and how many there are; nothing where each works on all of it.
    part: Cell<Option<(usize, usize)>>,
    /// Whether batch normalization takes the statistics of all ranks' batches together.
    joint: Cell<bool>,
    /// Whether losses are divided by the counts of all ranks.
    joint_counts: Cell<bool>,
}

#[derive(Debug)]
struct Links {
    store: Store,
    /// What is agreed on; apart from the gradients, since those of an unused parameter may come at any time.
    control: Group,
    data: Group,
    /// What batch normalization sums over while forward and backward go on.
    norms: Rc<Group>,
}

/// What all ranks know after a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Agreed {
    /// Whether one of them is to end.
    pub interrupt: bool,
    /// Whether one of them is to write a checkpoint.
    pub checkpoint: bool,
    /// Whether the first has an edit for all.
    pub edit: bool,
    /// Those whose losses are not finite.
    pub non_finite: Vec<usize>,
    /// The losses over the whole batch.
    pub losses: Vec<f64>,
}

impl Ranks {
    /// One process by itself.
    pub fn alone() -> Ranks {
        Ranks {
            rank: 0,
            size: 1,
            links: None,
            part: Cell::new(None),
            joint: Cell::new(false),
            joint_counts: Cell::new(false),
        }
    }

    /// Meets the others at `store`. `interface` and `host`: see [`Group::gloo`]. On a GPU, which `device` then is, gradients and statistics
    /// go by NCCL.
    ///
    /// # Errors
    /// When they do not come within `timeout`, which also bounds how long one waits for another later on, or there is no NCCL.
    pub fn join(
        store: Store,
        (rank, size): (usize, usize),
        (interface, host): (Option<&str>, Option<&str>),
        device: Option<Device>,
        timeout: Duration,
    ) -> Result<Ranks> {
        let group = |(prefix, device)| {
            let store = store.prefixed(prefix)?;
            match device {
                Some(device) => Group::nccl(&store, (rank, size), device, timeout),
                None => Group::gloo(&store, (rank, size), interface, host, timeout),
            }
        };
        let met = [("control", None), ("data", device), ("norms", device)].map(group);
        let met = met.into_iter().collect::<Result<Vec<_>>>();
        let met = met.with_context(|| format!("rank {rank} cannot meet the other {}", size - 1))?;
        let [control, data, norms] = met.try_into().map_err(|_| anyhow!("three groups"))?;
        let links = Some(Links { store, control, data, norms: Rc::new(norms) });
        Ok(Ranks { rank, size, links, part: Cell::new(None), joint: Cell::new(false), joint_counts: Cell::new(false) })
    }

    /// The number of this process, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether there is no other.
    pub fn is_alone(&self) -> bool {
        self.size == 1
    }

    /// Whether this one keeps the run's folder and speaks for all.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// The folder of this rank in a run: the run's own of the first.
    pub fn folder(&self, run: &Path) -> PathBuf {
        if self.is_first() { run.to_owned() } else { run.join("ranks").join(self.rank.to_string()) }
    }

    /// The part of the batch at work that is this rank's, of 1.
    pub fn share(&self) -> f64 {
        self.part.get().map_or(1.0 / self.size as f64, |(own, all)| own as f64 / all as f64)
    }

    /// How many samples the batch at work has, of which so many are this rank's.
    pub fn whole(&self, own: usize) -> usize {
        self.part.get().map_or(own, |(_, all)| all)
    }

    /// Says what of a batch is this rank's, as [`crate::Loader::share`] tells it; what was said before.
    pub fn set_part(&self, part: Option<(usize, usize)>) -> Option<(usize, usize)> {
        self.part.replace(part)
    }

    /// Sets whether batch normalization takes the statistics of all ranks' batches together.
    pub fn set_joint(&self, joint: bool) {
        self.joint.set(joint);
    }

    /// Sets whether losses that are divided by what is in the batch are divided by what is in the parts of all ranks.
    pub fn set_joint_counts(&self, joint: bool) {
        self.joint_counts.set(joint);
    }

    /// Whether they are.
    pub fn counts_are_joint(&self) -> bool {
        self.joint_counts.get() && !self.is_alone()
    }

    /// The sums over all ranks, which may have fewer numbers.
    ///
    /// # Errors
    /// When a rank is gone, or there are more numbers than losses.
    pub fn summed(&self, own: &[f64]) -> Result<Vec<f64>> {
        let Some(links) = &self.links else { return Ok(own.to_vec()) };
        ensure!(own.len() <= LOSSES, "{} losses are more than the {LOSSES} that ranks agree on", own.len());
        let mut numbers = vec![0.0; LOSSES];
        numbers[..own.len()].copy_from_slice(own);
        let mut tensor = Tensor::f_from_slice(&numbers)?;
        links.control.all_reduce(&mut tensor).map_err(|error| self.explained(error))?;
        Ok(Vec::try_from(tensor)?)
    }

    /// Has a model work on this rank's part of a batch in training.
    pub fn jointly<T>(&self, work: impl FnOnce() -> T) -> T {
        match &self.links {
            Some(links) if self.joint.get() => jointly(&links.norms, work),
            _ => work(),
        }
    }

    /// Whether each rank has a part of the batch, where it needs one.
    ///
    /// # Errors
    /// When batch normalization is to be of all ranks and one has no part, for which the others would wait.
    pub fn check_parts(&self, own: usize) -> Result<()> {
        let (all, size) = (self.whole(own), self.size);
        ensure!(
            self.is_alone() || !self.joint.get() || (own > 0 && all >= size),
            "{own} of the batch's {all} samples are for this one of {size} ranks, and `sync_batch_norm` needs some for each: set \
             `drop_last = true`, or a larger batch size"
        );
        Ok(())
    }

    /// Gives libtorch's generators the state of this step: draws are other ones on each rank, and the same however often the run was
    /// resumed.
    ///
    /// # Errors
    /// When a device fails.
    pub fn seed_step(&self, seed: u64, step: u64) -> Result<()> {
        if self.is_alone() {
            return Ok(());
        }
        generator::seed_all(draws(seed, step, self.rank as u64))
    }

    /// What reduces the gradients of these parameters, where there are other ranks.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn reducer(&self, params: &[Tensor]) -> Result<Option<Reducer>> {
        self.links.as_ref().map(|links| links.data.reducer(params)).transpose()
    }

    /// Agrees on a step: whether this rank is asked to end or to write a checkpoint, whether it has an edit, and its losses, none where it
    /// has no part of the batch. What the loss of the whole batch is follows from the shares.
    ///
    /// # Errors
    /// When a rank is gone, or there are too many losses.
    pub fn agree(&self, [interrupt, checkpoint, edit]: [bool; 3], losses: &[f64]) -> Result<Agreed> {
        let finite = losses.iter().all(|loss| loss.is_finite());
        let Some(links) = &self.links else {
            let non_finite = if finite { Vec::new() } else { vec![0] };
            return Ok(Agreed { interrupt, checkpoint, edit, non_finite, losses: losses.to_vec() });
        };
        ensure!(losses.len() <= LOSSES, "{} losses are more than the {LOSSES} that ranks agree on", losses.len());
        ensure!(self.size <= 52, "{} ranks are more than the 52 that agree on a step", self.size);
        let share = self.share();
        let mut numbers = vec![0.0; FLAGS + LOSSES];
        numbers[0] = f64::from(interrupt);
        numbers[1] = f64::from(checkpoint);
        // As bits: exact up to 2^53.
        numbers[2] = if finite { 0.0 } else { (1u64 << self.rank) as f64 };
        numbers[3] = share * losses.len() as f64;
        numbers[4] = f64::from(edit);
        for (slot, loss) in numbers[FLAGS..].iter_mut().zip(losses) {
            *slot = share * loss;
        }
        let mut tensor = Tensor::f_from_slice(&numbers)?;
        links.control.all_reduce(&mut tensor).map_err(|error| self.explained(error))?;
        let numbers: Vec<f64> = Vec::try_from(tensor)?;
        let bits = numbers[2] as u64;
        let count = (numbers[3].round() as usize).min(LOSSES);
        Ok(Agreed {
            interrupt: numbers[0] > 0.0,
            checkpoint: numbers[1] > 0.0,
            edit: numbers[4] > 0.0,
            non_finite: (0..self.size).filter(|rank| bits >> rank & 1 == 1).collect(),
            losses: numbers[FLAGS..FLAGS + count].to_vec(),
        })
    }

    /// What rank 0 says, on every rank.
    ///
    /// # Errors
    /// When a rank is gone.
    pub fn told(&self, by_first: impl FnOnce() -> Result<Vec<u8>>) -> Result<Vec<u8>> {
        match &self.links {
            Some(links) => {
                let own = if self.is_first() { by_first()? } else { Vec::new() };
                Ok(Vec::try_from(self.told_by(0, &own, links)?)?)
            }
            None => by_first(),
        }
    }

    /// The bytes that the rank `root` has, on every rank.
    fn told_by(&self, root: usize, own: &[u8], links: &Links) -> Result<Tensor> {
        let mut length = Tensor::f_from_slice(&[own.len() as i64])?;
        let tell = |tensor: &mut Tensor| links.control.broadcast(tensor, root).map_err(|error| self.explained(error));
        tell(&mut length)?;
        let mut bytes = match self.rank == root {
            true => Tensor::f_from_slice(own)?,
            false => Tensor::f_zeros([length.int64_value(&[0])], (Kind::Uint8, Device::Cpu))?,
        };
        if length.int64_value(&[0]) > 0 {
            tell(&mut bytes)?;
        }
        Ok(bytes)
    }

    /// Whether all ranks could do what they try together: the first that could not, and why not.
    ///
    /// # Errors
    /// When a rank is gone.
    pub fn hindered(&self, own: Option<&str>) -> Result<Option<(usize, String)>> {
        let Some(links) = &self.links else { return Ok(own.map(|why| (0, why.to_owned()))) };
        let mut bits = vec![0i64; self.size];
        bits[self.rank] = own.is_some().into();
        let mut bits = Tensor::f_from_slice(&bits)?;
        links.control.all_reduce(&mut bits).map_err(|error| self.explained(error))?;
        let bits: Vec<i64> = Vec::try_from(bits)?;
        let Some(first) = bits.iter().position(|bit| *bit > 0) else { return Ok(None) };
        let why = Vec::<u8>::try_from(self.told_by(first, own.unwrap_or_default().as_bytes(), links)?)?;
        Ok(Some((first, String::from_utf8_lossy(&why).into_owned())))
    }

    /// The states of the other ranks in their order, at rank 0; nothing at the others, which give theirs.
    ///
    /// # Errors
    /// When a rank is gone, or its state cannot be sent.
    pub fn gathered(&self, own: &State) -> Result<Vec<State>> {
        let Some(links) = &self.links else { return Ok(Vec::new()) };
        let own = if self.is_first() { Vec::new() } else { states::to_bytes(own)? };
        let mut others = Vec::new();
        for root in 1..self.size {
            let bytes = self.told_by(root, &own, links)?;
            if self.is_first() {
                others.push(states::of_bytes(&Vec::<u8>::try_from(bytes)?)?);
            }
        }
        Ok(others)
    }

    /// Makes the tensors those of rank 0.
    ///
    /// # Errors
    /// When a rank is gone, or has tensors of other sizes.
    pub fn copy_first(&self, tensors: &[Tensor]) -> Result<()> {
        let Some(links) = &self.links else { return Ok(()) };
        tch::no_grad(|| {
            for tensor in tensors {
                let mut there = tensor.detach().to_device(Device::Cpu).f_contiguous()?;
                links.control.broadcast(&mut there, 0).map_err(|error| self.explained(error))?;
                if !self.is_first() {
                    tensor.detach().f_copy_(&there)?;
                }
            }
            Ok(())
        })
    }

    /// Says to the others why this rank ends.
    pub fn say_last_words(&self, error: &anyhow::Error) {
        if let Some(links) = &self.links {
            // The first that fails is the reason; the others fail because it is gone.
            if links.store.add("failed", 1).is_ok_and(|before| before == 1) {
                let _gone = links.store.set("reason", format!("rank {}: {error:#}", self.rank).as_bytes());
            }
        }
    }

    /// A failure of what ranks do together, with the words of the one that failed first.
    pub fn explained(&self, error: anyhow::Error) -> anyhow::Error {
        let Some(links) = &self.links else { return error };
        match links.store.get("reason", LAST_WORDS) {
            Ok(reason) => anyhow!("{}", String::from_utf8_lossy(&reason)).context("another rank failed"),
            Err(_) => error.context("another rank is gone, or has not come this far in time"),
        }
    }
}

impl Default for Ranks {
    fn default() -> Ranks {
        Ranks::alone()
    }
}

impl fmt::Display for Ranks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {}", self.rank, self.size)
    }
}

/// Which of so many samples are whose: parts in order, whose lengths differ by one at most, the longer ones first.
pub fn part(samples: usize, rank: usize, size: usize) -> Range<usize> {
    let (each, more) = (samples / size, samples % size);
    let begin = rank * each + rank.min(more);
    begin..begin + each + usize::from(rank < more)
}

/// The seed of what a rank draws in a step, of a run with this seed (the finalizer of SplitMix64, twice).
pub fn draws(seed: u64, step: u64, rank: u64) -> u64 {
    let mix = |x: u64| {
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    let golden = 0x9e37_79b9_7f4a_7c15u64;
    mix(mix(seed.wrapping_add(golden).wrapping_add(step.wrapping_mul(golden))).wrapping_add(rank.wrapping_mul(golden)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_all_of_it_in_order() {
        for (samples, size) in [(8, 2), (7, 3), (2, 3), (0, 2), (5, 5)] {
            let all: Vec<usize> = (0..size).flat_map(|rank| part(samples, rank, size)).collect();
            assert_eq!(all, (0..samples).collect::<Vec<_>>());
            let lengths: Vec<usize> = (0..size).map(|rank| part(samples, rank, size).len()).collect();
            assert!(lengths.is_sorted_by(|a, b| a >= b) && lengths[0] - lengths[size - 1] <= 1, "{lengths:?}");
        }
    }

    #[test]
    fn seeds_are_other_ones_for_each_step_and_rank() {
        let mut all: Vec<u64> = (0..50).flat_map(|step| (0..4).map(move |rank| draws(42, step, rank))).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 200);
    }

    #[test]
    fn one_rank_agrees_with_itself() {
        let agreed = Ranks::alone().agree([false, true, false], &[1.0, f64::NAN]).unwrap();
        assert!(!agreed.interrupt && agreed.checkpoint && agreed.losses[1].is_nan());
        assert_eq!(agreed.non_finite, [0]);
    }
}
