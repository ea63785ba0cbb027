"""Labels from a CSV file, --dataset=folder:DIR/labels.csv, with the columns image, label and optionally split."""

import csv
from pathlib import Path

from dico_tf.data.folder_layout import PARTS, Listing, counted, several
from dico_tf.errors import UserError
from dico_tf.registry import suggestion

SUFFIX = ".csv"
IMAGES = "images"  # folder beside the table in which images may lie
_LARGEST = 1_000_000  # bound of numeric labels


def is_table(path: Path) -> bool:
    """Return True if the path ends in .csv and is not a folder. The file need not exist."""
    return path.suffix.lower() == SUFFIX and not path.is_dir()


def listing(path: Path) -> Listing:
    """Return {part: {class: [paths of images]}} of a CSV file.

    If all labels are whole numbers, the classes are class_0, class_1 .. up to the largest, also those without images.
    Otherwise labels are class names, sorted. Without a column split, all images are test images.

    Raises:
        UserError: if the file or an image is missing, if a column or a row cannot be used, or if there is only one
            class.
    """
    rows = _rows(path)
    numbers = all(row["label"].isascii() and row["label"].isdigit() for row in rows)
    if numbers:
        largest = max(int(row["label"]) for row in rows)
        if largest >= _LARGEST:
            raise UserError(
                f"{path}: expected class numbers below {_LARGEST:,}, got {largest}: number the classes from 0, or give "
                "them names"
            )
        names = [f"class_{n}" for n in range(largest + 1)]
    else:
        names = sorted({row["label"] for row in rows})
    if len(names) < 2:
        raise UserError(f"{path} has one class only, {names[0]}: at least two are needed")
    parts = [part for part in PARTS if part in {row["split"] for row in rows}]
    listing: Listing = {part: {name: [] for name in names} for part in parts}
    places = _places(path, [row["image"] for row in rows])
    for row, place in zip(rows, places, strict=True):
        listing[row["split"]][names[int(row["label"])] if numbers else row["label"]].append(str(place))
    return listing


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = [(name or "").strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            missing = [name for name in ("image", "label") if name not in columns]
            if missing:
                near = suggestion(missing[0], columns) if any(columns) else "its first line is empty"
                raise UserError(f"{path} has no column {missing[0]!r}; {near}")
            rows = [{name: (row.get(name) or "").strip() for name in ("image", "label", "split")} for row in reader]
    except FileNotFoundError:
        raise UserError(f"--dataset=folder:{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a CSV file in UTF-8: {error}") from None
    if not rows:
        raise UserError(f"{path} lists no image: add one row per image below the names of the columns")
    _check(path, rows, "split" in columns)
    return [row if row["split"] else {**row, "split": "test"} for row in rows]


def _check(path: Path, rows: list[dict[str, str]], has_splits: bool) -> None:
    faults, images = [], set()
    for line, row in enumerate(rows, 2):
        if not row["image"] or not row["label"]:
            faults.append(f"row {line} has no {'label' if row['image'] else 'image'}")
        elif row["image"] in images:
            faults.append(f"row {line}: {row['image']} is listed twice")
        elif has_splits and row["split"] not in PARTS:
            faults.append(f"row {line}: split must be one of {', '.join(PARTS)}, got {row['split']!r}")
        images.add(row["image"])
    if faults:
        raise UserError(
            f"{counted(len(faults), 'row', 'rows')} of {path} cannot be used: correct or remove them\n{several(faults)}"
        )


def _places(path: Path, images: list[str]) -> list[Path]:
    """Return the paths of the images, which are given relative to the table's folder or to its folder `images`."""
    root, places, missing = path.parent, [], []
    outside = [image for image in images if Path(image).is_absolute() or ".." in Path(image).parts]
    if outside:
        raise UserError(
            f"{counted(len(outside), 'image', 'images')} of {path} outside of the table's folder: expected paths "
            f"relative to {root} or {root / IMAGES}, without ..\n{several(outside)}"
        )
    for image in images:
        choices = (root / image, root / IMAGES / image)
        place = next((choice for choice in choices if choice.is_file()), None)
        places.append(choices[0] if place is None else place)
        if place is None:
            missing.append(image)
    if missing:
        raise UserError(
            f"{counted(len(missing), 'image', 'images')} of {path} not found in {root} or {root / IMAGES}: correct the "
            f"table, or copy the images there\n{several(missing)}"
        )
    return places
