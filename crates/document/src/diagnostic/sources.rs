//! The texts that findings point into, and positions in them.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pipe_vocab::shown::shown_name;

/// Names one text of a [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(u32);

/// A range of bytes in one text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// The text.
    pub source: SourceId,
    /// Bytes of the text, start inclusive, end exclusive.
    pub span: Range<usize>,
}

impl Location {
    /// The bytes `span` of the text `source`.
    pub fn new(source: SourceId, span: Range<usize>) -> Self {
        Self { source, span }
    }
}

/// A place as people count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// Where a text came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// A file on disk.
    File,
    /// The argument of one `--set` on the command line.
    Set,
    /// Text that is part of the program.
    Builtin,
}

#[derive(Clone, Debug)]
struct Source {
    kind: SourceKind,
    name: String,
    path: PathBuf,
    text: Arc<str>,
    /// The text with what must not be shown blotted out, where there is such.
    blotted: Option<String>,
    /// Byte offset of the start of each line.
    lines: Vec<usize>,
}

/// The text of everything read for a pipeline: files, `--set` arguments, built-in text.
///
/// The first text added is the main one: the file that the user named.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    working_directory: PathBuf,
    entries: Vec<Source>,
}

impl Sources {
    /// No texts yet; files below `working_directory` will be named relative to it.
    ///
    /// `Sources::default()` names every file by the path it was opened with.
    pub fn new(working_directory: impl Into<PathBuf>) -> Self {
        Self { working_directory: working_directory.into(), entries: Vec::new() }
    }

    /// Adds the text of a file.
    pub fn add_file(&mut self, path: impl AsRef<Path>, text: impl Into<Arc<str>>) -> SourceId {
        let path = path.as_ref();
        let shown = match path.strip_prefix(&self.working_directory) {
            Ok(rest) if !rest.as_os_str().is_empty() => rest,
            _ => path,
        };
        // A name stands in one line, whatever a file is called.
        let name = shown_name(&shown.display().to_string()).into_owned();
        self.push(SourceKind::File, name, path.to_owned(), text.into())
    }

    /// Adds the argument of one `--set`.
    pub fn add_set(&mut self, text: impl Into<Arc<str>>) -> SourceId {
        self.push(SourceKind::Set, "--set".to_owned(), PathBuf::new(), text.into())
    }

    /// Adds text that is part of the program, under a name such as `builtin:shapes`.
    pub fn add_builtin(&mut self, name: impl Into<String>, text: impl Into<Arc<str>>) -> SourceId {
        self.push(SourceKind::Builtin, name.into(), PathBuf::new(), text.into())
    }

    fn push(&mut self, kind: SourceKind, name: String, path: PathBuf, text: Arc<str>) -> SourceId {
        let starts = text.match_indices('\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(starts).collect();
        let id = SourceId(u32::try_from(self.entries.len()).unwrap_or(u32::MAX));
        self.entries.push(Source { kind, name, path, text, blotted: None, lines });
        id
    }

    fn get(&self, id: SourceId) -> Option<&Source> {
        self.entries.get(id.0 as usize)
    }

    /// The first text added, if any.
    pub fn main(&self) -> Option<SourceId> {
        (!self.entries.is_empty()).then_some(SourceId(0))
    }

    /// The name to show: a path relative to the working directory, `--set`, or a built-in name.
    pub fn name(&self, id: SourceId) -> &str {
        self.get(id).map_or("", |source| &source.name)
    }

    /// The whole text; empty for an id of another `Sources`.
    pub fn text(&self, id: SourceId) -> &str {
        self.get(id).map_or("", |source| &source.text)
    }

    /// The text as findings show it, see [`Self::blot`].
    pub(super) fn shown(&self, id: SourceId) -> &str {
        self.get(id).map_or("", |source| source.blotted.as_deref().unwrap_or(&source.text))
    }

    /// Has findings show asterisks in place of the text at a location: a secret.
    pub fn blot(&mut self, location: &Location) {
        let span = self.clip(location);
        let Some(source) = self.entries.get_mut(location.source.0 as usize) else { return };
        let blotted = source.blotted.get_or_insert_with(|| source.text.to_string());
        // As many bytes as before, so that all places stay.
        let asterisks = |c: char| if c == '\n' { "\n".to_owned() } else { "*".repeat(c.len_utf8()) };
        let hidden: String = source.text[span.clone()].chars().map(asterisks).collect();
        blotted.replace_range(span, &hidden);
    }

    /// Where the text came from.
    pub fn kind(&self, id: SourceId) -> SourceKind {
        self.get(id).map_or(SourceKind::Builtin, |source| source.kind)
    }

    /// The path of a file, as it was opened; `None` for other kinds.
    pub fn path(&self, id: SourceId) -> Option<&Path> {
        let source = self.get(id).filter(|source| source.kind == SourceKind::File)?;
        Some(&source.path)
    }

    /// The folder that relative paths in this text start from: a file's own folder, the working directory for the rest.
    pub fn folder(&self, id: SourceId) -> &Path {
        self.path(id).and_then(Path::parent).unwrap_or(&self.working_directory)
    }

    /// The working directory given to [`Sources::new`], or an empty path.
    pub fn working_directory(&self) -> &Path {
        &self.working_directory
    }

    /// Every file, in the order of opening.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let files = self.entries.iter().filter(|source| source.kind == SourceKind::File);
        files.map(|source| source.path.as_path())
    }

