//! Hot reload without a process: differences of plans, a thousand random edits of a training at work, the watcher.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use pipe::coco::synthetic::{DigitsSpec, write_digits};
use pipe::engine::{Between, Boundary};
use pipe::plan::{Loaded, PipelineSource, Plan, Snapshot};
use pipe::registry::{Kind, NodeId, Registry, Reload};
use pipe::reload::watch::{self, WatchOptions};
use pipe::reload::{Change, Inbox, Reloader, difference};
use pipe::run::{Instance, RunContext, RunOptions, Running};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

/// The values of a pipeline; every other value is a valid edit.
#[derive(Debug, Clone, PartialEq)]
struct Settings {
    seed: u64,
    lr: f64,
    momentum: f64,
    optimizer: &'static str,
    scheduler: Option<f64>,
    limit: usize,
    batch: usize,
    workers: usize,
    degrees: Option<u32>,
    hidden: Option<u32>,
    out: u32,
    log_interval: u32,
    max_epochs: u32,
    weight: Option<f64>,
    accumulate: u32,
    handler: Option<(&'static str, u32)>,
    stop: bool,
    evaluate: bool,
    console: bool,
    classes: bool,
}

impl Settings {
    fn first() -> Settings {
        Settings {
            seed: 1,
            lr: 0.05,
            momentum: 0.9,
            optimizer: "sgd",
            scheduler: Some(0.9),
            limit: 24,
            batch: 8,
            workers: 0,
            degrees: None,
            hidden: None,
            out: 10,
            log_interval: 1,
            max_epochs: 100_000,
            weight: None,
            accumulate: 1,
            handler: None,
            stop: false,
            evaluate: true,
            console: false,
            classes: false,
        }
    }

    fn text(&self) -> String {
        let mut text = format!(
            "[pipeline]\nname = \"random\"\nseed = {}\n\n[vars]\nbatch = {}\n\n[dataset.train]\ntype = \"mnist\"\nroot = \
             \"{}\"\nlimit = {}\n\n",
            self.seed,
            self.batch,
            digits().display(),
            self.limit
        );
        let affine =
            self.degrees.map(|n| format!("{{ type = \"random_affine\", degrees = {n} }}, ")).unwrap_or_default();
        text += &format!(
            "[transform.train]\ntype = \"compose\"\nsteps = [{affine}{{ type = \"normalize\", mean = [0.1], std = [0.3] }}]\n\n"
        );
        text += &format!(
            "[loader.train]\ntype = \"batch\"\ndataset = \"dataset.train\"\ntransform = \"transform.train\"\nbatch_size = \
             \"${{batch}}\"\nshuffle = true\nworkers = {}\n\n",
            self.workers
        );
        text += "[loader.test]\ntype = \"batch\"\ndataset = \"dataset.train\"\nbatch_size = 12\nworkers = 0\n\n";
        let out = if self.classes { "\"dataset.train:num_classes\"".to_owned() } else { self.out.to_string() };
        let layers = match self.hidden {
            Some(n) => format!(
                "{{ type = \"linear\", in_features = 784, out_features = {n} }}, {{ type = \"relu\" }}, {{ type = \"linear\", \
                 in_features = {n}, out_features = {out} }}"
            ),
            None => format!("{{ type = \"linear\", in_features = 784, out_features = {out} }}"),
        };
        text += &format!("[model.net]\ntype = \"sequential\"\nlayers = [{{ type = \"flatten\" }}, {layers}]\n\n");
        let momentum = if self.optimizer == "sgd" { format!("momentum = {}\n", self.momentum) } else { String::new() };
        text += &format!(
            "[optimizer.o]\ntype = \"{}\"\nmodel = \"model.net\"\nlr = {}\n{momentum}\n",
            self.optimizer, self.lr
        );
        let mut completed = Vec::new();
        if let Some(gamma) = self.scheduler {
            text += &format!("[scheduler.s]\ntype = \"exponential\"\noptimizer = \"optimizer.o\"\ngamma = {gamma}\n\n");
            completed.push("scheduler.s");
        }
        text += &format!(
            "[engine.trainer]\ntype = \"train\"\nmodel = \"model.net\"\noptimizer = \"optimizer.o\"\nloader = \
             \"loader.train\"\nmax_epochs = {}\nlog_interval = {}\naccumulate = {}\non_non_finite = \"skip\"\n",
            self.max_epochs, self.log_interval, self.accumulate
        );
        if let Some(weight) = self.weight {
            text += &format!("loss_weights = {{ cross_entropy = {weight} }}\n");
        }
        if self.evaluate {
            completed.push("engine.evaluator");
            text += "\n[metric.accuracy]\ntype = \"accuracy\"\n\n[engine.evaluator]\ntype = \"evaluate\"\nmodel = \
                     \"model.net\"\nloader = \"loader.test\"\nmetrics = [\"metric.accuracy\"]\n";
        }
        if self.stop && self.evaluate {
            completed.push("handler.stop");
            text += "\n[handler.stop]\ntype = \"early_stopping\"\nmonitor = \"metric.accuracy:accuracy\"\nmode = \"max\"\npatience = \
                     1000000\nengine = \"engine.trainer\"\n";
        }
        if self.console {
            text += "\n[sink.lines]\ntype = \"tensorboard\"\n";
        }
        if let Some((ty, every)) = self.handler {
            text += &format!(
                "\n[handler.extra]\ntype = \"{ty}\"\n\n[[on]]\nevent = \"engine.trainer:iteration_completed\"\nevery = {every}\nrun = \
                 [\"handler.extra\"]\n"
            );
        }
        if !completed.is_empty() {
            text += &format!("\n[[on]]\nevent = \"engine.trainer:epoch_completed\"\nrun = {completed:?}\n");
        }
        text
    }

