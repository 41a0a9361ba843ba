//! `.cargo/libtorch.toml`, which makes plain cargo build with the same settings as `cargo xtask`.
//!
//! The same text means that cargo builds nothing again between the two; the same text in two checkouts means the same libtorch.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::glue::Glue;

const HEAD: &str = "\
# Written by `cargo xtask setup`; included by config.toml. A LIBTORCH of the environment goes first: run the set-up with it.
";

/// Writes the file, if it says something else now.
pub(crate) fn write(root: &Path, torch: &Path, glue: Option<&Glue>) -> Result<()> {
    let text = text(torch, &host()?, glue)?;
    let path = path(root);
    if fs::read_to_string(&path).is_ok_and(|now| now == text) {
        return Ok(());
    }
    // Renamed, so that a cargo at work beside this never reads half of it.
    let fresh = path.with_extension("toml.new");
    fs::write(&fresh, text).with_context(|| format!("write {}", fresh.display()))?;
    fs::rename(&fresh, &path).with_context(|| format!("write {}", path.display()))
}

/// Whether cargo's settings name that libtorch: cargo hands it on to this program.
pub(crate) fn names(root: &Path, torch: &Path) -> bool {
    if torch == root.join(".cargo/no-libtorch") {
        return true;
    }
    let Ok(line) = libtorch(torch) else { return false };
    fs::read_to_string(path(root)).is_ok_and(|text| text.lines().any(|l| l == line))
}

fn path(root: &Path) -> PathBuf {
    root.join(".cargo/libtorch.toml")
}

fn libtorch(torch: &Path) -> Result<String> {
    // Said to be not relative, because no-libtorch.toml says that it is.
    Ok(format!("LIBTORCH = {{ value = {}, relative = false }}", quoted(word(torch)?)))
}

fn text(torch: &Path, host: &str, glue: Option<&Glue>) -> Result<String> {
    let lib = torch.join("lib");
    // Programs and tests find the libraries wherever they are started; tests of documentation are built by rustdoc.
    let flags = list(["-C", &format!("link-arg=-Wl,-rpath,{}", word(&lib)?)]);
    let mut text =
        format!("{HEAD}[env]\n{}\n\n[target.{host}]\nrustflags = {flags}\nrustdocflags = {flags}\n", libtorch(torch)?);
    if let Some(glue) = glue {
        // Takes the place of torch-sys' build script: see cargo's book, "overriding build scripts".
        let libs = list(glue.libs.iter().map(String::as_str));
        let paths = list(glue.paths.iter().map(String::as_str));
        write!(
            text,
            "\n[target.{host}.tch]\nrustc-link-lib = {libs}\nrustc-link-search = {paths}\nlibtorch_lib = {}\n",
            quoted(word(&lib)?)
        )?;
    }
    Ok(text)
}

fn word(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8, which cargo's settings need", path.display()))
}

fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    format!("[{}]", words.into_iter().map(quoted).collect::<Vec<_>>().join(", "))
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The triple of this machine, as rustc names it.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = std::process::Command::new(&rustc).arg("-vV").output().context("cannot run rustc -vV")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_what_cargo_needs() {
        let torch = Path::new("/cache/a \"b\"/torch");
        let glue = Glue { libs: vec!["static=tch".into(), "c10".into()], paths: vec!["native=/glue".into()] };
        let made = text(torch, "x86_64-unknown-linux-gnu", Some(&glue)).unwrap();
        let expected = r#"[env]
LIBTORCH = { value = "/cache/a \"b\"/torch", relative = false }

[target.x86_64-unknown-linux-gnu]
rustflags = ["-C", "link-arg=-Wl,-rpath,/cache/a \"b\"/torch/lib"]
rustdocflags = ["-C", "link-arg=-Wl,-rpath,/cache/a \"b\"/torch/lib"]

[target.x86_64-unknown-linux-gnu.tch]
rustc-link-lib = ["static=tch", "c10"]
rustc-link-search = ["native=/glue"]
libtorch_lib = "/cache/a \"b\"/torch/lib"
"#;
        assert_eq!(made, format!("{HEAD}{expected}"));
        assert!(!text(torch, "host", None).unwrap().contains("tch]"));
    }

    #[test]
    fn it_is_known_which_libtorch_the_file_names() {
        let root = std::env::temp_dir().join(format!("pipe-xtask-settings-{}", std::process::id()));
        fs::create_dir_all(root.join(".cargo")).unwrap();
        let torch = Path::new("/cache/torch");
        assert!(!names(&root, torch));
        assert!(names(&root, &root.join(".cargo/no-libtorch")));
        write(&root, torch, None).unwrap();
        assert!(names(&root, torch));
        assert!(!names(&root, Path::new("/cache/torc")));
        fs::remove_dir_all(root).unwrap();
    }
}
