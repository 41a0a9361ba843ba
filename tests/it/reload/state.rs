//! What stays when pieces of a run are exchanged.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use pipe_core::Boundary;
use pipe_core::{Instance, Kind, NodeId, State};
use pipe_run::graph::{Between, Graph, Offers};
use pipe_run::{Running, checkpoint};
use pipe_run::{reload::Inbox, reload::Reloader};
use pipe_vocab::Catalog;
use tch::Tensor;

use super::random::start;
use super::settings::{Settings, load, plan, snapshot, source};
use crate::plugins::swap::rebuilt;
use crate::program::alone;

/// Makes an edit after some steps, and looks at the run before and after each.
struct Editor {
    reloader: Reloader,
    inbox: Arc<Inbox>,
    edits: Vec<(u64, String)>,
    seen: RefCell<Vec<Seen>>,
    /// Called before each edit.
    prepare: Box<dyn Fn()>,
}

/// Weights and the optimizer's tensors, before and after an edit, and what else of the run an edit could leave a trace in.
struct Seen {
    before: [State; 2],
    after: [State; 2],
    lr: [f64; 2],
    traces: [Traces; 2],
}

/// What belongs to the whole run.
struct Traces {
    timed: bool,
    generators: Vec<(String, Tensor)>,
    catalog: Rc<Catalog>,
    nodes: Vec<NodeId>,
    offers: Offers,
}

impl Traces {
    fn of(graph: &Graph) -> Traces {
        Traces {
            timed: graph.run.timings.enabled(),
            generators: pipe_run::random::states().unwrap().into_iter().collect(),
            catalog: graph.catalog.borrow().clone(),
            nodes: graph.nodes.borrow().keys().cloned().collect(),
            offers: graph.offers.borrow().clone(),
        }
    }

    /// Fails unless nothing differs.
    fn assert_same(&self, other: &Traces) {
        assert_eq!(self.timed, other.timed, "timings");
        assert_eq!(self.generators.len(), other.generators.len());
        for ((name, a), (_, b)) in self.generators.iter().zip(&other.generators) {
            assert!(same(a, b), "the random generator of {name}");
        }
        assert!(Rc::ptr_eq(&self.catalog, &other.catalog), "the catalog");
        assert_eq!(self.nodes, other.nodes);
        assert_eq!(self.offers, other.offers);
    }
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
        (self.prepare)();
        let traces = Traces::of(graph);
        self.inbox.put(snapshot(text));
        self.reloader.between(graph, engine, boundary);
        let (after, new) = look(graph);
        let traces = [traces, Traces::of(graph)];
        self.seen.borrow_mut().push(Seen { before, after, lr: [old, new], traces });
    }
}

/// Trains with edits, each after a step; what was seen of each, and the weights at the end.
fn train(text: &str, edits: &[(u64, String)]) -> (Vec<Seen>, State, Vec<String>) {
    train_with(text, edits, || ())
}

/// As [`train`]; `prepare` is called before each edit.
fn train_with(text: &str, edits: &[(u64, String)], prepare: impl Fn() + 'static) -> (Vec<Seen>, State, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let running: Running = start(text, &folder.path().join("run"));
    let inbox = Arc::new(Inbox::default());
    let reloader = Reloader::new(&running.graph, source(), (plan(text), None), inbox.clone(), true);
    let prepare = Box::new(prepare);
    let editor = Rc::new(Editor { reloader, inbox, edits: edits.to_vec(), seen: RefCell::default(), prepare });
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
    let _alone = alone();
    let first = settings();
    let edited = Settings { lr: 0.01, ..first.clone() };
    // The second epoch: the scheduler has stepped once.
    let (seen, _, outcomes) = train(&first.text(), &[(5, edited.text())]);
    assert_eq!(outcomes, ["applied"]);
    let [Seen { before, after, lr, .. }] = &seen[..] else { panic!("one edit") };
    assert!(before[1].tensors.keys().any(|name| name == "momentum_buffer/1.weight"));
    assert!(all_same(&before[0], &after[0]) && all_same(&before[1], &after[1]));
    assert!((lr[0] - 0.05 * 0.9).abs() < 1e-12 && (lr[1] - 0.01 * 0.9).abs() < 1e-12, "{lr:?}");
}

