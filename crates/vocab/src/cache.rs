//! The folder of what can be had again.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// Where the program keeps what it can make again: `$PIPE_CACHE`, else `$XDG_CACHE_HOME/pipe`, else `~/.cache/pipe`.
///
/// # Errors
/// When none of the three variables (the third is `HOME`) is set.
pub fn dir() -> Result<PathBuf> {
    choose_cache(|name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
}

fn choose_cache(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf> {
    (variable("PIPE_CACHE"))
        .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("pipe")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/pipe")))
        .context("no folder for the cache: set PIPE_CACHE (or XDG_CACHE_HOME, or HOME)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_first_variable_that_is_set_wins() {
        let with = |set: &[(&str, &str)]| {
            let set: Vec<(String, PathBuf)> = set.iter().map(|(k, v)| (k.to_string(), PathBuf::from(v))).collect();
            choose_cache(|name| set.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()))
        };
        assert_eq!(with(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x"), ("PIPE_CACHE", "/p")]).unwrap(), Path::new("/p"));
        assert_eq!(with(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]).unwrap(), Path::new("/x/pipe"));
        assert_eq!(with(&[("HOME", "/h")]).unwrap(), Path::new("/h/.cache/pipe"));
        assert!(with(&[]).unwrap_err().to_string().contains("PIPE_CACHE"));
    }
}
