//! What a run keeps of where it comes from, with nothing in its file that asks for it.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use super::program::{Pipe, Said};
use super::signals::start;

fn git(pipe: &Pipe, arguments: &[&str]) {
    let mut command = Command::new("git");
    command.current_dir(pipe.folder()).args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(arguments);
    let done = command.output().expect("git");
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn changes_sources_and_surroundings_are_kept_without_secrets() {
    let pipe = Pipe::digits(
        "life.toml",
        "engine.trainer.max_iterations = 2\n[handler.checkpoint]\ntype = \"checkpoint\"\n[[on]]\nevent = \"engine.trainer:completed\"\nrun = [\"handler.checkpoint\"]\n",
    );
    pipe.write("augment.py", "degrees = 10\n");
    git(&pipe, &["init", "--quiet"]);
    git(&pipe, &["add", "augment.py", "digits.toml"]);
    git(&pipe, &["commit", "--quiet", "-m", "first"]);
    pipe.write("augment.py", "degrees = 20\napi_key = \"abcdef-0123\"\n# hush-hush-42\n");
    let run = |more: &[&str]| {
        let mut command = pipe.command(&[&["run", "life.toml", "--quiet"], more].concat());
        let said = Said::of(command.env("MY_TOKEN", "hush-hush-42").env("MY_AFFAIR", "mine"));
        assert_eq!(said.status, Some(0), "{}", said.stderr);
    };
    run(&["--out", "run"]);
    assert_eq!(pipe.names("run/captured"), ["1"]);
    assert_eq!(pipe.names("run/captured/1"), ["changes.patch", "environment.json", "untracked"]);
    // What the run itself left is no source.
    assert_eq!(pipe.names("run/captured/1/untracked"), ["life.toml"]);
    assert_eq!(pipe.read("run/captured/1/untracked/life.toml"), pipe.read("life.toml"));
    let patch = pipe.read("run/captured/1/changes.patch");
    assert!(patch.contains("-degrees = 10\n+degrees = 20\n+api_key = \"<secret>\"\n+# <secret>\n"), "{patch}");
    let environment = pipe.read("run/captured/1/environment.json");
    assert!(!environment.contains("hush") && !environment.contains("mine"), "{environment}");
    let environment = pipe.json("run/captured/1/environment.json");
    assert_eq!(environment["variables"]["OMP_NUM_THREADS"], "1");
    let libraries = environment["libraries"].as_array().expect("a list");
    let named =
        |name: &str| libraries.iter().find(|library| library["path"].as_str().is_some_and(|path| path.contains(name)));
    for name in ["libtorch_cpu", "/pipe"] {
        assert!(named(name).is_some_and(|library| library["build_id"].is_string()), "{libraries:?}");
    }
    // The next life of the run has its own.
    git(&pipe, &["checkout", "--quiet", "augment.py"]);
    run(&["--resume", "run", "--set", "engine.trainer.max_iterations=3"]);
    assert_eq!(pipe.names("run/captured"), ["1", "2"]);
    assert_eq!(pipe.names("run/captured/2"), ["environment.json", "untracked"]);
    // What is run once more says what is not as it was: here the sources, before and now.
    let again = |run: &str| pipe.ok(&["runs", "clone", run, "--as-was"]).stderr;
    assert!(again("run").contains("not as it was: its sources had changes that no commit has"));
    run(&["--out", "clean"]);
    pipe.write("augment.py", "degrees = 30\n");
    assert!(again("clean").contains("not as it was: the sources have changes now that no commit has"));
}

#[test]
fn a_run_says_how_fast_it_trained_and_how_long_it_waited() {
    let pipe = Pipe::digits("life.toml", "");
    pipe.ok(&["run", "life.toml", "--quiet", "--out", "run"]);
    let records = pipe.scalars("run");
    let last = records.last().map(|record| (record["step"].as_u64(), record["epoch"].as_u64()));
    let machine = pipe_history::Scalars::open(&pipe.path("run/machine")).expect("scalars");
    for (tag, most) in [("images_per_second", f64::INFINITY), ("data_wait_percent", 100.0)] {
        let point = machine.curve(tag).expect("readable").unwrap_or_else(|| panic!("no {tag}")).last;
        assert!(point.value > 0.0 && point.value < most, "{tag}: {point:?}");
        assert_eq!(Some((Some(point.step), Some(point.epoch))), last, "{tag}");
    }
}

/// The threads that capture what a run does, by the names that the system has of them.
const CAPTURING: [&str; 4] = ["heartbeat", "history", "machine", "requests"];
/// The one that writes down what it comes from: once, in milliseconds, so that it may be gone before it is looked at.
const ONCE: &str = "captured";

/// Threads by their places below `/proc`: the name, and seconds of processors.
type Threads = BTreeMap<String, (String, f64)>;

/// Seconds of processors that a process has had, of threads that are gone too (proc(5), `stat`), and those of each of its threads.
fn processors(process: u32) -> Option<(f64, Threads)> {
    let read = |path: String| fs::read_to_string(path).ok();
    let stat = read(format!("/proc/{process}/stat"))?;
    let ticks = |at: usize| stat.rsplit_once(')')?.1.split_whitespace().nth(at)?.parse::<f64>().ok();
    let all = (ticks(11)? + ticks(12)?) / 100.0;
    let mut threads = Threads::new();
    for thread in fs::read_dir(format!("/proc/{process}/task")).ok()?.flatten() {
        let path = thread.path().display().to_string();
        let nanoseconds =
            read(format!("{path}/schedstat")).and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
        if let Some((name, nanoseconds)) = read(format!("{path}/comm")).zip(nanoseconds) {
            threads.insert(path, (name.trim().to_owned(), nanoseconds / 1e9));
        }
    }
    Some((all, threads))
}

/// With `PIPE_CAPTURE_RUN`, the arguments of a `pipe run` in this repository, it is that run which is looked at, to its end.
#[test]
fn capture_takes_hardly_any_time_of_the_processors() {
    let own = std::env::var("PIPE_CAPTURE_RUN").ok();
    let pipe = Pipe::digits("life.toml", "engine.trainer.max_epochs = 1000000\n");
    let arguments = own.as_deref().unwrap_or("life.toml").split_whitespace();
    let out = pipe.path("run").display().to_string();
    let arguments: Vec<&str> = ["run"].into_iter().chain(arguments).chain(["--quiet", "--out", &out]).collect();
    let mut command = pipe.command(&arguments);
    if own.is_some() {
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
    }
    let mut child = start(&mut command);
    let (mut began, patience) = (Instant::now(), Duration::from_secs(if own.is_some() { 36_000 } else { 7 }));
    let (mut all, mut threads) = (0.0, Threads::new());
    while began.elapsed() < patience && child.try_wait().expect("a process").is_none() {
        let Some((seconds, seen)) = processors(child.id()) else { continue };
        all = seconds;
        threads.extend(seen);
        if !threads.values().any(|(name, _)| name == "history") {
            // It has not begun to train.
            began = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let seconds = began.elapsed().as_secs_f64();
    let ended = child.try_wait().expect("a process");
    assert_eq!(ended.map(|status| status.success()), own.map(|_| true), "how it ended");
    let _ = child.kill();
    let _ = child.wait();
    let mut of: BTreeMap<&str, f64> = BTreeMap::new();
    for (name, seconds) in threads.values() {
        *of.entry(name).or_default() += seconds;
    }
    // What a run comes from is taken once, however long the run is.
    let once = of.remove(ONCE).unwrap_or_default();
    of.retain(|name, _| CAPTURING.contains(name));
    assert_eq!(of.keys().copied().collect::<Vec<_>>(), CAPTURING, "the names of threads");
    let share = 100.0 * of.values().sum::<f64>() / all;
    println!(
        "capture took {share:.3} % of {all:.1} s of processors, in {seconds:.0} s: {of:.3?} s; and once {once:.3} s"
    );
    assert!(share < 5.0 && once < 2.0, "{share} % of {all} s: {of:?}; once {once}");
}