    /// One to three other values.
    fn edit(&mut self, rng: &mut ChaCha8Rng) {
        for _ in 0..rng.random_range(1..=3) {
            let some = |rng: &mut ChaCha8Rng, value: f64| rng.random_bool(0.5).then_some(value);
            match rng.random_range(0..20) {
                0 => self.lr = *[0.001, 0.01, 0.05].choose(rng).unwrap(),
                1 => self.momentum = *[0.0, 0.5, 0.9].choose(rng).unwrap(),
                2 => self.optimizer = ["sgd", "adam", "adamw"].choose(rng).unwrap(),
                3 => self.scheduler = some(rng, *[0.5, 0.9].choose(&mut rng.clone()).unwrap()),
                4 => self.limit = rng.random_range(8..40),
                5 => self.batch = rng.random_range(1..12),
                6 => self.workers = rng.random_range(0..2),
                7 => self.degrees = rng.random_bool(0.5).then_some(rng.random_range(1..20)),
                8 => self.hidden = rng.random_bool(0.5).then_some(rng.random_range(4..8)),
                9 => self.out = rng.random_range(10..13),
                10 => self.log_interval = rng.random_range(1..4),
                11 => self.max_epochs = *[1, 2, 100_000].choose(rng).unwrap(),
                12 => self.weight = rng.random_bool(0.5).then_some(0.5),
                13 => self.accumulate = rng.random_range(1..3),
                14 => {
                    let types = ["terminate_on_nan", "sample_images"];
                    self.handler = rng.random_bool(0.6).then_some((types.choose(rng).unwrap(), rng.random_range(1..4)));
                }
                15 => self.stop = rng.random_bool(0.5),
                16 => self.evaluate = rng.random_bool(0.7),
                17 => self.console = rng.random_bool(0.5),
                18 => self.classes = rng.random_bool(0.5),
                _ => self.seed = rng.random_range(1..3),
            }
        }
    }
}

/// A few drawn digits, one folder for all tests of this file.
fn digits() -> &'static Path {
    static DIGITS: OnceLock<PathBuf> = OnceLock::new();
    DIGITS.get_or_init(|| {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reload-digits");
        let spec = DigitsSpec { train: 64, test: 16, ..DigitsSpec::default() };
        write_digits(&root, &spec).expect("digits");
        root
    })
}

/// What a slip of the hand makes of a text.
fn slip(text: &str, rng: &mut ChaCha8Rng) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let at = rng.random_range(0..lines.len());
    match rng.random_range(0..6) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[at].clone()),
        2 => lines[at] = lines[at].replacen('=', "", 1),
        3 => {
            let cut = lines[at].char_indices().nth(rng.random_range(0..6)).map_or(0, |(cut, _)| cut);
            lines[at].truncate(cut);
        }
        4 => lines[at] = lines[at].replace("train", "trian"),
        _ => {
            let key = lines[at].split(" = ").next().unwrap_or_default().to_owned();
            let value = ["-1", "\"x\"", "[]", "1e400", "{ a = 1 }", "\"loader.test\""].choose(rng).unwrap();
            lines[at] = format!("{key} = {value}");
        }
    }
    lines.join("\n") + "\n"
}

