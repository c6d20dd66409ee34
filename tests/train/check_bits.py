"""Whether a run is a function of its config: pairs of fresh processes, one of them on a busy machine, compared bit by
bit. `python tests/train/check_bits.py 20 FOLDER` does so many pairs, of several kinds of runs in turn, in a folder.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from fmnist.record import checkpoint

ROOT = Path(__file__).resolve().parents[2]
SIZES = ("data.limit=1500", "epochs=2", "figures=false")
RUNS = (
    ("model=mlp2", "+dropout=0.5", "batch_norm=true"),
    ("model=autoencoder", "model.hidden=[64,16]", "noise=0.2", "loss=mse"),
    ("model=vae", "model.hidden=[64]", "batch_size=300"),
    ("model=mlp1", "batch_size=null", "epochs=20"),
    ("model=deep", "skip=true", "optim=muon", "augment.shift=2", "augment.mixup=0.2"),
)


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes that compute beside us."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def train(overrides: tuple[str, ...], directory: Path) -> None:
    """`python train.py` in a fresh process."""
    command = [sys.executable, str(ROOT / "train.py"), *SIZES, *overrides, f"hydra.run.dir='{directory}'"]
    passive = {"OMP_WAIT_POLICY": "passive"}  # threads that spin take minutes beside busy processes
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **passive})
    if done.returncode:
        raise RuntimeError(done.stderr)


def rows(run: Path) -> list[dict[str, float]]:
    """The rows of a run without their times."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{tag: value for tag, value in row.items() if tag != "time"} for row in found]


def differences(one: Path, other: Path) -> list[str]:
    """What of two runs is not the same, bit for bit."""
    found = [] if rows(one) == rows(other) else ["metrics.jsonl"]
    results = [json.loads((run / "result.json").read_text(encoding="utf-8")) for run in (one, other)]
    found += [name for name in ("metrics", "kernels", "config_hash") if results[0][name] != results[1][name]]
    states = [checkpoint.load(run / "last.safetensors") for run in (one, other)]
    if states[0]["kernels"] != results[0]["kernels"]:
        found.append("kernels of last.safetensors")
    weights = [state["weights"] for state in states]
    return found + [name for name in weights[0] if not torch.equal(weights[0][name], weights[1][name])]


def pair(number: int, folder: Path) -> list[str]:
    """Train a run alone, and again beside as many busy processes as there are cores; what differs."""
    runs = [folder / f"{number}-{name}" for name in ("idle", "busy")]
    train(RUNS[number % len(RUNS)], runs[0])
    with busy(os.cpu_count() or 1):
        train(RUNS[number % len(RUNS)], runs[1])
    return differences(*runs)


def main() -> None:
    """All pairs; exit status 1 if any differ."""
    count, folder = int(sys.argv[1]), Path(sys.argv[2])
    differing = 0
    for number in range(count):
        found = pair(number, folder)
        differing += bool(found)
        print(f"{' '.join(RUNS[number % len(RUNS)])}: {', '.join(found) or 'the same bits'}", flush=True)
    print(f"{count - differing} of {count} pairs are the same, bit for bit")
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
