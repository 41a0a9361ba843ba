#!/usr/bin/env python3
"""Posts a run's metrics to a URL, as a child process of pipe (docs/child_processes.md). Standard library only.

    [sink.post]
    type = "process"
    command = ["python3", "examples/post_metrics.py", "http://127.0.0.1:8080/metrics"]
    kinds = ["scalar"]
    env = { API_TOKEN = "${env:API_TOKEN:-}" }

Scalars are collected and posted as a JSON list, at most every `--interval` seconds and once at the end. API_TOKEN, where it
is set, is sent as a bearer token. A failed post is retried with the next one; after `--attempts` failures in a
row the program exits with status 1, and pipe restarts it or continues without it, as the pipeline says.
"""

import argparse
import json
import os
import sys
import time
import urllib.request


def log(level, message):
    """Writes a message to the run's log."""
    print(json.dumps({"type": "log", "level": level, "message": message}), flush=True)


def post(url, body):
    """Sends one JSON document."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    token = os.environ.get("API_TOKEN")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=5) as response:
        response.read()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--interval", type=float, default=2.0)
    parser.add_argument("--attempts", type=int, default=5)
    arguments = parser.parse_args()

    run, waiting, failures, last, posted = None, [], 0, 0.0, 0
    # One JSON object per line, until pipe closes the input.
    for line in sys.stdin:
        message = json.loads(line)
        finished = message["type"] == "finish"
        if message["type"] == "hello":
            run = message["run"]
            log("info", f"posting to {arguments.url}")
        elif message["type"] == "record" and message["kind"] == "scalar":
            waiting.append({key: message[key] for key in ("tag", "value", "step", "epoch", "time")})
        if not waiting or not (finished or time.monotonic() - last >= arguments.interval):
            continue
        try:
            post(arguments.url, {"run": run, "scalars": waiting})
            posted, waiting, failures = posted + len(waiting), [], 0
        except OSError as error:
            failures += 1
            log("warn", f"not posted, {len(waiting)} wait: {error}")
            if failures >= arguments.attempts:
                sys.exit(1)
        last = time.monotonic()
    log("info", f"{posted} numbers posted")
    if waiting:
        sys.exit(f"{len(waiting)} numbers could not be posted")


if __name__ == "__main__":
    main()
