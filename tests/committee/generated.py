"""Members that are right as often as they are told, and as sure as that makes them."""

import numpy as np

from dico_tf.committee.pool import Pool
from dico_tf.evaluation.cost import Cost


def pool(images=400, members=3, classes=10, seed=0, prefix="image", skill=None):
    """Logits = a share of the truth + noise they partly have in common: later members are better and cost more."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, images)
    hard = random.gamma(2.0, 0.5, (images, 1))
    common = random.normal(size=(images, classes))
    logits = {}
    for k in range(members):
        strength = skill[k] if skill else 2.0 + 1.5 * k
        noise = 0.6 * common + 0.8 * random.normal(size=(images, classes))
        values = 1.5 * noise
        values[np.arange(images), labels] += strength / (0.3 + hard[:, 0])
        logits[f"m{k}"] = values.astype(np.float32)
    costs = {f"m{k}": Cost(macs=10.0 * 3**k, params=k + 1.0, milliseconds=1.0 + 2 * k) for k in range(members)}
    return Pool(logits=logits, labels=labels, ids=np.array([f"{prefix}_{n}" for n in range(images)]), costs=costs)
