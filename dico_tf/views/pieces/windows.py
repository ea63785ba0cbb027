"""Pieces that resize: random resized crop, random short side, and the scale of segmentation."""

import dataclasses

from dico_tf.views.piece import SharedPiece, WindowPiece


@dataclasses.dataclass(frozen=True)
class ResizedCrop(WindowPiece):
    """Cut a window anywhere in the image and resize it to the view's size (torchvision's RandomResizedCrop).

    Its area is uniform between min_area and 1 times that of the image, its aspect log-uniform in 3/4..4/3.
    """

    min_area: float = 0.1
    instead = "resized_crop does not crop masks; give scale:0.5:2+crop for segmentation"

    def faults(self):
        return "" if 0 < self.min_area <= 1 else f"min_area must be above 0 and at most 1, got {self.min_area:g}"

    def window(self, sizes, side, rng):
        from dico_tf.views import crop_windows

        return crop_windows.area_windows(sizes, self.min_area, rng)


@dataclasses.dataclass(frozen=True)
class ShortSide(WindowPiece):
    """Resize the image to a random size, and cut a square of the view's size anywhere.

    The short side becomes U(least, most) times the view's size. The defaults are those of X3D: about 182 to 228 pixels
    for views of 160, and 256 to 320 for views of 224.
    """

    least: float = 1.14
    most: float = 1.43
    instead = "short_side does not crop masks; give scale:0.5:2+crop for segmentation"

    def faults(self):
        if 1 <= self.least <= self.most:
            return ""
        return f"the factors must satisfy 1 <= least <= most, got {self.least:g} and {self.most:g}"

    def window(self, sizes, side, rng):
        from dico_tf.views import crop_windows

        return crop_windows.short_side_squares(sizes, self.least, self.most, rng)


@dataclasses.dataclass(frozen=True)
class Scale(SharedPiece):
    """Resize image and mask by a random factor before the crop.

    It is uniform between least and most. With a step above 0, it is one of least, least + step, ... up to most, equally
    likely.
    """

    least: float = 0.5
    most: float = 2.0
    step: float = 0.0
    tasks = ("segmentation",)
    instead = "scale is for --task=segmentation; give resized_crop"

    def faults(self):
        if not 0 < self.least <= self.most:
            return f"the factors must satisfy 0 < least <= most, got {self.least:g} and {self.most:g}"
        return "" if self.step >= 0 else f"step must be at least 0, got {self.step:g}"

    def resize_factor(self, rng):
        if not self.step:
            return rng.uniform(low=self.least, high=self.most)
        import tensorflow as tf

        count = int((self.most - self.least) / self.step + 1e-6) + 1
        return self.least + self.step * tf.cast(rng.integers("", count), tf.float32)

    def apply(self, images, rng, fill, in_place):
        return images  # image and mask are resized where they are read
