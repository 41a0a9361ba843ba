//! `cargo xtask map`: the drawing of the crates and their modules in `docs/ARCHITECTURE.md`, made from the code.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::circles::crates::{self, Package};
use crate::circles::graph::Graph;
use crate::circles::{Code, Why};

const FILE: &str = "docs/ARCHITECTURE.md";
const BEGIN: &str = "<!-- map:begin -->";
const END: &str = "<!-- map:end -->";
/// The section that is added where the file has no place for the map.
const SECTION: &str = "## Map";

/// Writes the drawing, or with `check` fails if it is not what would be written now.
pub(crate) fn map(root: &Path, check: bool) -> Result<()> {
    let path = root.join(FILE);
    let now = fs::read_to_string(&path).with_context(|| format!("read {FILE}"))?;
    let fresh = put(&now, &drawing(root)?)?;
    if fresh == now {
        return Ok(());
    }
    if check {
        bail!("{FILE}: the map does not show the code as it is now. Run `cargo xtask map`");
    }
    fs::write(&path, fresh).with_context(|| format!("write {FILE}"))?;
    eprintln!("wrote the map in {FILE}");
    Ok(())
}

/// The text with the drawing between the marks.
fn put(text: &str, drawing: &str) -> Result<String> {
    let (Some(begin), Some(end)) = (text.find(BEGIN), text.find(END)) else {
        if text.contains(BEGIN) || text.contains(END) {
            bail!("{FILE} has only one of `{BEGIN}` and `{END}`: add the other, or remove it");
        }
        return Ok(format!("{}\n\n{SECTION}\n\n{BEGIN}\n{drawing}{END}\n", text.trim_end()));
    };
    if end < begin {
        bail!("{FILE} has `{END}` before `{BEGIN}`");
    }
    Ok(format!("{}{BEGIN}\n{drawing}{}", &text[..begin], &text[end..]))
}

fn drawing(root: &Path) -> Result<String> {
    let mut packages = crates::packages(root)?;
    packages.retain(|package| is_of_program(root, &package.manifest));
    let graph = crates::graph(root, &packages)?;
    let mut text = String::from("Written by `cargo xtask map`. An edge that others imply is left out.\n\n");
    mermaid(&mut text, &graph);
    table(&mut text, &graph, &packages);
    text.push_str("The modules right below each crate's root, from the bottom up:\n\n```text\n");
    let mut blocks = Vec::new();
    for name in by_level(&graph) {
        let package = packages.iter().find(|package| package.name == name).context("a crate without a package")?;
        blocks.extend(modules(name, &Code::read(root, package)?.modules));
    }
    text.push_str(&blocks.join("\n"));
    text.push_str("```\n");
    Ok(text)
}

/// The program, its crates and its plugins; not what serves tests or this set-up.
fn is_of_program(root: &Path, manifest: &Path) -> bool {
    let path = manifest.strip_prefix(root).unwrap_or(manifest);
    path == Path::new("Cargo.toml") || path.starts_with("crates") || path.starts_with("plugins")
}

fn mermaid(text: &mut String, graph: &Graph<Why>) {
    text.push_str("```mermaid\ngraph TD\n");
    let id = |name: &str| name.replace('-', "_");
    for name in by_level(graph).into_iter().rev() {
        let _ = writeln!(text, "    {}[\"{name}\"]", id(name));
    }
    let reduced = graph.reduced();
    for name in by_level(graph).into_iter().rev() {
        for to in &reduced[name] {
            let _ = writeln!(text, "    {} --> {}", id(name), id(to));
        }
    }
    text.push_str("```\n\n");
}

fn table(text: &mut String, graph: &Graph<Why>, packages: &[Package]) {
    text.push_str("| level | crate | what it is | built on |\n|---|---|---|---|\n");
    let (levels, reduced) = (graph.levels(), graph.reduced());
    for name in by_level(graph) {
        let what = packages.iter().find(|package| package.name == name).map_or("", |package| &package.description);
        let uses: Vec<String> = reduced[name].iter().map(|to| format!("`{to}`")).collect();
        let _ = writeln!(text, "| {} | `{name}` | {what} | {} |", levels[name], uses.join(", "));
    }
    text.push('\n');
}

/// The modules of a crate by levels, each with what it uses; none for a crate of one module.
fn modules(name: &str, graph: &Graph<Why>) -> Option<String> {
    let (levels, reduced, circles) = (graph.levels(), graph.reduced(), graph.circles());
    // A root file that only declares and hands on is on no level.
    let is_used = |node: &str| graph.nodes().any(|other| graph.after(other).any(|(to, _)| to == node));
    let shown: Vec<&str> = by_level(graph)
        .into_iter()
        .filter(|node| !node.ends_with(".rs") || graph.after(node).next().is_some() || is_used(node))
        .collect();
    if shown.len() < 2 {
        return None;
    }
    let width = shown.iter().map(|node| node.len()).max().unwrap_or(0);
    let mut text = format!("{name}\n");
    let mut above = None;
    for node in shown {
        let level = levels[node];
        let label = if above.replace(level) == Some(level) { String::new() } else { level.to_string() };
        let mut line = format!("{label:>4}  {node:width$}");
        if !reduced[node].is_empty() {
            let _ = write!(line, "  → {}", reduced[node].join(", "));
        }
        if circles.iter().any(|circle| circle.contains(&node)) {
            line.push_str("  (in a circle)");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    Some(text)
}

/// All nodes, the lowest first.
fn by_level(graph: &Graph<Why>) -> Vec<&str> {
    let mut nodes: Vec<(usize, &str)> = graph.levels().into_iter().map(|(node, level)| (level, node)).collect();
    nodes.sort_unstable();
    nodes.into_iter().map(|(_, node)| node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::circles::tests::plant_crates;

    const DRAWN: &str = r#"Written by `cargo xtask map`. An edge that others imply is left out.

```mermaid
graph TD
    top["top"]
    mid["mid"]
    low["low"]
    top --> mid
    mid --> low
```

| level | crate | what it is | built on |
|---|---|---|---|
| 0 | `low` |  |  |
| 1 | `mid` |  | `low` |
| 2 | `top` |  | `mid` |

The modules right below each crate's root, from the bottom up:

```text
low
   0  b
   1  a  → b
```
"#;

    #[test]
    fn the_drawing_is_written_once_and_then_kept_fresh() {
        let planted = plant_crates("map", "");
        let file = planted.root.join(FILE);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "# Architecture\n\nText.\n").unwrap();
        assert!(map(&planted.root, true).unwrap_err().to_string().ends_with("Run `cargo xtask map`"));
        map(&planted.root, false).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text, format!("# Architecture\n\nText.\n\n## Map\n\n{BEGIN}\n{DRAWN}{END}\n"));
        map(&planted.root, true).unwrap();
        // What stands before and after stays.
        fs::write(&file, format!("Before.\n{BEGIN}\nold\n{END}\nAfter.\n")).unwrap();
        map(&planted.root, false).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("Before.\n{BEGIN}\n{DRAWN}{END}\nAfter.\n"));
    }

    #[test]
    fn broken_marks_are_named() {
        for text in [BEGIN.to_owned(), format!("x\n{END}\n"), format!("{END}\n{BEGIN}\n")] {
            assert!(put(&text, "").unwrap_err().to_string().starts_with("docs/ARCHITECTURE.md has"), "{text}");
        }
    }
}
