//! Runs that are killed and go on: in the end everything is as if nothing had happened. A few here; many with
//! `cargo xtask soak kills`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value};

use super::program::{Pipe, Said};

/// A pipeline of `tests/kills`, or one that is shipped, with the arguments that make it small.
struct Case {
    name: &'static str,
    file: PathBuf,
    arguments: &'static [&'static str],
}

/// The kinds of moments at which a run is killed; the last is any time.
const KINDS: [&str; 4] = ["write", "target", "nested", "time"];

fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = ["sgd", "evaluator", "accumulate", "augment", "average", "sequence", "nested"];
    let mut cases: Vec<Case> = own
        .into_iter()
        .map(|name| Case { name, file: root.join(format!("tests/kills/{name}.toml")), arguments: &[] })
        .collect();
    let arguments: &[&str] = &[
        "--profile=demo",
        "--set=vars.image_size=64",
        "--set=dataset.train.limit=12",
        "--set=dataset.val.limit=6",
        "--set=engine.trainer.max_epochs=2",
        "--set=engine.trainer.log_interval=1",
        "--set=loader.train.group_by_aspect_ratio=3",
    ];
    cases.push(Case { name: "detection", file: root.join("pipelines/maskrcnn_coco.toml"), arguments });
    cases
}

impl Case {
    /// A folder with the pipeline.
    fn folder(&self) -> Pipe {
        let text = std::fs::read_to_string(&self.file).expect("the pipeline");
        let pipe = Pipe::with("digits.toml", include_str!("digits.toml"));
        pipe.write("case.toml", &text);
        pipe
    }

    /// The command that begins the run or goes on with it.
    fn command(&self, pipe: &Pipe) -> std::process::Command {
        let arguments = ["run", "case.toml", "--device", "cpu", "--quiet", "--out", "run", "--resume", "auto"];
        let mut command = pipe.command(&[&arguments[..], self.arguments].concat());
        command.env_remove("PIPE_TEST_KILL").env_remove("PIPE_TEST_MOMENTS");
        command
    }

    fn ends(&self, pipe: &Pipe, what: &str) {
        let said = Said::of(&mut self.command(pipe));
        assert_eq!(said.status, Some(0), "{}, {what}: {}", self.name, said.stderr);
    }

    /// Sends a signal to a run at a moment of a kind, or at any time.
    fn signal(&self, pipe: &Pipe, signal: &str, kind: &str, whole: &Whole, rng: &mut ChaCha8Rng) -> Ended {
        let mut command = self.command(pipe);
        command.env("PIPE_TEST_SIGNAL", signal).stderr(Stdio::piped());
        let moment = whole.moments.get(kind).map(|count| format!("{kind}:{}", rng.random_range(1..=*count)));
        command.envs(moment.iter().map(|moment| ("PIPE_TEST_KILL", moment)));
        let mut child = command.spawn().expect("the program runs");
        let heard = std::thread::spawn({
            let stderr = child.stderr.take().expect("a pipe");
            move || {
                let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
                let heard = lines.find(|line| line.starts_with("finishing this step")).map(|_| Instant::now());
                lines.for_each(drop);
                heard
            }
        });
        let moment = moment.unwrap_or_else(|| {
            let after = whole.time.mul_f64(rng.random_range(0.0..1.0));
            std::thread::sleep(after);
            let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
            assert!(sent.expect("there is `kill`").success() || child.try_wait().is_ok());
            format!("after {} ms", after.as_millis())
        });
        let status = child.wait().expect("it ends").code();
        let took = heard.join().expect("it was read").map(|heard| heard.elapsed());
        Ended { by_signal: status == if signal == "TERM" { Some(143) } else { None }, moment, took }
    }
}

/// How a run ended to which a signal was sent.
struct Ended {
    /// `false` where it had ended before.
    by_signal: bool,
    moment: String,
    /// From the moment at which it said that it had heard the signal to its end.
    took: Option<Duration>,
}

/// A run that nothing happened to.
struct Whole {
    end: BTreeMap<String, Vec<u8>>,
    moments: BTreeMap<String, u64>,
    time: Duration,
}

impl Whole {
    fn of(case: &Case) -> Whole {
        let pipe = case.folder();
        let began = Instant::now();
        let said = Said::of(case.command(&pipe).env("PIPE_TEST_MOMENTS", "moments"));
        assert_eq!(said.status, Some(0), "{}: {}", case.name, said.stderr);
        let time = began.elapsed();
        let text = pipe.read("moments");
        let counts = text.lines().filter_map(|line| line.split_once(' '));
        let moments = counts.map(|(kind, count)| (kind.to_owned(), count.parse().expect("a number")));
        let moments = moments.filter(|(kind, count)| *count > 0 && KINDS.contains(&kind.as_str())).collect();
        let end = end(&pipe);
        let weights =
            end.keys().filter(|name| name.starts_with("checkpoints/") && name.ends_with(".safetensors")).count();
        assert!(end.contains_key("records.jsonl") && weights >= 2, "{:?}", end.keys());
        Whole { end, moments, time }
    }
}

/// All that a run leaves, less what differs between two runs that are the same: times, and the length of times in files.
fn end(pipe: &Pipe) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let run = pipe.path("run");
    files(&run, &run, &mut all);
    let scalars = pipe_history::Scalars::open(&run).expect("scalars");
    for tag in scalars.tags() {
        let mut points = scalars.points(tag, 0..u64::MAX).expect("points");
        points.iter_mut().for_each(|point| point.time = 0.0);
        all.insert(format!("scalars of {tag}"), format!("{points:?}").into_bytes());
    }
    all.into_iter().filter_map(|(name, bytes)| Some((name.clone(), without_times(&name, bytes)?))).collect()
}

