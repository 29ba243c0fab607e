"""The command line beside Keras and `cp`: `python tests/benchmarks/command_line.py [--gigabytes 5] [--repetitions 3]`.

Each line is the best time and the largest peak of memory of several runs; all commands take a turn, then all take the
next. Before each run, everything that is still to be written is written to the disk. This script imports nothing large,
since a process starts with the peak of the process that starts it. The files are made in a temporary folder, which
`--folder` sets, and are removed afterwards.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
MAKE_RESNET = """
import keras
keras.applications.ResNet50(weights=None).save("resnet50.keras")
"""
MAKE_WIDE = """
import json
import numpy as np
from helpers.records import layer, sequential, snapshot
from kerassurgery_fn import DeleteChannels, encode, write_model
width = 8192
count = round(GIGABYTES * 1e9 / (4 * width * width))
rng = np.random.default_rng(0)
kernel, bias = rng.standard_normal((width, width), np.float32), np.zeros(width, np.float32)
layers = [layer("Dense", f"d{i}", units=width, activation="relu") for i in range(count)]
record = sequential("wide", (None, width), *layers, layer("Dense", "head", units=10))
weights = {f"d{i}": (kernel, bias) for i in range(count)} | {"head": (kernel[:, :10], bias[:10])}
write_model(snapshot(record, weights), "wide.keras")
plan = DeleteChannels({f"d{i}": np.sort(rng.permutation(width)[: width // 2]).tolist() for i in range(count)})
open("plan.json", "w").write(json.dumps(encode(plan)))
"""
KERAS_SHOW = """
import keras
keras.models.load_model("resnet50.keras").summary()
"""
KERAS_PRUNE = """
import keras
from kerassurgery_fn import prune
prune(keras.models.load_model("resnet50.keras"), macs=0.5).model.save("keras.keras")
"""
OURS = [sys.executable, "-m", "kerassurgery_fn"]
# A copy as safe as what `write_model` does: under another name, on the disk, then renamed.
COPY = ["sh", "-c", "cp half.keras copy.part && sync copy.part && mv copy.part copy.keras"]
COMMANDS = {
    "`python -c pass`": [sys.executable, "-c", "pass"],
    '`python -c "import tensorflow"`': [sys.executable, "-c", "import tensorflow"],
    "`kerassurgery show resnet50.keras`": [*OURS, "show", "resnet50.keras"],
    "the same by `load_model` and `summary`": [sys.executable, "-c", KERAS_SHOW],
    "`kerassurgery prune resnet50.keras --macs 0.5 -o small.keras`": [
        *OURS, "prune", "resnet50.keras", "--macs", "0.5", "-o", "small.keras", "--overwrite",
    ],
    "the same by `load_model`, `prune` and `save`": [sys.executable, "-c", KERAS_PRUNE],
}  # fmt: skip
WIDE_COMMANDS = {
    "`kerassurgery apply plan.json wide.keras -o half.keras`, half of all units cut": [
        *OURS, "apply", "plan.json", "wide.keras", "-o", "half.keras", "--overwrite",
    ],
    "`kerassurgery prune wide.keras --macs 0.3 -o third.keras`": [
        *OURS, "prune", "wide.keras", "--macs", "0.3", "-o", "third.keras", "--overwrite",
    ],
    "`cp half.keras copy.part && sync copy.part && mv copy.part copy.keras`": COPY,
}  # fmt: skip


class Run(NamedTuple):
    """The seconds of a process, on the clock and of the processors, and its peak of memory in megabytes."""

    wall: float
    cpu: float
    peak: float


def measured(command: list[str], folder: str) -> Run:
    """A run of a command in a folder.

    Raises:
        SystemExit: the command fails.
    """
    quiet = os.open(os.devnull, os.O_WRONLY)
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
    }  # fmt: skip
    os.chdir(folder)
    os.sync()
    start = perf_counter()
    process = os.posix_spawnp(command[0], command, environment, file_actions=[(os.POSIX_SPAWN_DUP2, quiet, 1)])
    _, status, usage = os.wait4(process, 0)
    wall = perf_counter() - start
    os.close(quiet)
    if status:
        raise SystemExit(f"{' '.join(command)[:200]} fails")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def in_turns(commands: dict[str, list[str]], folder: str, repetitions: int) -> dict[str, Run]:
    """The best times and the largest peak of each command."""
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for _ in range(repetitions):
        for name, command in commands.items():
            runs[name].append(measured(command, folder))
    return {
        name: Run(min(run.wall for run in of), min(run.cpu for run in of), max(run.peak for run in of))
        for name, of in runs.items()
    }


def table(runs: dict[str, Run]) -> str:
    head = "| | time | processor time | peak memory |\n|---|---|---|---|\n"
    rows = [f"| {name} | {run.wall:.2f} s | {run.cpu:.2f} s | {run.peak:,.0f} MB |" for name, run in runs.items()]
    return head + "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=5, help="the size of the wide model; 0 leaves it out")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--folder", help="where the files are made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measured([sys.executable, "-c", MAKE_RESNET], folder)
        sys.stdout.write(table(in_turns(COMMANDS, folder, options.repetitions)) + "\n")
        if options.gigabytes:
            measured([sys.executable, "-c", MAKE_WIDE.replace("GIGABYTES", str(options.gigabytes))], folder)
            runs = in_turns(WIDE_COMMANDS, folder, options.repetitions)
            sizes = {name: os.path.getsize(Path(folder, name)) / 1e6 for name in ("wide.keras", "half.keras")}
            sys.stdout.write(f"{table(runs)}\n{sizes} megabytes\n")
        os.chdir(ROOT)


if __name__ == "__main__":
    main()
