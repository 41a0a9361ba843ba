//! `pipe submit`: what is written for each engine, what is refused, and a run that a real SLURM stops and takes up again.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use pipe_test_support::{python, skip};
use serde_json::{Value, json};

use super::program::Pipe;
use super::signals::wait_for;

const PROFILES: &str = r#"
[pipeline]
name = "it is digits"

[submit.cluster]
type = "slurm"
partition = "gpu"
account = "vision"
time = "24h"
nodes = 2
gpus_per_node = 4
cpus_per_task = 8
memory = "64G"
modules = ["cuda/13.0"]
setup = ["source ~/env/bin/activate"]
options = ["--exclusive"]
env = { NCCL_DEBUG = "WARN", WORDS = "two words" }

[submit.elastic]
type = "slurm"
nodes = 2
gpus_per_node = 4
launcher = "torchrun"
requeue = false

[submit.kubernetes]
image = "registry/pipe:1"
namespace = "vision"
directory = "/data/work"
gpus = 2
memory = "64Gi"
volumes = { "/data" = "coco", "/runs" = "runs" }
node_selector = { gpu = "h100" }
queue = "team"

[submit.trainer]
type = "kubernetes"
kind = "trainjob"
image = "registry/pipe:1"
nodes = 2
gpus = 4
env = { NCCL_DEBUG = "WARN" }
volumes = { "/data" = "coco" }
node_selector = { gpu = "h100" }
service_account = "trainer"
queue = "team"

[submit.local]
setup = ["ulimit -c 0"]
"#;

fn pipe() -> Pipe {
    Pipe::digits("digits_here.toml", PROFILES)
}

/// What would be submitted, without the folder of this test.
fn written(pipe: &Pipe, more: &[&str]) -> String {
    let said = pipe.ok(&[&["submit", "digits_here.toml", "--dry-run", "--out", "runs/one"], more].concat());
    let here = pipe.folder().canonicalize().expect("a folder");
    said.stdout.replace(&here.display().to_string(), "/here").replace(env!("CARGO_BIN_EXE_pipe"), "/bin/pipe")
}

#[test]
fn jobs_are_written_for_each_engine() {
    let pipe = pipe();
    insta::assert_snapshot!("slurm", written(&pipe, &["--to", "cluster", "--set", "optimizer.sgd.lr=0.1"]));
    let array = ["--array", "pipeline.seed=1,2,3", "--at-most", "2"];
    insta::assert_snapshot!("torchrun_array", written(&pipe, &[&["--to", "elastic"], &array[..]].concat()));
    insta::assert_snapshot!("kubernetes", written(&pipe, &["--to", "kubernetes", "--devices", "all"]));
    insta::assert_snapshot!("kubernetes_array", written(&pipe, &[&["--to", "kubernetes"], &array[..]].concat()));
    insta::assert_snapshot!("trainjob", written(&pipe, &["--to", "trainer"]));
    insta::assert_snapshot!("local", written(&pipe, &["--to", "local"]));
    assert!(!pipe.path("runs").exists(), "nothing was made");
    // What a shell would stumble over.
    for name in ["cluster", "local"] {
        pipe.write("job.sh", &written(&pipe, &["--to", name]));
        let checked = Command::new("bash").arg("-n").arg(pipe.path("job.sh")).status().expect("bash runs");
        assert!(checked.success());
    }
}

