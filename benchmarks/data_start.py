"""Seconds from the start of a run until CIFAR-10 is loaded: decoded anew, and read from the cache of decoded images.

python -m benchmarks.data_start --data_dir=DIR [--repeats=5]
Both take turns in one process. The index of the files is cached in both cases.
"""

import dataclasses
import os
import shutil
import tempfile
from pathlib import Path

from dico_tf import flags, startup
from dico_tf.config import option

BAR = 4.0  # seconds that the second start is sooner


@dataclasses.dataclass(frozen=True, kw_only=True)
class Starts:
    data_dir: str = option("", "folder of the prepared CIFAR-10 (default: TFDS's own)")
    repeats: int = option(5, "starts of each kind", at_least=5)


SCRIPT = flags.Script(name="-m benchmarks.data_start", about=__doc__, fields=flags.of(Starts))


def main(arguments: list[str]) -> None:
    settings = Starts(**flags.parse(SCRIPT, arguments)[0])
    startup.tensorflow()
    from benchmarks.measure import emit, interleaved
    from dico_tf.config import Data
    from dico_tf.data import source

    def load() -> None:
        source.load(Data(dataset="cifar10", data_dir=settings.data_dir), seed=0)

    def decode() -> None:
        shutil.rmtree(Path(cache) / "dico_tf" / "decoded", ignore_errors=True)
        load()

    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        seconds = interleaved({"decoded": decode, "cached": load}, settings.repeats)
    for name, value in seconds.items():
        emit(f"start_{name}", value, "s")
    emit("start_gain", seconds["decoded"] - seconds["cached"], "s", BAR)


if __name__ == "__main__":
    flags.run(main)