#[test]
fn a_changed_model_keeps_what_fits() {
    let _alone = alone();
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
    let _alone = alone();
    // Dropout shows the state of the random generator.
    let text = settings().text().replace("{ type = \"relu\" }", "{ type = \"relu\" }, { type = \"dropout\" }");
    let unfit = text.replace("in_features = 784", "in_features = 783");
    let lost = text.replace("root = \"", "root = \"nowhere");
    let wrong = text.replace("lr = 0.05", "lr = \"quick\"");
    let (_, untouched, _) = train(&text, &[]);
    let edits = [(2, unfit.clone()), (4, lost), (5, wrong), (7, unfit)];
    let (seen, model, outcomes) = train(&text, &edits);
    assert_eq!(outcomes, ["refused", "refused", "invalid", "refused"]);
    assert!(all_same(&untouched, &model), "the same weights to the last bit");
    for Seen { before, after, traces: [first, second], .. } in &seen {
        assert!(all_same(&before[0], &after[0]) && all_same(&before[1], &after[1]));
        first.assert_same(second);
    }
}

/// A checkpoint at the end of another training, and the states of its model and optimizer.
fn trained(settings: &Settings, folder: &Path) -> (PathBuf, [State; 2]) {
    let running = start(&settings.text(), folder);
    running.drive().unwrap();
    let (states, _) = look(&running.graph);
    (checkpoint::save(&running.graph, "end").unwrap(), states)
}

/// The text with `weights`, and what else stands in the model.
fn with_weights(settings: &Settings, weights: &Path, more: &str) -> String {
    let text = settings.text().replace("[model.net]\n", &format!("[model.net]\nweights = {weights:?}\n{more}"));
    assert!(text.contains("weights = "));
    text
}

#[test]
fn edited_weights_are_loaded_into_the_model_at_work() {
    let _alone = alone();
    let first = settings();
    let folder = tempfile::tempdir().unwrap();
    let other = Settings { seed: 2, lr: 0.2, ..first.clone() };
    let (checkpoint, theirs) = trained(&other, &folder.path().join("other"));
    let slower = Settings { lr: 0.01, ..first.clone() };
    let edits = [
        (2, with_weights(&first, &checkpoint, "")),
        (4, first.text()),
        (5, with_weights(&slower, &folder.path().join("other/latest"), "optimizer_state = true\n")),
    ];
    let (seen, _, outcomes) = train(&first.text(), &edits);
    assert_eq!(outcomes, ["applied", "applied", "applied"]);
    let [alone, gone, whole] = &seen[..] else { panic!("three edits") };
    assert!(all_same(&alone.after[0], &theirs[0]) && !all_same(&alone.before[0], &theirs[0]));
    assert!(all_same(&alone.after[1], &alone.before[1]), "the optimizer keeps its own state");
    assert!(all_same(&gone.after[0], &gone.before[0]), "weights that are no longer named stay");
    assert!(all_same(&whole.after[0], &theirs[0]) && all_same(&whole.after[1], &theirs[1]));
    assert_eq!(whole.after[1].values, theirs[1].values);
    // The second epoch: the scheduler has stepped once.
    assert!((whole.lr[1] - 0.01 * 0.9).abs() < 1e-12, "{:?}", whole.lr);
}

