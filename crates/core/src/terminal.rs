//! Standard error, shared by progress bars and everything else that is said there; what is said is also kept in the run's
//! `console.log`.
//!
//! Nobody may listen: the reader of a pipe is gone, the terminal was closed, the disk under a redirection is full. None of
//! this is a fault of the run, so it ends nothing.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use pipe_vocab::shown::{shown, shown_data, shown_styled};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// The bars of this process. Lines go above them.
pub fn bars() -> &'static MultiProgress {
    static BARS: OnceLock<MultiProgress> = OnceLock::new();
    BARS.get_or_init(|| {
        if !is_live() {
            return MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        }
        // Bars ask for the colours of standard output where the target is not indicatif's own.
        console::set_colors_enabled(console::colors_enabled_stderr());
        MultiProgress::with_draw_target(ProgressDrawTarget::term_like(Box::new(Deaf::new(Term::buffered_stderr()))))
    })
}

/// Whether standard error is a terminal in which bars can move.
pub fn is_live() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|kind| kind != "dumb")
}

/// Whether standard error takes colours: on a terminal that has them, unless `NO_COLOR` is set.
pub fn colors() -> bool {
    console::colors_enabled_stderr()
}

/// Prints a result of the run on standard output, where it can be piped elsewhere, and keeps it with what else is said.
pub fn result(text: &str) {
    let line = format!("{}\n", shown(text));
    if SILENT.load(Ordering::Relaxed) {
        return keep(line.as_bytes());
    }
    bars().suspend(|| {
        let _ = io::stdout().write_all(line.as_bytes()).and_then(|()| io::stdout().flush());
    });
    keep(line.as_bytes());
}

/// Prints a line on standard error, above the bars, without characters that steer a terminal, and keeps it.
pub fn line(text: &str) {
    write(&shown(text));
}

/// As [`line`], of text that the program has styled; it is kept without the styles.
pub fn styled_line(text: &str) {
    let line = format!("{}\n", shown_styled(text));
    say(line.as_bytes());
    keep(console::strip_ansi_codes(&line).as_bytes());
}

fn write(text: &str) {
    let line = format!("{text}\n");
    say(line.as_bytes());
    keep(line.as_bytes());
}

/// Prints a line of JSON as the log's are: `timestamp`, `level`, `fields`.
pub fn json_line(level: &str, fields: serde_json::Value) {
    let mut timestamp = String::new();
    // Writing into a string cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
    write(&shown_data(&serde_json::json!({ "timestamp": timestamp, "level": level, "fields": fields }).to_string()));
}

/// Columns of the terminal.
pub fn width() -> usize {
    Term::stderr().size().1.into()
}

/// Keeps what is said from now on in a file, after what was said before.
///
/// # Errors
/// When the file cannot be opened for writing.
pub fn keep_in(path: &Path) -> Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    let mut file = file.with_context(|| format!("cannot write {}", path.display()))?;
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Kept::Early(said) = &*kept {
        let _ = file.write_all(said);
    }
    *kept = Kept::File(file);
    Ok(())
}

/// From now on nothing is said here: it is only kept. For a process whose words another speaks.
pub fn only_keep() {
    SILENT.store(true, Ordering::Relaxed);
}

/// Says what is being done for as long as it takes, if that is long: on a terminal in a line that goes again, elsewhere in the log.
#[must_use = "it is said until this is dropped"]
pub fn working(what: impl Into<String>) -> Working {
    let what = what.into();
    let (done, until) = channel();
    // Without a thread to be had, nothing is said.
    let teller = tracing::enabled!(tracing::Level::INFO)
        .then_some(())
        .filter(|()| !SILENT.load(Ordering::Relaxed) || !is_live())
        .map(|()| std::thread::Builder::new().name("working".into()).spawn(move || tell(&what, &until)).ok());
    Working { done: Some(done), teller: teller.flatten() }
}

/// See [`working`].
pub struct Working {
    done: Option<Sender<()>>,
    teller: Option<JoinHandle<()>>,
}

impl Drop for Working {
    fn drop(&mut self) {
        self.done = None;
        let _ = self.teller.take().map(JoinHandle::join);
    }
}

/// What takes less is not worth a word: on a terminal, and in a log.
const SHORT: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(5)];

/// How often it is said again.
const AGAIN: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(30)];

