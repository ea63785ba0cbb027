"""A run's folder and a comparison.json, made up without a training."""

import json

import numpy as np

from dico_tf.data.source import Split
from dico_tf.evaluation import gallery
from dico_tf.evaluation.report import evaluate
from dico_tf.files import arrays, json_files, tables

ODD = '<script>alert("1")</script> & \'"><img src=x onerror=alert(1)>'


def answers(images=300, branches=3, classes=4, seed=0):
    """(logits [N, S, C], labels [N]); later branches are better."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, images)
    logits = random.normal(size=(images, branches, classes)).astype(np.float32)
    logits[np.arange(images), :, labels] += 1 + 0.4 * (np.arange(branches) % 3)
    return logits, labels


def run(folder, *, images=300, branches=3, classes=4, epochs=5, names=None, side=16):
    """Write every file of a run that its page reads, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    names = names or [f"class {c}" for c in range(classes)]
    random = np.random.default_rng(1)
    for seed, split in enumerate(("test", "validation")):
        logits, labels = answers(images, branches, classes, seed)
        about = {"average": "logits", "split": split, "select": "validation", "weights": "raw", "class_names": names}
        json_files.write(folder / f"evaluation_{split}.json", evaluate(logits, labels, **about))
        ids = [f"{split}_{n}" for n in range(images)]
        tables.write_predictions(folder / f"predictions_{split}.npz", logits, labels, ids)
        pixels = random.integers(0, 256, (images, side, side, 3)).astype(np.uint8)
        gallery.write(folder, split, Split(labels=labels, ids=ids, images=pixels), logits, "logits")
    each = {"params": 100, "macs": 2_000_000}
    summary = {
        "model": "wrn_tiny", "splits": branches, "branches": [each] * branches,
        "params": {"whole": 310, "branches": 100 * branches},
        "macs": {"whole": 7_000_000, "branches": 2_000_000 * branches},
        "epochs": epochs, "seconds": 12.0, "best_epoch": epochs - 1, "select": "validation", "selected_on_test": False,
    }  # fmt: skip
    json_files.write(folder / "summary.json", summary)
    data = {"name": "digits", "fingerprint": "0123", "class_names": names}
    config = {"config": {"dataset": "digits", "model": "wrn_tiny"}, "data": data, "versions": {"numpy": "2.4"}}
    json_files.write(folder / "config.json", config)
    (folder / "run.flags").write_text("# python train.py --dataset=digits\n--dataset=digits\n")
    rows = [
        {
            "format": 1, "epoch": epoch, "loss": 2 / (epoch + 1), "agreement": 0.1,
            "validation": {
                "loss": 2.2 / (epoch + 1), "agreement": 0.2,
                "branch_accuracy": random.random(branches).tolist(), "ensemble_accuracy": 0.5,
            },
        }
        for epoch in range(epochs)
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen = {name: random.integers(0, 256, (8, side, side, 3)).astype(np.uint8) for name in ("image", *_named(branches))}
    arrays.write(folder / "views.npz", seen)
    return folder


def _named(branches):
    return [f"branch_{s}" for s in range(branches)]


def _arm(name, top1, macs, *, runs=3, milliseconds=None):
    values = [top1 + 0.01 * n for n in range(runs)]
    score = {"mean": sum(values) / runs, "spread": 0.01, "values": values} if runs else {}
    return {
        "name": name, "flags": [f"--model={name}", "--splits=2"], "chosen": {"lr": 0.1},
        "trials": [{"values": {"lr": lr}, "nll": 0.5 + lr, "run": f"{name}/seed_0/lr={lr}"} for lr in (0.1, 0.2)],
        "at_edge": ["lr"], "runs": [f"{name}/seed_{n}" for n in range(runs)],
        "cost": {
            "params": 1000, "macs": macs, "milliseconds": milliseconds, "relative_macs": macs / 1e6,
            "relative_params": 1.0,
        },
        "cost_differs": macs != 1_000_000,
        "scores": {"top1": score, "nll": {"mean": 0.5, "spread": None, "values": [0.5]}},
    }  # fmt: skip


def comparison(folder, *, missing=0, name="divided"):
    """Write comparison.json with three arms; with `missing`, one without runs, whose intervals are null."""
    folder.mkdir(parents=True, exist_ok=True)
    arms = [_arm("whole", 0.8, 1_000_000, milliseconds=2.5), _arm(name, 0.82, 1_000_000)]
    arms.append(_arm("four", 0.7, 2_000_000, runs=0 if missing else 3))
    known = {"mean": 0.02, "half": 0.01, "low": 0.01, "high": 0.03, "p": 0.004, "p_holm": 0.008}
    unknown = dict.fromkeys(known) if missing else {**known, "mean": -0.1, "low": -0.12, "high": -0.08}
    differences = [
        {"arm": arm, "to": "whole", "score": "top1", **values, "seeds": 3, "images": 10000}
        for arm, values in ((name, known), ("four", unknown))
    ]
    content = {
        "command": "python compare.py --seeds=3", "flagfile": "configs/quickstart.flags", "versions": {"numpy": "2.4"},
        "score": "top1", "split": "test", "images": 10000, "class_names": ["a", "b"], "seeds": [0, 1, 2],
        "missing": missing, "arms": arms, "differences": differences, "conclusion": f"{name} is better than whole.",
    }  # fmt: skip
    json_files.write(folder / "comparison.json", content)
    return folder
