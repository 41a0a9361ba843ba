//! The writer of one event file.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use super::histogram::Histogram;
use super::hparams::{self, HParam, SessionStatus};
use super::pr_curve::PrCurve;
use super::proto::Message;
use super::{layout, record, summary};

/// Pending bytes from which a record is written out without waiting for [`EventWriter::flush`].
const FLUSH_BYTES: usize = 1 << 20;
/// Pending bytes from which records are refused while the file cannot be written, so that a full disk does not fill memory.
const PENDING_LIMIT: usize = 64 << 20;
/// Tells apart the files that one process makes in one folder.
static FILES: AtomicU64 = AtomicU64::new(0);

/// Writes one TensorBoard event file.
///
/// `step` is the x axis of a chart; `wall_time` is in seconds since 1970 (see [`EventWriter::now`]). Records are kept in
/// memory until [`flush`](Self::flush), or until there is a megabyte of them; TensorBoard sees whole records only. When
/// writing fails, the error names the file, the file keeps its whole records, and the pending ones are tried again at the
/// next flush.
///
/// Dropping the writer flushes but cannot report an error: call [`close`](Self::close) at the end of a run.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
    pending: Vec<u8>,
    /// Bytes of whole records in the file.
    written: u64,
    /// The last write stopped inside a record, and the rest of it has to be cut off before the next one.
    torn: bool,
}

impl EventWriter {
    /// Starts a new event file in `dir`, making the folder if needed: `events.out.tfevents.<secs>.<host>.<pid>.<n>` and
    /// then `filename_suffix`.
    ///
    /// TensorBoard reads the files of a folder in the order of their names, so `<secs>` is the present time or, if a file
    /// is there that is no older, one more than that file's.
    ///
    /// # Errors
    /// The folder or the file cannot be created; a suffix that is not part of a file name.
    pub fn create(dir: &Path, filename_suffix: Option<&str>) -> Result<Self> {
        let mut writer = Self::open(dir, filename_suffix.unwrap_or_default())?;
        writer.file_version(0)?;
        writer.flush()?;
        Ok(writer)
    }

    /// Starts a further event file in the folder of a run that continues at `purge_step`.
    ///
    /// What earlier files hold at steps from `purge_step` on is void: the new file begins with a `START` of a session at
    /// that step, as `SummaryWriter(purge_step=…)` writes it, and TensorBoard's Python reader then drops those points. Its
    /// default reader, the data server, takes no notice of sessions: there a point written again at an earlier step drops
    /// that tag's points from that step on. A run resumed from a checkpoint writes the same tags again, so both show
    /// the same.
    ///
    /// # Errors
    /// As for [`create`](Self::create).
    pub fn create_resumed(dir: &Path, purge_step: i64) -> Result<Self> {
        let mut writer = Self::open(dir, "")?;
        writer.file_version(purge_step)?;
        // The reader takes the first START of a folder for the run's beginning and only a later one for a restart, and
        // files begun by `create` or by torch's writer hold none: hence two.
        for _ in 0..2 {
            let start = Message::new().int(1, 1);
            writer.event(event(purge_step, Self::now()).message(7, &start))?;
        }
        writer.flush()?;
        Ok(writer)
    }

    /// The file that is written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of whole records in the file, all of them on the disk; what is pending is not counted.
    ///
    /// # Errors
    /// The file cannot be synced.
    pub fn synced_length(&self) -> Result<u64> {
        let synced = self.file.sync_data();
        synced.with_context(|| format!("cannot write the TensorBoard event file {}", self.path.display()))?;
        Ok(self.written)
    }

