"""Any functional or sequential Keras network, divided."""

import keras

from dico_tf.divide.networks.plan import Plan, plan


class Branches(list):
    """Keras models of one architecture, each with weights of its own; `plan` says what they are and what they cost."""

    def __init__(self, plan: Plan, models: list[keras.Model]):
        super().__init__(models)
        self.plan = plan


def divide_model(model: keras.Model, splits: int, budget: str = "params", tolerance: float = 0.02) -> Branches:
    """S narrower networks that together cost what `model` does.

    `budget` says in what: "params" or "macs". Where no widths bring it within `tolerance`, the nearest are taken;
    `.plan.distance` and `.plan.met` tell.
    """
    chosen = plan(model, splits, budget, tolerance)
    return Branches(chosen, [chosen.build(f"branch_{n}") for n in range(splits)])