    /// Line and column of the start of a location. Offsets past the end count as the end.
    pub fn position(&self, location: &Location) -> Position {
        let Some(source) = self.get(location.source) else {
            return Position { line: 1, column: 1 };
        };
        let offset = floor_boundary(&source.text, location.span.start);
        let line = source.lines.partition_point(|start| *start <= offset).max(1);
        let start = source.lines[line - 1];
        Position { line, column: source.text[start..offset].chars().count() + 1 }
    }

    /// Where a location starts, to show: the source's name, line and column, as in `pipeline.toml:15:2`.
    pub fn place(&self, location: &Location) -> String {
        let Position { line, column } = self.position(location);
        format!("{}:{line}:{column}", self.name(location.source))
    }

    /// The text at a location; clipped where the span leaves the text.
    pub fn slice(&self, location: &Location) -> &str {
        let text = self.text(location.source);
        &text[self.clip(location)]
    }

    /// The span of a location, moved inside the text and onto character boundaries.
    pub(super) fn clip(&self, location: &Location) -> Range<usize> {
        let text = self.text(location.source);
        let start = floor_boundary(text, location.span.start);
        start..floor_boundary(text, location.span.end).max(start)
    }
}

/// Whole lines of a text.
pub(super) struct Window {
    /// The bytes of the lines.
    pub bytes: Range<usize>,
    /// The number of the first line, from 1.
    pub first_line: usize,
}

impl Sources {
    /// The lines from the first to the last of `places`, which are all in one text.
    pub(super) fn lines_around<'l>(&self, places: impl Iterator<Item = &'l Location>) -> Window {
        let (mut start, mut end) = (usize::MAX, 0);
        let mut source = None;
        for place in places {
            let span = self.clip(place);
            start = start.min(span.start);
            end = end.max(span.end);
            source = self.get(place.source);
        }
        let Some(source) = source else {
            return Window { bytes: 0..0, first_line: 1 };
        };
        let first_line = source.lines.partition_point(|at| *at <= start).max(1);
        let next_line = source.lines.partition_point(|at| *at <= end);
        let end = source.lines.get(next_line).copied();
        Window { bytes: source.lines[first_line - 1]..end.unwrap_or(source.text.len()), first_line }
    }
}

fn floor_boundary(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let mut sources = Sources::default();
        let id = sources.add_file("a.toml", "a = 1\nß = \"日本\" # x\n");
        let at = |offset| {
            let found = sources.position(&Location::new(id, offset..offset));
            (found.line, found.column)
        };
        assert_eq!(at(0), (1, 1));
        assert_eq!(at(5), (1, 6));
        assert_eq!(at(6), (2, 1));
        assert_eq!(at(8), (2, 2));
        assert_eq!(at(9), (2, 3));
        let hash = sources.text(id).find('#').unwrap_or_default();
        assert_eq!(at(hash), (2, 10));
        assert_eq!(at(9999), (3, 1));
    }

    #[test]
    fn names_are_relative_to_the_working_directory() {
        let mut sources = Sources::new("/home/me");
        let inside = sources.add_file("/home/me/p/a.toml", "");
        let outside = sources.add_file("/etc/b.toml", "");
        let relative = sources.add_file("c.toml", "");
        let set = sources.add_set("a.b=1");
        assert_eq!(sources.name(inside), "p/a.toml");
        assert_eq!(sources.folder(inside), Path::new("/home/me/p"));
        assert_eq!(sources.name(outside), "/etc/b.toml");
        assert_eq!(sources.name(relative), "c.toml");
        assert_eq!(sources.folder(relative), Path::new(""));
        assert_eq!(sources.name(set), "--set");
        assert_eq!(sources.folder(set), Path::new("/home/me"));
        assert_eq!(sources.main(), Some(inside));
    }
}
