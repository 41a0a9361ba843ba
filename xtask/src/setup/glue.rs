//! The C++ of torch-sys, compiled once for all checkouts and profiles.
//!
//! torch-sys' build script compiles for minutes, in each checkout and again for each profile. Sharing a folder of cargo's
//! between checkouts is no way out: cargo takes a crate of one checkout for the same crate of another whose files are older
//! (rust-lang/cargo#17312). So the set-up runs the script once, keeps the library, and tells cargo to link to it.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::place::Place;
use super::{cache, layout};
use crate::shell::{plain_cargo, step, words};

const LIBRARY: &str = "libtch.a";
/// Written last: what to link to.
const RECORD: &str = "links.json";

/// What cargo links to in place of what the build script says.
pub(crate) struct Glue {
    pub(crate) libs: Vec<String>,
    pub(crate) paths: Vec<String>,
}

impl Glue {
    /// The one for that libtorch, if it is in the cache.
    pub(crate) fn find(root: &Path, torch: &Path) -> Result<Option<Self>> {
        Ok(read(&folder(root, torch)?, torch))
    }

    /// Compiles the one for that libtorch. Cargo must not have been told of another one.
    pub(crate) fn make(root: &Path, torch: &Path) -> Result<Self> {
        let place = Place::new(folder(root, torch)?);
        let _lock = cache::lock(place.path())?;
        if let Some(glue) = read(place.path(), torch) {
            return Ok(glue);
        }
        step("compile torch-sys' C++, once for all checkouts (some minutes)");
        let fresh = place.fresh()?;
        let target = place.partial().join("target");
        let script = run_build_script(root, torch, &target)?;
        let out =
            PathBuf::from(script["out_dir"].as_str().context("cargo names no folder of torch-sys' build script")?);
        fs::copy(out.join(LIBRARY), fresh.join(LIBRARY)).with_context(|| format!("copy {LIBRARY} of torch-sys"))?;
        let record = json!({ "libs": script["linked_libs"] });
        fs::write(fresh.join(RECORD), record.to_string()).context("write the record of torch-sys' library")?;
        if place.path().exists() {
            fs::remove_dir_all(place.path()).context("remove a damaged library of torch-sys")?;
        }
        fs::rename(&fresh, place.path()).context("put torch-sys' library in place")?;
        fs::remove_dir_all(place.partial()).context("remove what the compilation left")?;
        read(place.path(), torch).context("torch-sys' library was compiled and cannot be read")
    }
}

fn read(folder: &Path, torch: &Path) -> Option<Glue> {
    let record: Value = serde_json::from_str(&fs::read_to_string(folder.join(RECORD)).ok()?).ok()?;
    folder.join(LIBRARY).is_file().then_some(())?;
    let libs = record["libs"].as_array()?.iter().filter_map(|word| Some(word.as_str()?.to_owned())).collect();
    let paths = [&torch.join("lib"), folder].map(|path| format!("native={}", path.display())).into();
    Some(Glue { libs, paths })
}

/// Runs the build script in a folder of its own and returns what cargo says of it.
fn run_build_script(root: &Path, torch: &Path, target: &Path) -> Result<Value> {
    let mut cargo = plain_cargo(root);
    cargo.args(["build", "--package", "torch-sys", "--message-format", "json-render-diagnostics"]);
    cargo.env("LIBTORCH", torch).env("CARGO_TARGET_DIR", target).env("CARGO_BUILD_BUILD_DIR", target);
    let output = cargo.stderr(Stdio::inherit()).output().with_context(|| format!("cannot run {}", words(&cargo)))?;
    if !output.status.success() {
        bail!("torch-sys could not be compiled: `{}` failed ({})", words(&cargo), output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of_script = |message: &Value| {
        message["reason"] == "build-script-executed"
            && message["package_id"].as_str().is_some_and(|package| package.contains("torch-sys"))
    };
    messages.into_iter().find(of_script).context("cargo did not run torch-sys' build script")
}

/// A name for what the library depends on: the versions of torch-sys and libtorch, and what of a GPU it is linked to.
fn folder(root: &Path, torch: &Path) -> Result<PathBuf> {
    let lock = fs::read_to_string(root.join("Cargo.lock")).context("read Cargo.lock")?;
    let version = locked_version(&lock, "torch-sys").context("Cargo.lock has no torch-sys")?;
    let lib = torch.join("lib");
    let mut gpu: Vec<String> = fs::read_dir(&lib)
        .with_context(|| format!("read {}", lib.display()))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| ["libtorch_cuda", "libtorch_hip"].iter().any(|start| name.starts_with(start)))
        .collect();
    gpu.sort();
    let mut hasher = DefaultHasher::new();
    (layout::version(torch), gpu).hash(&mut hasher);
    Ok(cache::folder()?.join(format!("torch-sys-{version}-{:016x}", hasher.finish())))
}

/// The version of a package by the text of `Cargo.lock`.
fn locked_version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name);
    lines.nth(1)?.strip_prefix("version = \"")?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_lock_file() {
        let lock = "[[package]]\nname = \"tch\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"torch-sys\"\nversion = \"0.24.0\"\n";
        assert_eq!(locked_version(lock, "torch-sys"), Some("0.24.0"));
        assert_eq!(locked_version(lock, "torch"), None);
    }

    #[test]
    fn a_library_counts_only_with_its_record() {
        let folder = std::env::temp_dir().join(format!("pipe-xtask-glue-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(LIBRARY), "library").unwrap();
        let torch = Path::new("/torch");
        assert!(read(&folder, torch).is_none());
        fs::write(folder.join(RECORD), r#"{ "libs": ["static=tch"] }"#).unwrap();
        let glue = read(&folder, torch).unwrap();
        assert_eq!(glue.libs, ["static=tch"]);
        assert_eq!(glue.paths, ["native=/torch/lib".to_owned(), format!("native={}", folder.display())]);
        fs::remove_dir_all(folder).unwrap();
    }
}
