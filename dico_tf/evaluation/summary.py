"""What a finished run bought: the whole's budget beside branches and ensemble."""

from pathlib import Path
from typing import Any

from dico_tf.evaluation.evaluate import evaluate_split, load_splits
from dico_tf.evaluation.table import table
from dico_tf.files import json_files
from dico_tf.training.build import trained_run


def summarize(workdir: str | Path) -> str:
    """Evaluates the selected weights, completes summary.json, and returns the table to show."""
    run = trained_run(workdir)
    model, parts = run.network(), load_splits(run)
    found = {name: evaluate_split(run, model, name, parts) for name in ("validation", "test") if name in parts}
    shown = found.get("test") or found["validation"]
    summary = json_files.read_of_run(run.workdir / "summary.json")
    score = "miou" if shown.get("task") == "segmentation" else "top1"
    summary["final"] = {
        "split": shown["split"],
        "branches": [branch[score] for branch in shown["branches"]],
        "ensemble": shown["ensemble"][score],
    }
    json_files.write(run.workdir / "summary.json", summary)
    return describe(summary, shown)


def describe(summary: dict[str, Any], shown: dict[str, Any]) -> str:
    """Whole budget, each branch, the ensemble."""
    splits, params, macs = summary["splits"], summary["params"], summary["macs"]
    rows = [["whole budget", f"{params['whole']:,}", f"{macs['whole']:,}", None, None]]
    for s, branch in enumerate(shown["branches"]):
        rows.append([f"branch_{s}", *_costs(params, macs, splits), *_scores(branch)])
    rows.append([f"ensemble ({shown['average']})", *_costs(params, macs, 1), *_scores(shown["ensemble"])])
    scenes = shown.get("task") == "segmentation"
    scores = (f"{shown['split']} mIoU %", "pixels %") if scenes else (f"{shown['split']} top-1 %", "NLL")
    headers = ["", "parameters", "multiply-adds", *scores]
    lines = [table(headers, rows, range(1, 5)), "", f"best epoch {summary['best_epoch'] + 1} of {summary['epochs']}"]
    if summary["selected_on_test"]:
        lines[-1] += ", chosen on the test images as the papers do: optimistic"
    what = "pixels" if scenes else "images"
    return "\n".join([*lines, f"branches disagree on {100 * shown['diversity']['disagreement']:.1f} % of the {what}"])


def _costs(params: dict[str, int], macs: dict[str, int], parts: int) -> list[str]:
    return [f"{params['branches'] // parts:,}", f"{macs['branches'] // parts:,}"]


def _scores(found: dict[str, float]) -> list[str]:
    if "miou" in found:
        return ["-" if found[name] is None else f"{100 * found[name]:.2f}" for name in ("miou", "pixel_accuracy")]
    return [f"{100 * found['top1']:.2f}", f"{found['nll']:.4f}"]
