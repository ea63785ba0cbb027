"""A TFDS builder by its name, and its files on this machine; or one message that says why not."""

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
_RETRIES = 5  # of a download, 12 seconds together; TFDS's own 10 take more than three minutes without a network


def prepare(found: Any, data_dir: str) -> None:
    """Downloads and prepares what is not there."""
    if found.is_prepared():
        return
    _check_folder(found, data_dir)
    try:
        with _few_retries():
            found.download_and_prepare()
    except Exception as error:  # downloads, archives, parsers and missing packages raise any kind
        raise UserError(_not_there(found, error)) from error


def builder(data: Data) -> Any:
    """What --dataset names; its files need not be there yet."""
    import tensorflow_datasets as tfds

    if not re.match(r"\w+(?=[:/]|$)", data.dataset):  # TFDS's spelling: name[/config][:version]
        raise UserError(f"unknown data set {data.dataset!r}; {_near(data.dataset)}")
    place = Path(data.data_dir).expanduser() if data.data_dir else None
    try:
        with _quiet("absl"):  # it warns of every folder that is not there
            return tfds.builder(data.dataset, data_dir=place)
    except tfds.core.DatasetNotFoundError:
        raise UserError(f"unknown data set {data.dataset!r}; {_near(data.dataset)}") from None
    except Exception as error:  # versions and configs each fail in their own way
        raise UserError(f"--dataset={data.dataset}: {_first_line(error)}") from error


def _near(name: str) -> str:
    import tensorflow_datasets as tfds

    ours = ["digits", *KNOWN, "folder:DIR"]
    known = sorted({*ours, *tfds.list_builders(with_community_datasets=False)})
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"give {', '.join(dict.fromkeys(ours))}, or an image set of {_CATALOGUE}"


def _check_folder(found: Any, data_dir: str) -> None:
    """Refuses the data set's own folder in place of the one that contains it."""
    given = Path(data_dir).expanduser().absolute() if data_dir else Path()
    inside = [folder for folder in (given, *given.parents) if folder.name == found.name]
    if inside and any(given.glob(pattern + "dataset_info.json") for pattern in ("", "*/", "*/*/")):
        raise UserError(
            f"--data_dir={data_dir} is {found.name}'s own: give the folder that contains it, {inside[0].parent}"
        )


def _not_there(found: Any, error: Exception) -> str:
    name, version = found.info.full_name.rsplit("/", 1)
    return (
        f"{name} is not prepared in {found.data_dir_root} and could not be downloaded there ({_first_line(error)}).\n"
        f"--data_dir must be the folder that contains {name}/{version}. Without a network, prepare it elsewhere with\n"
        f"""  python -c 'import tensorflow_datasets as tfds; tfds.load("{name}", data_dir="DIR")'\n"""
        "copy DIR here and give --data_dir=DIR"
    )


def _first_line(error: BaseException) -> str:
    """What a person needs of an error; of a failed connection only that it failed, and to where."""
    host = getattr(getattr(error, "request", None), "url", "")
    if isinstance(error, (ConnectionError, urllib.error.URLError)) or host:
        return f"no connection to {host or 'the server'}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


@contextlib.contextmanager
def _few_retries() -> Iterator[None]:
    """A missing network is said in seconds, and once."""
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
