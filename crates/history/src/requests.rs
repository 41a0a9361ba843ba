//! What a run at work is asked by way of its folder: `requests/NAME.json`, read within a second, answered in `requests/NAME.answer.json`.
//!
//! A folder is all that both need to share, so it works wherever the folder of runs is. A request is written by a rename, and gone when the
//! run has read it. One that a run left unread is not for its next life.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::now;
use pipe_vocab::{atomic, files};

/// A request is no longer, in bytes.
pub const LONGEST: u64 = 4 << 20;
/// Nor an answer.
const LONGEST_ANSWER: u64 = 16 << 20;

/// An author's name and a reason are no longer, in characters.
const LONGEST_WORDS: usize = 500;

/// How the name of an answer ends.
const ANSWER: &str = ".answer.json";

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ask {
    /// Save a checkpoint and end.
    Stop,
    /// Save a checkpoint and go on.
    Checkpoint,
    /// Go on with another pipeline.
    Edit,
}

impl Ask {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Ask::Stop => "stop",
            Ask::Checkpoint => "checkpoint",
            Ask::Edit => "edit",
        }
    }
}

/// A request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What is asked.
    pub ask: Ask,
    /// By whom.
    #[serde(default)]
    pub author: String,
    /// And why.
    #[serde(default)]
    pub why: String,
    /// Of an edit, the whole pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Of an edit, the version that it was made of: where the run has another by then, it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl Request {
    /// What is wrong with it in itself.
    ///
    /// # Errors
    /// When something is.
    pub fn check(&self) -> Result<()> {
        ensure!(self.text.is_some() == (self.ask == Ask::Edit), "an edit has a `text`, and no other request has");
        for (name, words) in [("author", &self.author), ("why", &self.why)] {
            ensure!(words.chars().count() <= LONGEST_WORDS, "`{name}` has at most {LONGEST_WORDS} characters");
        }
        Ok(())
    }
}

/// By whom and why, to be put behind what was asked.
pub fn by(author: &str, why: &str) -> String {
    let plain = |words: &str| words.split_whitespace().collect::<Vec<_>>().join(" ");
    let (author, why) = (plain(author), plain(why));
    let by = if author.is_empty() { String::new() } else { format!(" by {author}") };
    if why.is_empty() { by } else { format!("{by} ({why})") }
}

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The run has read it.
    Read,
    /// It was done.
    Done,
    /// It was not done, and will not be.
    Refused,
}

/// What a run answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Answer {
    /// What was asked; nothing where that could not be read.
    pub ask: Option<Ask>,
    /// By whom.
    pub author: String,
    /// And why.
    pub why: String,
    /// How far it has come.
    pub stage: Stage,
    /// What there is to say.
    pub said: String,
    /// Of an edit, the report, as `pipelines/index.jsonl` has it.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub report: Value,
    /// Of an edit, what is wrong with it, as `pipe check --format json` says it.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub diagnostics: Value,
    /// When that was.
    pub time: f64,
}

impl Answer {
    /// An answer to a request, now.
    pub fn to(request: &Request, stage: Stage, said: impl Into<String>) -> Answer {
        let Request { ask, author, why, .. } = request.clone();
        let (report, diagnostics) = (Value::Null, Value::Null);
        Answer { ask: Some(ask), author, why, stage, said: said.into(), report, diagnostics, time: now() }
    }

    fn to_none(said: String) -> Answer {
        let request = Request { ask: Ask::Stop, author: String::new(), why: String::new(), text: None, version: None };
        Answer { ask: None, ..Answer::to(&request, Stage::Refused, said) }
    }
}

/// The requests to one run.
#[derive(Debug, Clone)]
pub struct Requests {
    folder: PathBuf,
}

impl Requests {
    /// Those to the run in this folder.
    pub fn of(run: &Path) -> Requests {
        Requests { folder: run.join("requests") }
    }

