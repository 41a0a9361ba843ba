//! The checkout of pipe that a new plugin is built against, and how cargo finds what is built there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Where this program was compiled: `TARGET/PROFILE/build/pipe-HASH/out`.
const OUT_DIR: &str = env!("OUT_DIR");

/// What makes cargo build with the profile of this program, so that a plugin finds its dependencies built.
pub(super) const RELEASE: &str = if cfg!(debug_assertions) { "" } else { " --release" };

/// The library of a plugin, from its folder.
pub(super) fn library(name: &str) -> String {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    format!("target/{profile}/lib{name}.so")
}

/// A checkout of pipe.
pub(super) struct Checkout {
    /// Its folder, absolute.
    pub(super) folder: PathBuf,
    /// Whether this program was built from it.
    own: bool,
}

impl Checkout {
    /// The checkout in a folder; the one that this program was built from where none is given.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn open(given: Option<&Path>) -> Result<Checkout> {
        let built_from = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = std::path::absolute(given.unwrap_or(built_from))?;
        if !folder.join("crates/plugin/Cargo.toml").is_file() {
            let here = if given.is_some() { "is no checkout of pipe" } else { "(where this pipe was built) is gone" };
            let given = given.unwrap_or(built_from).display();
            bail!("{given} {here}\nhelp: name one of version {} with --pipe DIR", env!("CARGO_PKG_VERSION"));
        }
        Ok(Checkout { own: folder == built_from, folder })
    }

    /// A file of it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn read(&self, file: &str) -> Result<String> {
        let path = self.folder.join(file);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Where cargo keeps what it builds in it; none when this user may not write there.
    fn build_dir(&self) -> Option<PathBuf> {
        let own = Path::new(OUT_DIR).ancestors().nth(4).filter(|_| self.own);
        let folder = own.map_or_else(|| self.folder.join("target"), Path::to_owned);
        let existing = folder.ancestors().find(|folder| folder.is_dir())?;
        tempfile::tempfile_in(existing).is_ok().then_some(folder)
    }

    /// Cargo's settings for a plugin in `folder`.
    pub(super) fn cargo_config(&self, folder: &Path) -> String {
        let settings = self.folder.join(".cargo/libtorch.toml");
        let mut text = String::new();
        // Cargo reads the checkout's settings for what lies in it; and flags that are there twice are other flags.
        if settings.is_file() && !folder.starts_with(&self.folder) {
            let include = quoted(&settings);
            let _ = writeln!(
                text,
                "# How the checkout finds libtorch: program and plugin must share one.\ninclude = [{include}]\n"
            );
        }
        if let Some(shared) = self.build_dir() {
            let shared = quoted(&shared);
            let _ = writeln!(
                text,
                "# What cargo built for the checkout and for other plugins is not built again.\n[build]\nbuild-dir = {shared}\n"
            );
        }
        text.push_str("[env]\n# Tells crates of one name apart in that directory; see build.rs.\n");
        text.push_str("PLUGIN_FOLDER = { value = \".\", relative = true }\n");
        if !settings.is_file() {
            let lib = Path::new(env!("PIPE_LIBTORCH_LIB"));
            let libtorch = quoted(lib.parent().unwrap_or(lib));
            let _ = writeln!(
                text,
                "# The libtorch that pipe was built with: program and plugin must share one.\nLIBTORCH = {{ value = {libtorch}, relative = false }}"
            );
        }
        text
    }
}

/// A path as a string of TOML.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The `[profile]` tables of a manifest, with the comments above them; less those of packages that `used` does not name, on which
/// cargo would remark at every build.
pub(super) fn profiles(manifest: &str, used: &BTreeSet<String>) -> String {
    let paragraphs = manifest.split("\n\n").map(str::trim);
    let ours = paragraphs.filter(|text| {
        text.lines().find_map(|line| line.strip_prefix("[profile.")).is_some_and(|table| {
            let package = table.split_once(".package.").map(|(_, name)| name.trim_end_matches(']'));
            package.is_none_or(|name| name == "\"*\"" || used.contains(name))
        })
    });
    ours.collect::<Vec<_>>().join("\n\n") + "\n"
}

/// The names of the packages that one needs, by a lock file.
///
/// # Errors
/// Of a text that is no lock file.
pub(super) fn needed(lock: &str, package: &str) -> Result<BTreeSet<String>> {
    let lock: toml::Table = lock.parse().context("Cargo.lock")?;
    let packages = lock.get("package").and_then(toml::Value::as_array).into_iter().flatten();
    let names = |value: &toml::Value| value.as_str()?.split(' ').next().map(str::to_owned);
    let mut needs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in packages {
        let dependencies = package.get("dependencies").and_then(toml::Value::as_array).into_iter().flatten();
        let own = package.get("name").and_then(names).unwrap_or_default();
        needs.entry(own).or_default().extend(dependencies.filter_map(names));
    }
    let (mut found, mut next) = (BTreeSet::new(), vec![package.to_owned()]);
    while let Some(name) = next.pop() {
        next.extend(needs.get(&name).into_iter().flatten().filter(|name| !found.contains(*name)).cloned());
        found.insert(name);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_copied_with_their_comments() {
        let copied = profiles(
            "[package]\nname = \"a\"\n\n# Why.\n[profile.dev]\nopt-level = 1\n\n[lints]\n\n[profile.release]\nlto = true\n\n\
             [profile.dev.package.b]\nopt-level = 3\n\n# It is slow.\n[profile.dev.package.c]\nopt-level = 3",
            &BTreeSet::from(["c".to_owned()]),
        );
        assert_eq!(
            copied,
            "# Why.\n[profile.dev]\nopt-level = 1\n\n[profile.release]\nlto = true\n\n# It is slow.\n[profile.dev.package.c]\nopt-level = 3\n"
        );
        let needed = needed(include_str!("../../Cargo.lock"), "pipe-plugin").unwrap();
        assert!(needed.contains("syn") && !needed.contains("libsqlite3-sys"), "{needed:?}");
        let copied = profiles(include_str!("../../Cargo.toml"), &needed);
        assert!(copied.contains("[profile.dev.package.\"*\"]") && copied.contains("[profile.dev.package.safetensors]"));
        assert!(!copied.contains("fast_image_resize"), "{copied}");
    }

    #[test]
    fn paths_are_strings_of_toml() {
        assert_eq!(quoted(Path::new("/a \"b\"/c\\d")), r#""/a \"b\"/c\\d""#);
    }
}
