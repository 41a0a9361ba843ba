//! `pipe runs tag`, `note`, `rename`: what the owners of a run say of it.

use anyhow::{Result, bail, ensure};
use clap::Args;
use pipe_runs::About;
use pipe_runs::about::check_word;

use super::which::RunArg;
use crate::called::Called;
use crate::output::{Status, print};

/// Arguments of `pipe runs tag`.
#[derive(Debug, Args)]
pub struct TagArgs {
    #[command(flatten)]
    run: RunArg,
    /// `+TAG` adds one, `-TAG` removes it. Without any, the tags are printed.
    #[arg(allow_hyphen_values = true, value_name = "+TAG|-TAG")]
    tags: Vec<String>,
}

/// Arguments of `pipe runs note`.
#[derive(Debug, Args)]
pub struct NoteArgs {
    #[command(flatten)]
    run: RunArg,
    /// The note, in place of the one before; an empty one removes it.
    text: String,
}

/// Arguments of `pipe runs rename`.
#[derive(Debug, Args)]
pub struct RenameArgs {
    #[command(flatten)]
    run: RunArg,
    /// The name.
    name: String,
    /// What runs it belongs to, such as those of one experiment with several seeds.
    #[arg(long)]
    group: Option<String>,
}

/// Adds and removes tags.
///
/// # Errors
/// When there is no such run, or a tag is none.
pub fn tag(args: &TagArgs) -> Result<Status> {
    let run = args.run.find()?;
    let about = About::edit(&run.folder, |about| {
        for tag in &args.tags {
            if let Some(tag) = tag.strip_prefix('+') {
                check_word("tag", tag)?;
                about.tags.insert(tag.to_owned());
            } else if let Some(tag) = tag.strip_prefix('-') {
                ensure!(about.tags.remove(tag), "{} has no tag `{tag}`", run.name);
            } else {
                bail!("write `+{tag}` to add this tag, `-{tag}` to remove it");
            }
        }
        Ok(())
    })?;
    print(&format!("{}\n", about.tags.iter().map(String::as_str).collect::<Vec<_>>().join(" ")))
}

/// Writes a note.
///
/// # Errors
/// When there is no such run.
pub fn note(args: &NoteArgs) -> Result<Status> {
    let run = args.run.find()?;
    About::edit(&run.folder, |about| {
        about.note = args.text.trim().to_owned();
        Ok(())
    })?;
    Ok(Status::Done)
}

/// Gives a run a name that no other has.
///
/// # Errors
/// When there is no such run, or another has the name.
pub fn rename(args: &RenameArgs) -> Result<Status> {
    let run = args.run.find()?;
    Called::new(&run.folder, Some(args.name.clone()), args.group.clone())?.write(&run.folder)?;
    Ok(Status::Done)
}
