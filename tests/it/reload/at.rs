//! A run as it was at a step, edits on the way included.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use pipe_core::{Boundary, Instance, Kind, NodeId, Requests};
use pipe_run::graph::{Between, Graph};
use pipe_run::reload::{Inbox, Reloader};
use pipe_run::state_at::state_at;
use pipe_run::{Running, checkpoint, random};
use tch::Tensor;

use super::random::start;
use super::settings::{Settings, load, plan, snapshot, source};
use crate::program::alone;

/// All tensors of a run and its limits, by name; the time.
#[derive(Debug, PartialEq)]
struct Stand {
    clock: pipe_core::Clock,
    tensors: BTreeMap<String, Vec<u8>>,
    values: BTreeMap<String, String>,
}

impl Stand {
    fn of(graph: &Graph) -> Stand {
        let (mut tensors, mut values) = (BTreeMap::new(), BTreeMap::new());
        for (id, instance) in graph.nodes.borrow().iter() {
            // What lies in a folder differs between two folders, and what an idle metric has seen is in no checkpoint.
            if matches!(id.kind, Kind::Handler | Kind::Sink | Kind::Metric) {
                continue;
            }
            let state = match instance {
                Instance::Engine(engine) => engine.state(false).unwrap(),
                other => other.state().unwrap(),
            };
            tensors.extend(state.tensors.iter().map(|(name, tensor)| (format!("{id}/{name}"), bytes(tensor))));
            values.insert(id.to_string(), serde_json::to_string(&state.values).unwrap());
        }
        tensors
            .extend(random::states().unwrap().iter().map(|(name, tensor)| (format!("random/{name}"), bytes(tensor))));
        Stand { clock: graph.run.clock.get(), tensors, values }
    }
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.detach().contiguous();
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    bytes
}

/// Edits at their steps; keeps how the run stands after each step, and saves a checkpoint after some.
struct Editor {
    reloader: Reloader,
    inbox: Arc<Inbox>,
    edits: Vec<(u64, Boundary, String)>,
    saves: Vec<u64>,
    stands: RefCell<BTreeMap<u64, Stand>>,
}

impl Between for Editor {
    fn between(&self, graph: &Graph, engine: &NodeId, boundary: Boundary) {
        let step = graph.run.clock.get().step;
        if graph.run.depth.get() == 1 && boundary != Boundary::Epoch {
            self.stands.borrow_mut().insert(step, Stand::of(graph));
            if self.saves.contains(&step) {
                checkpoint::save(graph, &format!("step_{step:06}")).unwrap();
            }
        }
        if let Some((_, _, text)) = self.edits.iter().find(|(at, when, _)| *at == step && *when == boundary) {
            self.inbox.put(snapshot(text));
        }
        self.reloader.between(graph, engine, boundary);
    }
}

fn edited(
    running: &Running,
    first: &str,
    edits: Vec<(u64, Boundary, String)>,
    saves: Vec<u64>,
) -> BTreeMap<u64, Stand> {
    let inbox = Arc::new(Inbox::default());
    let loaded = load(first);
    let reloader = Reloader::new(&running.graph, source(), (plan(first), loaded.document), inbox.clone(), true);
    let editor = Rc::new(Editor { reloader, inbox, edits, saves, stands: RefCell::default() });
    running.graph.set_between(editor.clone());
    running.drive().unwrap();
    editor.stands.take()
}

fn assert_stands(folder: &Path, step: u64, stands: &BTreeMap<u64, Stand>, from: Option<u64>) {
    let at = state_at(folder, step, Some("cpu"), Requests::default()).unwrap();
    assert_eq!(at.checkpoint.as_deref().and_then(checkpoint::step_of), from, "step {step}");
    assert_eq!(at.before, step - from.unwrap_or_default());
    let (found, wanted) = (Stand::of(&at.running.graph), &stands[&step]);
    assert_eq!(found.clock, wanted.clock, "step {step}");
    assert_eq!(found.values, wanted.values, "step {step}");
    let differ = |name: &&String| found.tensors.get(*name) != wanted.tensors.get(*name);
    let names: Vec<&String> = wanted.tensors.keys().chain(found.tensors.keys()).filter(differ).collect();
    assert!(names.is_empty(), "step {step}: {names:?}");
}

/// Three batches an epoch; a scheduler and an evaluation at its end.
#[test]
fn a_run_stands_again_where_it_stood() {
    let _alone = alone();
    let first = Settings { max_epochs: 6, workers: 0, ..Settings::first() };
    let text = |edit: &dyn Fn(&mut Settings)| {
        let mut settings = first.clone();
        edit(&mut settings);
        settings.text()
    };
    let slower = |s: &mut Settings| s.lr = 0.01;
    let smaller = |s: &mut Settings| (s.lr, s.batch) = (0.01, 6);
    let heavier = |s: &mut Settings| (s.lr, s.batch, s.momentum) = (0.01, 6, 0.5);
    let edits = vec![
        (4, Boundary::Iteration, text(&slower)),
        // Waits for the end of the epoch, at step 9.
        (7, Boundary::Iteration, text(&smaller)),
        (13, Boundary::Epoch, text(&heavier)),
    ];
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let stands = edited(&start(&first.text(), &run), &first.text(), edits, vec![3, 8, 11]);
    let records = std::fs::read(run.join("records.jsonl")).unwrap();
    let from = |step: u64| match step {
        0..3 => None,
        // In the third epoch an edit waited: the checkpoint of step 8 is no place to go on from.
        3..11 => Some(3),
        _ => Some(11),
    };
    for step in [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16] {
        assert_stands(&run, step, &stands, from(step));
    }
    assert_eq!(std::fs::read(run.join("records.jsonl")).unwrap(), records, "it is recorded nowhere");
    let error = state_at(&run, 1000, Some("cpu"), Requests::default()).err().unwrap();
    assert!(error.to_string().starts_with("the run ended at step "), "{error:#}");
}

/// What was loaded is made again by a replay, and lies in each checkpoint behind it.
#[test]
fn a_run_whose_weights_were_edited_stands_again_where_it_stood() {
    let _alone = alone();
    let first = Settings { max_epochs: 6, ..Settings::first() };
    let folder = tempfile::tempdir().unwrap();
    let (run, other) = (folder.path().join("run"), folder.path().join("other"));
    let text = Settings { seed: 2, lr: 0.2, ..first.clone() }.text();
    edited(&start(&text, &other), &text, Vec::new(), vec![9]);
    let weights = format!("[model.net]\nweights = {:?}\noptimizer_state = true\n", other.join("latest"));
    let loaded = Settings { lr: 0.01, ..first.clone() }.text().replace("[model.net]\n", &weights);
    let edits = vec![(7, Boundary::Iteration, loaded)];
    let stands = edited(&start(&first.text(), &run), &first.text(), edits, vec![3, 12]);
    // The one that the edit itself asked for has gone with the end of the run, as that which a signal asks for.
    let from = |step: u64| if step < 12 { 3 } else { 12 };
    for step in [6, 7, 8, 9, 11, 12, 13, 16] {
        assert_stands(&run, step, &stands, Some(from(step)));
    }
}
