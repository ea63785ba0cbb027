"""DIR/{train,val,test}/{images,masks}/*: pictures and, under the same names, their masks."""

from pathlib import Path

import numpy as np

from dico_tf.config import Data
from dico_tf.data import folder_layout, image_decoding, masks, memory_budget
from dico_tf.data.folder_layout import counted, several
from dico_tf.data.masks import VOID
from dico_tf.data.segmentation import MaskedImages, SegmentationSplit, frame_of
from dico_tf.data.source import IMAGENET_MEAN, Source
from dico_tf.errors import UserError

LARGEST_OWN_CROP = 513  # pixels, of published recipes
KINDS = ("images", "masks")
Paths = dict[str, list[tuple[str, str]]]  # part -> (picture, mask)


def load(data: Data, seed: int) -> Source:
    """Every picture and every mask is read once and checked."""
    place = data.dataset.removeprefix("folder").removeprefix(":")
    if not place:
        raise UserError(
            f"--dataset={data.dataset} names no folder: give --dataset=folder:DIR with DIR/train/images and "
            "DIR/train/masks"
        )
    root = Path(place).expanduser()
    found = listing(root)
    paths = [pair for pairs in found.values() for pair in pairs]
    facts = _check_files(root, paths, data.void)
    names = _class_names(root, data, [mask for _, mask in paths], facts)
    sizes = np.array([fact.size for fact in facts])
    frame = frame_of(sizes)
    fill = np.round(255 * np.array(IMAGENET_MEAN))
    scenes = MaskedImages(paths, sizes, data.void, fill, memory_budget.MemoryBudget(memory_budget.limit()))
    splits, first = {}, 0
    for part, pairs in found.items():
        numbers = np.arange(first, first + len(pairs))
        splits[part] = SegmentationSplit(
            scenes=scenes,
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
    """Pairs sorted by name, of each part; all that does not fit is told at once."""
    if not root.is_dir():
        raise UserError(f"--dataset=folder:{root}: there is no such folder")
    names = folder_layout.folders(root)
    if not set(names) & set(folder_layout.PARTS):
        raise UserError(
            f"{root} holds none of {', '.join(folder_layout.PARTS)}: lay it out as DIR/train/images, DIR/train/masks"
        )
    folder_layout.check_parts(root, names, "images and train/masks")
    return {part: _pairs(root / part) for part in folder_layout.PARTS if part in names}


def _pairs(folder: Path) -> list[tuple[str, str]]:
    missing = [kind for kind in KINDS if not (folder / kind).is_dir()]
    if missing:
        raise UserError(
            f"{folder} lacks {' and '.join(missing)}: pictures go to {folder}/images, masks to {folder}/masks"
        )
    images, of_masks = (_by_stem(folder / kind) for kind in KINDS)
    if not images:
        raise UserError(f"{folder}/images holds no pictures ({' '.join(image_decoding.EXTENSIONS)})")
    alone = [
        f"{images[stem]} has no mask {folder / 'masks' / stem}.png" for stem in sorted(set(images) - set(of_masks))
    ]
    alone += [f"{of_masks[stem]} has no picture in {folder}/images" for stem in sorted(set(of_masks) - set(images))]
    if alone:
        raise UserError(f"{counted(len(alone), 'file', 'files')} of {folder} without counterpart\n{several(alone)}")
    return [(images[stem], of_masks[stem]) for stem in images]


def _by_stem(folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in folder_layout.pictures_in(folder):
        stem = Path(path).stem
        if stem in found:
            raise UserError(f"{found[stem]} and {path} have one name: which is meant cannot be told, remove one")
        found[stem] = path
    return found


def _check_files(root: Path, paths: list[tuple[str, str]], void: int) -> list[masks.Facts]:
    seen = image_decoding.pool().map(lambda pair: image_decoding.tried(_checked, pair, void), paths)
    results = list(image_decoding.progress(seen, len(paths), "checking pictures and masks"))
    faults = [f"{' and '.join(p)}: {r}" for p, r in zip(paths, results, strict=True) if isinstance(r, Exception)]
    if faults:
        raise UserError(
            f"{counted(len(faults), 'pair', 'pairs')} of {root} cannot be used: repair or remove both files\n"
            f"{several(faults)}"
        )
    return results


def _checked(pair: tuple[str, str], void: int) -> masks.Facts:
    size, found = image_decoding.check(pair[0]), masks.facts(pair[1], void)
    if size != found.size:
        raise ValueError(
            f"the picture has {size[0]}x{size[1]} pixels, its mask {found.size[0]}x{found.size[1]}: they must be alike"
        )
    return found


def _class_names(root: Path, data: Data, of_masks: list[str], facts: list[masks.Facts]) -> tuple[str, ...]:
    """Of classes.txt where there is one; as many as --classes or, without either, as the masks have."""
    file, highest = root / "classes.txt", max(fact.highest for fact in facts)
    names = _named(file) if file.is_file() else []
    count = data.classes or len(names) or highest + 1
    if highest >= min(count, VOID):
        worst = next(mask for mask, fact in zip(of_masks, facts, strict=True) if fact.highest == highest)
        void = "no value is void" if data.void == -1 else f"{data.void} is void"
        more = f", --classes={highest + 1} or more names in {file}" if highest < VOID else ""
        raise UserError(
            f"{worst} has class {highest}; there are {count} classes, 0 to {count - 1}, and {void}: "
            f"give --void={highest} where that is what has no class{more}"
        )
    if not 2 <= count <= VOID:
        raise UserError(f"{root} has {count} classes: there must be 2 to {VOID}; --classes says how many")
    return (*names[:count], *(f"class_{c}" for c in range(len(names), count)))


def _named(file: Path) -> list[str]:
    try:
        names = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        raise UserError(
            f"{file} must name one class a line, {f'each once: {twice[0]} stands twice' if twice else 'but is empty'}"
        )
    return names
