//! What requests share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use pipe_history::standing::{self, Status};
use pipe_history::{Media, Scalars};
use pipe_runs::look::unique_names;
use pipe_runs::{Index, Run, folders, index, queue};
use pipe_submit::{Receipt, States};
use sha2::{Digest, Sha256};

use crate::checker::Checker;
use crate::problem::{Answer, Problem};

/// Runs are not looked for again within so long.
const FRESH: Duration = Duration::from_millis(700);

/// So many readers of curves, and of media, are kept.
const READERS: usize = 128;

/// More changed runs than this are read by way of the index.
const FEW: usize = 16;

/// What requests share.
pub struct State {
    /// The folders in which runs are looked for.
    pub roots: Vec<PathBuf>,
    /// Where the page is.
    pub address: SocketAddr,
    /// The token.
    pub token: String,
    /// Whether anyone on this machine may read.
    pub open: bool,
    /// Who checks pipelines.
    pub checker: Option<Checker>,
    /// How jobs stand, as far as is known.
    pub jobs: States,
    index: Mutex<Index>,
    known: Mutex<Known>,
    curves: Readers<Scalars>,
    media: Readers<Media>,
}

/// The runs as they were when they were looked at.
#[derive(Default)]
pub struct Snapshot {
    /// Another one has another number.
    pub revision: u64,
    /// The newest first, each with a name of its own.
    pub runs: Vec<Arc<Run>>,
    by_id: HashMap<String, usize>,
}

impl Snapshot {
    /// The run that an address means.
    pub fn find(&self, id: &str) -> Answer<Arc<Run>> {
        let found = self.by_id.get(id).map(|at| self.runs[*at].clone());
        found.ok_or_else(|| Problem::absent("there is no such run (any more)"))
    }
}

#[derive(Default)]
struct Known {
    at: Option<Instant>,
    runs: HashMap<PathBuf, (String, Arc<Run>)>,
    snapshot: Arc<Snapshot>,
}