fn source() -> PipelineSource {
    PipelineSource { file: "random.toml".into(), profile: None, sets: Vec::new(), base: None }
}

fn snapshot(text: &str) -> Snapshot {
    let files = BTreeMap::from([(PathBuf::from("random.toml"), Ok(text.to_owned()))]);
    Snapshot { files, ..Snapshot::default() }
}

fn load(text: &str) -> Loaded {
    source().load_snapshot(&snapshot(text))
}

fn plan(text: &str) -> Plan {
    let loaded = load(text);
    let found = loaded.diagnostics.render_text(&loaded.sources, false);
    loaded.plan.unwrap_or_else(|| panic!("{found}"))
}

fn names(changes: &[Change]) -> Vec<String> {
    changes.iter().map(|change| format!("{}: {}", change.name(), change.describe())).collect()
}

#[test]
fn differences_are_named() {
    let first = Settings::first();
    let other = |edit: &dyn Fn(&mut Settings)| {
        let mut settings = first.clone();
        edit(&mut settings);
        names(&difference(&plan(&first.text()), &plan(&settings.text())))
    };
    assert_eq!(other(&|_| ()), Vec::<String>::new());
    assert_eq!(other(&|s| s.lr = 0.01), ["optimizer.o.lr: 0.05 → 0.01"]);
    assert_eq!(other(&|s| s.batch = 4), ["loader.train.batch_size: 8 → 4"]);
    assert_eq!(other(&|s| s.weight = Some(0.5)), ["engine.trainer.loss_weights.cross_entropy: (not set) → 0.5"]);
    assert_eq!(other(&|s| s.seed = 2), ["pipeline.seed: 1 → 2"]);
    assert_eq!(
        other(&|s| s.optimizer = "adam"),
        ["optimizer.o: type `sgd` → `adam`"],
        "options of another type are not compared"
    );
    assert_eq!(
        other(&|s| s.scheduler = None),
        [
            "scheduler.s: removed (type `exponential`)",
            "[[on]]: added: engine.trainer:epoch_completed → engine.evaluator",
            "[[on]]: removed: engine.trainer:epoch_completed → scheduler.s, engine.evaluator",
        ]
    );
    assert_eq!(
        other(&|s| s.handler = Some(("terminate_on_nan", 2))),
        [
            "handler.extra: added (type `terminate_on_nan`)",
            "[[on]]: added: engine.trainer:iteration_completed, every 2 → handler.extra",
        ]
    );
    assert_eq!(
        other(&|s| s.classes = true),
        ["model.net.layers[1].out_features: 10 → \"dataset.train:num_classes\""],
        "a property is another value, even where it is the same number"
    );
    assert_eq!(other(&|s| s.degrees = Some(5)).len(), 1, "a list of another length is one difference");
    let spaced = first.text().replace(" = ", "  =  ").replace("[vars]", "# a comment\n[vars]");
    assert!(difference(&plan(&first.text()), &plan(&spaced)).is_empty(), "writing is no difference");
    let written = first.text().replace("momentum = 0.9", "momentum = 0.9\nnesterov = false");
    assert!(difference(&plan(&first.text()), &plan(&written)).is_empty(), "a default written out is none either");
}

#[test]
fn changes_are_at_their_lines() {
    let first = Settings::first();
    let edited = Settings { batch: 4, lr: 0.01, ..first.clone() };
    let new = load(&edited.text());
    let changes = difference(&plan(&first.text()), new.plan.as_ref().unwrap());
    let places: Vec<String> = changes.iter().map(|change| change.place(&new)).collect();
    let line = |start: &str| edited.text().lines().position(|line| line.starts_with(start)).unwrap() + 1;
    let [batch, lr] = [line("batch_size"), line("lr")];
    let var = line("batch = ");
    assert_eq!(
        places,
        [format!("random.toml:{batch}, ${{batch}} from random.toml:{var}"), format!("random.toml:{lr}")]
    );
}

