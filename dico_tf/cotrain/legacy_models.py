"""Classes of models that earlier versions saved. All of them are `DiCo` now."""

from typing import Any

import keras

from dico_tf.cotrain.dico import DiCo


@keras.saving.register_keras_serializable("dico_tf")
class Submodels(DiCo):
    """Saved name of a `DiCo` whose default method is cosub, or dico+cosub if it has several branches."""

    def __init__(self, model: str | dict[str, Any], splits: int = 1, **settings: Any):
        settings.setdefault("method", "cosub" if splits == 1 else "dico+cosub")
        super().__init__(model, splits, **settings)


@keras.saving.register_keras_serializable("dico_tf")
class Segmenter(DiCo):
    """Saved name of a `DiCo` of a segmentation network."""


@keras.saving.register_keras_serializable("dico_tf")
class PixelSubmodels(Submodels):
    """Saved name of a `DiCo` of a segmentation network with method cosub or dico+cosub."""
