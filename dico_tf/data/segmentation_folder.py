"""A folder of images and masks of the same names: `--dataset=folder:DIR` with DIR/{train,val,test}/{images,masks}/*."""

from pathlib import Path

import numpy as np

from dico_tf.config import Data
from dico_tf.data import folder_layout, image_decoding, memory_budget
from dico_tf.data.folder_layout import counted, several
from dico_tf.data.memory_budget import MemoryBudget
from dico_tf.data.segmentation import VOID, MaskedImages, MaskFacts, SegmentationSplit, frame_of, mask_facts
from dico_tf.data.source import IMAGENET_MEAN, Source
from dico_tf.errors import UserError

LARGEST_OWN_CROP = 513  # pixels, as in published recipes
KINDS = ("images", "masks")
Paths = dict[str, list[tuple[str, str]]]  # part -> (image, mask)


def load(data: Data, seed: int) -> Source:
    """Check every image and every mask, and return the dataset. Its parts are those of the folder, for every seed."""
    place = data.dataset.removeprefix("folder").removeprefix(":")
    if not place:
        raise UserError(
            f"--dataset={data.dataset} names no folder: give --dataset=folder:DIR with DIR/train/images and "
            "DIR/train/masks"
        )
    root = Path(place).expanduser()
    pairs_of = listing(root)
    paths = [pair for pairs in pairs_of.values() for pair in pairs]
    facts = _check_files(root, paths, data.void)
    names = _class_names(root, data, [mask for _, mask in paths], facts)
    sizes = np.array([fact.size for fact in facts])
    frame = frame_of(sizes)
    fill = np.round(255 * np.array(IMAGENET_MEAN))
    images = MaskedImages(paths, sizes, data.void, fill, MemoryBudget(memory_budget.limit()))
    splits, first = {}, 0
    for part, pairs in pairs_of.items():
        numbers = np.arange(first, first + len(pairs))
        splits[part] = SegmentationSplit(
            images=images,
            numbers=numbers,
            ids=np.array([Path(image).relative_to(root).as_posix() for image, _ in pairs], np.str_),
            checksums=np.array([facts[n].checksum for n in numbers], np.int64),
            image_size=data.image_size or min(LARGEST_OWN_CROP, *frame),
            frame=frame,
        )
        first += len(pairs)
    size = next(iter(splits.values())).image_size
    return Source(name=f"folder:{root.resolve().name}", class_names=names, image_size=size, splits=splits, frame=frame)


def listing(root: Path) -> Paths:
    """Return {part: [(path of image, path of mask)]}, sorted by name.

    Raises:
        UserError: if the layout is wrong, or if an image has no mask or a mask no image.
    """
    if not root.is_dir():
        raise UserError(f"--dataset=folder:{root}: there is no such folder")
    names = folder_layout.folders(root)
    if not set(names) & set(folder_layout.PARTS):
        raise UserError(
            f"expected a folder train, and optionally val and test, in {root}, got none of them: make "
            f"{root}/train/images and {root}/train/masks"
        )
    folder_layout.check_parts(root, names, "images and train/masks")
    return {part: _pairs(root / part) for part in folder_layout.PARTS if part in names}


def _pairs(folder: Path) -> list[tuple[str, str]]:
    missing = [kind for kind in KINDS if not (folder / kind).is_dir()]
    if missing:
        raise UserError(
            f"{folder} lacks {' and '.join(missing)}: images go to {folder}/images, masks to {folder}/masks"
        )
    images, of_masks = (_by_stem(folder / kind) for kind in KINDS)
    if not images:
        raise UserError(f"{folder}/images has no images ({' '.join(image_decoding.EXTENSIONS)}): put them there")
    alone = [
        f"{images[stem]} has no mask, such as {folder / 'masks' / stem}.png"
        for stem in sorted(set(images) - set(of_masks))
    ]
    alone += [f"{of_masks[stem]} has no image in {folder}/images" for stem in sorted(set(of_masks) - set(images))]
    if alone:
        raise UserError(
            f"{counted(len(alone), 'file', 'files')} of {folder} without counterpart: add it, or remove the file\n"
            f"{several(alone)}"
        )
    return [(images[stem], of_masks[stem]) for stem in images]


def _by_stem(folder: Path) -> dict[str, str]:
    paths: dict[str, str] = {}
    for path in folder_layout.images_in(folder):
        stem = Path(path).stem
        if stem in paths:
            raise UserError(f"{paths[stem]} and {path} have the same name but for the extension: remove one of them")
        paths[stem] = path
    return paths


def _check_files(root: Path, paths: list[tuple[str, str]], void: int) -> list[MaskFacts]:
    checks = image_decoding.pool().map(lambda pair: image_decoding.tried(_checked, pair, void), paths)
    results = list(image_decoding.progress(checks, len(paths), "checking images and masks"))
    faults = [f"{' and '.join(p)}: {r}" for p, r in zip(paths, results, strict=True) if isinstance(r, Exception)]
    if faults:
        raise UserError(
            f"{counted(len(faults), 'pair', 'pairs')} of {root} cannot be used: repair or remove both files\n"
            f"{several(faults)}"
        )
    return results


def _checked(pair: tuple[str, str], void: int) -> MaskFacts:
    size, mask = image_decoding.check(pair[0]), mask_facts(pair[1], void)
    if size != mask.size:
        raise ValueError(
            f"the image has {size[0]}x{size[1]} pixels, its mask {mask.size[0]}x{mask.size[1]}: they must be equal"
        )
    return mask


def _class_names(root: Path, data: Data, mask_paths: list[str], facts: list[MaskFacts]) -> tuple[str, ...]:
    """Return a name for each class: those of classes.txt, then class_N.

    There are --classes classes, or else as many as classes.txt lists, or else as many as the masks have.

    Raises:
        UserError: if a mask has a class beyond this number, if the number is below 2 or above 255, or if classes.txt
            cannot be used.
    """
    file, highest = root / "classes.txt", max(fact.highest for fact in facts)
    names = _names_in(file) if file.is_file() else []
    count = data.classes or len(names) or highest + 1
    if highest >= min(count, VOID):
        worst = next(mask for mask, fact in zip(mask_paths, facts, strict=True) if fact.highest == highest)
        void_meaning = "no value means no class" if data.void == -1 else f"{data.void} means no class"
        or_more_classes = f", or --classes={highest + 1}" if highest < VOID else ""
        or_more_classes += f" or more names in {file}" if or_more_classes and not data.classes else ""
        raise UserError(
            f"{worst}: expected classes from 0 to {min(count, VOID) - 1} ({void_meaning}), got {highest}: "
            f"give --void={highest} if that value means no class{or_more_classes}"
        )
    if not 2 <= count <= VOID:
        raise UserError(f"{root} has {count} classes: expected 2 to {VOID}; give --classes")
    return (*names[:count], *(f"class_{c}" for c in range(len(names), count)))


def _names_in(file: Path) -> list[str]:
    try:
        names = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except OSError as error:
        raise UserError(
            f"{file}, the list of class names, cannot be read: {error.strerror}; make it readable"
        ) from None
    except ValueError as error:
        raise UserError(f"{file}, the list of class names, is not UTF-8 text: {error}; save it as UTF-8") from None
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names:
        raise UserError(f"{file} must list one class per line, but is empty")
    if twice:
        raise UserError(f"{file} must list each class once, but repeats {twice[0]}")
    return names
