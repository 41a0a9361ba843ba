"""Starts pipe on the libtorch of this environment's torch, which it is not shipped with."""

import importlib.util
import os
import sys

NEEDED = {"torch": "2.11", "torchvision": "0.26"}


def folder(package):
    """Where a package lies, found without importing it."""
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or []) if spec else []
    return places[0] if places else None


def version(place):
    """What the package's version.py says."""
    try:
        with open(os.path.join(place, "version.py"), encoding="utf-8") as file:
            lines = [line for line in file if line.startswith("__version__ =")]
    except OSError:
        return None
    return lines[0].split("=", 1)[1].strip().strip("'\"") if lines else None


def fits(found, needed):
    return found is not None and (found + ".").startswith(needed + ".")


def refuse(found):
    has = " and ".join(
        f"no {package}" if place is None else f"{package} {version(place) or 'of unknown version'} ({place})"
        for package, place in found.items()
    )
    needs = " and ".join(f"{package} {needed}" for package, needed in NEEDED.items())
    install = " ".join(f'"{package}=={needed}.*"' for package, needed in NEEDED.items())
    print(
        f"error: this pipe needs {needs}; {sys.executable} has {has}\n"
        f"  = help: {sys.executable} -m pip install {install}",
        file=sys.stderr,
    )
    return 2


def cuda_libraries(torch):
    """Folders of the packages with CUDA's libraries, for a torch that uses them from elsewhere on the path."""
    if not os.path.exists(os.path.join(torch, "lib", "libtorch_cuda.so")):
        return []
    spec = importlib.util.find_spec("nvidia")
    roots = list(spec.submodule_search_locations or []) if spec else []
    packages = sorted(entry.path for root in roots if os.path.isdir(root) for entry in os.scandir(root))
    return [path for path in (os.path.join(package, "lib") for package in packages) if os.path.isdir(path)]


def main():
    found = {package: folder(package) for package in NEEDED}
    if not all(place and fits(version(place), NEEDED[package]) for package, place in found.items()):
        return refuse(found)
    environment = dict(os.environ)
    torch = os.path.abspath(found["torch"])
    given = [path for path in environment.get("LD_LIBRARY_PATH", "").split(os.pathsep) if path]
    # Before those of the user: another libtorch there would be the wrong one.
    libraries = [os.path.join(torch, "lib"), *cuda_libraries(torch), *given]
    environment["LD_LIBRARY_PATH"] = os.pathsep.join(libraries)
    # The program looks beside libtorch itself.
    torchvision = os.path.abspath(found["torchvision"])
    if os.path.dirname(os.path.realpath(torchvision)) != os.path.dirname(os.path.realpath(torch)):
        environment.setdefault("PIPE_TORCHVISION", torchvision)
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", "pipe")
    try:
        os.execve(program, [program, *sys.argv[1:]], environment)
    except OSError as error:
        print(f"error: {program} cannot be started: {error.strerror}; install this package again", file=sys.stderr)
        return 2
