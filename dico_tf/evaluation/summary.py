"""Summary of a finished run: cost and accuracy of each branch and of the ensemble."""

from pathlib import Path
from typing import Any

from dico_tf.evaluation.cost import branch_costs
from dico_tf.evaluation.evaluate import evaluate_split, load_splits
from dico_tf.evaluation.table import per_class_lines, table
from dico_tf.files import json_files
from dico_tf.training.build import trained_run


def summarize(workdir: str | Path) -> str:
    """Evaluate a run's best weights on validation and test, add `final` to summary.json, and return `describe` of it.

    The table and `final` have the scores on test, or on validation if there is no test split. The evaluation and
    predictions files of both splits are written, too.
    """
    run = trained_run(workdir)
    model, parts = run.network(), load_splits(run)
    evaluations = {name: evaluate_split(run, model, name, parts) for name in ("validation", "test") if name in parts}
    evaluation = evaluations.get("test") or evaluations["validation"]
    summary = json_files.read_of_run(run.workdir / "summary.json")
    score = "miou" if evaluation.get("task") == "segmentation" else "top1"
    summary["final"] = {
        "split": evaluation["split"],
        "branches": [branch[score] for branch in evaluation["branches"]],
        "ensemble": evaluation["ensemble"][score],
    }
    json_files.write(run.workdir / "summary.json", summary)
    return describe(summary, evaluation)


def describe(summary: dict[str, Any], evaluation: dict[str, Any]) -> str:
    """Return a table for the terminal: cost of the undivided network, cost and scores of each branch and the ensemble.

    Lines about the best epoch, the branches' disagreement and the accuracy of each class follow.

    Args:
        summary: content of summary.json.
        evaluation: content of evaluation_<split>.json.
    """
    params, macs = summary["params"], summary["macs"]
    rows = []
    if params["whole"] is not None:
        rows.append(["whole budget", f"{params['whole']:,}", f"{macs['whole']:,}", None, None])
    for s, (branch, cost) in enumerate(zip(evaluation["branches"], branch_costs(summary), strict=True)):
        name = f"branch_{s}" + (f" ({cost['name']})" if "name" in cost else "")
        rows.append([name, f"{cost['params']:,}", f"{cost['macs']:,}", *_scores(branch)])
    total = [f"{params['branches']:,}", f"{macs['branches']:,}"]
    rows.append([f"ensemble ({evaluation['average']})", *total, *_scores(evaluation["ensemble"])])
    segmentation = evaluation.get("task") == "segmentation"
    scores = (
        (f"{evaluation['split']} mIoU %", "pixels %") if segmentation else (f"{evaluation['split']} top-1 %", "NLL")
    )
    headers = ["", "parameters", "multiply-adds", *scores]
    lines = [table(headers, rows, range(1, 5)), "", f"best epoch {summary['best_epoch'] + 1} of {summary['epochs']}"]
    if summary["selected_on_test"]:
        lines[-1] += ", chosen on the test images as the papers do: optimistic"
    what = "pixels" if segmentation else "images"
    lines.append(f"branches disagree on {100 * evaluation['diversity']['disagreement']:.1f} % of the {what}")
    return "\n".join([*lines, *per_class_lines(evaluation)])


def _scores(scores: dict[str, float]) -> list[str]:
    if "miou" in scores:
        return ["-" if scores[name] is None else f"{100 * scores[name]:.2f}" for name in ("miou", "pixel_accuracy")]
    return [f"{100 * scores['top1']:.2f}", f"{scores['nll']:.4f}"]