/// What addresses call the run in a folder.
pub fn id(folder: &Path) -> String {
    let digest = Sha256::digest(folder.as_os_str().as_encoded_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

impl State {
    pub fn new(roots: Vec<PathBuf>, at: Option<PathBuf>, address: SocketAddr, token: String, open: bool) -> State {
        let index = at.map_or_else(Index::open, |path| Index::at(&path));
        let (index, known) = (Mutex::new(index), Mutex::default());
        let checker = None;
        State {
            roots,
            address,
            token,
            open,
            checker,
            jobs: States::default(),
            index,
            known,
            curves: Readers::default(),
            media: Readers::default(),
        }
    }

    /// With who checks pipelines.
    pub fn with(self, checker: Option<Checker>) -> State {
        State { checker, ..self }
    }

    /// The runs as they are now.
    pub fn runs(&self) -> Answer<Arc<Snapshot>> {
        let mut known = held(&self.known);
        if known.at.is_none_or(|at| at.elapsed() > FRESH) {
            self.look(&mut known)?;
            known.at = Some(Instant::now());
        }
        Ok(known.snapshot.clone())
    }

    /// The same runs with how their jobs stand, as far as that is known now.
    pub fn with_jobs(&self, mut runs: Vec<Arc<Run>>) -> Vec<Arc<Run>> {
        let receipts: Vec<Receipt> = runs.iter().filter_map(|run| queue::open(run)).cloned().collect();
        if receipts.is_empty() {
            return runs;
        }
        let states = self.jobs.of(&receipts);
        for (run, state) in runs.iter_mut().filter(|run| queue::open(run).is_some()).zip(states) {
            Arc::make_mut(run).job.iter_mut().for_each(|job| job.state.clone_from(&state));
        }
        runs
    }

    /// What changes whenever a job is known to stand otherwise.
    pub fn stand(&self) -> Answer<String> {
        let receipts: Vec<Receipt> = self.runs()?.runs.iter().filter_map(|run| queue::open(run)).cloned().collect();
        let states = if receipts.is_empty() { Vec::new() } else { self.jobs.of(&receipts) };
        Ok(states.iter().map(|state| state.as_deref().unwrap_or("-")).collect::<Vec<_>>().join(" "))
    }

    /// Has the next one who asks look again.
    pub fn forget(&self) {
        held(&self.known).at = None;
    }

    /// The run that an address means, as it is now: whoever heard that it has changed asks at once, and perhaps never again.
    pub fn run(&self, id: &str) -> Answer<Arc<Run>> {
        let run = self.runs()?.find(id)?;
        let seen = held(&self.known).runs.get(&run.folder).map(|(stamp, _)| stamp.clone());
        if seen == Some(index::stamp(&run.folder)) {
            return Ok(run);
        }
        self.forget();
        self.runs()?.find(id)
    }

    /// Does something with the curves below a folder, as they are now.
    pub fn with_curves<T>(&self, folder: &Path, work: impl FnOnce(&Scalars) -> Result<T>) -> Result<T> {
        self.curves.with(folder, Scalars::open, |scalars| scalars.refresh().map(drop), work)
    }

    /// Does something with what a run shows, as it is now.
    pub fn with_media<T>(&self, folder: &Path, work: impl FnOnce(&Media) -> Result<T>) -> Result<T> {
        self.media.with(folder, Media::open, |media| media.refresh().map(drop), work)
    }

    fn look(&self, known: &mut Known) -> Result<()> {
        // A root that is not there yet has no runs yet.
        let roots: Vec<PathBuf> = self.roots.iter().filter(|root| root.is_dir()).cloned().collect();
        let folders = folders::below_all(&roots)?;
        let stamps: Vec<String> = folders.iter().map(|folder| index::stamp(folder)).collect();
        let mut now = HashMap::with_capacity(folders.len());
        let (mut fresh, mut changed) = (Vec::new(), false);
        for (folder, stamp) in folders.into_iter().zip(stamps) {
            match known.runs.remove(&folder).filter(|(of, _)| *of == stamp) {
                Some((stamp, mut run)) => {
                    let stands = standing_of(&run);
                    if stands != run.status {
                        changed = true;
                        Arc::make_mut(&mut run).status = stands;
                    }
                    now.insert(folder, (stamp, run));
                }
                None => fresh.push((folder, stamp)),
            }
        }
        // What is left is gone.
        changed |= !known.runs.is_empty();
        changed |= self.read(fresh, &mut now);
        known.runs = now;
        if changed || known.snapshot.revision == 0 {
            known.snapshot = Arc::new(snapshot(known.snapshot.revision + 1, &known.runs));
        }
        Ok(())
    }

    /// Reads runs, and says whether there were any: not every folder that looks like one can be read.
    fn read(&self, fresh: Vec<(PathBuf, String)>, into: &mut HashMap<PathBuf, (String, Arc<Run>)>) -> bool {
        let read: Vec<Run> = if fresh.len() > FEW {
            let folders: Vec<PathBuf> = fresh.iter().map(|(folder, _)| folder.clone()).collect();
            held(&self.index).look(&folders)
        } else {
            fresh.iter().filter_map(|(folder, _)| Run::of(folder)).collect()
        };
        let any = !read.is_empty();
        let mut stamps: HashMap<PathBuf, String> = fresh.into_iter().collect();
        for run in read {
            if let Some(stamp) = stamps.remove(&run.folder) {
                into.insert(run.folder.clone(), (stamp, Arc::new(run)));
            }
        }
        any
    }
}

/// How a run stands by now; whether a process is at work is written nowhere.
fn standing_of(run: &Run) -> Status {
    match run.status {
        Status::Running | Status::Lost => standing::status(&run.folder).unwrap_or(run.status),
        status => status,
    }
}

fn snapshot(revision: u64, known: &HashMap<PathBuf, (String, Arc<Run>)>) -> Snapshot {
    let mut runs: Vec<Arc<Run>> = known.values().map(|(_, run)| run.clone()).collect();
    runs.sort_by(|a, b| b.created.total_cmp(&a.created).then_with(|| b.folder.cmp(&a.folder)));
    let plain: Vec<&Run> = runs.iter().map(|run| &**run).collect();
    let names = unique_names(&plain);
    for (run, name) in runs.iter_mut().zip(names) {
        if run.name != name {
            Arc::make_mut(run).name = name;
        }
    }
    let by_id = runs.iter().enumerate().map(|(at, run)| (id(&run.folder), at)).collect();
    Snapshot { revision, runs, by_id }
}

/// Holds a lock, also one whose last holder met a fault: what is behind it is made anew from folders.
fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

type Kept<T> = (Instant, Arc<Mutex<Option<T>>>);

/// Readers of folders that are kept open, the latest that were used.
struct Readers<T>(Mutex<HashMap<PathBuf, Kept<T>>>);

impl<T> Default for Readers<T> {
    fn default() -> Self {
        Readers(Mutex::default())
    }
}

impl<T> Readers<T> {
    fn with<O>(
        &self,
        folder: &Path,
        open: impl FnOnce(&Path) -> Result<T>,
        refresh: impl FnOnce(&mut T) -> Result<()>,
        work: impl FnOnce(&T) -> Result<O>,
    ) -> Result<O> {
        let slot = self.slot(folder);
        let mut slot = held(&slot);
        // One that fails is opened anew the next time.
        let reader = match slot.take() {
            Some(mut reader) => refresh(&mut reader).map(|()| reader),
            None => open(folder),
        }?;
        let outcome = work(&reader)?;
        *slot = Some(reader);
        Ok(outcome)
    }

    fn slot(&self, folder: &Path) -> Arc<Mutex<Option<T>>> {
        let mut all = held(&self.0);
        let now = Instant::now();
        if all.len() >= READERS && !all.contains_key(folder) {
            let oldest = all.iter().min_by_key(|(_, (at, _))| *at).map(|(folder, _)| folder.clone());
            oldest.map(|folder| all.remove(&folder));
        }
        let (at, slot) = all.entry(folder.to_owned()).or_insert_with(|| (now, Arc::default()));
        *at = now;
        slot.clone()
    }
}
