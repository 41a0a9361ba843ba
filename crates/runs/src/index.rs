//! What is known of all runs, kept in the cache for as long as it is true. It may be removed at any time; nothing that is wrong with it is an
//! error: then the folders are read.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pipe_history::standing::{self, Status};
use pipe_submit::receipt;
use pipe_vocab::cache;
use rusqlite::{Connection, params};

use crate::run::Run;

/// Raised wherever what is kept of a run changes.
const VERSION: i64 = 2;

/// How long one waits for others that write.
const PATIENCE: Duration = Duration::from_secs(5);

/// The index.
pub struct Index(Option<Connection>);

impl Index {
    /// That of this user.
    pub fn open() -> Index {
        let path = cache::dir().map(|folder| folder.join("runs.sqlite"));
        path.map_or(Index(None), |path| Index::at(&path))
    }

    /// That in a file. One that is no index, or a damaged one, is made again.
    pub fn at(path: &Path) -> Index {
        if let Some(folder) = path.parent() {
            // Opening says whether it could be made.
            let _ = fs::create_dir_all(folder);
        }
        Index(
            opened(path)
                .or_else(|_| {
                    remove(path);
                    opened(path)
                })
                .ok(),
        )
    }

    /// What is known of the runs in these folders, read anew where a folder has changed; those that are none are left out.
    pub fn look(&mut self, folders: &[PathBuf]) -> Vec<Run> {
        let mut known = self.0.as_ref().and_then(|connection| known(connection).ok()).unwrap_or_default();
        let mut runs = Vec::with_capacity(folders.len());
        let mut fresh = Vec::new();
        for folder in folders {
            let stamp = stamp(folder);
            let kept = known.remove(folder.as_path()).filter(|(of, _)| *of == stamp);
            let kept = kept.and_then(|(_, text)| serde_json::from_str::<Run>(&text).ok());
            match kept {
                Some(mut run) => {
                    // Whether a process is at work is written nowhere.
                    if matches!(run.status, Status::Running | Status::Lost)
                        && let Some(status) = standing::status(folder)
                    {
                        run.status = status;
                    }
                    runs.push(run);
                }
                None => {
                    if let Some(run) = Run::of(folder) {
                        fresh.push((stamp, runs.len()));
                        runs.push(run);
                    }
                }
            }
        }
        let gone: Vec<PathBuf> = known.into_keys().filter(|folder| !folder.exists()).collect();
        if let Some(connection) = &mut self.0
            && (!fresh.is_empty() || !gone.is_empty())
        {
            // What cannot be kept is read again the next time.
            let _ = keep(connection, &fresh, &runs, &gone);
        }
        runs
    }
}

fn opened(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(PATIENCE)?;
    // Not with a log of writes (WAL): the cache may lie in a home on a network, and two machines do not see the memory that it shares.
    connection.pragma_update(None, "synchronous", "OFF")?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version != VERSION {
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; DROP TABLE IF EXISTS runs;
             CREATE TABLE runs (folder TEXT PRIMARY KEY, stamp TEXT NOT NULL, run TEXT NOT NULL) WITHOUT ROWID;
             PRAGMA user_version = {VERSION}; COMMIT;"
        ))?;
    }
    // A damaged one is found now.
    connection.query_row("SELECT count(*) FROM runs", [], |_| Ok(()))?;
    Ok(connection)
}

fn remove(path: &Path) {
    for ending in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        // Most are not there.
        let _ = fs::remove_file(name);
    }
}

fn known(connection: &Connection) -> rusqlite::Result<HashMap<PathBuf, (String, String)>> {
    let mut statement = connection.prepare("SELECT folder, stamp, run FROM runs")?;
    let rows = statement.query_map([], |row| {
        let folder: String = row.get(0)?;
        Ok((PathBuf::from(folder), (row.get(1)?, row.get(2)?)))
    })?;
    rows.collect()
}

fn keep(
    connection: &mut Connection,
    fresh: &[(String, usize)],
    runs: &[Run],
    gone: &[PathBuf],
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    for (stamp, at) in fresh {
        let run = &runs[*at];
        // A folder whose name is no text is read each time.
        if let (Some(folder), Ok(text)) = (run.folder.to_str(), serde_json::to_string(run)) {
            let row = params![folder, stamp, text];
            transaction.execute("INSERT OR REPLACE INTO runs (folder, stamp, run) VALUES (?1, ?2, ?3)", row)?;
        }
    }
    for folder in gone {
        transaction.execute("DELETE FROM runs WHERE folder = ?1", params![folder.to_string_lossy()])?;
    }
    transaction.commit()
}

/// What changes whenever something does that is kept of a run: length and time of the files that it is read from.
pub fn stamp(folder: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    let of = |name: &str| match fs::metadata(folder.join(name)) {
        Ok(meta) => format!("{}:{}.{:09}", meta.len(), meta.mtime(), meta.mtime_nsec()),
        Err(_) => "-".into(),
    };
    ["run.json", "about.json", "pipeline.toml", "scalars/open.log", "records.jsonl", receipt::FILE].map(of).join(" ")
}
