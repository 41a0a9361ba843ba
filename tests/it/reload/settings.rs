//! A small pipeline whose values are edited, and slips of the hand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use pipe_coco::{synthetic::DigitsSpec, synthetic::write_digits};
use pipe_plan::Plan;
use pipe_run::{load::Loaded, load::PipelineSource, load::Snapshot};
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

/// The values of a pipeline; every other value is a valid edit.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub seed: u64,
    pub lr: f64,
    pub momentum: f64,
    pub optimizer: &'static str,
    pub scheduler: Option<f64>,
    pub limit: usize,
    pub batch: usize,
    pub workers: usize,
    pub degrees: Option<u32>,
    pub hidden: Option<u32>,
    pub out: u32,
    pub log_interval: u32,
    pub max_epochs: u32,
    pub weight: Option<f64>,
    pub accumulate: u32,
    pub handler: Option<(&'static str, u32)>,
    pub stop: bool,
    pub evaluate: bool,
    pub console: bool,
    pub classes: bool,
}

impl Settings {
    pub fn first() -> Settings {
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

    pub fn text(&self) -> String {
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
        // Other data and transforms than in training are a part of the test.
        text += "\n[checks]\nallow = [\"normalization-differs\"]\n";
        text
    }

    /// One to three other values.
    pub fn edit(&mut self, rng: &mut ChaCha8Rng) {
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
pub fn slip(text: &str, rng: &mut ChaCha8Rng) -> String {
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

pub fn source() -> PipelineSource {
    PipelineSource {
        file: "random.toml".into(),
        profile: None,
        sets: Vec::new(),
        base: None,
        accept: Vec::new(),
        texts: None,
    }
}

pub fn snapshot(text: &str) -> Snapshot {
    let files = BTreeMap::from([(PathBuf::from("random.toml"), Ok(text.to_owned()))]);
    Snapshot { files, ..Snapshot::default() }
}

pub fn load(text: &str) -> Loaded {
    source().load_snapshot(&snapshot(text))
}

pub fn plan(text: &str) -> Plan {
    let loaded = load(text);
    let found = loaded.diagnostics.render_text(&loaded.sources, false);
    loaded.plan.unwrap_or_else(|| panic!("{found}"))
}
