"""Pieces that move or cover whole pixels: flip, crop, erase, cutout."""

import dataclasses

from dico_tf.views.piece import GatherPiece, SharedPiece, WindowPiece


@dataclasses.dataclass(frozen=True)
class Flip(GatherPiece, SharedPiece):
    """Mirror each image left to right with probability 1/2."""

    def place(self, pixels, rng):
        pixels.flip(rng.uniform() < 0.5)

    def move(self, pixels, rng):
        import tensorflow as tf

        flipped = tf.reshape(rng.uniform() < 0.5, [-1, *[1] * (pixels.shape.rank - 1)])
        return tf.where(flipped, tf.reverse(pixels, [2]), pixels)


@dataclasses.dataclass(frozen=True)
class Crop(GatherPiece, SharedPiece):
    """Pad the image with `padding` black pixels on each side, and cut out a random window of its original size.

    In segmentation it cuts a random window of `--image_size` pixels from the resized image, and ignores `padding`.
    """

    padding: int = 4

    def faults(self):
        return "" if self.padding >= 0 else f"padding must be at least 0 pixels, got {self.padding}"

    def place(self, pixels, rng):
        top, left = (rng.integers(name, 2 * self.padding + 1) - self.padding for name in ("top", "left"))
        pixels.shift(top, left)

    def corner(self, room, rng):
        import tensorflow as tf

        offsets = [rng.integers(side, tf.abs(room[:, n]) + 1) for n, side in enumerate(("left", "top"))]
        return tf.minimum(room, 0) + tf.stack(offsets, axis=1)


@dataclasses.dataclass(frozen=True)
class SimpleCrop(GatherPiece, WindowPiece):
    """Cut a square as wide as the image's short side, at a random place, and resize it to the view's size.

    The square may reach beyond the image's edges by up to `padding` pixels of the view. There the image is mirrored.
    """

    padding: int = 4
    instead = "simple_crop does not crop masks; give scale:0.5:2+crop for segmentation"

    def faults(self):
        return "" if self.padding >= 0 else f"padding must be at least 0 pixels, got {self.padding}"

    def place(self, pixels, rng):
        top, left = (rng.integers(name, 2 * self.padding + 1) - self.padding for name in ("top", "left"))
        pixels.shift(top, left, mirrored=True)

    def window(self, sizes, side, rng):
        from dico_tf.views import crop_windows

        return crop_windows.padded_squares(sizes, side, self.padding, rng)


@dataclasses.dataclass(frozen=True)
class Erase(GatherPiece):
    """Cover a rectangle inside each image with the data's mean colour, with probability p (arXiv 1708.04896).

    The area is uniform between min_area and max_area times that of the image, and the aspect (height / width) uniform
    between min_aspect and max_aspect. The rectangle is round(sqrt(area * aspect)) pixels high and
    round(sqrt(area / aspect)) wide, at most as large as the image.
    """

    min_area: float = 0.125
    max_area: float = 0.2
    min_aspect: float = 0.99  # height / width
    p: float = 0.5
    max_aspect: float = 1.0

    def faults(self):
        if not 0 < self.min_area <= self.max_area <= 1:
            areas = f"got {self.min_area:g} and {self.max_area:g}"
            return f"the areas must satisfy 0 < min_area <= max_area <= 1, {areas}"
        if not 0 < self.min_aspect <= self.max_aspect:
            aspects = f"got {self.min_aspect:g} and {self.max_aspect:g}"
            return f"the aspects must satisfy 0 < min_aspect <= max_aspect (1 by default), {aspects}"
        return "" if 0 <= self.p <= 1 else f"p must lie in 0..1, got {self.p:g}"

    def place(self, pixels, rng):
        import tensorflow as tf

        erased = rng.uniform("done") < self.p
        height, width = pixels.sides
        area = rng.uniform("area", self.min_area, self.max_area) * tf.cast(height * width, tf.float32)
        aspect = rng.uniform("aspect", self.min_aspect, self.max_aspect)
        extents = (tf.sqrt(area * aspect), tf.sqrt(area / aspect))
        lengths = [
            tf.minimum(tf.cast(tf.round(e), tf.int32), side) for e, side in zip(extents, pixels.sides, strict=True)
        ]
        top = rng.integers("top", height - lengths[0] + 1)
        left = rng.integers("left", width - lengths[1] + 1)
        pixels.cover(top, left, *lengths, where=erased)


@dataclasses.dataclass(frozen=True)
class Cutout(GatherPiece):
    """Cover a square of `size` pixels around a random pixel with the data's mean colour (arXiv 1708.04552).

    The square is cut off at the image's edges. Size 0 covers half of each side of the image.
    """

    size: int = 0

    def faults(self):
        return "" if self.size >= 0 else f"size must be at least 0 pixels, got {self.size}"

    def place(self, pixels, rng):
        height, width = (self.size or side // 2 for side in pixels.sides)
        top = rng.integers("row", pixels.sides[0]) - height // 2
        left = rng.integers("column", pixels.sides[1]) - width // 2
        pixels.cover(top, left, height, width)
