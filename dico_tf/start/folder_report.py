"""Report on a folder of images: classes, sizes, unreadable files and duplicates."""

import dataclasses
import hashlib
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path

from dico_tf.data import folder_layout, image_decoding
from dico_tf.data.duplicates import duplicates
from dico_tf.data.folder_layout import counted
from dico_tf.errors import UserError

SEGMENTATION = {"images", "masks"}  # folders of images for --task=segmentation
UNBALANCED = 3  # from this ratio of the largest to the smallest class, classes are weighted
FEW = 10  # images of a class, below which a warning is given


@dataclasses.dataclass(frozen=True, kw_only=True)
class FolderReport:
    """The images of a folder that can be used, and the others.

    Attributes:
        parts: {part: {class: number of images that can be used}}; the only part of DIR/CLASS/* is "".
        short_side: median of the images' shorter sides, in pixels.
        unreadable: number of files that cannot be read.
        copies: number of files that are left out because another one has the same bytes.
        leaked: number of copies that lie in another part than the file that is kept.
        mislabelled: number of copies that lie in another class than the file that is kept.
        fingerprint: checksum of the names and sizes of all files.
    """

    folder: Path
    parts: Mapping[str, Mapping[str, int]]
    short_side: int
    unreadable: int
    copies: int
    leaked: int
    mislabelled: int
    fingerprint: str

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, sorted."""
        return tuple(next(iter(self.parts.values())))

    @property
    def training(self) -> Mapping[str, int]:
        """{class: number of images} in the part "train", or in the only part.

        If the folder has no part "test" or "val", these counts include the images that will be drawn for it.
        """
        return self.parts.get("train", next(iter(self.parts.values())))

    @property
    def unbalanced(self) -> bool:
        """True if the largest class has at least three times as many images in `training` as the smallest."""
        return max(self.training.values()) >= UNBALANCED * min(self.training.values())

    def lines(self) -> Iterator[str]:
        """Yield what a person should know about the folder."""
        total = sum(sum(classes.values()) for classes in self.parts.values())
        least, most = min(self.training.values()), max(self.training.values())
        each = f"{least} each" if least == most else f"{least} to {most} each"
        where = ", ".join(part for part in self.parts if part)
        test = f"in {where}" if "test" in self.parts else "a fifth is drawn for the test"
        yield f"images     {total} of {len(self.classes)} classes, {each}; {test}; short side {self.short_side} pixels"
        if self.unreadable:
            yield f"unreadable {counted(self.unreadable, 'file', 'files')}, left out"
        if self.copies:
            also = [
                f"{number} of them {where}"
                for number, where in ((self.leaked, "in another part"), (self.mislabelled, "in another class"))
                if number
            ]
            yield f"duplicates {'; '.join([counted(self.copies, 'file', 'files'), *also])}, left out"
        if least < FEW:
            yield f"few images a class has only {least}: expect little of it, and add some"


def look(folder: Path) -> FolderReport:
    """Open every image of a folder and report on it. Raises UserError if no classifier can be trained on it."""
    names = set(folder_layout.folders(folder)) if folder.is_dir() else set()
    inner = set(folder_layout.folders(folder / "train")) if "train" in names else names
    if inner >= SEGMENTATION:
        raise UserError(
            f"{folder} has images and masks, for which there is no plan: see docs/segmentation.md for training with "
            "--task=segmentation"
        )
    listing = folder_layout.listing(folder)
    place = {path: (part, name) for part, classes in listing.items() for name in classes for path in classes[name]}
    checks = image_decoding.check_all(place)
    sizes = {path: size for path, size in checks.items() if not isinstance(size, Exception)}
    copies = duplicates(
        {
            part: [path for members in classes.values() for path in members if path in sizes]
            for part, classes in listing.items()
        }
    )
    usable = sizes.keys() - copies.keys()
    parts = {
        part: {name: len(usable & set(members)) for name, members in classes.items()}
        for part, classes in listing.items()
    }
    empty = [str(Path(part) / name) for part, classes in parts.items() for name, count in classes.items() if not count]
    if empty:
        raise UserError(
            f"{folder} has no image that can be used in {', '.join(empty)}: all are unreadable or copies of others; "
            "add images, or remove these folders"
        )
    return FolderReport(
        folder=folder,
        parts=parts,
        short_side=round(statistics.median(min(sizes[path]) for path in usable)),
        unreadable=len(place) - len(sizes),
        copies=len(copies),
        leaked=sum(place[path][0] != place[original][0] for path, original in copies.items()),
        mislabelled=sum(place[path][1] != place[original][1] for path, original in copies.items()),
        fingerprint=_fingerprint(folder, list(place)),
    )


def _fingerprint(folder: Path, paths: list[str]) -> str:
    lines = (f"{Path(path).relative_to(folder).as_posix()} {Path(path).stat().st_size}" for path in sorted(paths))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
