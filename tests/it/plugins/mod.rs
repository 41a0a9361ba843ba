//! Plugins as libraries: `tests/plugin`, built by cargo beside this program, loaded while it runs.

mod border;
mod pipeline;
pub(crate) mod swap;

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use pipe_core::{Instance, Kind, NodeId, Precision, RunContext, RunFolder};
use pipe_run::build::build_extra;
use pipe_run::{Graph, plugins};
use pipe_vocab::{Catalog, Descriptor};
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

/// Libraries are opened once for the whole program: tests that change their files take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The program's components with those of the test plugin.
fn catalog() -> Rc<Catalog> {
    let mut catalog = plugins::catalog().clone();
    let loaded = plugins::load(&library("pipe_test_plugin")).expect("the test plugin can be loaded");
    loaded.add_to(&mut catalog).expect("its names are free");
    Rc::new(catalog)
}

/// A run on the CPU, with nodes built through a catalog.
struct Bench {
    graph: Rc<Graph>,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(catalog())
    }

    fn with(catalog: Rc<Catalog>) -> Bench {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let run_folder = RunFolder::open(&folder.path().join("run")).expect("a run's folder");
        let run = RunContext::new(Device::Cpu, Precision::Fp32, 0, run_folder, Arc::default());
        Bench { graph: Graph::new(Rc::new(run), catalog), _folder: folder }
    }

    fn build(&self, node: &str, name: &str, options: Value) -> Result<Instance> {
        let node: NodeId = node.parse().expect("a node's name");
        let instance = build_extra(&self.graph, &node, name, options)?;
        self.graph.nodes.borrow_mut().insert(node, instance.clone());
        Ok(instance)
    }

    fn transform(&self, name: &str, options: Value) -> Result<Arc<dyn pipe_core::Transform>> {
        match self.build("transform.test", name, options)? {
            Instance::Transform(transform) => Ok(transform),
            _ => panic!("{name} is no transform"),
        }
    }
}

fn component(kind: Kind, name: &str) -> &'static Descriptor {
    catalog().get(kind, name).unwrap_or_else(|| panic!("there is no {kind}.{name}"))
}
