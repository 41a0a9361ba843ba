//! Before the first step: which batches of the schedule need most memory, whether they fit, and how long an epoch will take.
//!
//! The index and the transforms say how large each sample can become, and the order of an epoch depends on the seed alone, so the batches
//! of the whole schedule are known before one is read. Those that can need most are read, and the largest of them are worked on as the
//! engine will do it; then everything is as it was.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pipe_core::{Engine, Limits, Outlook};
use pipe_data::{Batch, Extent, fields};
use pipe_native::fault::is_out_of_memory;
use pipe_native::{device_name, memory};
use tch::Tensor;

use crate::graph::Graph;
use crate::random;

/// Batches that are read for each way to be the largest: what random transforms make of them is known only then.
const READ: usize = 4;

/// Samples of the schedule that are looked at, so that it takes seconds at most.
const LOOKED_AT: usize = 20_000_000;

/// What was found of one engine.
#[derive(Debug)]
pub struct Found {
    /// The engine.
    pub engine: String,
    /// Batches that were looked at.
    pub batches: usize,
    /// Of those tried the one that took longest, in words.
    pub slowest: String,
    /// The most bytes of the device in use so far.
    pub peak: u64,
    /// Bytes that the device has.
    pub capacity: u64,
    /// An iteration of the middle size.
    pub iteration: Duration,
    /// An epoch, the reading of its data included.
    pub epoch: Duration,
}

/// A batch of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    pass: usize,
    number: usize,
}

/// What of a batch needs memory.
#[derive(Debug, Clone, Copy)]
struct Load {
    images: usize,
    padded: [usize; 2],
    /// Objects of the image with most.
    most: usize,
    /// Objects of all images.
    objects: usize,
}

impl Load {
    fn of(engine: &Engine, samples: &[Extent]) -> Result<Load> {
        let sizes: Vec<[usize; 2]> = samples.iter().map(|sample| [sample.height, sample.width]).collect();
        Ok(Load {
            images: samples.len(),
            padded: engine.padded(&sizes)?,
            most: samples.iter().map(|sample| sample.objects).max().unwrap_or(0),
            objects: samples.iter().map(|sample| sample.objects).sum(),
        })
    }

    /// The ways to be the largest: by pixels, and by objects, each of which is compared with every place of an image and may have a mask.
    fn ranks(&self) -> [[u64; 3]; 3] {
        let Load { images, padded: [height, width], most, objects } = *self;
        let [images, area, most, objects] = [images, height * width, most, objects].map(|count| count as u64);
        let pixels = images * area;
        [[pixels, objects, images], [pixels * most, pixels, images], [area * objects, pixels, images]]
    }
}

/// Tries the largest batches of every engine. Nothing where no loader knows its batches.
///
/// # Errors
/// When an engine would fail on one of them: which, and why.
pub fn preflight(graph: &Graph) -> Result<Vec<Found>> {
    let states = random::states()?;
    if pipe_native::is_accelerator(graph.run.device) {
        // What was built and dropped before, by the search for a batch size above all.
        memory::forget(graph.run.device)?;
    }
    let found = graph.engines().iter().filter_map(|engine| of_engine(graph, engine).transpose()).collect();
    random::restore(&states)?;
    found
}

fn of_engine(graph: &Graph, engine: &Rc<Engine>) -> Result<Option<Found>> {
    let outlook = engine.loader().borrow().outlook(None);
    let Some(outlook) = outlook else { return Ok(None) };
    let schedule = Schedule::of(engine, &*outlook)?;
    let (tried, made) = schedule.try_largest(graph, engine, &*outlook)?;
    let Some(slowest) = tried else { return Ok(None) };
    let (iteration, reading) = match schedule.middle.map(|place| outlook.make(place.pass, place.number)).transpose()? {
        Some(Some(batch)) => (engine.preflight(&batch, &graph.run)?, made),
        _ => (slowest.spent, made),
    };
    let step = match outlook.workers() {
        0 => iteration + reading,
        workers => iteration.max(reading / u32::try_from(workers).unwrap_or(u32::MAX)),
    };
    let device = graph.run.device;
    Ok(Some(Found {
        engine: engine.id.to_string(),
        batches: schedule.batches,
        slowest: slowest.text(),
        peak: memory::max_allocated(device)?,
        capacity: memory::free_and_total(device)?.1,
        iteration,
        epoch: step * u32::try_from(schedule.epoch).unwrap_or(u32::MAX),
    }))
}

/// The batches of a schedule that are worth a look.
struct Schedule {
    /// Those that can be the largest, in each way.
    largest: Vec<Place>,
    /// One of the middle size.
    middle: Option<Place>,
    /// Batches that were looked at.
    batches: usize,
    /// Iterations of an epoch.
    epoch: usize,
}

