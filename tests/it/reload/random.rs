//! A thousand random edits of a training at work: no crash, no wrong claim, and at the end what a fresh run would be.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use pipe_core::Boundary;
use pipe_core::Instance;
use pipe_core::{Kind, NodeId, Reload};
use pipe_plan::Plan;
use pipe_run::graph::{Between, Graph};
use pipe_run::{RunOptions, Running};
use pipe_run::{reload::Change, reload::Inbox, reload::Reloader, reload::difference};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::settings::{Settings, load, plan, slip, snapshot, source};
use crate::program::alone;

/// Puts an edit into the inbox before each boundary at which one is taken, and looks at the run after it.
struct Editor {
    reloader: Rc<Reloader>,
    inbox: Arc<Inbox>,
    state: RefCell<EditorState>,
    index: PathBuf,
    wanted: usize,
}

struct EditorState {
    rng: ChaCha8Rng,
    settings: Settings,
    text: String,
    done: usize,
    lines: usize,
    outcomes: BTreeMap<String, usize>,
}

impl Editor {
    fn next_text(&self, state: &mut EditorState) -> String {
        if state.rng.random_bool(0.35) {
            let text = slip(&state.settings.text(), &mut state.rng);
            return text;
        }
        let mut edited = state.settings.clone();
        edited.edit(&mut state.rng);
        // The seed is refused: what follows builds on what is at work.
        if edited.seed == state.settings.seed {
            state.settings = edited.clone();
        }
        edited.text()
    }

    /// The lines of the index that came since the last look.
    fn new_lines(&self, state: &mut EditorState) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.index).unwrap_or_default();
        let lines: Vec<Value> = text.lines().skip(state.lines).map(|l| serde_json::from_str(l).unwrap()).collect();
        state.lines += lines.len();
        lines
    }

    /// Compares what was said of an edit with what an edit of this text must come to.
    fn check(&self, before: &Plan, text: &str, line: &Value, run: &Graph) {
        let outcome = line["outcome"].as_str().unwrap();
        let loaded = load(text);
        let context = || format!("{line}\n{text}");
        match &loaded.plan {
            None => assert_eq!(outcome, "invalid", "{}", context()),
            Some(plan) => {
                let changes = difference(before, plan);
                let fixed = changes.iter().any(|change| change.class() == Reload::Fixed);
                match outcome {
                    "unchanged" => assert!(changes.is_empty(), "{}", context()),
                    "refused" => {
                        assert!(!line["reason"].as_str().unwrap_or_default().is_empty(), "{}", context());
                        assert!(std::ptr::eq(before, &*self.reloader.plan()), "{}", context());
                    }
                    "applied" => {
                        assert!(!fixed, "{}", context());
                        let said: Vec<&str> =
                            line["changes"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
                        let all: Vec<String> = changes.iter().map(Change::name).collect();
                        assert_eq!(said, all, "{}", context());
                        assert!(difference(&self.reloader.plan(), plan).is_empty(), "{}", context());
                    }
                    other => panic!("{other}: {}", context()),
                }
            }
        }
        assert_eq!(line["step"], run.run.clock.get().step);
    }
}

impl Between for Editor {
    fn between(&self, graph: &Graph, engine: &NodeId, boundary: Boundary) {
        let mut state = self.state.borrow_mut();
        if boundary == Boundary::Inner || state.done >= self.wanted {
            drop(state);
            self.reloader.between(graph, engine, boundary);
            if self.state.borrow().done >= self.wanted {
                graph.run.terminate(engine, pipe_core::Termination::Run);
            }
            return;
        }
        let text = self.next_text(&mut state);
        let before = self.reloader.plan();
        self.inbox.put(snapshot(&text));
        self.reloader.between(graph, engine, boundary);
        for line in self.new_lines(&mut state) {
            let outcome = line["outcome"].as_str().unwrap().to_owned();
            if outcome != "completed" {
                self.check(&before, &text, &line, graph);
                state.done += 1;
            }
            if outcome == "applied" {
                state.text = text.clone();
            }
            *state.outcomes.entry(outcome).or_default() += 1;
        }
        check_values(graph, &self.reloader.plan(), &self.reloader.waiting());
    }
}

