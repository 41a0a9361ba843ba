#!/usr/bin/env python3
"""How much of the reductions of a run of several processes is hidden behind backward.

    python3 scripts/trace_overlap.py RUN/trace.json [RUN/ranks/1/trace.json ...]

The traces are those of `handler.profiler` with `trace`. Times are of the wall clock; reductions that are under way at once count once.
"""

import json
import sys

REDUCTIONS = ("gloo:all_reduce", "nccl:all_reduce")


def spans(events, names):
    """Beginning and end of each event of these names, in microseconds, in order."""
    found = [(e["ts"], e["ts"] + e["dur"]) for e in events if e.get("ph") == "X" and e["name"] in names]
    return sorted(found)


def union(spans):
    """The same time without overlaps."""
    merged = []
    for start, end in spans:
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return merged


def common(ours, theirs):
    """How long both are under way."""
    return sum(max(0, min(a[1], b[1]) - max(a[0], b[0])) for a in ours for b in theirs)


def length(spans):
    return sum(end - start for start, end in spans)


def main():
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            events = json.load(file)["traceEvents"]
        backward = union(spans(events, ("backward",)))
        if not backward:
            sys.exit(f"{path}: there is no backward pass in this trace")
        # The small one of a step, in which the ranks agree, is no reduction of gradients: it comes before backward or after it.
        reductions = union(spans(events, REDUCTIONS))
        steps, all_of, hidden = len(backward), length(reductions), common(reductions, backward)
        print(
            f"{path}: {steps} steps, backward {length(backward) / steps / 1e3:.1f} ms, reductions {all_of / steps / 1e3:.1f} ms a step, "
            f"of which {hidden / steps / 1e3:.1f} ms ({100 * hidden / max(all_of, 1e-9):.0f} %) while backward is at work"
        )


if __name__ == "__main__":
    main()
