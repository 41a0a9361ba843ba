//! Runs in this process, looked at and edited between two iterations.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use pipe_core::{Boundary, NodeId};
use pipe_run::graph::{Between, Graph};
use pipe_run::load::{Loaded, PipelineSource, Snapshot};
use pipe_run::preflight::preflight;
use pipe_run::reload::{Inbox, Reloader};
use pipe_run::{RunOptions, Running};
use pipe_stand_in::{Count, Watch};

/// What is done to a run, and looked at.
struct Between_ {
    reloader: Rc<Reloader>,
    inbox: Arc<Inbox>,
    /// The pipeline after an edit, and the step after which it comes.
    edit: Option<(u64, Snapshot)>,
    watch: Watch,
    steps: RefCell<Vec<Vec<Count>>>,
}

impl Between for Between_ {
    fn between(&self, graph: &Graph, engine: &NodeId, boundary: Boundary) {
        if boundary == Boundary::Iteration {
            self.steps.borrow_mut().push(self.watch.take());
        }
        let step = graph.run.clock.get().step;
        if let Some((_, text)) = self.edit.as_ref().filter(|(at, _)| *at == step && boundary == Boundary::Iteration) {
            self.inbox.put(text.clone());
        }
        self.reloader.between(graph, engine, boundary);
    }
}

fn source(folder: &Path) -> PipelineSource {
    PipelineSource {
        file: folder.join("case.toml"),
        profile: None,
        sets: Vec::new(),
        base: None,
        accept: Vec::new(),
        texts: None,
    }
}

fn snapshot(folder: &Path, text: &str) -> Snapshot {
    let files = BTreeMap::from([(folder.join("case.toml"), Ok(text.to_owned()))]);
    Snapshot { files, ..Snapshot::default() }
}

pub fn load(folder: &Path, text: &str) -> Loaded {
    source(folder).load_snapshot(&snapshot(folder, text))
}

/// Runs a pipeline that lies in `folder` on a device, into `folder/out`; another text of it takes over after a step. What would
/// have stopped a GPU in each iteration.
pub fn train(folder: &Path, text: &str, device: &str, out: &str, edit: Option<(u64, &str)>) -> Vec<Vec<Count>> {
    let loaded = load(folder, text);
    let found = loaded.diagnostics.render_text(&loaded.sources, false);
    let plan = loaded.plan.unwrap_or_else(|| panic!("{found}"));
    let options = RunOptions {
        folder: folder.join(out),
        device: Some(device.into()),
        quiet: true,
        pipeline_text: text.to_owned(),
        pipeline_folder: folder.to_owned(),
        ..RunOptions::default()
    };
    let running = Running::start(&plan, loaded.catalog, &options, Default::default()).expect("the run starts");
    preflight(&running.graph).expect("everything fits");
    let inbox = Arc::new(Inbox::default());
    let reloader = Rc::new(Reloader::new(&running.graph, source(folder), (plan, loaded.document), inbox.clone(), true));
    let between = Rc::new(Between_ {
        reloader,
        inbox,
        edit: edit.map(|(step, text)| (step, snapshot(folder, text))),
        watch: Watch::begin().expect("the stand-in opens"),
        steps: RefCell::default(),
    });
    running.graph.set_between(between.clone());
    running.drive().expect("the run goes well");
    between.steps.take()
}