#[test]
fn jobs_of_kubernetes_are_what_its_schemas_ask_for() {
    let Some(python) = python() else { return skip!("PIPE_TEST_PYTHON names no Python") };
    let has = Command::new(&python).args(["-c", "import kubernetes_validate"]).stderr(Stdio::null()).status();
    if !has.is_ok_and(|status| status.success()) {
        return skip!("the Python of PIPE_TEST_PYTHON has no kubernetes-validate");
    }
    let pipe = pipe();
    let check = "import sys, yaml, kubernetes_validate as v; v.validate(yaml.safe_load(open(sys.argv[1])), '1.33', strict=True)";
    let valid = |text: &str| {
        pipe.write("job.yaml", text);
        let output = Command::new(&python).args(["-c", check]).arg(pipe.path("job.yaml")).output().expect("it runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let one = written(&pipe, &["--to", "kubernetes"]);
    for text in [&one, &written(&pipe, &["--to", "kubernetes", "--array", "pipeline.seed=1,2"])] {
        assert_eq!(valid(text), (true, String::new()), "{text}");
    }
    assert!(!valid(&one.replace("backoffLimit: 6", "backoffLimit: many")).0, "it looks");
}

#[test]
fn train_jobs_are_what_the_models_of_kubeflow_ask_for() {
    let Some(python) = python() else { return skip!("PIPE_TEST_PYTHON names no Python") };
    let has = Command::new(&python).args(["-c", "import kubeflow_trainer_api"]).stderr(Stdio::null()).status();
    if !has.is_ok_and(|status| status.success()) {
        return skip!("the Python of PIPE_TEST_PYTHON has no kubeflow-trainer-api");
    }
    let pipe = pipe();
    // The models leave out what they do not know: all of the file has to come back.
    let check = "
import sys, yaml
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob as TrainJob
text = yaml.safe_load(open(sys.argv[1]))
back = TrainJob.from_dict(text).to_dict()
assert back == text, back
";
    let valid = |text: &str| {
        pipe.write("job.yaml", text);
        let output = Command::new(&python).args(["-c", check]).arg(pipe.path("job.yaml")).output().expect("it runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let text = written(&pipe, &["--to", "trainer"]);
    assert_eq!(valid(&text), (true, String::new()), "{text}");
    assert!(!valid(&text.replace("numNodes: 2", "numNodes: many")).0, "it looks");
    assert!(!valid(&text.replace("numNodes", "nodes")).0, "it knows names");
}

/// A job that waits until there is a file `go`.
const WAITS: &str = r#"
[optimizer.sgd]
lr = "${env:PIPE_IT_RATE}"

[submit.here]
type = "local"
setup = ["while [ ! -e go ]; do sleep 0.05; done"]
env = { PIPE_IT_RATE = "0.03" }
"#;

fn done(pipe: &Pipe, run: &str) -> bool {
    let file = format!("{run}/run.json");
    pipe.path(&file).exists() && pipe.json(&file)["status"] == "done"
}

#[test]
fn what_was_submitted_runs_whatever_becomes_of_its_files() {
    let pipe = Pipe::digits("here.toml", WAITS);
    let submit = ["submit", "here.toml", "--to", "here", "--out", "runs/one", "--set", "engine.trainer.max_epochs=1"];
    let said = super::program::Said::of(pipe.command(&submit).env("PIPE_IT_RATE", "0.02"));
    assert_eq!(said.status, Some(0), "{}", said.stderr);
    // It is a run that has not begun.
    let listed =
        || -> Value { serde_json::from_str(&pipe.ok(&["runs", "list", "--format", "json"]).stdout).expect("JSON") };
    let all = listed();
    assert_eq!((&all[0]["status"], &all[0]["pipeline"]), (&json!("submitted"), &json!("digits")), "{all}");
    assert_eq!((&all[0]["job"]["engine"], &all[0]["job"]["state"]), (&json!("local"), &json!("RUNNING")));
    let text = pipe.ok(&["runs", "list", "--where", "state = RUNNING"]).stdout;
    assert!(text.contains("submitted") && text.contains("RUNNING"), "{text}");
    let kept = pipe.run(&["runs", "rm", "runs/one"]);
    assert!(kept.status == Some(1) && kept.stderr.contains("`pipe runs stop` it first"), "{}", kept.stderr);
    assert!(pipe.run(&["runs", "show", "latest"]).stderr.contains("there is no run in"));
    for name in ["here.toml", "digits.toml"] {
        pipe.write(name, "this is [no pipeline\n");
    }
    pipe.write("go", "");
    wait_for("a run", || done(&pipe, "runs/one"));
    let own = pipe.read("runs/one/pipeline.toml");
    assert!(own.contains("lr = 0.03\n") && own.contains("max_epochs = 1\n"), "{own}");
    let info = pipe.json("runs/one/run.json");
    let here = pipe.folder().canonicalize().expect("a folder");
    assert_eq!(info["pipeline_file"], json!(here.join("here.toml")));
    assert!(pipe.read("runs/one/pipelines/origins.json").contains("here.toml:"));
    assert_eq!(listed()[0]["job"]["state"], Value::Null, "nobody is asked about what is done");

    // Once more, with another option, by a profile of elsewhere.
    let again = ["runs", "clone", "runs/one", "--set", "pipeline.seed=5", "--to", "there"];
    let none = pipe.run(&again);
    assert!(none.status == Some(2) && none.stderr.contains("there is no [submit.there]"), "{}", none.stderr);
    pipe.write("clusters.toml", "[submit.there]\ntype = \"local\"\nenv = { THERE = \"1\" }\n");
    let second = pipe.ok(&[&again[..], &["--profiles", "clusters.toml"]].concat()).stdout.trim().to_owned();
    assert!(pipe.read(&format!("{second}/job/job.sh")).contains("export THERE=1"));
    wait_for("a clone", || done(&pipe, &second));
    let own = pipe.read(&format!("{second}/pipeline.toml"));
    assert!(own.contains("seed = 5\n") && own.contains("lr = 0.03\n"), "{own}");
}

#[test]
fn a_job_keeps_no_secret() {
    let pipe = Pipe::digits(
        "here.toml",
        "\n[sink.mlflow]\ntype = \"mlflow\"\nurl = \"http://127.0.0.1:9\"\ntoken = \"swordfish-7\"\n",
    );
    let said = pipe.run(&["submit", "here.toml", "--to", "local", "--out", "runs/one"]);
    assert!(said.status == Some(2) && said.stderr.contains("a secret stands in here.toml"), "{}", said.stderr);
    assert!(!said.stderr.contains("swordfish") && !pipe.path("runs").exists());
}

#[test]
fn what_is_wrong_is_found_before_anything_is_submitted() {
    let pipe = pipe();
    let refused = |more: &[&str]| {
        let said = pipe.run(&[&["submit", "digits_here.toml", "--out", "runs/one"], more].concat());
        assert_eq!(said.status, Some(2), "{}", said.stderr);
        said.stderr
    };
    assert!(refused(&["--to", "moon"]).contains("there is no [submit.moon] in the file, and it is none of slurm"));
    let array = refused(&["--to", "local", "--array", "optimizer.sgd.lr=0.1,fast"]);
    assert!(array.contains("optimizer.sgd.lr"), "{array}");
    assert!(refused(&["--to", "local", "--array", "pipeline.seed"]).contains("write OPTION=VALUE,VALUE"));
    pipe.write(
        "digits_here.toml",
        "extends = \"digits.toml\"\n[submit.cluster]\ntype = \"slurm\"\npartitions = \"gpu\"\nnodes = 0\n[submit.other]\ntype = \"slum\"\n",
    );
    insta::assert_snapshot!("mistakes", refused(&["--to", "cluster"]));
    assert!(!pipe.path("runs").exists());
    // A run has nothing of it.
    pipe.write("digits_here.toml", &format!("extends = \"digits.toml\"\n{PROFILES}"));
    pipe.ok(&["run", "digits_here.toml", "--quiet", "--out", "run", "--set", "engine.trainer.max_epochs=1"]);
    assert!(!pipe.read("run/pipeline.toml").contains("submit"));
}

#[test]
fn a_local_job_outlives_its_terminal() {
    let pipe = pipe();
    let said = pipe.ok(&["submit", "digits_here.toml", "--to", "local", "--out", "runs/one", "--follow"]);
    assert!(said.stdout.contains("runs/one") && said.stderr.contains("submitted to local: job "), "{}", said.stderr);
    assert_eq!(pipe.json("runs/one/run.json")["status"], "done");
    let jobs = |more: &[&str]| -> Value {
        let said = pipe.ok(&[&["runs", "jobs", "--format", "json"], more].concat());
        serde_json::from_str(&said.stdout).expect("JSON")
    };
    assert_eq!(jobs(&[]), json!([]));
    let all = jobs(&["--all"]);
    let known = (&all[0]["engine"], &all[0]["status"], &all[0]["state"]);
    assert_eq!(known, (&json!("local"), &json!("done"), &Value::Null));
    let endless = ["--out", "runs/endless", "--set", "engine.trainer.max_epochs=1000000"];
    pipe.ok(&[&["submit", "digits_here.toml", "--to", "local"], &endless[..]].concat());
    wait_for("a run", || pipe.path("runs/endless/run.json").exists());
    assert_eq!(jobs(&[])[0]["status"], "running");
    assert!(pipe.ok(&["runs", "stop", "runs/endless"]).stderr.contains("was asked to save a checkpoint and end"));
    wait_for("its end", || pipe.json("runs/endless/run.json")["status"] == "interrupted");
    let array = ["--array", "pipeline.seed=1,2", "--out", "runs/two"];
    pipe.ok(&[&["submit", "digits_here.toml", "--to", "local"], &array[..]].concat());
    wait_for("two runs", || ["runs/two/0", "runs/two/1"].into_iter().all(|run| done(&pipe, run)));
    assert!(pipe.read("runs/two/1/job/job.out").contains("epoch"));
    assert_ne!(pipe.scalars("runs/two/0"), pipe.scalars("runs/two/1"));
}

/// A SLURM of this machine alone, in a folder.
struct Slurm {
    folder: tempfile::TempDir,
    daemons: Vec<Child>,
}

impl Drop for Slurm {
    fn drop(&mut self) {
        for daemon in self.daemons.iter_mut().rev() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

fn there(program: &str) -> Option<PathBuf> {
    let folders = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
    folders.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.exists())
}

impl Slurm {
    /// None where it is not installed, or this is not root.
    fn start() -> Option<Slurm> {
        let programs = ["munged", "slurmctld", "slurmd", "sbatch"].map(there);
        let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
        let [Some(munged), Some(slurmctld), Some(slurmd), Some(_)] = programs.clone() else { return None };
        if !root {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        for name in ["state", "spool", "munge"] {
            std::fs::create_dir(path(name)).expect("a folder");
        }
        let key: Vec<u8> = (0..128u8).map(|at| at.wrapping_mul(37)).collect();
        std::fs::write(path("munge/key"), key).expect("a key");
        run("chmod", &["-R", "go-rwx", &path("munge").display().to_string()]);
        run("chmod", &["go+rx", &folder.path().display().to_string()]);
        let host = String::from_utf8(Command::new("hostname").arg("-s").output().expect("hostname runs").stdout);
        let host = host.expect("a name").trim().to_owned();
        let [first, second] = [free_port(), free_port()];
        let at = folder.path().display();
        let conf = format!(
            "ClusterName=it\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={first}\nSlurmdPort={second}\nAuthType=auth/munge\n\
             AuthInfo=socket={at}/munge/socket\nSlurmUser=root\nSlurmdUser=root\nStateSaveLocation={at}/state\nSlurmdSpoolDir={at}/spool\n\
             SlurmctldPidFile={at}/ctld.pid\nSlurmdPidFile={at}/d.pid\nSlurmctldLogFile={at}/ctld.log\nSlurmdLogFile={at}/d.log\n\
             ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nSelectType=select/cons_tres\nSelectTypeParameters=CR_Core\n\
             MpiDefault=none\nReturnToService=2\nJobRequeue=1\nMinJobAge=600\nSchedulerParameters=batch_sched_delay=1,sched_interval=2\n\
             NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000\nPartitionName=all Nodes={host} Default=YES State=UP\n"
        );
        std::fs::write(path("slurm.conf"), conf).expect("written");
        let mut slurm = Slurm { folder, daemons: Vec::new() };
        let socket = format!("--socket={}", slurm.path("munge/socket"));
        let (key, pid) = (slurm.path("munge/key"), slurm.path("munge/pid"));
        let (log, seed) = (slurm.path("munge/log"), slurm.path("munge/seed"));
        let own = [
            format!("--key-file={key}"),
            format!("--pid-file={pid}"),
            format!("--log-file={log}"),
            format!("--seed-file={seed}"),
        ];
        slurm.daemon(Command::new(munged).args(["--foreground", "--force", &socket]).args(own));
        wait_for("munge", || Path::new(&slurm.path("munge/socket")).exists());
        slurm.daemon(Command::new(slurmctld).arg("-D"));
        slurm.daemon(Command::new(slurmd).arg("-D"));
        let idle = || slurm.said("sinfo", &["--noheader", "--format=%T"]).contains("idle");
        wait_for("SLURM", idle);
        Some(slurm)
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn daemon(&mut self, command: &mut Command) {
        command
            .env("SLURM_CONF", self.path("slurm.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.daemons.push(command.spawn().expect("a daemon"));
    }

    fn said(&self, program: &str, args: &[&str]) -> String {
        let output = Command::new(program).args(args).env("SLURM_CONF", self.path("slurm.conf")).output();
        String::from_utf8_lossy(&output.expect("it runs").stdout).into_owned()
    }
}

fn run(program: &str, args: &[&str]) {
    assert!(Command::new(program).args(args).status().expect("it runs").success());
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port()
}

const CLUSTER: &str = r#"
[submit.slurm]
warning = "60s"
time = "10m"
program = "PROGRAM"
env = { OMP_NUM_THREADS = "1" }

[dataset.train]
limit = 256

[engine.trainer]
max_epochs = 12

[handler.checkpoint]
type = "checkpoint"

[[on]]
event = "engine.trainer:epoch_completed"
run = ["handler.checkpoint"]

[sweep]
study = "s"
sampler = "random"
[sweep.parameters]
"optimizer.sgd.lr" = { log = [0.01, 0.1] }
[[sweep.objectives]]
metric = "engine.trainer:loss"
direction = "min"
"#;

#[test]
fn slurm_stops_a_run_and_takes_it_up_again() {
    let Some(slurm) = Slurm::start() else {
        skip!("there is no SLURM here, or this is not root");
        return;
    };
    let pipe = Pipe::digits("here.toml", &CLUSTER.replace("PROGRAM", env!("CARGO_BIN_EXE_pipe")));
    let conf = slurm.path("slurm.conf");
    let submit = |more: &[&str]| {
        let said = super::program::Said::of(
            pipe.command(&[&["submit", "here.toml", "--to", "slurm"], more].concat()).env("SLURM_CONF", &conf),
        );
        assert_eq!(said.status, Some(0), "{}", said.stderr);
        said
    };
    let number = |run: &str| {
        let receipt = pipe.json(&format!("{run}/job/submitted.json"));
        receipt["job"].as_str().expect("a job").to_owned()
    };
    // Meanwhile one whose time is almost over when it begins: SLURM looks every half minute.
    let short = ["--set", "submit.slurm.time='1m'", "--set", "engine.trainer.max_epochs=1000000"];
    submit(&[&["--out", "short"], &short[..]].concat());
    // And a sweep whose trials are jobs.
    let sweep =
        ["sweep", "here.toml", "--to", "slurm", "--trials", "2", "--jobs", "2", "--set", "engine.trainer.max_epochs=1"];
    let sweep = pipe.command(&sweep).env("SLURM_CONF", &conf).stderr(Stdio::piped()).spawn().expect("it starts");
    submit(&["--out", "cut"]);
    let job = number("cut");
    wait_for("a checkpoint", || pipe.path("cut/checkpoints").read_dir().is_ok_and(|all| all.count() > 1));
    // As before the time limit: to the processes of the run.
    slurm.said("scancel", &["--signal=USR1", &job]);
    // SLURM holds a job that was put into the queue again for two minutes. Three seconds are enough: in the same second slurmd takes
    // the new life for the one that it was told to end, and refuses it.
    let state = || slurm.said("scontrol", &["show", "job", &job]);
    let mut held: Option<std::time::Instant> = None;
    let start = std::time::Instant::now();
    while !done(&pipe, "cut") {
        let pending = state().contains("JobState=PENDING");
        let since = pending.then(|| *held.get_or_insert_with(std::time::Instant::now));
        if since.is_some_and(|since| since.elapsed() > std::time::Duration::from_secs(3)) {
            slurm.said("scontrol", &["update", &format!("JobId={job}"), "StartTime=now"]);
        }
        let said = || pipe.read(&format!("cut/job/slurm-{job}.out"));
        assert!(start.elapsed() < std::time::Duration::from_secs(100), "{}\n{}", state(), said());
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert!(state().contains("Restarts=1"), "{}", state());
    let output = pipe.read(&format!("cut/job/slurm-{job}.out"));
    assert!(output.contains("resume"), "{output}");
    let whole = pipe.command(&["run", "here.toml", "--quiet", "--out", "whole"]).env("OMP_NUM_THREADS", "1").status();
    assert!(whole.expect("it runs").success());
    let (cut, whole) = (pipe.scalars("cut"), pipe.scalars("whole"));
    assert_eq!(cut.len(), whole.len());
    assert_eq!(cut.iter().zip(&whole).find(|(one, other)| one != other), None);

    let short = || slurm.said("scontrol", &["show", "job", &number("short")]);
    wait_for("the time limit's warning", || short().contains("Restarts=1"));
    assert_eq!(pipe.json("short/run.json")["status"], "interrupted");
    assert!(pipe.path("short/checkpoints").read_dir().is_ok_and(|mut all| all.next().is_some()));
    slurm.said("scancel", &[&number("short")]);

    let swept = sweep.wait_with_output().expect("it ends");
    assert!(swept.status.success(), "{}", String::from_utf8_lossy(&swept.stderr));
    for trial in ["runs/sweeps/s/trial-0000", "runs/sweeps/s/trial-0001"] {
        assert!(
            done(&pipe, trial)
                && slurm.said("scontrol", &["show", "job", &number(trial)]).contains("JobState=COMPLETED")
        );
    }

    // Two runs of an array, and two processes of one run.
    submit(&["--out", "seeds", "--array", "pipeline.seed=1,2", "--set", "engine.trainer.max_epochs=1"]);
    let two = ["--set", "submit.slurm.tasks_per_node=2", "--set", "engine.trainer.max_epochs=1"];
    submit(&[&["--out", "ranks"], &two[..]].concat());
    wait_for("all", || ["seeds/0", "seeds/1", "ranks"].into_iter().all(|run| done(&pipe, run)));
    assert!(pipe.path("ranks/ranks/1/console.log").exists());

    // One that waits is listed, taken out of the queue and put back.
    let held = ["--out", "runs/held", "--set", "submit.slurm.options=['--hold']"];
    submit(&held);
    let asked = |arguments: &[&str]| super::program::Said::of(pipe.command(arguments).env("SLURM_CONF", &conf));
    let stands = || -> (Value, Value) {
        let list: Value = serde_json::from_str(&asked(&["runs", "list", "--format", "json"]).stdout).expect("JSON");
        (list[0]["status"].clone(), list[0]["job"]["state"].clone())
    };
    assert_eq!(stands(), (json!("submitted"), json!("PENDING")));
    for (word, told) in [("stop", "is ended"), ("requeue", "is in the queue again"), ("stop", "is ended")] {
        let said = asked(&["runs", word, "runs/held"]);
        assert!(said.status == Some(0) && said.stderr.contains(told), "{word}: {}", said.stderr);
        if word == "requeue" {
            assert_eq!(stands().1, "PENDING");
        }
    }
}
