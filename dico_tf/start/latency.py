"""Time of a network on this machine, by which a limit in milliseconds becomes one in multiply-adds."""

import statistics
import time

import numpy as np

from dico_tf.export.convert import network_to_tflite
from dico_tf.models.preset import Preset
from dico_tf.runtime.litert import LiteRT

CALLS = 20


def macs_per_millisecond(preset: Preset, image_size: int, classes: int) -> float:
    """Return the multiply-adds per millisecond of a preset as a float32 LiteRT file on one core, for single images."""
    network = LiteRT(network_to_tflite(preset.build(image_size, classes)), threads=1)
    image = np.zeros((1, image_size, image_size, 3), np.float32)
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        network.run(image, network.outputs[0])
        times.append(time.perf_counter() - start)
    return preset.cost(image_size, classes).macs / (1000 * statistics.median(times))
