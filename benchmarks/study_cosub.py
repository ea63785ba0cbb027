"""What submodels give at toy scale: a small ViT and a small ConvNeXt on CIFAR-10, with them and without.

python -m benchmarks.study_cosub --data_dir=DIR [--minutes=8] [--seeds=0,1,2]
Arms of each network, all with the same rate of dropped residual branches and the same binary targets: alone; alone for
twice the epochs, which costs what submodels cost, since they see every image twice; and with submodels. The ViT is also
divided in two of half its multiply-adds each: with views and agreement for twice the epochs, and with submodels. Each
run of one network that has finished is also judged with a quarter of its residual branches left out, the mean of eight
draws. One piece takes at most --minutes; call it again until all runs are finished. Each of these appends one line to
benchmarks/results/study_cosub.jsonl; --table prints mean and spread of what is there.
"""

from pathlib import Path

import numpy as np

from benchmarks.study import Piece, Study, go_on, spread
from dico_tf import flags, startup

NETWORKS = {"ViT": "cifar10_cosub_vit", "ConvNeXt": "cifar10_cosub_convnext"}
EPOCHS, WARMUP = 5, 1
DIVIDED = ["--splits=2", "--division=macs", "--agreement=js", "--agreement_weight=0.5", "--agreement_warmup_epochs=2"]
DRAWS = 8  # of a quarter of the residual branches


def arms() -> dict[str, list[str]]:
    once, twice = f"--epochs={EPOCHS}", f"--epochs={2 * EPOCHS}"
    found = {}
    for name, recipe in NETWORKS.items():
        told = [f"--flagfile=configs/{recipe}.flags", f"--warmup_epochs={WARMUP}"]
        alone = [*told, "--method=dico", "--target=binary"]
        found[f"{name} alone"] = [*alone, once]
        found[f"{name} alone, twice as long"] = [*alone, twice]
        found[f"{name} with submodels"] = [*told, once]
        if name == "ViT":
            found[f"{name} divided in 2, twice as long"] = [*alone, *DIVIDED, twice]
            found[f"{name} divided in 2 with submodels"] = [*told, *DIVIDED, "--method=dico+cosub", once]
    return found


ARMS = arms()
SCRIPT = flags.Script(name="-m benchmarks.study_cosub", about=__doc__, fields=flags.of(Piece))


def thinned(folder: Path, data_dir: str) -> dict:
    """Top-1 of one network on the test images with a quarter of its residual branches left out, of each draw."""
    startup.tensorflow()
    from dico_tf.data import source as sources
    from dico_tf.models.submodel import droppable, without
    from dico_tf.training import build

    run = build.trained_run(folder)
    if run.config.network.splits > 1:
        return {}
    asked = build.data_options(run.config)
    split = sources.load(asked, run.config.run.seed).splits["test"]
    (whole,) = run.network().branches
    names, found = droppable(whole), []
    removed = max(1, round(len(names) / 4))
    for draw in range(DRAWS):
        chosen = np.random.default_rng(draw).choice(names, removed, replace=False)
        logits = without(whole, set(chosen.tolist())).predict(split.images, batch_size=250, verbose=0)
        found.append(float((logits.argmax(1) == split.labels).mean()))
    return {"thinned_top1": found}


def table(finished: list[dict]) -> str:
    """Markdown: mean and standard deviation over the seeds."""
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
