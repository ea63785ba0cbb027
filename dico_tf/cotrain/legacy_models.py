"""Names under which earlier versions saved models; `DiCo` is all of them now."""

from typing import Any

import keras

from dico_tf.cotrain.dico import DiCo


@keras.saving.register_keras_serializable("dico_tf")
class Submodels(DiCo):
    """A `DiCo` whose method is cosub."""

    def __init__(self, model: str | dict[str, Any], splits: int = 1, **settings: Any):
        settings.setdefault("method", "cosub" if splits == 1 else "dico+cosub")
        super().__init__(model, splits, **settings)


@keras.saving.register_keras_serializable("dico_tf")
class Segmenter(DiCo):
    """A `DiCo` of a segmentation network."""


@keras.saving.register_keras_serializable("dico_tf")
class PixelSubmodels(Submodels):
    """A `DiCo` of a segmentation network whose method is cosub."""