#[test]
fn every_option_says_what_an_edit_means() {
    let class = |component: &str, option: &str| {
        let descriptor = Registry::global().iter().find(|d| d.full_name() == component).unwrap();
        assert!(descriptor.schema()["properties"].get(option).is_some(), "{component} has no `{option}`");
        Reload::of_option(descriptor.schema(), option)
    };
    for option in ["lr", "momentum", "weight_decay", "nesterov", "groups", "no_weight_decay"] {
        assert_eq!(class("optimizer.sgd", option), Reload::Hot, "{option}");
    }
    for option in ["max_epochs", "log_interval", "loss_weights", "clip_grad_norm", "accumulate", "on_non_finite"] {
        assert_eq!(class("engine.train", option), Reload::Hot, "{option}");
    }
    for (component, option) in
        [("optimizer.sgd", "model"), ("loader.batch", "batch_size"), ("model.sequential", "layers")]
    {
        assert_eq!(class(component, option), Reload::Rebuild, "{component} {option}");
    }
    // What a handler knows of one value says nothing of another.
    assert_eq!(class("handler.early_stopping", "monitor"), Reload::Rebuild);
    assert_eq!(class("handler.early_stopping", "patience"), Reload::Hot);
    let hot = |kind: Kind| {
        let of_kind = Registry::global().of_kind(kind);
        of_kind.flat_map(|d| {
            let options = d.schema()["properties"].as_object().into_iter().flatten();
            options.map(move |(name, schema)| (format!("{} {name}", d.full_name()), d, name.clone(), schema.clone()))
        })
    };
    for kind in [Kind::Optimizer, Kind::Scheduler, Kind::Handler, Kind::Sink, Kind::Engine] {
        for (what, descriptor, name, schema) in hot(kind) {
            let names_another = schema.to_string().contains("x-port") && kind != Kind::Sink;
            let judged = matches!(name.as_str(), "monitor" | "mode" | "engine");
            if !names_another && !judged {
                assert_eq!(Reload::of_option(descriptor.schema(), &name), Reload::Hot, "{what}");
            }
        }
    }
    let schema = pipe::plan::pipeline::schema();
    for option in ["seed", "device", "precision"] {
        assert_eq!(Reload::of_option(schema, option), Reload::Fixed, "{option}");
    }
}

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
    fn check(&self, before: &Plan, text: &str, line: &Value, run: &RunContext) {
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
        assert_eq!(line["step"], run.clock.get().step);
    }
}

impl Between for Editor {
    fn between(&self, run: &RunContext, engine: &NodeId, boundary: Boundary) {
        let mut state = self.state.borrow_mut();
        if boundary == Boundary::Inner || state.done >= self.wanted {
            drop(state);
            self.reloader.between(run, engine, boundary);
            if self.state.borrow().done >= self.wanted {
                run.terminate(engine, pipe::run::context::Termination::Run);
            }
            return;
        }
        let text = self.next_text(&mut state);
        let before = self.reloader.plan();
        self.inbox.put(snapshot(&text));
        self.reloader.between(run, engine, boundary);
        for line in self.new_lines(&mut state) {
            let outcome = line["outcome"].as_str().unwrap().to_owned();
            if outcome != "completed" {
                self.check(&before, &text, &line, run);
                state.done += 1;
            }
            if outcome == "applied" {
                state.text = text.clone();
            }
            *state.outcomes.entry(outcome).or_default() += 1;
        }
        check_values(run, &self.reloader.plan(), &self.reloader.waiting());
    }
}

