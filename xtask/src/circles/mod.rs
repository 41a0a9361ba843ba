//! `cargo xtask circles`: no crate, file or top-level module may depend on itself by way of others.
//!
//! Seen are paths, in code and in the words of macros. A method that is called names no file, so it is not seen; the type or
//! trait that it belongs to mostly is. A name that a module hands on from another crate is that crate's and makes no edge.
//!
//! | file | what it does |
//! |---|---|
//! | `crates.rs` | the crates and what they are built on |
//! | `tree.rs`, `syntax.rs` | the modules of a crate and the names in them |
//! | `names.rs` | which module defines what a path means |
//! | `uses.rs` | the paths in a file that lead into other files |
//! | `code.rs` | the graphs of a crate's files and of its top-level modules |
//! | `graph.rs`, `why.rs` | graphs, and the reason for each edge |

mod code;
pub(crate) mod crates;
pub(crate) mod graph;
mod names;
mod syntax;
mod tree;
mod uses;
mod why;

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Result, bail};

pub(crate) use code::Code;
use graph::Graph;
pub(crate) use why::Why;

/// Says that there are no circles, or fails with all of them.
pub(crate) fn check(root: &Path) -> Result<()> {
    let packages = crates::packages(root)?;
    let crates = crates::graph(root, &packages)?;
    let mut said = String::new();
    report(&mut said, "crates", &crates);
    let (mut files, mut edges) = (0, 0);
    for package in &packages {
        let code = Code::read(root, package)?;
        report(&mut said, &format!("files of {}", package.name), &code.files);
        report(&mut said, &format!("top-level modules of {}", package.name), &code.modules);
        let (nodes, of_files) = code.files.count();
        files += nodes;
        edges += of_files;
    }
    if !said.is_empty() {
        eprint!("{said}");
        bail!("{} to break up: move what both sides need into a file, module or crate below them", circles(&said));
    }
    println!("no circles: {} crates, {files} files, {edges} references between files", packages.len());
    Ok(())
}

fn circles(said: &str) -> String {
    match said.lines().filter(|line| line.starts_with("circle")).count() {
        1 => "1 circle".into(),
        count => format!("{count} circles"),
    }
}

fn report(said: &mut String, what: &str, graph: &Graph<Why>) {
    for circle in graph.circles() {
        let _ = writeln!(said, "circle of {} {what}:", circle.len());
        for node in &circle {
            let _ = writeln!(said, "    {node}");
        }
        let _ = writeln!(said, "  one way round:");
        for (from, to, why) in graph.way_round(&circle) {
            let _ = writeln!(said, "    {from} → {to}, {why}");
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