/// What holds at once after every edit: rates, limits, handlers, events are those of the plan, but for what waits.
fn check_values(run: &Graph, plan: &Plan, waiting: &BTreeSet<NodeId>) {
    for (id, node) in plan.nodes.iter().filter(|(id, _)| !waiting.contains(*id)) {
        let options = &node.component.as_ref().unwrap().to_json();
        match run.node(id) {
            Ok(Instance::Optimizer(optimizer)) => {
                let optimizer = optimizer.borrow();
                let groups = optimizer.groups();
                assert!(groups.iter().all(|group| group.settings["lr"] == options["lr"].as_f64().unwrap()), "{id}");
                let schedulers = plan.data_edges.iter().filter(|e| e.from == *id && e.to.kind == Kind::Scheduler);
                let expected: BTreeSet<&NodeId> = schedulers.map(|edge| &edge.to).collect();
                assert!(
                    groups
                        .iter()
                        .all(|group| group.factors.keys().map(|(_, node)| node).collect::<BTreeSet<_>>() == expected),
                    "{id}"
                );
            }
            Ok(Instance::Engine(engine)) if *id == NodeId::new(Kind::Engine, "trainer") => {
                assert_eq!(engine.limits().max_epochs, options["max_epochs"].as_u64());
            }
            Ok(_) => {}
            Err(error) => panic!("{error:#}"),
        }
    }
    assert!(run.nodes.borrow().keys().all(|id| plan.nodes.contains_key(id)));
    assert!(!waiting.is_empty() || run.events.borrow().wires.len() == plan.event_edges.len());
}

/// What a run is made of, without its progress.
fn inventory(run: &Graph) -> Vec<String> {
    let describe = |(id, instance): (&NodeId, &Instance)| match instance {
        Instance::Dataset(dataset) => format!("{id} {}", dataset.len()),
        Instance::Loader(loader) => format!("{id} {:?}", loader.borrow().epoch_length()),
        Instance::Model(model) => {
            let shapes: Vec<_> = model.borrow().parameters().iter().map(|(name, t)| (name.clone(), t.size())).collect();
            format!("{id} {shapes:?}")
        }
        Instance::Optimizer(optimizer) => {
            let optimizer = optimizer.borrow();
            let groups: Vec<_> = optimizer
                .groups()
                .iter()
                .map(|g| (g.names.clone(), g.settings.clone(), g.factors.keys().cloned().collect::<Vec<_>>()))
                .collect();
            format!("{id} {groups:?}")
        }
        Instance::Engine(engine) => {
            format!("{id} {:?} {:?}", engine.limits(), engine.loader().borrow().epoch_length())
        }
        _ => id.to_string(),
    };
    let mut lines: Vec<String> = run.nodes.borrow().iter().map(describe).collect();
    for wire in &run.events.borrow().wires {
        let targets: Vec<String> = wire.targets.iter().map(|target| target.node.to_string()).collect();
        lines.push(format!("{:?} {:?} {targets:?}", wire.events, wire.filter));
    }
    lines.push(format!("{:?}", run.roots.borrow()));
    lines
}

/// A run on the CPU of the pipeline in `text`.
pub fn start(text: &str, folder: &Path) -> Running {
    let options = RunOptions {
        folder: folder.to_owned(),
        device: Some("cpu".into()),
        quiet: true,
        pipeline_text: text.to_owned(),
        ..RunOptions::default()
    };
    let loaded = load(text);
    Running::start(&plan(text), loaded.catalog, &options, Default::default()).unwrap()
}

#[test]
fn a_thousand_random_edits() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings::first();
    let running = start(&settings.text(), &folder.path().join("run"));
    let inbox = Arc::new(Inbox::default());
    let reloader =
        Rc::new(Reloader::new(&running.graph, source(), (plan(&settings.text()), None), inbox.clone(), true));
    let state = EditorState {
        rng: ChaCha8Rng::seed_from_u64(20_261_124),
        text: settings.text(),
        settings,
        done: 0,
        lines: 1,
        outcomes: BTreeMap::new(),
    };
    let editor = Rc::new(Editor {
        reloader: reloader.clone(),
        inbox,
        state: RefCell::new(state),
        index: folder.path().join("run/pipelines/index.jsonl"),
        wanted: 1000,
    });
    running.graph.set_between(editor.clone());
    // An edit may end the training (`max_epochs = 1`): it is begun again.
    while editor.state.borrow().done < 1000 {
        let Instance::Engine(engine) = running.graph.node(&"engine.trainer".parse().unwrap()).unwrap() else {
            panic!("no trainer")
        };
        assert!(running.graph.drive(&engine).unwrap().is_continue());
    }
    let state = editor.state.borrow();
    eprintln!("outcomes: {:?}", state.outcomes);
    for outcome in ["applied", "refused", "invalid", "unchanged", "completed"] {
        assert!(state.outcomes.get(outcome).is_some_and(|count| *count >= 10), "{outcome}: {:?}", state.outcomes);
    }
    // The run is what a new one of the same text would be.
    assert!(difference(&reloader.plan(), &plan(&state.text)).is_empty());
    let fresh = start(&state.text, &folder.path().join("fresh"));
    assert_eq!(inventory(&running.graph), inventory(&fresh.graph));
    let newest = std::fs::read_to_string(folder.path().join("run/pipeline.toml")).unwrap();
    assert!(difference(&plan(&newest), &plan(&state.text)).is_empty(), "the newest version is the one at work");
}