/// What holds at once after every edit: rates, limits, handlers, events are those of the plan, but for what waits.
fn check_values(run: &RunContext, plan: &Plan, waiting: &BTreeSet<NodeId>) {
    for (id, node) in plan.nodes.iter().filter(|(id, _)| !waiting.contains(*id)) {
        let options = &node.component.as_ref().unwrap().to_json();
        match run.node(id) {
            Ok(Instance::Optimizer(optimizer)) => {
                let optimizer = optimizer.borrow();
                let groups = optimizer.groups();
                assert!(groups.iter().all(|group| group.base_lr == options["lr"].as_f64().unwrap()), "{id}");
                let schedulers = plan.data_edges.iter().filter(|e| e.from == *id && e.to.kind == Kind::Scheduler);
                let expected: BTreeSet<&NodeId> = schedulers.map(|edge| &edge.to).collect();
                assert!(groups.iter().all(|group| group.factors.keys().collect::<BTreeSet<_>>() == expected), "{id}");
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
fn inventory(run: &RunContext) -> Vec<String> {
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
                .map(|g| {
                    (
                        g.names.clone(),
                        g.base_lr,
                        g.weight_decay,
                        g.momentum,
                        g.factors.keys().cloned().collect::<Vec<_>>(),
                    )
                })
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

fn start(text: &str, folder: &Path) -> Running {
    let options = RunOptions {
        folder: folder.to_owned(),
        device: Some("cpu".into()),
        quiet: true,
        pipeline_text: text.to_owned(),
        ..RunOptions::default()
    };
    Running::start(&plan(text), &options, Arc::default()).unwrap()
}

#[test]
fn a_thousand_random_edits() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings::first();
    let running = start(&settings.text(), &folder.path().join("run"));
    let inbox = Arc::new(Inbox::default());
    let reloader = Rc::new(Reloader::new(&running.context, source(), plan(&settings.text()), inbox.clone(), true));
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
    running.context.set_between(Some(editor.clone()));
    // An edit may end the training (`max_epochs = 1`): it is begun again.
    while editor.state.borrow().done < 1000 {
        let Instance::Engine(engine) = running.context.node(&"engine.trainer".parse().unwrap()).unwrap() else {
            panic!("no trainer")
        };
        engine.run(&running.context).unwrap();
    }
    let state = editor.state.borrow();
    eprintln!("outcomes: {:?}", state.outcomes);
    for outcome in ["applied", "refused", "invalid", "unchanged", "completed"] {
        assert!(state.outcomes.get(outcome).is_some_and(|count| *count >= 10), "{outcome}: {:?}", state.outcomes);
    }
    // The run is what a new one of the same text would be.
    assert!(difference(&reloader.plan(), &plan(&state.text)).is_empty());
    let fresh = start(&state.text, &folder.path().join("fresh"));
    assert_eq!(inventory(&running.context), inventory(&fresh.context));
    let newest = std::fs::read_to_string(folder.path().join("run/pipeline.toml")).unwrap();
    assert!(difference(&plan(&newest), &plan(&state.text)).is_empty(), "the newest version is the one at work");
}

/// Waits for the next snapshot that the watcher puts into the inbox.
fn wait(inbox: &Inbox) -> Snapshot {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        if let Some(edit) = inbox.take().pop() {
            return edit.snapshot;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the watcher saw nothing")
}

fn text_of(snapshot: &Snapshot, path: &Path) -> String {
    snapshot.files[path].clone().unwrap()
}

/// Every way in which editors save, and a parent that is edited, replaced and named anew.
fn watched(options: WatchOptions) {
    let folder = tempfile::tempdir().unwrap();
    let [file, parent, other] = ["child.toml", "parent.toml", "other.toml"].map(|name| folder.path().join(name));
    std::fs::write(&parent, "[vars]\na = 1\n").unwrap();
    std::fs::write(&other, "[vars]\na = 2\n").unwrap();
    std::fs::write(&file, "extends = \"parent.toml\"\n").unwrap();
    let source = PipelineSource { file: file.clone(), profile: None, sets: Vec::new(), base: None };
    let inbox = Arc::new(Inbox::default());
    let trigger = watch::start(source.clone(), source.snapshot(), options, inbox.clone()).unwrap();
    for n in 0..6 {
        let text = format!("extends = \"parent.toml\"\n# {n}\n");
        match n % 3 {
            // In place; through a file of another name; away and back.
            0 => std::fs::write(&file, &text).unwrap(),
            1 => {
                let aside = folder.path().join("aside");
                std::fs::write(&aside, &text).unwrap();
                std::fs::rename(&aside, &file).unwrap();
            }
            _ => {
                std::fs::rename(&file, folder.path().join("child.toml~")).unwrap();
                std::fs::write(&file, &text).unwrap();
            }
        }
        assert_eq!(text_of(&wait(&inbox), &file), text);
    }
    std::fs::write(&parent, "[vars]\na = 3\n").unwrap();
    assert_eq!(text_of(&wait(&inbox), &parent), "[vars]\na = 3\n");
    std::fs::write(&file, "extends = \"other.toml\"\n").unwrap();
    assert_eq!(text_of(&wait(&inbox), &other), "[vars]\na = 2\n");
    std::fs::write(&other, "[vars]\na = 4\n").unwrap();
    assert_eq!(text_of(&wait(&inbox), &other), "[vars]\na = 4\n");
    // The same content is no edit, asked for or not; a reload that is asked for is read all the same.
    std::fs::write(&other, "[vars]\na = 4\n").unwrap();
    trigger.reload();
    let snapshot = wait(&inbox);
    assert_eq!(text_of(&snapshot, &other), "[vars]\na = 4\n");
    assert!(inbox.take().is_empty());
    // A file that goes is told of once it does not come back.
    std::fs::remove_file(&file).unwrap();
    assert!(wait(&inbox).files[&file].is_err());
}

#[test]
fn edits_are_seen_however_they_are_saved() {
    watched(WatchOptions::default());
}

#[test]
fn edits_are_seen_by_polling() {
    watched(WatchOptions { poll: Some(Duration::from_millis(20)) });
}
