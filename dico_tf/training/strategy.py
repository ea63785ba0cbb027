"""The devices that a run trains on: one, several GPUs, or several machines."""

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
    """A distribution strategy, and the position of this machine.

    Attributes:
        workers: number of machines, each with the same number of replicas.
        worker: number of this machine, from 0.
    """

    strategy: tf.distribute.Strategy
    workers: int = 1
    worker: int = 0

    @property
    def replicas(self) -> int:
        """Number of replicas on this machine."""
        return self.strategy.num_replicas_in_sync // self.workers

    @property
    def chief(self) -> bool:
        """True on the machine that writes files."""
        return self.worker == 0

    def distribute(self, make: Callable[[], tf.data.Dataset]):
        """Return the data set of `make` for training: a step takes one element for each replica of this machine."""
        if self.strategy.num_replicas_in_sync == 1:
            return make()
        return self.strategy.distribute_datasets_from_function(lambda _: make())


def share_threads(splits: int) -> bool:
    """Let TensorFlow run as many operations at once as the CPU has cores, each in one thread.

    Returns True if it changed these settings. Nothing is changed if there are fewer branches than cores or only one
    core, if there is a GPU, if the user's environment sets threads, or if TensorFlow was used before in this process.
    On two cores, this was never slower than TensorFlow's own setting, and up to a sixth faster.
    """
    cores = image_decoding.cores()
    user_set = {"TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"} & os.environ.keys()
    if splits < cores or cores == 1 or user_set or tf.config.list_physical_devices("GPU"):
        return False
    with contextlib.suppress(RuntimeError):  # TensorFlow was used before
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(cores)
        return True
    return False


def cluster() -> dict:
    """Return the content of TF_CONFIG; {} if it names fewer than two machines. Raises UserError if it is malformed."""
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        return {}
    try:
        description = json.loads(text)
        workers = [*description["cluster"].get("chief", []), *description["cluster"]["worker"]]
        description["task"]["type"], description["task"]["index"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"TF_CONFIG is not a cluster description ({error!r}): give "
            '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
        ) from None
    return description if len(workers) > 1 else {}


def devices(name: str) -> Devices:
    """Return the devices for --strategy=`name`. Raises UserError if TF_CONFIG is malformed.

    "auto": the machines of TF_CONFIG if it names several, else all GPUs if there are several, else one device.
    "mirrored": all GPUs of this machine, or all its logical CPUs if there is no GPU. "multi_worker": the machines of
    TF_CONFIG; raises UserError if it names fewer than two. "one": one device, the first GPU or else the CPU.
    """
    machines = cluster()
    if name == "multi_worker" and not machines:
        raise UserError("--strategy=multi_worker needs TF_CONFIG to name at least two workers")
    if name == "multi_worker" or (name == "auto" and machines):
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        task, chiefs = machines["task"], len(machines["cluster"].get("chief", []))
        index = task["index"] + (chiefs if task["type"] == "worker" else 0)
        workers = chiefs + len(machines["cluster"]["worker"])
        return Devices(strategy, workers=workers, worker=index)
    local = tf.config.list_logical_devices("GPU")
    if name == "mirrored":
        local = local or tf.config.list_logical_devices("CPU")
        return Devices(tf.distribute.MirroredStrategy([device.name for device in local]))
    if name == "auto" and len(local) > 1:
        return Devices(tf.distribute.MirroredStrategy([device.name for device in local]))
    return Devices(tf.distribute.get_strategy())


def share(batch_size: int, devices: Devices) -> int:
    """Return the batch size of one replica. Raises UserError if the batch cannot be divided equally."""
    count = devices.strategy.num_replicas_in_sync
    if batch_size % count:
        raise UserError(f"--batch_size={batch_size} does not divide among {count} replicas: give a multiple of {count}")
    return batch_size // count
