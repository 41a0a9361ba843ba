"""What the GPU did in a trace of `handler.profiler`, by what it is for: milliseconds of kernels and copies an iteration.

    python3 scripts/trace_kernels.py RUN/trace.json ITERATIONS

ITERATIONS: how many the trace is of (`trace = { iterations = … }`). Traces of torch's own profiler are read too.
"""

import collections
import json
import sys

# A part of a kernel's name, and what such kernels are for; the first that fits.
USES = [
    ("gather_keep", "NMS"), ("nms_kernel", "NMS"), ("suppress", "NMS"),
    ("nchwToNhwc", "tensors turned"), ("nhwcToNchw", "tensors turned"),
    ("roi_align", "RoIAlign"),
    ("MulFunctor", "multiplications"), ("CUDAFunctor_add", "additions"),
    ("clamp", "ReLU"), ("threshold", "ReLU"),
    ("xmma", "convolutions, products"), ("cutlass", "convolutions, products"), ("nvjet", "convolutions, products"), ("gemm", "convolutions, products"),
    ("copy", "copies, casts"), ("Memcpy", "copies, casts"),
]


def main(file, iterations):
    with open(file) as text:
        events = json.load(text)["traceEvents"]
    work = [event for event in events if event.get("ph") == "X" and event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    sums = collections.Counter()
    for event in work:
        sums[next((use for part, use in USES if part in event["name"]), "other")] += event["dur"] / 1e3 / iterations
    for use, milliseconds in sums.most_common():
        print(f"{milliseconds:8.1f} ms  {use}")
    print(f"{sum(sums.values()):8.1f} ms  in {len(work) / iterations:.0f} kernels and copies")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]))