fn tell(what: &str, until: &Receiver<()>) {
    let (started, way) = (Instant::now(), usize::from(!is_live()));
    let goes_on = |time| until.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
    if !goes_on(SHORT[way]) {
        return;
    }
    let spinner = is_live().then(|| bars().add(ProgressBar::new_spinner()));
    if let Some(spinner) = &spinner {
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}  {elapsed}") {
            spinner.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
        }
        spinner.set_message(shown(what).into_owned());
    }
    loop {
        match &spinner {
            Some(spinner) => spinner.tick(),
            None => tracing::info!("{what} ({} s)", started.elapsed().as_secs()),
        }
        if !goes_on(AGAIN[way]) {
            break;
        }
    }
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
        bars().remove(&spinner);
    }
}

/// Where the log goes: standard error, above the bars.
#[derive(Debug, Clone, Copy)]
pub struct Log;

/// Where the log is kept: the run's `console.log`, see [`keep_in`].
#[derive(Debug, Clone, Copy)]
pub struct Console;

/// What was said: in memory while there is no file yet.
enum Kept {
    Early(Vec<u8>),
    File(File),
}

/// So much is remembered until there is a file.
const EARLY: usize = 1 << 16;

/// Whether nothing is said.
static SILENT: AtomicBool = AtomicBool::new(false);

static KEPT: Mutex<Kept> = Mutex::new(Kept::Early(Vec::new()));

fn say(bytes: &[u8]) {
    if SILENT.load(Ordering::Relaxed) {
        return;
    }
    bars().suspend(|| {
        let _ = io::stderr().write_all(bytes);
    });
}

fn keep(bytes: &[u8]) {
    match &mut *KEPT.lock().unwrap_or_else(PoisonError::into_inner) {
        Kept::Early(said) if said.len() + bytes.len() > EARLY => {}
        Kept::Early(said) => said.extend(bytes),
        Kept::File(file) => {
            let _ = file.write_all(bytes);
        }
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        Log
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The logger writes whole lines, with its own colours.
        say(shown_styled(&String::from_utf8_lossy(bytes)).as_bytes());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Console {
    type Writer = Console;

    fn make_writer(&'a self) -> Console {
        Console
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        keep(shown_styled(&String::from_utf8_lossy(bytes)).as_bytes());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A terminal whose errors nobody hears: indicatif panics on some of them. After the first it is left alone.
#[derive(Debug)]
struct Deaf<T> {
    terminal: T,
    gone: AtomicBool,
}

impl<T: TermLike> Deaf<T> {
    fn new(terminal: T) -> Deaf<T> {
        Deaf { terminal, gone: AtomicBool::new(false) }
    }

    fn tell(&self, tell: impl FnOnce(&T) -> io::Result<()>) -> io::Result<()> {
        if !self.gone.load(Ordering::Relaxed) && tell(&self.terminal).is_err() {
            self.gone.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl<T: TermLike> TermLike for Deaf<T> {
    fn width(&self) -> u16 {
        self.terminal.width()
    }

    fn height(&self) -> u16 {
        self.terminal.height()
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.tell(|terminal| terminal.move_cursor_up(n))
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.tell(|terminal| terminal.move_cursor_down(n))
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.tell(|terminal| terminal.move_cursor_right(n))
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.tell(|terminal| terminal.move_cursor_left(n))
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.tell(|terminal| terminal.write_line(text))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.tell(|terminal| terminal.write_str(text))
    }

    fn clear_line(&self) -> io::Result<()> {
        self.tell(TermLike::clear_line)
    }

    fn flush(&self) -> io::Result<()> {
        self.tell(TermLike::flush)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::ProgressBar;

    /// A terminal that was closed.
    #[derive(Debug)]
    struct Closed;

    fn closed() -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    impl TermLike for Closed {
        fn width(&self) -> u16 {
            80
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            closed()
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            closed()
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            closed()
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            closed()
        }
        fn write_line(&self, _: &str) -> io::Result<()> {
            closed()
        }
        fn write_str(&self, _: &str) -> io::Result<()> {
            closed()
        }
        fn clear_line(&self) -> io::Result<()> {
            closed()
        }
        fn flush(&self) -> io::Result<()> {
            closed()
        }
    }

    #[test]
    fn bars_on_a_terminal_that_was_closed_end_nothing() {
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(Deaf::new(Closed)), 255);
        let bars = MultiProgress::with_draw_target(target);
        let bar = bars.add(ProgressBar::new(10));
        for position in 0..10 {
            bar.set_position(position);
            bar.tick();
            bars.suspend(|| {});
        }
        bar.finish_and_clear();
    }
}