fn files(root: &Path, folder: &Path, into: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(root, &path, into);
        } else {
            let name = path.strip_prefix(root).expect("inside").display().to_string();
            into.insert(name, std::fs::read(&path).expect("a file"));
        }
    }
}

fn without_times(name: &str, bytes: Vec<u8>) -> Option<Vec<u8>> {
    if name.ends_with(".safetensors") {
        return Some(bytes);
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    // A line each life.
    if name.starts_with("pipelines/") {
        return None;
    }
    if name.ends_with(".jsonl") {
        let lines = text.lines().map(|line| {
            let mut record: Map<String, Value> =
                serde_json::from_str(line).unwrap_or_else(|e| panic!("{name}: {e}: {line}"));
            record.remove("time");
            Value::Object(record).to_string() + "\n"
        });
        return Some(lines.collect::<String>().into_bytes());
    }
    if name.ends_with("state.json") {
        let mut state: Value = serde_json::from_str(&text).expect("JSON");
        let table = state.as_object_mut().expect("a table");
        table.remove("time");
        table.remove("records");
        table["history"].as_object_mut().expect("lengths").remove("media");
        // The files that they count have times in them.
        let nodes = table["nodes"].as_object_mut().expect("nodes");
        nodes.retain(|node, _| !node.starts_with("sink."));
        return Some(state.to_string().into_bytes());
    }
    if name.ends_with("best.json") || name.starts_with("scalars of ") {
        return Some(bytes);
    }
    None
}

/// How many kills of each pipeline, and of which.
fn wanted() -> (usize, Vec<Case>) {
    let set = |name: &str| std::env::var(name).ok();
    let chosen = set("PIPE_SOAK_CASES").unwrap_or_else(|| "sgd,evaluator".into());
    let cases = cases().into_iter().filter(|case| chosen == "all" || chosen.split(',').any(|name| name == case.name));
    (set("PIPE_SOAK_KILLS").and_then(|text| text.parse().ok()).unwrap_or(4), cases.collect())
}

#[test]
fn a_run_that_is_killed_goes_on_as_if_nothing_had_happened() {
    disturb("KILL");
}

#[test]
fn a_run_that_is_asked_to_end_goes_on_as_if_nothing_had_happened() {
    disturb("TERM");
}

fn disturb(signal: &str) {
    let (kills, cases) = wanted();
    assert!(!cases.is_empty(), "PIPE_SOAK_CASES names no pipeline");
    let mut wrong = Vec::new();
    let (took, line) = if signal == "TERM" { (" longest to its end |", "---:|") } else { ("", "") };
    println!(
        "| pipeline | SIG{signal} | in a write | between targets | in a nested engine | at any time | differences |{took}"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|{line}");
    for case in cases {
        let whole = Whole::of(&case);
        let mut rng = ChaCha8Rng::seed_from_u64(kills as u64);
        let (mut counts, mut differences, mut longest) = (BTreeMap::new(), 0, Duration::ZERO);
        for number in 0..kills {
            let kind = KINDS[number % KINDS.len()];
            let pipe = case.folder();
            let Ended { by_signal, moment, took } = case.signal(&pipe, signal, kind, &whole, &mut rng);
            longest = longest.max(took.unwrap_or_default());
            let kind = if whole.moments.contains_key(kind) { kind } else { "time" };
            *counts.entry(kind).or_insert(0) += usize::from(by_signal);
            case.ends(&pipe, &moment);
            let difference = difference(&whole.end, &end(&pipe));
            if let Some(difference) = difference {
                differences += 1;
                wrong.push(format!("{}, SIG{signal} at {moment}: {difference}", case.name));
                eprintln!("{}", wrong.last().expect("one"));
            }
        }
        let count = |kind: &str| counts.get(kind).copied().unwrap_or_default();
        let [write, target, nested, time] = KINDS.map(count);
        let all = write + target + nested + time;
        let took = if signal == "TERM" { format!(" {:.1} s |", longest.as_secs_f64()) } else { String::new() };
        println!("| {} | {all} | {write} | {target} | {nested} | {time} | {differences} |{took}", case.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The first difference of two ends, if there is one.
fn difference(expected: &BTreeMap<String, Vec<u8>>, found: &BTreeMap<String, Vec<u8>>) -> Option<String> {
    if let Some(name) = expected.keys().find(|name| !found.contains_key(*name)) {
        return Some(format!("{name} is missing"));
    }
    if let Some(name) = found.keys().find(|name| !expected.contains_key(*name)) {
        return Some(format!("{name} is too many"));
    }
    let (name, bytes) = expected.iter().find(|(name, bytes)| found[*name] != **bytes)?;
    let [a, b] = [bytes, &found[name]].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let at = a.lines().zip(b.lines()).position(|(a, b)| a != b);
    let line =
        |text: &str| at.and_then(|at| text.lines().nth(at)).unwrap_or_default().chars().take(600).collect::<String>();
    let (first, second) = (line(&a), line(&b));
    let (m, n) = (a.lines().count(), b.lines().count());
    Some(format!("{name} differs ({m} lines, {n} lines), line {at:?}: {first}\n    {second}"))
}
