"""The devices a run trains on; the same command runs everywhere."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable

import tensorflow as tf

from dico_tf.data import image_decoding
from dico_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class Devices:
    """`worker` of `workers` machines, each with the same number of replicas."""

    strategy: tf.distribute.Strategy
    workers: int = 1
    worker: int = 0

    @property
    def replicas(self) -> int:
        """On this machine."""
        return self.strategy.num_replicas_in_sync // self.workers

    @property
    def chief(self) -> bool:
        return self.worker == 0

    def distribute(self, make: Callable[[], tf.data.Dataset]):
        """A data set whose elements go to this machine's replicas in turn."""
        if self.strategy.num_replicas_in_sync == 1:
            return make()
        return self.strategy.distribute_datasets_from_function(lambda _: make())


def share_threads(splits: int) -> bool:
    """Give each branch a thread of its own. Return whether that was done.

    On processors alone, as many branches at once as there are cores, each operation in one thread.

    Only where branches are enough for all cores; measured on two, it is never slower and up to a sixth faster.
    Left alone is what the user's environment says, and a process in which TensorFlow has begun already.
    """
    cores = image_decoding.cores()
    asked = {"TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"} & os.environ.keys()
    if splits < cores or cores == 1 or asked or tf.config.list_physical_devices("GPU"):
        return False
    with contextlib.suppress(RuntimeError):  # TensorFlow has begun
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(cores)
        return True
    return False


def cluster() -> dict:
    """TF_CONFIG, checked; {} without one or for one worker."""
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
        workers = [*found["cluster"].get("chief", []), *found["cluster"]["worker"]]
        found["task"]["type"], found["task"]["index"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"TF_CONFIG is not a cluster description ({error!r}): give "
            '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
        ) from None
    return found if len(workers) > 1 else {}


def devices(name: str) -> Devices:
    """auto: several machines where TF_CONFIG names them, else all GPUs, else one device."""
    found = cluster()
    if name == "multi_worker" and not found:
        raise UserError("--strategy=multi_worker needs TF_CONFIG to name at least two workers")
    if name == "multi_worker" or (name == "auto" and found):
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        task = found["task"]
        index = task["index"] + (len(found["cluster"].get("chief", [])) if task["type"] == "worker" else 0)
        workers = len(found["cluster"].get("chief", [])) + len(found["cluster"]["worker"])
        return Devices(strategy, workers=workers, worker=index)
    local = tf.config.list_logical_devices("GPU")
    if name == "mirrored":
        local = local or tf.config.list_logical_devices("CPU")
        return Devices(tf.distribute.MirroredStrategy([device.name for device in local]))
    if name == "auto" and len(local) > 1:
        return Devices(tf.distribute.MirroredStrategy([device.name for device in local]))
    return Devices(tf.distribute.get_strategy())


def share(batch_size: int, devices: Devices) -> int:
    """A replica's part of the batch."""
    count = devices.strategy.num_replicas_in_sync
    if batch_size % count:
        raise UserError(f"--batch_size={batch_size} does not divide among {count} replicas: give a multiple of {count}")
    return batch_size // count
