"""Summary of a finished run: cost and accuracy of each branch and of the ensemble. It reads files only."""

from typing import Any

from dico_tf.config import Config, from_json, to_values
from dico_tf.errors import UserError
from dico_tf.evaluation.cost import branch_costs
from dico_tf.evaluation.interpretation import interpret
from dico_tf.evaluation.table import per_class_lines, table
from dico_tf.files.json_files import read_of_run
from dico_tf.training import workdir


def summary_of_finished(config: Config) -> str:
    """Return the `describe` of a run that is finished and evaluated with exactly these settings, else "".

    Raises UserError if another process is training in its folder.
    """
    folder = workdir.folder_of(config)
    try:
        summary, before = read_of_run(folder / "summary.json"), from_json(workdir.record(folder)["config"])
        split = (summary.get("final") or {}).get("split")  # only an evaluated run has one
        if summary["status"] != "finished" or not split or _without_folder(before) != _without_folder(config):
            return ""
        evaluation = read_of_run(folder / f"evaluation_{split}.json")
    except UserError:
        return ""
    if summary["final"] != final_scores(evaluation):  # evaluated again, in another way
        return ""
    workdir.Claim(folder).release()
    early = ", stopped early by --patience" if summary.get("stopped_early") else ""
    return f"{folder} is finished: {summary['epochs']} epochs{early}\n{describe(summary, evaluation)}"


def _without_folder(config: Config) -> dict[str, Any]:
    return {**to_values(config), "workdir": ""}


def final_scores(evaluation: dict[str, Any]) -> dict[str, Any]:
    """Return the entry `final` of summary.json: split, and top-1 accuracy or mIoU of the branches and the ensemble."""
    score = "miou" if evaluation.get("task") == "segmentation" else "top1"
    return {
        "split": evaluation["split"],
        "branches": [branch[score] for branch in evaluation["branches"]],
        "ensemble": evaluation["ensemble"][score],
    }


def describe(summary: dict[str, Any], evaluation: dict[str, Any]) -> str:
    """Return a table for the terminal: cost of the undivided network, cost and scores of each branch and the ensemble.

    Lines about the best epoch, the branches' disagreement and the accuracy of each class follow, and a sentence that
    interprets the table.

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
    return "\n".join([*lines, *per_class_lines(evaluation), *interpret(summary, evaluation)])


def _scores(scores: dict[str, float]) -> list[str]:
    if "miou" in scores:
        return ["-" if scores[name] is None else f"{100 * scores[name]:.2f}" for name in ("miou", "pixel_accuracy")]
    return [f"{100 * scores['top1']:.2f}", f"{scores['nll']:.4f}"]
