"""Image files with equal bytes."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence

from dico_tf.data import image_decoding

PARTS_TO_KEEP = ("test", "val", "train", "")  # of equal files in several parts, that of the first of these is kept


def duplicates(parts: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return {path: path of the file that is kept} of all files but one in each group of equal bytes.

    The file of test is kept before that of val, and that of val before that of train. In one part, the first path is.

    Args:
        parts: {"train", "val", "test" or "": paths}.
    """
    paths = [path for part in sorted(parts, key=PARTS_TO_KEEP.index) for path in parts[part]]
    by_size = defaultdict(list)
    for path in paths:
        by_size[os.path.getsize(path)].append(path)
    candidates = {path for group in by_size.values() if len(group) > 1 for path in group}
    candidates = [path for path in paths if path in candidates]
    digests = image_decoding.pool().map(_digest, candidates)
    digests = image_decoding.progress(digests, len(candidates), "comparing images")
    first: dict[bytes, str] = {}
    return {
        path: first[digest]
        for path, digest in zip(candidates, digests, strict=True)
        if first.setdefault(digest, path) != path
    }


def _digest(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