#[test]
fn weights_that_do_not_fit_are_refused_with_the_whole_edit() {
    let _alone = alone();
    let first = settings();
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str, settings: Settings| trained(&settings, &folder.path().join(name)).0;
    let wider = make("wider", Settings { hidden: Some(7), ..first.clone() });
    let deeper = make("deeper", Settings { hidden: None, ..first.clone() });
    let adam = make("adam", Settings { optimizer: "adam", ..first.clone() });
    let damaged = make("damaged", first.clone());
    let file = damaged.join("model.net.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let slower = Settings { lr: 0.01, ..first.clone() };
    let edits = [
        (1, with_weights(&slower, &wider, "")),
        (2, with_weights(&slower, &deeper, "")),
        (3, with_weights(&slower, &adam, "optimizer_state = true\n")),
        (4, with_weights(&slower, &damaged, "")),
        (5, with_weights(&slower, &folder.path().join("nowhere"), "")),
        // Not the model that is there.
        (7, with_weights(&Settings { hidden: Some(7), ..slower.clone() }, &wider, "")),
    ];
    let (_, untouched, _) = train(&first.text(), &[]);
    let (seen, model, outcomes) = train(&first.text(), &edits);
    assert_eq!(outcomes, ["refused"; 6]);
    assert!(all_same(&untouched, &model), "the same weights to the last bit");
    for Seen { before, after, lr, traces: [one, other] } in &seen {
        assert!(all_same(&before[0], &after[0]) && all_same(&before[1], &after[1]) && lr[0] == lr[1]);
        one.assert_same(other);
    }
}

#[test]
fn averages_of_loaded_weights_begin_anew_or_take_theirs() {
    let _alone = alone();
    let averaged = "\n[model.average]\ntype = \"ema\"\nmodel = \"model.net\"\n\n[handler.ema]\ntype = \"ema\"\nmodel = \"model.average\"\n\
                    momentum = 0.1\n\n[[on]]\nevent = \"engine.trainer:iteration_completed\"\nrun = [\"handler.ema\"]\n";
    let text = settings().text() + averaged;
    let folder = tempfile::tempdir().unwrap();
    let other = start(&text.replace("seed = 1", "seed = 2"), &folder.path().join("other"));
    other.drive().unwrap();
    let from = checkpoint::save(&other.graph, "end").unwrap();
    let of = |running: &Running, name: &str| copy(running.graph.node(&name.parse().unwrap()).unwrap().state().unwrap());
    let running = start(&text, &folder.path().join("run"));
    let reloader = Reloader::new(&running.graph, source(), (plan(&text), None), Arc::default(), true);
    let edit = |model: &str| {
        let text = text.replace("[model.net]\n", &format!("[model.net]\n{model}"));
        let report = reloader.apply_between(&running.graph, &"engine.trainer".parse().unwrap(), load(&text));
        assert!(report.reason.is_none(), "{report:?}");
        report.loaded
    };
    let alone = edit(&format!("weights = {from:?}\n"));
    assert_eq!((&alone[0].with[..], &alone[0].anew[..]), (&[][..], &["model.average".to_owned()][..]));
    assert!(all_same(&of(&running, "model.average"), &of(&other, "model.net")));
    assert!(edit("").is_empty());
    let whole = edit(&format!("weights = {from:?}\noptimizer_state = true\n"));
    assert_eq!((&whole[0].with[..], whole[0].anew.len()), (&["optimizer.o", "model.average"].map(String::from)[..], 0));
    for name in ["model.net", "model.average", "optimizer.o"] {
        assert!(all_same(&of(&running, name), &of(&other, name)), "{name}");
    }
    assert!(!all_same(&of(&other, "model.net"), &of(&other, "model.average")));
}

#[test]
fn a_profiler_measures_only_when_its_edit_is_applied() {
    let _alone = alone();
    let text = settings().text();
    let on = "[[on]]\nevent = \"engine.trainer:completed\"\nrun = [\"handler.profiler\"]\n";
    let profiled = format!("{text}\n[handler.profiler]\ntype = \"profiler\"\n\n{on}");
    // The profiler is built, and then the first batch does not fit the model.
    let unfit = profiled.replace("in_features = 784", "in_features = 783");
    let (seen, _, outcomes) = train(&text, &[(2, unfit.clone()), (4, unfit), (5, profiled), (7, text.clone())]);
    assert_eq!(outcomes, ["refused", "refused", "applied", "applied"]);
    seen[..2].iter().for_each(|seen| seen.traces[0].assert_same(&seen.traces[1]));
    let timed: Vec<[bool; 2]> = seen.iter().map(|seen| seen.traces.each_ref().map(|traces| traces.timed)).collect();
    assert_eq!(timed, [[false, false], [false, false], [false, true], [true, false]]);
}

#[test]
fn a_plugin_built_anew_is_not_taken_up_by_a_refused_edit() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libmine.so");
    rebuilt(&library, "version-two");
    let text = settings().text();
    let (before, after) = text.split_once("type = \"compose\"").unwrap();
    let (_, after) = after.split_once("\n\n").unwrap();
    let text = format!("[plugins]\npaths = [{library:?}]\n\n{before}type = \"test_brighten\"\nby = 1\n\n{after}");
    let unfit = text.replace("in_features = 784", "in_features = 783");
    // The first edit comes with a new library and with a model that does not fit, the second with the library alone.
    let marks = RefCell::new(vec!["version-end", "version-xxx"]);
    let prepare = move || rebuilt(&library, marks.borrow_mut().pop().unwrap());
    let (seen, _, outcomes) = train_with(&text, &[(2, unfit), (4, text.clone())], prepare);
    assert_eq!(outcomes, ["refused", "applied", "completed"]);
    let mark = |traces: &Traces| {
        let descriptor = traces.catalog.get(Kind::Transform, "test_brighten").unwrap();
        descriptor.documentation().split_whitespace().find(|word| word.contains("version-")).map(str::to_owned)
    };
    let [first, second] = &seen[..] else { panic!("two edits") };
    first.traces[0].assert_same(&first.traces[1]);
    let marks = [&first.traces[1], &second.traces[0], &second.traces[1]].map(|traces| mark(traces).unwrap());
    assert!(marks[0].contains("version-two") && marks[1] == marks[0], "{marks:?}");
    assert!(marks[2].contains("version-end"), "{marks:?}");
}
