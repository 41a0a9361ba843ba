//! Opening a plugin's library: a copy under a new name, the symbol, the handshake.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use libloading::os::unix::{Library, RTLD_LAZY, RTLD_LOCAL};
use object::{Object, ObjectSymbol};
use pipe_plugin::abi::{PluginTable, SYMBOL};
use pipe_plugin::plugin::Plugin;
use pipe_vocab::files;

/// Libraries are not larger than this: 1 GiB.
const MAX_BYTES: u64 = 1 << 30;

/// What a file was when it was loaded.
pub(super) struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
    checksum: u32,
}

impl Stamp {
    fn of(bytes: &[u8], path: &Path) -> Stamp {
        let modified = fs::metadata(path).and_then(|meta| meta.modified()).ok();
        Stamp { size: bytes.len() as u64, modified, checksum: crc32fast::hash(bytes) }
    }

    /// Whether the file still has the same bytes. A file that is not there counts as unchanged: it is being written anew.
    pub(super) fn is_current(&mut self, path: &Path) -> bool {
        let Ok(meta) = fs::metadata(path) else { return true };
        let modified = meta.modified().ok();
        if meta.len() == self.size && modified == self.modified {
            return true;
        }
        let Ok(bytes) = files::read(path, MAX_BYTES) else { return true };
        let now = Stamp::of(&bytes, path);
        let same = now.size == self.size && now.checksum == self.checksum;
        if same {
            self.modified = now.modified;
        }
        same
    }
}

/// Opens a library as a plugin.
///
/// # Errors
/// When it cannot be read or opened, exports no plugin, or does not agree with this program.
pub(super) fn open(path: &Path) -> Result<(Plugin, Stamp)> {
    let bytes = files::read(path, MAX_BYTES).with_context(|| format!("cannot read {}", path.display()))?;
    let stamp = Stamp::of(&bytes, path);
    let symbol = exported(&bytes).with_context(|| format!("{} is no plugin", path.display()))?;
    let library = open_copy(&bytes, path)?;
    // SAFETY: the symbol is the static of `export!`: nothing else begins with this name. Its first fields never change, and
    // the handshake reads no others before those agree.
    let table = unsafe { library.get::<*const PluginTable>(symbol.as_bytes()) }
        .with_context(|| format!("{} does not export {symbol}", path.display()))?
        .into_raw();
    // Never closed: built components, threads and descriptors point into it.
    std::mem::forget(library);
    // SAFETY: the library stays open, so the static lives as long as the program.
    let plugin = unsafe { Plugin::new(table.cast_const().cast()) }.with_context(|| path.display().to_string())?;
    Ok((plugin, stamp))
}

/// A plugin that is compiled in.
///
/// # Errors
/// When it was built with another pipe-plugin than this program: not by one build of cargo.
pub(super) fn linked(table: &'static PluginTable) -> Result<Plugin> {
    // SAFETY: the table is a static of this program.
    Ok(unsafe { Plugin::new(table) }?)
}

/// The name under which a library, given as the bytes of its file, exports its table.
///
/// # Errors
/// Bytes of no library of this machine, or one that exports no table or more than one.
pub fn exported(bytes: &[u8]) -> Result<String> {
    let file = object::File::parse(bytes).context("it is no library of this machine")?;
    let names = file.dynamic_symbols().filter(|symbol| symbol.is_definition());
    let mut names = names.filter_map(|symbol| symbol.name().ok()).filter(|name| name.starts_with(SYMBOL));
    match (names.next(), names.next()) {
        (Some(name), None) => Ok(name.to_owned()),
        (None, _) => bail!(
            "it exports no `{SYMBOL}…`: its crate needs `pipe_plugin::export!` and `crate-type = [\"cdylib\", \"rlib\"]`"
        ),
        (Some(one), Some(two)) => bail!("it exports both `{one}` and `{two}`: a library holds one plugin"),
    }
}

/// The loader takes a path that it knows for the library that it has: a rebuilt one needs a new name. The copy is only
/// needed while it is opened.
fn open_copy(bytes: &[u8], path: &Path) -> Result<Library> {
    let folder =
        tempfile::Builder::new().prefix("pipe-plugin-").tempdir().context("no folder for the plugin's copy")?;
    let name = path.file_name().with_context(|| format!("{} has no file name", path.display()))?;
    let copy = folder.path().join(name);
    fs::write(&copy, bytes).with_context(|| format!("cannot write {}", copy.display()))?;
    // Lazily, so that a library made for another libtorch is refused by the handshake, and not for a missing symbol.
    // SAFETY: opening runs the library's initialisers. It exports the table of a plugin, so it is one that its user means
    // to run inside this program.
    let library = unsafe { Library::open(Some(&copy), RTLD_LAZY | RTLD_LOCAL) };
    library.with_context(|| format!("{} cannot be opened", path.display()))
}
