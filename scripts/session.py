"""A real session with `pipe`, as screenshots: three learning rates of the shapes demo, compared; the better one forked at a step; the fork edited
while it is at work; what comes of it looked at on the page, and in a file that `pipe runs export` wrote.

    python3 scripts/session.py --pipe target/release/pipe --out target/session

Needs nothing but Python, Chromium and its driver. The page must be in the program (`cargo xtask setup`). Minutes on two cores."""

import argparse
import base64
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
RATES = [0.0005, 0.0015, 0.005]


class Browser:
    """A window of Chromium, by its WebDriver."""

    def __init__(self):
        self.profile = tempfile.mkdtemp()
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = next(line for line in self.driver.stdout if "started successfully on port" in line)
        self.address = f"http://127.0.0.1:{line.split()[-1].rstrip('.')}"
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", f"--user-data-dir={self.profile}"]
        options = {"goog:chromeOptions": {"args": flags}, "goog:loggingPrefs": {"browser": "ALL"}}
        made = self.ask("POST", "/session", {"capabilities": {"alwaysMatch": {"browserName": "chrome", **options}}})
        self.session = f"/session/{made['sessionId']}"

    def ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"}, method=method)
        return json.load(urllib.request.urlopen(request, timeout=120))["value"]

    def own(self, path, body):
        return self.ask("POST", self.session + path, body)

    def shoot(self, file, url, script=None, size=(1400, 900), dark=False):
        """A picture of an address, after a script."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        scheme = {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]}
        self.own("/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics})
        self.own("/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": scheme})
        self.own("/url", {"url": "about:blank"})
        self.own("/url", {"url": url})
        time.sleep(2.5)
        if script:
            self.own("/execute/sync", {"script": script, "args": []})
            time.sleep(1)
        file.write_bytes(base64.b64decode(self.ask("GET", self.session + "/screenshot")))
        for line in self.own("/se/log", {"type": "browser"}):
            print(f"{file.name}: the page complains: {line['message']}")
        print(file)

    def close(self):
        # A driver that is ended leaves its window.
        self.ask("DELETE", self.session)
        self.driver.terminate()
        shutil.rmtree(self.profile, ignore_errors=True)


def train(pipe, out, epochs, limit):
    """The three runs, and the fork of the best with an edit while it is at work."""
    runs = out / "runs"
    environment = {**os.environ, "PIPE_RUNS": str(runs)}
    ask = lambda *arguments: subprocess.run([pipe, *arguments], check=True, cwd=ROOT, env=environment, capture_output=True, text=True).stdout
    for rate in RATES:
        name = f"lr-{rate}"
        print(f"training {name}")
        ask("run", "pipelines/maskrcnn_coco.toml", "--profile", "demo", "--quiet", "--out", str(runs / name), "--set", f"vars.lr={rate}",
            "--set", f"engine.trainer.max_epochs={epochs}", "--set", f"dataset.train.limit={limit}", "--set", f"dataset.val.limit={max(8, limit // 4)}", "--set", "handler.checkpoint.keep_last=10",
            "--set", 'metric.coco.diagnostics="diagnostics"')
        ask("runs", "rename", str(runs / name), name)
    best = json.loads(ask("runs", "best", "--by", "metric.coco:bbox/AP", "--format", "json"))[0]
    steps = sorted(int(path.name[5:]) for path in (pathlib.Path(best["folder"]) / "checkpoints").glob("step_??????"))
    step, fork = steps[0], runs / "fork"
    print(f"{best['name']} is best with {best['value']:.4f}; forked at step {step}")
    with subprocess.Popen([pipe, "runs", "fork", best["folder"], "--at", str(step), "--out", str(fork), "--quiet", "--set",
                           f"engine.trainer.max_epochs={epochs + 1}"], cwd=ROOT, env=environment) as going:
        while not (fork / "records.jsonl").exists() or "loss" not in (fork / "records.jsonl").read_text().split(f'"step":{step},')[-1]:
            assert going.poll() is None, "the fork ended before it was edited"
            time.sleep(0.5)
        time.sleep(4)
        text = (fork / "pipeline.toml").read_text()
        rate = next(line for line in text.splitlines() if line.startswith("lr = "))
        text = text.replace(rate, f"lr = {float(rate[5:]) / 5:.6g}", 1)
        (fork / "requests").mkdir(exist_ok=True)
        (fork / "requests/.new").write_text(json.dumps({"ask": "edit", "author": "ada", "why": "finer steps from here on", "text": text}))
        (fork / "requests/.new").rename(fork / "requests/edit.json")
    assert going.returncode == 0, "the fork failed"
    print(json.loads((fork / "requests/edit.answer.json").read_text())["said"])
    ask("runs", "rename", str(fork), "fork")
    ask("runs", "export", *(str(runs / f"lr-{rate}") for rate in RATES), str(fork), "--out", str(out / "session.html"))


def look(pipe, out):
    """The pictures."""
    serving = subprocess.Popen([pipe, "ui", str(out / "runs"), "--port", "0"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    browser = Browser()
    try:
        url, token = serving.stdout.readline().strip().split("/#")
        rows = {row["name"]: row["id"] for row in json.load(urllib.request.urlopen(f"{url}/api/runs"))["runs"]}
        ids = ",".join(rows.values())
        compare, fork = f"{url}/compare?runs={ids}", f"{url}/run/{rows['fork']}"
        mark = "const c = document.querySelector('.panel .u-over'); c.scrollIntoView({block: 'center'})"
        shots = {
            "01_table": (f"{url}/#{token}", None),
            "02_compare": (f"{compare}&smooth=0.8", None),
            "03_options": (f"{compare}&tab=options", None),
            "04_against": (f"{compare}&tab=plot", None),
            "05_images": (f"{compare}&tab=images", None),
            "06_consoles": (f"{compare}&tab=console", None),
            "07_edits": (f"{compare}&tab=edits", None),
            "08_fork": (fork, mark),
            "09_fork_images": (f"{fork}/images", None),
            "10_fork_scores": (f"{fork}/pr", None),
            "11_fork_graph": (f"{fork}/graph", None),
            "12_fork_pipeline": (f"{fork}/pipeline", None),
            "13_file": (f"file://{(out / 'session.html').resolve()}#/run/{rows['fork']}/images", None),
        }
        for name, (address, script) in shots.items():
            browser.shoot(out / f"{name}.png", address, script)
        browser.shoot(out / "14_dark.png", f"{compare}&smooth=0.8", dark=True)
        browser.shoot(out / "15_narrow.png", fork, size=(420, 900))
        browser.shoot(out / "16_narrow_images.png", f"{fork}/images", size=(420, 900))
    finally:
        browser.close()
        serving.terminate()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--pipe", default="target/release/pipe", help="the program")
    parser.add_argument("--out", default="target/session", help="where runs and pictures go")
    parser.add_argument("--epochs", default=3, type=int)
    parser.add_argument("--limit", default=400, type=int, help="training images")
    parser.add_argument("--look", action="store_true", help="only the pictures, of the runs that are there")
    options = parser.parse_args()
    pipe, out = str(pathlib.Path(options.pipe).resolve()), pathlib.Path(options.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    if not options.look:
        shutil.rmtree(out / "runs", ignore_errors=True)
        train(pipe, out, options.epochs, options.limit)
    look(pipe, out)


if __name__ == "__main__":
    main()
