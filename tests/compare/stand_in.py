"""Stands in for `dico train` in tests of compare: writes what a finished run leaves, at once, for 600 test images.

Values of flags choose what it does: --lr=9 diverges, --lr=8 fails, --lr=7 waits for SIGTERM the first time.
"""

import json
import signal
import sys
import time
from pathlib import Path

import numpy as np

CLASSES, IMAGES = 3, 600


def flags(words: list[str]) -> dict[str, str]:
    pairs = dict(word.removeprefix("--").split("=", 1) for word in words)
    lines = [line for line in Path(pairs["flagfile"]).read_text().splitlines() if line.startswith("--")]
    return {**dict(line.removeprefix("--").split("=", 1) for line in lines), **pairs}


def write(folder: Path, name: str, content: dict) -> None:
    (folder / name).write_text(json.dumps({"format": 1, **content}))


def finish(folder: Path, splits: int, seed: int, quality: float) -> None:
    """Write the files of a finished run; `quality` moves the logits of the right classes."""
    random, labels = np.random.default_rng(seed), np.arange(IMAGES) % CLASSES
    drawn = random.normal(size=(IMAGES, splits, CLASSES)) + quality * np.eye(CLASSES)[labels][:, None]
    ids = np.array([f"image_{n:03d}" for n in range(IMAGES)])
    np.savez(folder / "predictions_test.npz", logits=drawn.astype(np.float32), labels=labels, ids=ids)
    top1 = float((drawn.mean(1).argmax(1) == labels).mean())
    for split in ("validation", "test"):
        scores = {"top1": top1, "top5": 1.0, "nll": 2 - quality, "brier": 0.5, "ece": 0.1}
        write(folder, f"evaluation_{split}.json", {"ensemble": scores, "diversity": {"disagreement": 0.2}})
    versions = {"dico_tf": "0.1.0", "tensorflow": "2.21.0"}
    data = {"class_names": ["a", "b", "c"]}
    write(folder, "config.json", {"config": {"average": "logits"}, "data": data, "versions": versions})
    cost = {"params": {"branches": 1000 + splits}, "macs": {"branches": 50_000 * splits}}
    write(folder, "summary.json", {"status": "finished", "final": {"split": "test"}, "seconds": 1.5, **cost})


def main() -> int:
    values = flags(sys.argv[1:])
    folder, lr = Path(values["workdir"]), float(values["lr"])
    with (folder / "calls").open("a") as calls:
        calls.write(f"{' '.join(sys.argv[1:])}\n")
    print("one line\nanother line", flush=True)
    if lr == 9:
        write(folder, "summary.json", {"status": "failed", "final": None})
        print("train.py: the loss of branch 0 is not finite at step 3; try a lower --lr")
        return 2
    if lr == 8:
        print("train.py: no such data")
        return 3
    if lr == 7 and not (folder / "saved").exists():

        def save(*_) -> None:
            (folder / "saved").touch()
            sys.exit(143)

        signal.signal(signal.SIGTERM, save)
        (folder / "waiting").touch()
        time.sleep(600)
    finish(folder, int(values["splits"]), int(values["seed"]), 1 + 2 * lr + 20 * float(values["weight_decay"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
