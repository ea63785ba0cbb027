"""Study of submodels at toy scale: a small ViT and a small ConvNeXt on CIFAR-10, with and without submodels.

python -m benchmarks.study_cosub --data_dir=DIR [--minutes=8] [--seeds=0,1,2]
Each network is trained alone, alone for twice the epochs, and with submodels. Twice the epochs cost as much as
submodels, which see every image twice. All arms drop residual branches at the same rate and use binary targets. The ViT
is also divided in two branches of half its multiply-adds each: with views and agreement for twice the epochs, and with
submodels. A finished run of an undivided network is also evaluated with a quarter of its residual branches left out, as
the mean of eight random choices. Runs for at most --minutes; call it again until all runs are finished. Each finished
run appends one line to benchmarks/results/study_cosub.jsonl; --table prints means and standard deviations.
"""

from pathlib import Path

import numpy as np

from benchmarks.study import Piece, Study, go_on, spread
from dico_tf import flags, startup

NETWORKS = {"ViT": "cifar10_cosub_vit", "ConvNeXt": "cifar10_cosub_convnext"}
EPOCHS, WARMUP = 5, 1
DIVIDED = ["--splits=2", "--division=macs", "--agreement=js", "--agreement_weight=0.5", "--agreement_warmup_epochs=2"]
DRAWS = 8  # random choices of a quarter of the residual branches


def arms() -> dict[str, list[str]]:
    """Return the flags of train.py for each arm."""
    once, twice = f"--epochs={EPOCHS}", f"--epochs={2 * EPOCHS}"
    flags_of = {}
    for name, recipe in NETWORKS.items():
        recipe_flags = [f"--flagfile=configs/{recipe}.flags", f"--warmup_epochs={WARMUP}"]
        alone = [*recipe_flags, "--method=dico", "--target=binary"]
        flags_of[f"{name} alone"] = [*alone, once]
        flags_of[f"{name} alone, twice as long"] = [*alone, twice]
        flags_of[f"{name} with submodels"] = [*recipe_flags, once]
        if name == "ViT":
            flags_of[f"{name} divided in 2, twice as long"] = [*alone, *DIVIDED, twice]
            flags_of[f"{name} divided in 2 with submodels"] = [*recipe_flags, *DIVIDED, "--method=dico+cosub", once]
    return flags_of


ARMS = arms()
SCRIPT = flags.Script(name="-m benchmarks.study_cosub", about=__doc__, fields=flags.of(Piece))


def thinned(folder: Path, data_dir: str) -> dict:
    """Return a network's test accuracies with a random quarter of its residual branches left out."""
    startup.tensorflow()
    from dico_tf.data import source as sources
    from dico_tf.models.submodel import droppable, without
    from dico_tf.training import build

    run = build.trained_run(folder)
    if run.config.network.splits > 1:
        return {}
    options = build.data_options(run.config)
    split = sources.load(options, run.config.run.seed).splits["test"]
    (whole,) = run.network().branches
    names, accuracies = droppable(whole), []
    removed = max(1, round(len(names) / 4))
    for draw in range(DRAWS):
        chosen = np.random.default_rng(draw).choice(names, removed, replace=False)
        logits = without(whole, set(chosen.tolist())).predict(split.images, batch_size=250, verbose=0)
        accuracies.append(float((logits.argmax(1) == split.labels).mean()))
    return {"thinned_top1": accuracies}


def table(finished: list[dict]) -> str:
    """Return a Markdown table of means and standard deviations over the seeds."""
    lines = [
        "| network | runs | parameters | multiply-adds | epochs | top-1 % | NLL | top-1 %, 3/4 deep |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arm in ARMS:
        rows = [row for row in finished if row["arm"] == arm]
        if rows:
            thinned = [100 * float(np.mean(row["thinned_top1"])) for row in rows if "thinned_top1" in row]
            cells = [
                spread([100 * row["ensemble_top1"] for row in rows]),
                spread([row["ensemble_nll"] for row in rows], 3),
                spread(thinned) if thinned else "",
            ]
            cost = f"{rows[0]['params']:,} | {rows[0]['macs'] / 1e6:.0f} M | {rows[0]['epochs']}"
            lines.append(f"| {arm} | {len(rows)} | {cost} | {' | '.join(cells)} |")
    return "\n".join(lines)


STUDY = Study(name="study_cosub", arms=ARMS, table=table, more=thinned)


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    go_on(STUDY, Piece(**values))


if __name__ == "__main__":
    flags.run(main)
