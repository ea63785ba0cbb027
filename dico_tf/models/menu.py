"""Every preset by its paper's name. A new family is one file and one line here."""

import dataclasses
from types import ModuleType
from typing import Any

import keras

from dico_tf.layers.image import Normalisation
from dico_tf.models import resnet, wrn
from dico_tf.registry import Registry

FAMILIES = (resnet, wrn)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """A family (its module: Spec, divide, build, LAYOUT, SPLITS) and the whole network's Spec."""

    name: str
    family: ModuleType
    spec: Any

    def divided(self, splits: int) -> "Preset":
        """The branch of S; S = 1 changes nothing."""
        spec = self.family.divide(self.spec, splits) if splits > 1 else self.spec
        return dataclasses.replace(self, spec=spec)

    def build(self, image_size: int, classes: int, normalisation: Normalisation = Normalisation()) -> keras.Model:
        return self.family.build(self.spec, image_size, classes, normalisation)


PRESETS: Registry[Preset] = Registry("model")
for _family in FAMILIES:
    for _name, _spec in _family.PRESETS.items():
        PRESETS.add(_name, Preset(name=_name, family=_family, spec=_spec))
