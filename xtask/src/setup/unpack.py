"""Unpacks what pipe uses of wheels, each file checked against the wheel's own list: unpack.py TARGET WHEEL..."""

import base64
import csv
import fnmatch
import hashlib
import io
import os
import sys
import zipfile

WANTED = [
    "torch/lib/*.so*", "torch/include/*", "torch/version.py",
    "torchvision/_C.so", "torchvision/image.so", "torchvision/version.py", "torchvision.libs/*",
    "nvidia/*/lib/*.so*",
    "*.dist-info/METADATA", "*.dist-info/LICENSE*", "*.dist-info/licenses/*",
]
# CUDA's half of libtorch and what serves Python alone.
UNWANTED = [
    "torch/lib/libtorch_cuda*", "torch/lib/libtorch_nvshmem*", "torch/lib/libcaffe2_nvrtc*",
    "torch/lib/libtorch_python*", "torch/lib/libshm*", "*/__init__.py",
]


def matches(name, patterns):
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def unpack(wheel, target):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        record = next(n for n in names if n.count("/") == 1 and n.endswith(".dist-info/RECORD"))
        rows = csv.reader(io.StringIO(archive.read(record).decode()))
        digests = {row[0]: row[1] for row in rows if len(row) >= 2 and row[1]}
        for name in names:
            if name.endswith("/") or not matches(name, WANTED) or matches(name, UNWANTED):
                continue
            out = os.path.join(target, name)
            if not os.path.abspath(out).startswith(os.path.abspath(target) + os.sep):
                sys.exit(f"{wheel}: {name} points out of the folder")
            if not digests.get(name, "").startswith("sha256="):
                sys.exit(f"{wheel}: {name} has no digest in the wheel's list")
            os.makedirs(os.path.dirname(out), exist_ok=True)
            digest = hashlib.sha256()
            with archive.open(name) as source, open(out, "wb") as sink:
                while block := source.read(1 << 20):
                    digest.update(block)
                    sink.write(block)
            found = base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
            if digests[name] != "sha256=" + found:
                sys.exit(f"{wheel}: {name} is damaged")


for wheel in sys.argv[2:]:
    unpack(wheel, sys.argv[1])
