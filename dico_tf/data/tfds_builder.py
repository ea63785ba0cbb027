"""Finding a dataset of TensorFlow Datasets (TFDS) and preparing its files, with one clear message on failure."""

import contextlib
import difflib
import logging
import re
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dico_tf.config import Data
from dico_tf.data.known_datasets import KNOWN
from dico_tf.errors import UserError

_CATALOGUE = "https://www.tensorflow.org/datasets/catalog"
_RETRIES = 5  # per download: 12 seconds without a network; TFDS's default of 10 takes over three minutes


def prepare(builder: Any, data_dir: str) -> None:
    """Download and prepare the dataset if its files are not there. Raises UserError if that fails.

    Args:
        data_dir: the --data_dir that the builder was made with, to report one that is the wrong folder; "" = none.
    """
    if builder.is_prepared():
        return
    _check_folder(builder, data_dir)
    try:
        with _few_retries():
            builder.download_and_prepare()
    except Exception as error:  # downloads, archives, parsers and missing packages raise any kind
        raise UserError(_not_there(builder, error)) from error


def builder(data: Data) -> Any:
    """Return TFDS's builder of the dataset that --dataset names; its files need not be there yet.

    Raises:
        UserError: if TFDS does not know the dataset, its version or its config.
    """
    import tensorflow_datasets as tfds

    if not re.match(r"\w+(?=[:/]|$)", data.dataset):  # TFDS's spelling: name[/config][:version]
        raise UserError(f"unknown dataset {data.dataset!r}; {_near(data.dataset)}")
    folder = Path(data.data_dir).expanduser() if data.data_dir else None
    try:
        with _quiet("absl"):  # it warns of every missing folder
            return tfds.builder(data.dataset, data_dir=folder)
    except tfds.core.DatasetNotFoundError:
        raise UserError(f"unknown dataset {data.dataset!r}; {_near(data.dataset)}") from None
    except Exception as error:  # unknown versions and configs raise several kinds
        raise UserError(f"--dataset={data.dataset}: {_first_line(error)}") from error


def _near(name: str) -> str:
    import tensorflow_datasets as tfds

    ours = ["digits", *KNOWN, "folder:DIR"]
    known = sorted({*ours, *tfds.list_builders(with_community_datasets=False)})
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"give {', '.join(dict.fromkeys(ours))}, or an image set of {_CATALOGUE}"


def _check_folder(builder: Any, data_dir: str) -> None:
    """Raise UserError if --data_dir is the dataset's own folder, or within it, instead of the one that contains it."""
    given = Path(data_dir).expanduser().absolute() if data_dir else Path()
    inside = [folder for folder in (given, *given.parents) if folder.name == builder.name]
    if inside and any(given.glob(pattern + "dataset_info.json") for pattern in ("", "*/", "*/*/")):
        raise UserError(
            f"--data_dir={data_dir} is the folder of {builder.name} itself, or within it: give the folder that "
            f"contains it, {inside[0].parent}"
        )


def _not_there(builder: Any, error: Exception) -> str:
    name, version = builder.info.full_name.rsplit("/", 1)
    return (
        f"{name} is not prepared in {builder.data_dir_root} and could not be downloaded there ({_first_line(error)}).\n"
        f"--data_dir must be the folder that contains {name}/{version}. Without a network, prepare it elsewhere with\n"
        f"""  python -c 'import tensorflow_datasets as tfds; tfds.load("{name}", data_dir="DIR")'\n"""
        "copy DIR here and give --data_dir=DIR"
    )


def _first_line(error: BaseException) -> str:
    """Return the type and first line of an error, or "no connection to URL" for any failed web request."""
    host = getattr(getattr(error, "request", None), "url", "")
    if isinstance(error, (ConnectionError, urllib.error.URLError)) or host:
        return f"no connection to {host or 'the server'}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


@contextlib.contextmanager
def _few_retries() -> Iterator[None]:
    """Limit TFDS's retries of a download within this block, so that a missing network is reported in seconds."""
    from tensorflow_datasets.core.download import downloader

    retries = getattr(downloader, "MAX_RETRIES", _RETRIES)
    downloader.MAX_RETRIES = _RETRIES
    try:
        with _quiet("urllib3.connectionpool"):
            yield
    finally:
        downloader.MAX_RETRIES = retries


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    log = logging.getLogger(name)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
