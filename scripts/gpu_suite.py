"""What has to be shown on a machine with a GPU, in one call: no network, no Rust, only a `pipe` binary and Python.

    python3 scripts/gpu_suite.py --pipe target/release/pipe --coco COCO_SAMPLE [--tests FILE ...] [--device cuda] [--out report.json]

Needs Python with torch 2.11 and torchvision 0.26; `pipe` then runs with their libraries. FILEs are test binaries built
elsewhere, which run whole here: `cargo test --release --no-run -p pipe-native` prints their names (they are small, and
tests that need a GPU run where there is one). On a CPU (`--device cpu --small`) the script runs too, to try the script; with
`--stand-in LIBRARY` (crates/stand-in) `pipe` takes that for a GPU: `cargo xtask soak gpu-suite`.

Parts, each told as it ends; exit status 1 when one fails:
  mission       pipelines/maskrcnn_coco.toml on COCO's images: two epochs, SIGTERM in the second, resume; first losses and the detections of
                `pipe predict` beside the CPU's
  load          CUDA's library opens, `device = "auto"` takes the GPU, run.json names it
  tests         the native layer's tests: streams, pinned copies, memory, generators, fused steps, nms, roi_align, scaler
  parity        tests/parity/predict/compare.py on this device
  deterministic two runs with `deterministic = true` write the same weights, bit for bit
  resume        runs that are stopped or killed, in an evaluation and a checkpoint's writing too, go on: nothing differs
  reload        an edit of the file under --watch is applied at a step
  fits          the preflight's peak beside the run's; the batch size that `batch_size = "auto"` finds trains
  memory        a batch too large for the GPU: the message names its images
  precision     bf16 and fp16 (with its loss scaler) train: every loss finite, and falling
  standstill    how long training stands still for a checkpoint, beside `torch.save` of the same
  table         images a second beside torchvision's model in a plain loop, same pictures and workers: 2,000 files at 800 / 1333, batches
                of 2, 8 and 16, TF32 and bf16; how busy the GPU was
  profile       where an iteration's time goes: the profiler's table
  inference     images a second of `pipe predict` beside torchvision's model
"""

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import torch
import torchvision
from torchvision.io import ImageReadMode, decode_image, write_jpeg
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

ROOT = pathlib.Path(__file__).resolve().parent.parent
CLASSES = 5

PIPELINE = """
[pipeline]
name = "suite"
device = "{device}"
precision = "{precision}"
deterministic = {deterministic}
seed = 1

[dataset.train]
type = "coco"
root = "{data}"

[loader.train]
type = "batch"
dataset = "dataset.train"
batch_size = {batch}
shuffle = true
workers = {workers}

[model.net]
type = "mask_rcnn"
backbone = "{backbone}"
num_classes = {classes}
weights = "{weights}"
norm = "frozen"
trainable_backbone_layers = 3
min_size = {size}
max_size = {long}
box_batch_size_per_image = {sampled}

[optimizer.sgd]
type = "sgd"
model = "model.net"
lr = 0.002
momentum = 0.9

[engine.trainer]
type = "train"
model = "model.net"
optimizer = "optimizer.sgd"
loader = "loader.train"
max_iterations = {iterations}
log_interval = {log}

[handler.checkpoint]
type = "checkpoint"

[[on]]
event = "engine.trainer:completed"
run = ["handler.checkpoint"]
"""

EVALUATION = """
[dataset.val]
type = "coco"
root = "{data}"
split = "train2017"
limit = 4

[loader.val]
type = "batch"
dataset = "dataset.val"
batch_size = 1

[metric.ap]
type = "coco_ap"
dataset = "dataset.val"

[engine.evaluator]
type = "evaluate"
model = "model.net"
loader = "loader.val"
metrics = ["metric.ap"]

[[on]]
event = "engine.trainer:iteration_completed"
every = 4
run = ["engine.evaluator", "handler.checkpoint"]
"""

SAVING = """
[[on]]
event = "engine.trainer:iteration_completed"
every = {every}
run = ["handler.checkpoint"]
"""

PROFILER = """
[handler.profiler]
type = "profiler"

[[on]]
event = "engine.trainer:completed"
run = ["handler.profiler"]
"""