    /// Seconds since 1970.
    pub fn now() -> f64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
    }

    /// A point of a line chart. Stored in single precision, as TensorBoard has it; NaN and infinities are shown as such.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn scalar(&mut self, tag: &str, step: i64, wall_time: f64, value: f64) -> Result<()> {
        self.summary(step, wall_time, &summary::scalar(tag, value))
    }

    /// A PNG image of `height` × `width` pixels.
    ///
    /// # Errors
    /// `png` is no PNG file of that size; the file cannot be written.
    pub fn image_png(
        &mut self,
        tag: &str,
        step: i64,
        wall_time: f64,
        height: usize,
        width: usize,
        png: &[u8],
    ) -> Result<()> {
        self.summary(step, wall_time, &summary::image(tag, height, width, png)?)
    }

    /// Text, shown as Markdown.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn text(&mut self, tag: &str, step: i64, wall_time: f64, markdown: &str) -> Result<()> {
        self.summary(step, wall_time, &summary::text(tag, markdown))
    }

    /// A histogram of `values`, any shape flattened, in the default buckets of `SummaryWriter.add_histogram`.
    ///
    /// Returns how many values were skipped because they are NaN or infinite; when no value is left, nothing is written.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn histogram(&mut self, tag: &str, step: i64, wall_time: f64, values: &[f32]) -> Result<usize> {
        let Some(histogram) = Histogram::of(values) else {
            return Ok(values.len());
        };
        self.summary(step, wall_time, &summary::histogram(tag, &histogram))?;
        Ok(values.len() - histogram.num as usize)
    }

    /// A precision-recall curve over the thresholds 0, …, 1, `T` of them evenly spaced: `true_positives` `[T]` and `false_positives` `[T]` count
    /// what is scored there or above, `positives` all that is to be found.
    ///
    /// # Errors
    /// Counts that are none of such a curve; the file cannot be written.
    pub fn pr_curve(
        &mut self,
        tag: &str,
        step: i64,
        wall_time: f64,
        [true_positives, false_positives]: [&[u32]; 2],
        positives: u32,
    ) -> Result<()> {
        let curve = PrCurve::new(true_positives, false_positives, positives);
        self.summary(step, wall_time, &curve.with_context(|| format!("PR curve `{tag}`"))?.summary(tag))
    }

    /// What this run was set to, and which of its scalar tags the HPARAMS page shows as metrics. Once a run, at its start;
    /// the page shows the run as running until [`session_end`](Self::session_end).
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn hparams(&mut self, hparams: &[(&str, HParam)], metrics: &[&str]) -> Result<()> {
        let now = Self::now();
        self.summary(0, now, &hparams::experiment(hparams, metrics, now))?;
        self.summary(0, now, &hparams::session_start(hparams, now))
    }

    /// Puts series together on charts of the CUSTOM SCALARS page; a later layout takes the place of an earlier one.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn layout(&mut self, category: &str, charts: &[(&str, &[&str])]) -> Result<()> {
        self.summary(0, Self::now(), &layout::value(category, charts))
    }

    /// How the run that [`hparams`](Self::hparams) began has ended.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn session_end(&mut self, status: SessionStatus) -> Result<()> {
        let now = Self::now();
        self.summary(0, now, &hparams::session_end(status, now))
    }

    /// Hands everything pending to the operating system, so that a running TensorBoard shows it.
    ///
    /// # Errors
    /// The disk is full, the file or its folder is gone, and whatever else the system reports, naming the file. The
    /// records stay pending.
    pub fn flush(&mut self) -> Result<()> {
        let path = self.path.display().to_string();
        // Writing to a deleted file succeeds and the records are lost, hence the look.
        if let Err(error) = fs::metadata(&self.path) {
            ensure!(
                error.kind() != ErrorKind::NotFound,
                "the TensorBoard event file {path} was removed while the run writes it: records are being lost"
            );
            return Err(error).with_context(|| format!("cannot reach the TensorBoard event file {path}"));
        }
        self.write_pending().with_context(|| format!("cannot write the TensorBoard event file {path}"))
    }

    /// Flushes and ends the file.
    ///
    /// # Errors
    /// As for [`flush`](Self::flush).
    pub fn close(mut self) -> Result<()> {
        self.flush()
    }

    fn open(dir: &Path, suffix: &str) -> Result<Self> {
        ensure!(
            !suffix.contains(['/', '\\', '\0']),
            "the suffix {suffix:?} of an event file must be part of a file name: remove slashes"
        );
        fs::create_dir_all(dir)
            .with_context(|| format!("cannot create the folder {} for TensorBoard event files", dir.display()))?;
        let seconds = seconds_after(dir)
            .with_context(|| format!("cannot list the folder {} of TensorBoard event files", dir.display()))?;
        let (host, pid) = (host_name(), std::process::id());
        loop {
            let number = FILES.fetch_add(1, Ordering::Relaxed);
            let path = dir.join(format!("events.out.tfevents.{seconds:010}.{host}.{pid}.{number}{suffix}"));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Self::over(path, file)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("cannot create the TensorBoard event file {}", path.display()));
                }
            }
        }
    }

    fn over(path: PathBuf, file: File) -> Self {
        Self { path, file, pending: Vec::new(), written: 0, torn: false }
    }

    fn file_version(&mut self, step: i64) -> Result<()> {
        self.event(event(step, Self::now()).string(3, "brain.Event:2"))
    }

    fn summary(&mut self, step: i64, wall_time: f64, value: &Message) -> Result<()> {
        self.event(event(step, wall_time).message(5, &Message::new().message(1, value)))
    }

    fn event(&mut self, event: Message) -> Result<()> {
        if self.pending.len() >= PENDING_LIMIT {
            self.flush().context("64 MiB of TensorBoard records are queued and this one is dropped")?;
        }
        record::append(&mut self.pending, &event.into_bytes());
        if self.pending.len() >= FLUSH_BYTES { self.flush() } else { Ok(()) }
    }

    fn write_pending(&mut self) -> std::io::Result<()> {
        if self.torn {
            self.cut_to_whole_records()?;
        }
        if let Err(error) = self.file.write_all(&self.pending) {
            self.torn = true;
            // The first error is the one to report; should the cut fail, the next flush begins with it.
            let _ = self.cut_to_whole_records();
            return Err(error);
        }
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    fn cut_to_whole_records(&mut self) -> std::io::Result<()> {
        self.file.set_len(self.written)?;
        self.file.seek(SeekFrom::Start(self.written))?;
        self.torn = false;
        Ok(())
    }
}

