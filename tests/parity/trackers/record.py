"""Records the requests of ClearML's own SDK, to which those of `sink.clearml` are compared: `record.py > clearml.json`.

Needs `pip install clearml numpy pillow`. The SDK talks to a server of this script that answers as ClearML's does, as far as the SDK looks.
With `--import SESSION.zip` it prints what the SDK sends when it imports an offline session instead, with `--whole` all of each request.
"""

import base64
import json
import os
import re
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REQUESTS = []
TASKS = {}
LOCK = threading.Lock()


def token():
    """A JWT that nobody checks."""
    part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
    claims = {"exp": int(time.time()) + 86400, "api_version": "2.23", "server_version": "1.10", "feature_set": "basic"}
    return ".".join([part({"alg": "HS256", "typ": "JWT"}), part(claims), "c2lnbmF0dXJl"])


def answer(call, body):
    """What the server says, so far as the SDK needs it."""
    body = body if isinstance(body, dict) else {}
    service, _, action = call.partition(".")
    if call == "auth.login":
        return {"token": token()}
    if call == "projects.get_all":
        return {"projects": []}
    if call == "projects.create":
        return {"id": "p" * 32}
    if call == "tasks.create":
        TASKS["t" * 32] = {**body, "id": "t" * 32, "status": "created"}
        return {"id": "t" * 32}
    if service == "tasks":
        task = TASKS.setdefault(body.get("task") or "t" * 32, {"id": body.get("task") or "t" * 32, "status": "created"})
        if action in ("started", "completed", "stopped", "failed"):
            task["status"] = {"started": "in_progress"}.get(action, action)
            return {"updated": 1, action: 1, "fields": {}}
        if action in ("get_by_id", "get_by_id_ex"):
            return {"task": {"project": "p" * 32, "script": {}, "execution": {}, "output": {}, **task}}
        if action in ("get_all", "get_all_ex"):
            return {"tasks": [{"project": "p" * 32, **task} for task in TASKS.values()]}
        if action in ("edit", "update"):
            task.update({key: value for key, value in body.items() if key not in ("task", "force")})
        return {"updated": 1, "fields": {}, "deleted": 1, "added": 1}
    if call == "models.create":
        return {"id": "m" * 32, "created": True}
    if service == "models":
        return {"models": [], "model": {"id": "m" * 32, "uri": ""}, "updated": 1, "fields": {}}
    if call == "events.add_batch":
        return {"added": 1, "errors": 0, "errors_info": {}}
    return {}


class Handler(BaseHTTPRequestHandler):
    """Records a request and answers."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def take(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self.headers.get("Content-Type", "")
        call = re.sub(r"^/(v[\d.]+/)?", "", self.path.split("?")[0])
        if kind.startswith("multipart"):
            content = {"multipart": True, "bytes": len(body)}
        elif "json-lines" in kind or call == "events.add_batch":
            content = [json.loads(line) for line in body.decode().splitlines() if line.strip()]
        else:
            try:
                content = json.loads(body or b"{}")
            except ValueError:
                content = {"bytes": len(body)}
        auth = self.headers.get("Authorization", "").split(" ")[0]
        with LOCK:
            REQUESTS.append({"method": self.command, "call": call, "path": self.path, "type": kind.split(";")[0], "auth": auth, "body": content})
        calls = content if isinstance(content, list) else [content]
        data = answer(call, content)
        if kind.startswith("multipart"):
            text = json.dumps([call])
        elif self.headers.get("Content-Type") == "application/json-lines" and "add_batch" not in call:
            text = "\n".join(json.dumps({"meta": meta(), "data": answer(call, one)}) for one in calls)
        else:
            text = json.dumps({"meta": meta(), "data": data})
        text = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = do_HEAD = take


def meta():
    return {"id": "x", "trx": "x", "endpoint": {"name": "x", "requested_version": "2.23", "actual_version": "2.23"},
            "result_code": 200, "result_subcode": 0, "result_msg": "OK", "error_stack": "", "error_data": {}}


def short(requests):
    """Of each kind of request and event the first: its content type and the names of what it carries."""
    seen, kept = set(), []
    for request in requests:
        body = request["body"]
        for one in body if isinstance(body, list) else [body]:
            kind = one.get("type") if request["call"] == "events.add_batch" else None
            fields = sorted(key for key in one if key != "method")
            if request["call"] == "tasks.edit":
                kind = next(key for key in fields if key not in ("task", "force"))
            if (request["call"], kind) not in seen:
                seen.add((request["call"], kind))
                kept.append({"call": request["call"], "kind": kind, "type": request["type"], "auth": request["auth"], "fields": fields})
    return kept


def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"http://127.0.0.1:{server.server_port}"
    home = tempfile.mkdtemp()
    os.environ.update(
        HOME=home, CLEARML_API_HOST=host, CLEARML_WEB_HOST=host, CLEARML_FILES_HOST=host, CLEARML_API_ACCESS_KEY="access",
        CLEARML_API_SECRET_KEY="secret", CLEARML_CONFIG_FILE=os.path.join(home, "none.conf"), CLEARML_SUPPRESS_UPDATE_MESSAGE="1",
    )
    out = os.dup(1)
    os.dup2(2, 1)
    from clearml import OutputModel, Task

    if len(sys.argv) > 2 and sys.argv[1] == "--import":
        Task.import_offline_session(sys.argv[2])
    else:
        import numpy as np

        task = Task.init("digits", "digits run", auto_connect_frameworks=False, auto_connect_arg_parser=False,
                         auto_resource_monitoring=False, auto_connect_streams=False, reuse_last_task_id=False)
        task.set_parameters({"General/optimizer.sgd.lr": 0.1})
        task.set_configuration_object("pipeline", config_text="seed = 1\n", config_type="toml")
        logger = task.get_logger()
        for step in range(3):
            logger.report_scalar("train", "loss", value=1.0 / (step + 1), iteration=step)
        logger.report_text("hello", print_console=False)
        logger.report_image("shown", "batch", iteration=2, image=np.zeros((8, 8, 3), np.uint8))
        logger.flush(wait=True)
        model = OutputModel(task=task, name="step_000002")
        model.update_weights(register_uri="file:///run/checkpoints/step_000002", auto_delete_file=False)
        task.mark_completed()
        task.close()
    with LOCK:
        requests = REQUESTS if "--whole" in sys.argv else short(REQUESTS)
    # A request a line.
    lines = ",\n".join(json.dumps(request) for request in requests)
    os.write(out, f"[\n{lines}\n]\n".replace(host, "HOST").encode())
    os._exit(0)


main()
