"""The backbones of all branches in fine-tuning: frozen layers, kept batch statistics, and their learning rate."""

from collections.abc import Callable, Sequence

import keras

from dico_tf.config import Settings
from dico_tf.layers import keras_internals


class Backbones:
    """The layers below the heads of all branches.

    The layers in `frozen_layers`, and with freeze=backbone all, are set to `trainable=False`, which Keras' batch
    normalisation takes as inference. With freeze=N, the backbone is frozen in the first N epochs. Its variables stay
    trainable, so that the optimizer has the same variables in all epochs; in these N epochs their steps are multiplied
    by 0, and their batch normalisation computes as in inference. With batch_statistics=keep it does so in all epochs,
    and layers in `inference_layers` always do.

    Args:
        learners: the networks that are trained, one for each branch.
        is_head: (name of a layer) -> True if it belongs to a head.
        settings: `freeze`, `backbone_lr`, `batch_statistics`, `frozen_layers` and `inference_layers`.
    """

    def __init__(self, learners: Sequence[keras.Model], is_head: Callable[[str], bool], settings: Settings):
        self._epochs, self._rate = settings.frozen_epochs, settings.backbone_lr
        self._keep = settings.batch_statistics == "keep"
        self.frozen = self._epochs > 0
        self.owner_frozen: list[str] = []  # layers of `frozen_layers`
        self._variables: set[int] = set()  # ids of the backbones' variables
        self._norms: set[int] = set()  # ids of the backbones' batch normalisations
        self._inferring: set[int] = set()  # ids of layers that always compute as in inference
        for s, learner in enumerate(learners):
            for layer in (layer for layer in learner.layers if not is_head(layer.name)):
                name = f"branch_{s}/{layer.name}"
                if name in settings.frozen_layers:
                    self.owner_frozen.append(name)
                if name in settings.frozen_layers or settings.freeze == "backbone":
                    layer.trainable = False
                self._take(layer, name in settings.inference_layers)

    def _take(self, layer: keras.layers.Layer, inference: bool) -> None:
        self._variables |= {id(variable) for variable in layer.variables}
        for part in keras_internals.sublayers(layer):
            if inference and keras_internals.takes_training(part):
                keras_internals.infer_while(part, lambda: True)
                self._inferring.add(id(part))
            elif isinstance(part, keras.layers.BatchNormalization):
                self._norms.add(id(part))
                if self._keep or self._epochs:
                    keras_internals.infer_while(part, lambda: self._keep or self.frozen)

    def begin_epoch(self, epoch: int) -> bool:
        """Freeze the backbones if the epoch, from 0, is one of the first N of freeze=N, else let them learn.

        Returns True if that is a change, after which training steps must be traced again.
        """
        before, self.frozen = self.frozen, epoch < self._epochs
        return self.frozen != before

    @property
    def scale_steps(self) -> bool:
        """True if `factor` can be other than 1."""
        return self._epochs > 0 or self._rate != 1

    def factor(self, variable: keras.Variable) -> float:
        """Return the factor of a variable's optimizer steps: 1 in a head, else `backbone_lr`, or 0 while frozen."""
        if id(variable) not in self._variables:
            return 1.0
        return 0.0 if self.frozen else self._rate

    def keeps_statistics(self, norm: keras.layers.BatchNormalization) -> bool:
        """Return True if training leaves the moving statistics of a layer as they are, at present."""
        fixed = id(norm) in self._norms and (self._keep or self.frozen)
        return fixed or id(norm) in self._inferring or not norm.trainable
