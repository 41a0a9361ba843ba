"""Runs a pipeline with the trackers' sinks against a real MLflow server and ClearML's own importer, and compares what they have.

`soak.py PIPE`: PIPE is the program. Needs `pip install mlflow clearml`. `cargo xtask soak trackers --python EXE` calls it.
"""

import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "../../..")
SINKS = """
[sink.clearml]
type = "clearml"
offline = true
[sink.mlflow]
type = "mlflow"
timeout = "1s"
url = "URL"
"""


def server(folder, port):
    """MLflow's server, once it answers."""
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
               "--artifacts-destination", f"{folder}/artifacts", "--serve-artifacts", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    log = open(os.path.join(folder, "server.log"), "wb")
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    for _ in range(240):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
            return process
        except OSError:
            time.sleep(0.5)
    sys.exit(f"the server does not start, see {folder}/server.log")


def records(run):
    with open(os.path.join(run, "records.jsonl")) as file:
        lines = [json.loads(line) for line in file]
    return sorted((one["tag"], one["step"], float(one["value"])) for one in lines if one["kind"] == "scalar")


def check(what, true):
    print(("ok     " if true else "FAILED ") + what, flush=True)
    if not true:
        sys.exit(1)


def compare_mlflow(client, run, status):
    with open(os.path.join(run, "trackers/sink.mlflow.json")) as file:
        known = json.load(file)["known"]["run_id"]
    there = client.get_run(known)
    values = [(key, one.step, one.value) for key in there.data.metrics for one in client.get_metric_history(known, key)]
    same = lambda a, b: a[:2] == b[:2] and math.isclose(a[2], b[2], rel_tol=1e-12)
    expected = records(run)
    check(f"MLflow has the {len(expected)} numbers", len(values) == len(expected) and all(map(same, sorted(values), expected)))
    check(f"it says {there.info.status}", there.info.status == status)
    check("parameters", there.data.params["loader.train.batch_size"] == "32" and len(there.data.params) > 40)
    images = [one.path for one in client.list_artifacts(known, "images")]
    check(f"{len(images)} files of images", any(path.endswith(".png") for path in images))
    kept = client.download_artifacts(known, "pipeline.toml", tempfile.mkdtemp())
    with open(kept) as one, open(os.path.join(run, "pipeline.toml")) as other:
        check("the pipeline", one.read() == other.read())
    return known


def main():
    pipe, folder = os.path.abspath(sys.argv[1]), tempfile.mkdtemp(prefix="trackers")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    read = lambda name: open(os.path.join(ROOT, "tests/it", name)).read()
    tracked = 'extends = "digits.toml"\n' + read("tracked.toml") + SINKS.replace("URL", f"http://127.0.0.1:{port}")
    for name, content in (("digits.toml", read("digits.toml")), ("tracked.toml", tracked)):
        with open(os.path.join(folder, name), "w") as file:
            file.write(content)
    run = lambda *more: subprocess.run([pipe, "run", "tracked.toml", "--device", "cpu", *more], cwd=folder, capture_output=True, text=True)
    out = os.path.join(folder, "run")
    ended = run("--out", "run")
    check("a run whose server is away ends well and says what is unsent", ended.returncode == 0 and "still unsent" in ended.stderr)
    process = server(folder, port)
    try:
        import mlflow

        mlflow.set_tracking_uri(f"http://127.0.0.1:{port}")
        client = mlflow.MlflowClient()
        wait = ("--set", 'sink.mlflow.timeout="60s"')
        check("a resume of it", run("--resume", "run", *wait).returncode == 0)
        first = compare_mlflow(client, out, "FINISHED")
        check("a longer resume", run("--resume", "run", "--set", "engine.trainer.max_epochs=3", *wait).returncode == 0)
        check("it goes on in the same MLflow run", compare_mlflow(client, out, "FINISHED") == first)
        back = sorted(os.listdir(os.path.join(out, "checkpoints")))[0]
        check("a run that goes back", run("--resume", f"run/checkpoints/{back}", "--in-place", *wait).returncode == 0)
        check("it is another MLflow run", compare_mlflow(client, out, "FINISHED") != first)
        check("the former one is deleted", client.get_run(first).info.lifecycle_stage == "deleted")
    finally:
        os.killpg(process.pid, 15)
        process.wait()
    recorder = [sys.executable, os.path.join(HERE, "record.py"), "--import", os.path.join(out, "clearml.zip"), "--whole"]
    imported = subprocess.run(recorder, capture_output=True, text=True)
    check("ClearML's SDK imports the session", imported.returncode == 0)
    requests = json.loads(imported.stdout)
    events = [event for one in requests if one["call"] == "events.add_batch" for event in one["body"]]
    numbers = sorted((f"{e['metric']}/{e['variant']}", e["iter"], e["value"]) for e in events if e["type"] == "training_stats_scalar")
    check(f"and sends the {len(numbers)} numbers", numbers == records(out))
    images = sum(event["type"] == "training_debug_image" for event in events)
    files = sum(one["type"] == "multipart/form-data" for one in requests)
    check(f"{images} images, {files} files", 0 < images <= files)
    calls = {one["call"] for one in requests}
    check("the models and the end", {"models.create", "tasks.completed"} <= calls)


main()