impl Schedule {
    fn of(engine: &Engine, outlook: &dyn Outlook) -> Result<Schedule> {
        let mut best: [Vec<([u64; 3], Place)>; 3] = Default::default();
        let (first, last, used) = passes(engine, outlook);
        let (mut batches, mut middle, mut epoch) = (0, None, 0);
        for pass in first..last {
            let mut of_pass = outlook.batches(pass);
            of_pass.truncate(used(pass));
            batches += of_pass.len();
            let mut sizes = Vec::new();
            for (number, samples) in of_pass.iter().enumerate() {
                let (place, ranks) = (Place { pass, number }, Load::of(engine, samples)?.ranks());
                for (best, rank) in best.iter_mut().zip(ranks) {
                    keep(best, rank, place);
                }
                if pass == first {
                    sizes.push((ranks[0], place));
                }
            }
            if pass == first {
                epoch = engine.limits().epoch_length.map_or(of_pass.len(), |length| length as usize);
                sizes.sort_by_key(|(rank, _)| *rank);
                middle = sizes.get(sizes.len() / 2).map(|(_, place)| *place);
            }
        }
        let mut largest: Vec<Place> = Vec::new();
        for (_, place) in best.into_iter().flatten() {
            if !largest.contains(&place) {
                largest.push(place);
            }
        }
        Ok(Schedule { largest, middle, batches, epoch })
    }

    /// Reads the batches that can be the largest and tries those that are; the one that took longest, and how long reading one took.
    fn try_largest(&self, graph: &Graph, engine: &Engine, outlook: &dyn Outlook) -> Result<(Option<Tried>, Duration)> {
        let read = read(outlook, &self.largest).with_context(|| format!("{}: getting a batch", engine.id))?;
        let mut loads = Vec::new();
        for (_, batch, _) in &read {
            loads.push(Load::of(engine, &extents(batch)?)?);
        }
        let largest = |way: usize| (0..loads.len()).max_by_key(|i| (loads[*i].ranks()[way], Reverse(*i)));
        let chosen: BTreeSet<usize> = (0..3).filter_map(largest).collect();
        let mut longest: Option<Tried> = None;
        for i in chosen {
            let (place, batch, _) = &read[i];
            let spent = engine.preflight(batch, &graph.run).map_err(|error| refusal(error, engine, *place))?;
            let tried = Tried { place: *place, load: loads[i], spent };
            if longest.as_ref().is_none_or(|longest| longest.spent < spent) {
                longest = Some(tried);
            }
        }
        let reading: Duration = read.iter().map(|(_, _, spent)| *spent).sum();
        Ok((longest, reading / u32::try_from(read.len().max(1)).unwrap_or(u32::MAX)))
    }
}

/// A batch that was tried.
struct Tried {
    place: Place,
    load: Load,
    spent: Duration,
}

impl Tried {
    fn text(&self) -> String {
        let Load { images, padded: [height, width], most, .. } = self.load;
        let objects = if most > 0 { format!(", up to {most} objects") } else { String::new() };
        format!(
            "batch {} of epoch {}: {images} of {width} × {height} pixels{objects}",
            self.place.number + 1,
            self.place.pass + 1
        )
    }
}

/// The passes over the data that are still to come, as many as are looked at, and how many batches of each come to be used.
fn passes(engine: &Engine, outlook: &dyn Outlook) -> (usize, usize, impl Fn(usize) -> usize) {
    let first = engine.current().pass as usize;
    let length = outlook.batches(first).len().max(1) as u64;
    let Limits { max_epochs, max_iterations, epoch_length } = engine.limits();
    let of_epochs = max_epochs.map(|epochs| epochs.saturating_mul(epoch_length.unwrap_or(length)));
    let iterations = of_epochs.into_iter().chain(max_iterations).min().unwrap_or(length);
    let passes = usize::try_from(iterations.div_ceil(length)).unwrap_or(usize::MAX);
    let most = (LOOKED_AT / outlook.samples().max(1)).max(1);
    let ahead = if outlook.repeats() { 1 } else { passes.saturating_sub(first).clamp(1, most) };
    let used = move |pass: usize| {
        let left = iterations.saturating_sub(length.saturating_mul(pass as u64));
        // The end of the last pass is not reached; one that is the first to be looked at may be all that there is.
        usize::try_from(if pass == first { left.max(1) } else { left }).unwrap_or(usize::MAX)
    };
    (first, first + ahead, used)
}

