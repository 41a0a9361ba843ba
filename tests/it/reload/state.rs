//! What stays when pieces of a run are exchanged.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use pipe_core::Boundary;
use pipe_core::NodeId;
use pipe_core::{Instance, State};
use pipe_run::Running;
use pipe_run::graph::{Between, Graph};
use pipe_run::{reload::Inbox, reload::Reloader};
use tch::Tensor;

use super::random::start;
use super::settings::{Settings, plan, snapshot, source};

/// Makes an edit after some steps, and looks at the run before and after each.
struct Editor {
    reloader: Reloader,
    inbox: Arc<Inbox>,
    edits: Vec<(u64, String)>,
    seen: RefCell<Vec<Seen>>,
}

/// Weights and the optimizer's tensors, before and after an edit.
struct Seen {
    before: [State; 2],
    after: [State; 2],
    lr: [f64; 2],
}

fn copy(state: State) -> State {
    let tensors = state.tensors.into_iter().map(|(name, tensor)| (name, tensor.copy())).collect();
    State { tensors, ..state }
}

/// The states of model and optimizer, and the rate.
fn look(run: &Graph) -> ([State; 2], f64) {
    let node = |name: &str| run.node(&name.parse().unwrap()).unwrap();
    match (node("model.net"), node("optimizer.o")) {
        (Instance::Model(model), Instance::Optimizer(optimizer)) => {
            let states = [model.borrow().state().unwrap(), optimizer.borrow().state().unwrap()].map(copy);
            let lr = optimizer.borrow().groups()[0].lr();
            (states, lr)
        }
        _ => panic!("no model, no optimizer"),
    }
}

impl Between for Editor {
    fn between(&self, graph: &Graph, engine: &NodeId, boundary: Boundary) {
        let step = graph.run.clock.get().step;
        let edit = self.edits.iter().find(|(at, _)| boundary == Boundary::Iteration && *at == step);
        let Some((_, text)) = edit else { return self.reloader.between(graph, engine, boundary) };
        let (before, old) = look(graph);
        self.inbox.put(snapshot(text));
        self.reloader.between(graph, engine, boundary);
        let (after, new) = look(graph);
        self.seen.borrow_mut().push(Seen { before, after, lr: [old, new] });
    }
}

/// Trains with edits, each after a step; what was seen of each, and the weights at the end.
fn train(text: &str, edits: &[(u64, String)]) -> (Vec<Seen>, State, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let running: Running = start(text, &folder.path().join("run"));
    let inbox = Arc::new(Inbox::default());
    let reloader = Reloader::new(&running.graph, source(), (plan(text), None), inbox.clone(), true);
    let editor = Rc::new(Editor { reloader, inbox, edits: edits.to_vec(), seen: RefCell::default() });
    running.graph.set_between(editor.clone());
    running.drive().unwrap();
    let ([model, _], _) = look(&running.graph);
    let index = std::fs::read_to_string(folder.path().join("run/pipelines/index.jsonl")).unwrap();
    let outcome = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["outcome"].to_string();
    let outcomes = index.lines().skip(1).map(|line| outcome(line).replace('"', "")).collect();
    let seen = std::mem::take(&mut *editor.seen.borrow_mut());
    (seen, model, outcomes)
}

fn settings() -> Settings {
    Settings { hidden: Some(6), max_epochs: 3, ..Settings::first() }
}

fn same(a: &Tensor, b: &Tensor) -> bool {
    a.size() == b.size() && a.equal(b)
}

fn all_same(a: &State, b: &State) -> bool {
    a.tensors.len() == b.tensors.len() && a.tensors.iter().all(|(name, tensor)| same(tensor, &b.tensors[name]))
}

#[test]
fn momentum_and_counts_stay_when_values_change() {
    let first = settings();
    let edited = Settings { lr: 0.01, ..first.clone() };
    // The second epoch: the scheduler has stepped once.
    let (seen, _, outcomes) = train(&first.text(), &[(5, edited.text())]);
    assert_eq!(outcomes, ["applied"]);
    let [Seen { before, after, lr }] = &seen[..] else { panic!("one edit") };
    assert!(before[1].tensors.keys().any(|name| name == "momentum_buffer/1.weight"));
    assert!(all_same(&before[0], &after[0]) && all_same(&before[1], &after[1]));
    assert!((lr[0] - 0.05 * 0.9).abs() < 1e-12 && (lr[1] - 0.01 * 0.9).abs() < 1e-12, "{lr:?}");
}

#[test]
fn a_changed_model_keeps_what_fits() {
    let first = settings();
    let wider = first.text().replace("{ type = \"relu\" }", "{ type = \"relu\" }, { type = \"dropout\" }");
    let (seen, _, outcomes) = train(&first.text(), &[(4, wider)]);
    assert_eq!(outcomes, ["applied"]);
    let Seen { before, after, .. } = &seen[0];
    for name in ["1.weight", "1.bias"] {
        assert!(same(&before[0].tensors[name], &after[0].tensors[name]), "{name}");
        let buffer = format!("momentum_buffer/{name}");
        assert!(same(&before[1].tensors[&buffer], &after[1].tensors[&buffer]), "{buffer}");
    }
    // The last layer has another name now: what it knew is gone.
    assert!(!after[0].tensors.contains_key("3.weight") && after[0].tensors.contains_key("4.weight"));
    assert!(!after[1].tensors.contains_key("momentum_buffer/4.weight"), "it begins without momentum");
}

#[test]
fn a_refused_edit_leaves_no_trace() {
    // Dropout shows the state of the random generator.
    let text = settings().text().replace("{ type = \"relu\" }", "{ type = \"relu\" }, { type = \"dropout\" }");
    let unfit = text.replace("in_features = 784", "in_features = 783");
    let lost = text.replace("root = \"", "root = \"nowhere");
    let wrong = text.replace("lr = 0.05", "lr = \"quick\"");
    let (_, untouched, _) = train(&text, &[]);
    let edits = [(2, unfit.clone()), (4, lost), (5, wrong), (7, unfit)];
    let (_, model, outcomes) = train(&text, &edits);
    assert_eq!(outcomes, ["refused", "refused", "invalid", "refused"]);
    assert!(all_same(&untouched, &model), "the same weights to the last bit");
}
