//! Plugins as libraries: `tests/plugin`, built by cargo beside this program, loaded while it runs.

mod border;
mod pipeline;
pub(crate) mod swap;

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::{Result, anyhow};
use pipe_core::{Kind, NodeId, Registry};
use pipe_run::plugins;
use pipe_core::{BuildContext, Instance, Precision, RunContext, RunFolder};
use serde_json::Value;
use tch::Device;

/// The library of a crate of this workspace, built with the tests.
pub(crate) fn library(krate: &str) -> PathBuf {
    let program = std::env::current_exe().expect("this program");
    let folder = program.parent().expect("a folder").to_owned();
    let name = format!("lib{krate}.so");
    let places = [folder.join(&name), folder.parent().expect("a folder").join(&name)];
    places.into_iter().find(|path| path.is_file()).unwrap_or_else(|| panic!("{name} was not built"))
}

/// The registry is the program's: tests that load libraries take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Loads the test plugin, once.
fn load_test_plugin() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        plugins::load(&library("pipe_test_plugin")).expect("the test plugin can be loaded");
    });
}

/// A run on the CPU, with nodes built through the registry.
struct Bench {
    run: Rc<RunContext>,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let run_folder = RunFolder::open(&folder.path().join("run")).expect("a run's folder");
        let run = RunContext::new(Device::Cpu, Precision::Fp32, 0, run_folder, Arc::default());
        Bench { run: Rc::new(run), _folder: folder }
    }

    fn build(&self, node: &str, name: &str, options: Value) -> Result<Instance> {
        let node: NodeId = node.parse().expect("a node's name");
        let descriptor = Registry::global().get(node.kind, name).expect("a component");
        let component = descriptor.parse(options).map_err(|e| anyhow!("{}: {}", e.path.join("."), e.message))?;
        let instance = component.build(&mut BuildContext { run: &self.run, node: &node })?;
        self.run.nodes.borrow_mut().insert(node, instance.clone());
        Ok(instance)
    }

    fn transform(&self, name: &str, options: Value) -> Result<Arc<dyn pipe_core::Transform>> {
        match self.build("transform.test", name, options)? {
            Instance::Transform(transform) => Ok(transform),
            _ => panic!("{name} is no transform"),
        }
    }
}

fn component(kind: Kind, name: &str) -> &'static pipe_core::Descriptor {
    Registry::global().get(kind, name).unwrap_or_else(|| panic!("there is no {kind}.{name}"))
}