/// Keeps the best few, the best first; of equals the first.
fn keep(best: &mut Vec<([u64; 3], Place)>, rank: [u64; 3], place: Place) {
    let at = best.partition_point(|(other, _)| *other >= rank);
    if at < READ {
        best.insert(at, (rank, place));
        best.truncate(READ);
    }
}

/// Reads batches beside each other, and how long each took; those of which nothing can be read are left out.
fn read(outlook: &dyn Outlook, places: &[Place]) -> Result<Vec<(Place, Batch, Duration)>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let make = |place: &Place| -> Result<Option<(Place, Batch, Duration)>> {
        let start = Instant::now();
        Ok(outlook.make(place.pass, place.number)?.map(|batch| (*place, batch, start.elapsed())))
    };
    let mut read = Vec::new();
    for some in places.chunks(threads) {
        let made = std::thread::scope(|scope| -> Vec<Result<_>> {
            let threads: Vec<_> = some.iter().map(|place| scope.spawn(move || make(place))).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, Result<_>>| thread.join();
            threads.into_iter().map(join).map(|made| made.unwrap_or(Ok(None))).collect()
        });
        for made in made {
            read.extend(made?);
        }
    }
    Ok(read)
}

/// What a batch came to.
fn extents(batch: &Batch) -> Result<Vec<Extent>> {
    let images = if batch.get(fields::IMAGE).is_some() { batch.list(fields::IMAGE)? } else { Vec::new() };
    let objects = if batch.get(fields::BOXES).is_some() { batch.list(fields::BOXES)? } else { Vec::new() };
    let extent = |index: usize| {
        let (height, width) = match images.get(index).map(Tensor::size).unwrap_or_default()[..] {
            [.., height, width] => (height, width),
            _ => (1, 1),
        };
        let objects = objects.get(index).map_or(0, |boxes| boxes.size()[0]);
        Extent { height: height as usize, width: width as usize, objects: objects as usize }
    };
    Ok((0..batch.size).map(extent).collect())
}

/// What is said of a batch that an engine fails on.
fn refusal(error: anyhow::Error, engine: &Engine, Place { pass, number }: Place) -> anyhow::Error {
    let what = if is_out_of_memory(&error) { "does not fit" } else { "fails" };
    error.context(format!(
        "{}: batch {} of epoch {} {what}, so the run does not begin",
        engine.id,
        number + 1,
        pass + 1
    ))
}

/// The largest batch size with which every batch of an engine's schedule fits into the memory of the device.
///
/// # Errors
/// When not even one sample fits, the device has no memory of its own, or a batch fails for another reason.
pub fn largest_batch_size(graph: &Graph, engine: &Rc<Engine>) -> Result<usize> {
    let device = graph.run.device;
    let loader = engine.loader();
    ensure!(
        pipe_native::is_accelerator(device),
        "batch_size = \"auto\" goes by the memory of an accelerator, and {} is none; give a number",
        device_name(device)
    );
    let states = random::states()?;
    let fits = |size: usize| -> Result<bool> {
        memory::forget(device)?;
        let dependable = memory::dependable(device)?;
        let outlook = loader.borrow().outlook(Some(size)).context("its loader does not know its batches")?;
        let tried = Schedule::of(engine, &*outlook).and_then(|all| all.try_largest(graph, engine, &*outlook));
        match tried {
            Ok(_) => Ok(size == 1 || memory::max_allocated(device)? <= dependable),
            Err(error) if is_out_of_memory(&error) && size > 1 => Ok(false),
            Err(error) => Err(error),
        }
    };
    let samples = loader.borrow().outlook(None).map_or(1, |outlook| outlook.samples());
    let found = search(samples, fits);
    random::restore(&states)?;
    memory::forget(device)?;
    found
}

/// The largest number from 1 to `most` that fits, if 1 does, and all below one that fits.
fn search(most: usize, fits: impl Fn(usize) -> Result<bool>) -> Result<usize> {
    let (mut good, mut bad) = (0, most + 1);
    while good + 1 < bad {
        let doubled = if good == 0 { 1 } else { good * 2 };
        let size = if bad > most && doubled < bad { doubled } else { good.midpoint(bad) };
        if fits(size)? { good = size } else { bad = size }
    }
    Ok(good)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn the_largest_that_fits_is_found_in_few_tries() {
        for (most, limit) in [(1, 1), (7, 7), (100, 1), (100, 37), (100, 64), (100, 100), (118_287, 23)] {
            let tries = Cell::new(0);
            let found = search(most, |size| {
                tries.set(tries.get() + 1);
                Ok(size <= limit)
            });
            assert_eq!(found.unwrap(), limit);
            assert!(tries.get() <= 14, "{} tries for {limit} of {most}", tries.get());
        }
    }
}