def environment():
    """Lets `pipe` run with the libraries of this Python."""
    env = dict(os.environ)
    libraries = pathlib.Path(torch.__file__).parent / "lib"
    env["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, [str(libraries), env.get("LD_LIBRARY_PATH")]))
    env["PIPE_TORCHVISION"] = str(pathlib.Path(torchvision.__file__).parent)
    return env


def make_data(folder, count, height, width, repeat=1):
    """Pictures of noise with a few bright rectangles, annotated in COCO's JSON; each under `repeat` names."""
    (folder / "train2017").mkdir(parents=True)
    (folder / "annotations").mkdir()
    dice = torch.Generator().manual_seed(0)
    images, annotations = [], []
    for i in range(1, count + 1):
        picture = torch.randint(0, 120, (3, height, width), dtype=torch.uint8, generator=dice)
        for _ in range(6):
            x, y = (int(torch.randint(0, side // 2, (1,), generator=dice)) for side in (width, height))
            w, h = (int(torch.randint(side // 10, side // 2, (1,), generator=dice)) for side in (width, height))
            category = int(torch.randint(1, CLASSES, (1,), generator=dice))
            picture[category % 3, y : y + h, x : x + w] = 120 + 25 * category
            corners = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append({
                "id": len(annotations) + 1, "image_id": i, "category_id": category, "bbox": [x, y, w, h],
                "area": w * h, "iscrowd": 0, "segmentation": [corners],
            })
        write_jpeg(picture, str(folder / f"train2017/{i}.jpg"), quality=90)
        images.append({"id": i, "file_name": f"{i}.jpg", "height": height, "width": width})
    for i in range(count + 1, count * repeat + 1):
        of = (i - 1) % count + 1
        shutil.copyfile(folder / f"train2017/{of}.jpg", folder / f"train2017/{i}.jpg")
        images.append({**images[of - 1], "id": i, "file_name": f"{i}.jpg"})
        again = [one for one in annotations if one["image_id"] == of]
        annotations += [{**one, "id": len(annotations) + k, "image_id": i} for k, one in enumerate(again, 1)]
    categories = [{"id": c, "name": f"c{c}"} for c in range(1, CLASSES)]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations/instances_train2017.json").write_text(json.dumps(truth))
    return truth


def without_equal(these, those):
    """Of each list's detections, how many have none in the other: same image and class, boxes within a pixel, scores within 0.01."""
    def lacks(one, others):
        near = lambda other: all(abs(a - b) < 1 for a, b in zip(one["bbox"], other["bbox"])) and abs(one["score"] - other["score"]) < 0.01
        return not any(near(other) for other in others.get((one["image_id"], one["category_id"]), []))
    by = [{}, {}]
    for known, detections in zip(by, (these, those)):
        for one in detections:
            known.setdefault((one["image_id"], one["category_id"]), []).append(one)
    return sum(lacks(one, by[1]) for one in these) + sum(lacks(one, by[0]) for one in those)


class Busy:
    """How busy the GPU is, by nvidia-smi."""

    def __init__(self, device):
        self.command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
        self.asks = device.type == "cuda" and shutil.which("nvidia-smi")

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True) if self.asks else None
        self.said = []
        if self.process:
            self.reader = threading.Thread(target=self.read)
            self.reader.start()
        return self

    def read(self):
        for line in self.process.stdout:
            if line.strip().isdigit():
                self.said.append((time.time(), int(line)))

    def __exit__(self, *_):
        if self.process:
            self.process.terminate()
            self.reader.join()
            self.process.wait()

    def share(self, first, last):
        """Of the time from `first` to `last`."""
        values = [value for at, value in self.said if first <= at <= last]
        return statistics.mean(values) / 100 if values else None


class Suite:
    def __init__(self, args, folder):
        # A build of torch for CUDA takes no other accelerator beside it: the stand-in goes with the libraries of the project's set-up.
        self.args, self.folder, self.env = args, folder, dict(os.environ) if args.stand_in else environment()
        # What torch knows nothing of is compared with the CPU.
        self.device = torch.device("cpu" if args.stand_in else args.device)
        if args.stand_in:
            self.env["LD_PRELOAD"] = str(pathlib.Path(args.stand_in).resolve())
        # The CPU computes for it.
        self.backbone, self.sampled = ("resnet18", 64) if args.stand_in else ("resnet50", 512)
        small = args.small
        self.size, self.long = (96, 128) if small else (800, 1333)
        self.batch, self.workers = (2, 1) if small else (4, 4)
        self.iterations, self.skip, self.log = (6, 2, 2) if small else (120, 20, 10)
        self.height, self.width = (96, 128) if small else (480, 640)
        self.truth = make_data(folder / "data", 8 if small else 64, self.height, self.width)
        self.make_weights()
        self.runs = 0

    def network(self, norm=FrozenBatchNorm2d):
        """As torchvision's own builder makes it with weights: batch norm frozen, the last three stages of the backbone trained."""
        backbone = resnet_fpn_backbone(backbone_name=self.backbone, weights=None, trainable_layers=3, norm_layer=norm)
        return MaskRCNN(backbone, CLASSES, min_size=self.size, max_size=self.long)

    def make_weights(self):
        """Of no training, but with statistics that fit, so that frozen norms keep numbers in bounds."""
        torch.manual_seed(0)
        model = self.network(lambda channels: torch.nn.BatchNorm2d(channels, momentum=1.0)).train()
        files = sorted((self.folder / "data/train2017").iterdir())[:4]
        with torch.no_grad():
            model.backbone(model.transform([decode_image(str(file), mode=ImageReadMode.RGB) / 255 for file in files])[0].tensors)
        state = {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
        torch.save(state, self.folder / "weights.pth")

    def loaded(self):
        model = self.network()
        model.load_state_dict(torch.load(self.folder / "weights.pth"))
        return model.to(self.device)

    def pipe(self, *arguments, ends=(0,), **variables):
        command = [str(pathlib.Path(self.args.pipe).resolve()), *map(str, arguments)]
        env = {**self.env, **variables}
        done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=self.folder)
        if done.returncode not in ends:
            raise RuntimeError(f"{' '.join(command)}: ended with {done.returncode}\n{done.stderr[-3000:]}")
        return done

    def write(self, precision="fp32", deterministic=False, extra="", **settings):
        """The pipeline; the folder for a new run of it."""
        self.runs += 1
        values = {
            "device": self.args.device, "precision": precision, "deterministic": str(deterministic).lower(),
            "data": self.folder / "data", "weights": self.folder / "weights.pth", "batch": self.batch, "workers": self.workers, "classes": CLASSES,
            "size": self.size, "long": self.long, "iterations": self.iterations, "log": self.log,
            "backbone": self.backbone, "sampled": self.sampled, **settings,
        }
        (self.folder / "suite.toml").write_text((PIPELINE + extra).format(**values))
        return self.folder / f"run{self.runs}"

    def train(self, **settings):
        """A run; its folder and what it printed."""
        out = self.write(**settings)
        return out, self.pipe("run", "suite.toml", "--out", out)

    def records(self, run, tag):
        lines = map(json.loads, (run / "records.jsonl").read_text().splitlines())
        return [record for record in lines if record["tag"] == tag]

    def weights(self, run):
        (file,) = run.glob("checkpoints/step_*/model.net.safetensors")
        return file

    def mission(self):
        if not self.args.coco:
            return {"left out": "no --coco"}
        small = ["vars.image_size=96", "vars.batch_size=2", "dataset.train.limit=12", "dataset.val.limit=6", "vars.workers=2"]
        settings = lambda *more: [part for value in [*(small if self.args.small else []), "engine.trainer.log_interval=1", *more]
                                  for part in ("--set", value)]
        sets = settings("engine.trainer.max_epochs=2")
        variables = {**self.env, "COCO_ROOT": str(pathlib.Path(self.args.coco).resolve())}
        file, run = ROOT / "pipelines/maskrcnn_coco.toml", self.folder / "mission"
        command = [str(pathlib.Path(self.args.pipe).resolve()), "run", str(file), "--device", self.args.device, "--out", str(run), *sets]
        begun = time.perf_counter()
        first = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.folder)
        while first.poll() is None and not any(record["epoch"] == 2 for record in self.so_far(run)):
            time.sleep(0.05)
        first.send_signal(signal.SIGTERM)
        said, _ = first.communicate()
        if first.returncode != 143:
            raise RuntimeError(f"SIGTERM ended it with {first.returncode}\n{said[-3000:]}")
        stopped = max(record["step"] for record in self.so_far(run))
        self.pipe("run", file, "--device", self.args.device, "--resume", run, *sets, **variables)
        seconds = time.perf_counter() - begun
        losses = [record["value"] for record in self.records(run, "loss/total_loss")]
        if any(not isinstance(loss, float) for loss in losses):
            raise RuntimeError(f"a loss is not finite: {losses}")
        # The first step's weights are equal; what follows drifts apart by rounding.
        one = settings("engine.trainer.max_iterations=1")
        self.pipe("run", file, "--device", "cpu", "--out", self.folder / "mission_cpu", *one, **variables)
        (of_cpu,) = (record["value"] for record in self.records(self.folder / "mission_cpu", "loss/total_loss"))
        if abs(losses[0] - of_cpu) > 5e-3 * abs(of_cpu):
            raise RuntimeError(f"the first loss is {losses[0]}, on the CPU {of_cpu}")
        images = sorted((pathlib.Path(self.args.coco).resolve() / "val2017").iterdir())[: 3 if self.args.small else 12]
        found = []
        for device in [self.args.device, "cpu"]:
            out = self.folder / f"mission_{device}.json"
            # Two epochs from nothing find nothing that is likely.
            least = ["--set", "model.maskrcnn.box_score_thresh=0.001", "--threshold", 0.0]
            self.pipe("predict", run, "--device", device, *least, "--out", out, "--images", *images)
            found.append(json.loads(out.read_text()))
        unlike = without_equal(*found)
        if not found[1] or unlike > 0.05 * len(found[1]):
            raise RuntimeError(f"{unlike} of {len(found[1])} detections have no equal on the CPU")
        return {"seconds": seconds, "stopped at step": stopped, "losses": [losses[0], losses[-1]], "first loss on the CPU": of_cpu,
                "detections": len(found[1]), "without an equal": unlike}

    def so_far(self, run):
        """The records of a run that is still at work, but for a last line that is half written."""
        try:
            return [json.loads(line) for line in (run / "records.jsonl").read_text().split("\n")[:-1]]
        except FileNotFoundError:
            return []

    def reload(self):
        out = self.write(iterations=1000, log=1)
        file = self.folder / "suite.toml"
        command = [str(pathlib.Path(self.args.pipe).resolve()), "run", "suite.toml", "--out", str(out), "--watch"]
        run = subprocess.Popen(command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.folder)
        def wait_for(what):
            while run.poll() is None and not what(self.so_far(out)):
                time.sleep(0.05)
        wait_for(lambda records: any(record["step"] >= 3 for record in records))
        file.write_text(file.read_text().replace("lr = 0.002", "lr = 0.0007"))
        rates = lambda records: [record for record in records if record["tag"] == "train/lr"]
        wait_for(lambda records: any(record["value"] == 0.0007 for record in rates(records)))
        run.send_signal(signal.SIGTERM)
        said, _ = run.communicate()
        changed = [record["step"] for record in rates(self.so_far(out)) if record["value"] == 0.0007]
        if run.returncode != 143 or not changed:
            raise RuntimeError(f"{run.returncode}\n{said[-3000:]}")
        return {"the new rate at step": changed[0]}

    def fits(self):
        if self.device.type == "cpu" and not self.args.stand_in:
            return {"left out": "no accelerator"}
        if self.device.type == "cuda":
            # What torchvision's side has taken and left.
            torch.cuda.empty_cache()
        result = {}
        for batch in [self.batch, '"auto"']:
            out, done = self.train(batch=batch, iterations=4, log=1)
            said = [line for line in done.stderr.splitlines() if "the largest" in line]
            if not said:
                raise RuntimeError(done.stderr[-2000:])
            result[f"batch_size = {batch}"] = said
            if self.args.stand_in:
                # Its capacity is no one's: the largest batch is the whole data set.
                self.env["STAND_IN_CAPACITY"] = str(6 << 30)
        self.env.pop("STAND_IN_CAPACITY", None)
        return result

    def load(self):
        run, _ = self.train(device="auto", iterations=2, log=1)
        info = json.loads((run / "run.json").read_text())
        wants = "mps" if self.args.stand_in else self.device.type
        if wants not in info["device"]:
            raise RuntimeError(f"auto chose {info['device']}, not {wants}")
        return {"device": info["device"], "versions": info["versions"]}

    def tests(self):
        results = {}
        for binary in self.args.tests:
            # The numbers to compare with lie in the checkout: tests run in their crate's folder.
            crate = ROOT / "crates/native"
            env = {**self.env, "CARGO_MANIFEST_DIR": str(crate)}
            done = subprocess.run([str(pathlib.Path(binary).resolve())], capture_output=True, text=True, env=env, cwd=crate)
            lines = [line for line in done.stdout.splitlines() if line.startswith("test result")]
            results[pathlib.Path(binary).name] = lines[-1] if lines else done.stderr[-500:]
            if done.returncode:
                raise RuntimeError(f"it ended with {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
        return results or {"left out": "no --tests"}

    def parity(self):
        compare = ROOT / "tests/parity/predict/compare.py"
        cases = "resnet18" if self.args.small else "resnet18,resnet50,resnet101,resnet50_v2"
        command = [sys.executable, compare, "--pipe", self.args.pipe, "--device", self.args.device, "--cases", cases]
        command += ["--images", self.args.images or self.folder / "data/train2017", "--count", 2 if self.args.small else 12]
        if self.args.small:
            command += ["--min-size", 128, "--max-size", 192]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=self.env)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr[-2000:])
        return {"lines": done.stdout.splitlines()}

    def deterministic(self):
        sums = []
        for _ in range(2):
            run, _ = self.train(deterministic=True, iterations=min(self.iterations, 10))
            sums.append(hashlib.sha256(self.weights(run).read_bytes()).hexdigest())
        if sums[0] != sums[1]:
            raise RuntimeError("two runs of one seed gave different weights")
        return {"sha256": sums[0]}

    def end(self, run):
        """All that a run leaves that has no times in it."""
        files = {file.relative_to(run): file.read_bytes() for file in run.glob("checkpoints/*/*.safetensors")}
        lines = map(json.loads, (run / "records.jsonl").read_text().replace(str(run), "RUN").splitlines())
        return files, [{name: value for name, value in line.items() if name != "time"} for line in lines]

    def resume(self):
        result = {}
        kills = {"fp32": ["TERM step:5", "TERM nested:6", "KILL write:4", "KILL target:2"], "fp16": ["TERM step:6"]}
        if self.device.type != "cuda":
            kills["bf16"] = kills.pop("fp16")
        for precision, moments in kills.items():
            settings = {"precision": precision, "deterministic": True, "extra": EVALUATION, "iterations": 10, "log": 1}
            whole, _ = self.train(**settings)
            files, records = self.end(whole)
            for moment in moments:
                signal, at = moment.split()
                run = self.write(**settings)
                command = ["run", "suite.toml", "--out", run, "--resume", "auto"]
                ends = (143,) if signal == "TERM" else (-9,)
                self.pipe(*command, ends=ends, PIPE_TEST_KILL=at, PIPE_TEST_SIGNAL=signal)
                self.pipe(*command)
                found, lines = self.end(run)
                wrong = sorted(str(name) for name in files.keys() | found.keys() if files.get(name) != found.get(name))
                if wrong or lines != records:
                    unlike = [pair for pair in zip(records, lines) if pair[0] != pair[1]][:3]
                    raise RuntimeError(f"{precision}, {moment}: {wrong}, {len(records)} and {len(lines)} records, {unlike}")
                result[f"{precision}, {moment}"] = f"{len(files)} files and {len(records)} records equal"
        return result

    def memory(self):
        if self.device.type != "cuda":
            return {"left out": "no GPU"}
        run = self.write(batch=64, size=2 * self.size, long=2 * self.long, iterations=2, log=1)
        said = self.pipe("run", "suite.toml", "--out", run, ends=(1,)).stderr
        if "out of memory on cuda:0 with a batch of 64 (" not in said:
            raise RuntimeError(said[-3000:])
        return {"said": said[said.index("error"):].splitlines()[:12]}

    def standstill(self):
        every = 2 if self.args.small else 10
        iterations = 3 * every + 1
        saving = SAVING.replace("{every}", str(every))
        run, _ = self.train(extra=PROFILER + saving, iterations=iterations, log=1)
        times = [record["time"] for record in self.records(run, "train/loss")]
        waits = {step: after - before for step, (before, after) in enumerate(zip(times, times[1:]), 1)}
        usual = statistics.median(wait for step, wait in waits.items() if step % every)
        ours = [wait - usual for step, wait in waits.items() if step % every == 0]
        model = self.loaded()
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.002, momentum=0.9)
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        theirs = []
        for i in range(4):
            self.sync()
            start = time.perf_counter()
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, self.folder / f"saved{i}.pth")
            theirs.append(time.perf_counter() - start)
        stands, theirs = self.in_handler(run), statistics.median(theirs[1:])
        # The iterations behind a checkpoint share the machine with the thread that writes it.
        slower = statistics.median(ours)
        return {"iteration": usual, "stands still": stands, "slower": slower, "torch.save": theirs, "ratio": stands / theirs}

    def in_handler(self, run):
        """Seconds in the checkpoint handler, the median of the three times: from the profiler's table."""
        units = {"ns": 1e-9, "\u00b5s": 1e-6, "ms": 1e-3, "s": 1.0}
        (table,) = (r["value"] for r in self.records(run, "profiler"))
        (row,) = (line for line in table.splitlines() if "handler.checkpoint on iteration_completed" in line)
        cells = [cell.split() for cell in row.split("|")]
        total, shortest, longest = (float(number) * units[unit] for number, unit in (cells[3], cells[6], cells[7]))
        return total - shortest - longest

    def precision(self):
        result = {}
        for precision in ["bf16"] + (["fp16"] if self.device.type == "cuda" else []):
            run, _ = self.train(precision=precision, iterations=min(self.iterations, 60), log=1)
            losses = [record["value"] for record in self.records(run, "train/loss")]
            finite = all(isinstance(loss, float) and loss == loss and abs(loss) < 1e9 for loss in losses)
            third = max(1, len(losses) // 3)
            first, last = (sum(part) / third for part in (losses[:third], losses[-third:]))
            result[precision] = {"first": first, "last": last, "iterations": len(losses)}
            if not finite or (not self.args.small and last >= first):
                raise RuntimeError(f"{precision}: {losses}")
        return result

    def sync(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def targets(self, index):
        objects = [one for one in self.truth["annotations"] if one["image_id"] == index]
        boxes = torch.tensor([one["bbox"] for one in objects], dtype=torch.float32)
        masks = torch.zeros(len(objects), self.height, self.width, dtype=torch.uint8)
        for mask, (x, y, w, h) in zip(masks, boxes.int().tolist()):
            mask[y : y + h, x : x + w] = 1
        boxes[:, 2:] += boxes[:, :2]
        labels = torch.tensor([one["category_id"] for one in objects])
        return {"boxes": boxes, "labels": labels, "masks": masks}

    def torchvision_training(self, precision, batch, iterations):
        torch.manual_seed(1)
        model = self.loaded().train()
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.002, momentum=0.9)
        suite, data = self, self.folder / "wide/train2017"

        class Pictures(torch.utils.data.Dataset):
            def __len__(self):
                return len(suite.truth["images"])

            def __getitem__(self, i):
                image = decode_image(str(data / f"{i + 1}.jpg"), mode=ImageReadMode.RGB).float() / 255
                return image, suite.targets(i + 1)

        loader = torch.utils.data.DataLoader(
            Pictures(), batch_size=batch, shuffle=True, num_workers=self.workers, collate_fn=lambda b: tuple(zip(*b)),
            pin_memory=self.device.type == "cuda", persistent_workers=True, drop_last=True,
        )
        done, start = 0, 0.0
        while done < iterations:
            for images, targets in loader:
                if done == self.skip:
                    self.sync()
                    start = time.perf_counter()
                images = [image.to(self.device, non_blocking=True) for image in images]
                targets = [{k: v.to(self.device, non_blocking=True) for k, v in t.items()} for t in targets]
                with torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16"):
                    loss = sum(model(images, targets).values())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                done += 1
                if done == iterations:
                    break
        self.sync()
        return (iterations - self.skip) * batch / (time.perf_counter() - start)

    def table(self):
        """Bars: 1.5 times torchvision's images a second, the GPU busy 95 % of the time."""
        result = {}
        wide = self.folder / "wide"
        if not wide.exists():
            self.truth = make_data(wide, 8 if self.args.small else 64, self.height, self.width, repeat=1 if self.args.small else 31)
        for batch in [2] if self.args.small else [2, 8, 16]:
            iterations = self.iterations if self.args.small else 240 // batch + self.skip
            for precision in ["fp32", "bf16"]:
                with Busy(self.device) as busy:
                    run, _ = self.train(precision=precision, batch=batch, iterations=iterations, log=1, data=wide)
                marks = [r for r in self.records(run, "train/loss") if r["step"] >= self.skip]
                ours = (marks[-1]["step"] - marks[0]["step"]) * batch / (marks[-1]["time"] - marks[0]["time"])
                theirs = self.torchvision_training(precision, batch, iterations)
                result[f"batch {batch}, {precision}"] = {"pipe": ours, "torchvision": theirs, "ratio": ours / theirs, "busy": busy.share(marks[0]["time"], marks[-1]["time"])}
        return result

    def profile(self):
        result = {}
        for precision in ["fp32", "bf16"]:
            run, _ = self.train(precision=precision, extra=PROFILER, iterations=min(self.iterations, 40))
            records = map(json.loads, (run / "records.jsonl").read_text().splitlines())
            (table,) = (record["value"] for record in records if record["node"] == "handler.profiler")
            result[precision] = table.splitlines()
        return result

    def inference(self):
        run, _ = self.train(iterations=2, log=1)
        files = sorted((self.folder / "data/train2017").iterdir())
        rounds = 1 if self.args.small else 4
        arguments = ["predict", "suite.toml", "--weights", run, "--out", "found.json", "--format", "json", "--images"]
        one = json.loads(self.pipe(*arguments, files[0]).stdout)["seconds"]
        many = json.loads(self.pipe(*arguments, *(files * rounds)).stdout)
        # The first picture warms the GPU up; it is taken off both times.
        ours = (many["images"] - 1) / max(many["seconds"] - one, 1e-9)
        model = self.loaded().eval()
        count, start = 0, 0.0
        with torch.no_grad():
            for file in [files[0], *(files * rounds)]:
                image = decode_image(str(file), mode=ImageReadMode.RGB).float() / 255
                model([image.to(self.device)])[0]["masks"].cpu()
                if count == 0:
                    self.sync()
                    start = time.perf_counter()
                count += 1
        theirs = (count - 1) / (time.perf_counter() - start)
        return {"pipe": ours, "torchvision": theirs, "ratio": ours / theirs}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipe", required=True)
    parser.add_argument("--tests", nargs="*", default=[], help="test binaries of pipe-native")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--coco", help="a COCO folder with train2017, val2017 and their instances, for the mission")
    parser.add_argument("--stand-in", help="the stand-in accelerator's library, which `pipe` then takes for a GPU")
    parser.add_argument("--images", help="a folder of pictures for the parity; else made ones")
    parser.add_argument("--small", action="store_true", help="small pictures, few iterations")
    parser.add_argument("--only", help="parts, separated by commas")
    parser.add_argument("--out", type=pathlib.Path, help="write the report here too")
    args = parser.parse_args()
    parts = ["mission", "load", "tests", "parity", "deterministic", "resume", "reload", "fits", "memory", "precision", "standstill", "table", "profile", "inference"]
    name = torch.cuda.get_device_name() if args.device.startswith("cuda") else "CPU"
    report = {"torch": torch.__version__, "torchvision": torchvision.__version__, "device": name}
    print(report, flush=True)
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        suite = Suite(args, pathlib.Path(folder))
        for part in args.only.split(",") if args.only else parts:
            start = time.perf_counter()
            try:
                report[part] = getattr(suite, part)()
            except Exception as error:  # A part that fails must not keep the others from being tried.
                report[part], failed = {"failed": str(error)}, True
            print(f"{part} ({time.perf_counter() - start:.0f} s): {json.dumps(report[part], indent=1)}", flush=True)
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