    /// Asks; returns the name under which it is answered.
    ///
    /// # Errors
    /// When it cannot be written, or is wrong in itself.
    pub fn put(&self, request: &Request) -> Result<String> {
        request.check()?;
        match fs::create_dir(&self.folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("cannot create {}", self.folder.display()));
            }
            _ => {}
        }
        // A link would lead out of the run's folder.
        let real = fs::symlink_metadata(&self.folder).is_ok_and(|meta| meta.is_dir());
        ensure!(real, "{} is no folder", self.folder.display());
        // The time, so that they are read in their order, and what no other request of the same moment has.
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let (count, process) = (COUNT.fetch_add(1, Ordering::Relaxed), std::process::id());
        let name = format!("{:013}-{process:x}-{count:x}", (now() * 1e3) as u64);
        atomic::write(&self.folder.join(format!("{name}.json")), &serde_json::to_vec(request)?)?;
        Ok(name)
    }

    /// Those that nobody has read yet, in their order. One that cannot be understood is answered at once.
    pub fn unread(&self) -> Vec<(String, Request)> {
        let found = self.names().into_iter().filter(|name| !name.ends_with(ANSWER));
        let requests = found.filter_map(|file| {
            let name = file.strip_suffix(".json")?;
            match self.read(&file) {
                Ok(request) => Some((name.to_owned(), request)),
                Err(error) => {
                    let said = format!("this request cannot be understood: {error:#}");
                    if let Err(error) = self.answer(name, &Answer::to_none(said)) {
                        tracing::warn!("{error:#}");
                    }
                    None
                }
            }
        });
        requests.collect()
    }

    fn read(&self, file: &str) -> Result<Request> {
        let text = files::read_text(&self.folder.join(file), LONGEST)?;
        let request: Request = serde_json::from_str(&text)?;
        request.check().map(|()| request)
    }

    /// Answers a request, which is gone with that.
    ///
    /// # Errors
    /// When the answer cannot be written.
    pub fn answer(&self, name: &str, answer: &Answer) -> Result<()> {
        let text = serde_json::to_string_pretty(answer)? + "\n";
        atomic::write(&self.folder.join(format!("{name}{ANSWER}")), text.as_bytes())?;
        match fs::remove_file(self.folder.join(format!("{name}.json"))) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context("cannot remove a request"),
            _ => Ok(()),
        }
    }

    /// The answer to a request, if there is one.
    pub fn answered(&self, name: &str) -> Option<Answer> {
        let text = files::read_text(&self.folder.join(format!("{name}{ANSWER}")), LONGEST_ANSWER).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// The names of requests, the oldest first, and whether each was answered.
    pub fn all(&self) -> Vec<(String, bool)> {
        let each = self.names().into_iter().filter_map(|file| match file.strip_suffix(ANSWER) {
            Some(name) => Some((name.to_owned(), true)),
            None => Some((file.strip_suffix(".json")?.to_owned(), false)),
        });
        let mut all: Vec<(String, bool)> = each.collect();
        // While it is answered, one has both.
        all.sort();
        all.dedup_by(|later, first| {
            first.1 |= later.0 == first.0 && later.1;
            later.0 == first.0
        });
        all
    }

    /// The file of an answer, or of a request that was not answered yet, below the run's folder.
    pub fn file(name: &str, answered: bool) -> String {
        format!("requests/{name}{}", if answered { ANSWER } else { ".json" })
    }

    fn names(&self) -> Vec<String> {
        let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> =
            names.filter(|name| plain(name) && !name.starts_with('.') && name.ends_with(".json")).collect();
        names.sort();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop(author: &str) -> Request {
        Request { ask: Ask::Stop, author: author.into(), why: " it\ndiverges ".into(), text: None, version: None }
    }

    #[test]
    fn requests_are_read_in_their_order_and_answered_once() {
        let run = tempfile::tempdir().unwrap();
        let requests = Requests::of(run.path());
        assert_eq!((requests.unread(), requests.all()), (vec![], vec![]));
        let first = requests.put(&stop("ada")).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(2));
        let second = requests.put(&stop("")).unwrap();
        assert_eq!(requests.unread(), [(first.clone(), stop("ada")), (second.clone(), stop(""))]);
        assert_eq!((by("ada", " it\ndiverges "), by("", "x")), (" by ada (it diverges)".into(), " (x)".into()));
        requests.answer(&first, &Answer::to(&stop("ada"), Stage::Done, "done")).unwrap();
        assert_eq!(requests.unread(), [(second.clone(), stop(""))]);
        assert_eq!(requests.all(), [(first.clone(), true), (second, false)]);
        let text = fs::read_to_string(run.path().join(Requests::file(&first, true))).unwrap();
        let answer: Answer = serde_json::from_str(&text).unwrap();
        assert_eq!((answer.ask, answer.stage, &*answer.author), (Some(Ask::Stop), Stage::Done, "ada"));
    }

    #[test]
    fn what_is_no_request_is_answered_and_never_asked_of_anyone() {
        let run = tempfile::tempdir().unwrap();
        let requests = Requests::of(run.path());
        let folder = run.path().join("requests");
        fs::create_dir(&folder).unwrap();
        for (name, text) in [
            ("a", "{"),
            ("b", "{\"ask\": \"reboot\"}"),
            ("c", "{\"ask\": \"edit\"}"),
            ("d", "{\"ask\": \"stop\", \"text\": \"\"}"),
            ("e", "{\"ask\": \"stop\", \"more\": 1}"),
        ] {
            fs::write(folder.join(format!("{name}.json")), text).unwrap();
        }
        fs::write(folder.join(".hidden.json"), "{\"ask\": \"stop\"}").unwrap();
        fs::write(folder.join("note.txt"), "").unwrap();
        assert_eq!(requests.unread(), vec![]);
        assert!(requests.all().iter().all(|(_, answered)| *answered) && requests.all().len() == 5);
        let text = fs::read_to_string(folder.join("b.answer.json")).unwrap();
        assert!(text.contains("unknown variant `reboot`"), "{text}");
    }

    #[test]
    fn a_link_in_place_of_the_folder_is_not_followed() {
        let (run, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(other.path(), run.path().join("requests")).unwrap();
        assert!(Requests::of(run.path()).put(&stop("")).unwrap_err().to_string().contains("is no folder"));
        assert_eq!(fs::read_dir(other.path()).unwrap().count(), 0);
    }
}