impl Drop for EventWriter {
    fn drop(&mut self) {
        if !self.pending.is_empty()
            && let Err(error) = self.flush()
        {
            tracing::warn!("{error:#}");
        }
    }
}

/// An `Event` with its time and step.
fn event(step: i64, wall_time: f64) -> Message {
    Message::new().double(1, wall_time).int(2, step)
}

/// The present time in seconds, or one more than that of the latest event file in `dir` where that is later.
fn seconds_after(dir: &Path) -> std::io::Result<u64> {
    // Ten digits: a name with more would sort before the others.
    const LARGEST: u64 = 9_999_999_999;
    let mut seconds = EventWriter::now() as u64;
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let stamp = name.to_str().and_then(|name| name.strip_prefix("events.out.tfevents."));
        let stamp = stamp.and_then(|rest| rest.split('.').next()?.parse::<u64>().ok());
        if let Some(stamp) = stamp.filter(|&stamp| stamp < LARGEST) {
            seconds = seconds.max(stamp + 1);
        }
    }
    Ok(seconds)
}

/// The machine's name as far as it fits a file name.
fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .or_else(|| std::env::var("COMPUTERNAME").ok())
        .unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
    if name.is_empty() { "localhost".into() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_folder_sort_in_the_order_of_their_making() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("events.out.tfevents.5000000000.other.1.0"), "").unwrap();
        fs::write(dir.path().join("events.out.tfevents.99999999999.odd.1.0"), "").unwrap();
        let paths: Vec<_> =
            (0..3).map(|_| EventWriter::create(dir.path(), Some(".x")).unwrap().path().to_owned()).collect();
        assert!(paths.is_sorted(), "{paths:?}");
        let names: Vec<_> = paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert!(names[0].starts_with("events.out.tfevents.5000000001."), "{names:?}");
        assert!(names.iter().all(|name| name.ends_with(".x")), "{names:?}");
    }

    #[test]
    fn a_suffix_with_a_slash_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = EventWriter::create(dir.path(), Some("/../x")).unwrap_err();
        assert!(error.to_string().contains("remove slashes"), "{error:#}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_and_bounds_memory() {
        let full = Path::new("/dev/full");
        let mut writer = EventWriter::over(full.into(), OpenOptions::new().write(true).open(full).unwrap());
        writer.scalar("loss", 1, 0.0, 1.0).unwrap();
        let error = format!("{:#}", writer.flush().unwrap_err());
        assert!(error.contains("cannot write the TensorBoard event file /dev/full"), "{error}");
        assert!(!writer.pending.is_empty(), "the record waits for the next flush");
        let long = "x".repeat(8 << 20);
        let errors = (0..12).filter(|_| writer.text("t", 1, 0.0, &long).is_err()).count();
        assert_eq!(errors, 12);
        assert!(writer.pending.len() < PENDING_LIMIT + (9 << 20), "{}", writer.pending.len());
    }
}
