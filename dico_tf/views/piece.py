"""Base classes of the pieces (steps) of a view policy. Policies are checked before TensorFlow is imported.

A piece is a frozen dataclass whose fields are its arguments in a policy. Methods import TensorFlow where they need it.
The name of its class seeds its random numbers: if a class is renamed, its views change.
"""

import abc
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dico_tf.views.counter_rng import CounterRng
    from dico_tf.views.pixel_map import PixelMap

    Fill = Sequence[float]

Tensor = Any  # a tf.Tensor


class Piece(abc.ABC):
    """One step of a view policy.

    `moves_pixels` is True for a piece that moves pixels even with `in_place`, so that a mask would no longer match.
    `tasks` lists where a piece may be used ("classification" includes clips). `instead` is the error message for other
    tasks, which names a piece to give instead.
    """

    moves_pixels: ClassVar[bool] = False
    tasks: ClassVar[tuple[str, ...]] = ("classification", "segmentation")
    instead: ClassVar[str] = ""

    def faults(self) -> str:
        """Return an error message about the arguments, or an empty string if they are right."""
        return ""

    @abc.abstractmethod
    def apply(self, images: Tensor, rng: "CounterRng", fill: "Fill", in_place: bool) -> Tensor:
        """Return the changed images, of the same shape and type.

        Args:
            images: float32 [B, H, W, 3] in 0..255.
            rng: random numbers of each image; draws of different names are independent.
            fill: RGB in 0..255 of pixels from outside of the image, and of covered ones.
            in_place: no pixel may move, as in segmentation, where the mask would no longer match.
        """


class GatherPiece(Piece):
    """A piece that only moves or covers whole pixels. Such pieces that follow each other run as a single gather."""

    @abc.abstractmethod
    def place(self, pixels: "PixelMap", rng: "CounterRng") -> None:
        """Record the moves and covers of this piece in the pixel map."""

    def apply(self, images: Tensor, rng: "CounterRng", fill: "Fill", in_place: bool) -> Tensor:
        from dico_tf.views.pixel_map import PixelMap

        pixels = PixelMap(images, fill)
        self.place(pixels, rng)
        return pixels.render()


class WindowPiece(Piece):
    """A piece that shows a window of the image, resized to the view's size.

    The first piece of a policy cuts its window from the whole image file while it is decoded. A later piece, and every
    piece for images in memory, cuts it from the images that `apply` gets.
    """

    moves_pixels = True
    tasks = ("classification",)

    @abc.abstractmethod
    def window(self, sizes: Tensor, side: int, rng: "CounterRng") -> Tensor:
        """Return windows [B, (left, top, right, bottom)] in pixels of the images, int32 or float32.

        Args:
            sizes: [B, (width, height)] of the images.
            side: width and height of the view in pixels. `WindowPiece.apply` gives 0, so a piece that needs the side
                must override `apply`.
        """

    def apply(self, images: Tensor, rng: "CounterRng", fill: "Fill", in_place: bool) -> Tensor:
        from dico_tf.views import crop_windows

        return crop_windows.cut_and_resize(images, self.window(crop_windows.sizes(images), 0, rng))


class SharedPiece(Piece):
    """A piece that segmentation draws once per image, so that the mask and all branches are moved alike.

    Unless `tasks` says otherwise, it also serves classification, which draws it for each branch.
    """

    moves_pixels = True

    def resize_factor(self, rng: "CounterRng") -> Tensor | float:
        """Return the factors [B], or one for all images, by which image and mask are resized before the crop."""
        return 1.0

    def corner(self, room: Tensor, rng: "CounterRng") -> Tensor | None:
        """Return the crop's (left, top) [B, 2] in the resized image, or None if the piece does not crop.

        Args:
            room: int32 [B, 2], (width, height) of the resized image less the crop's; negative if the crop is larger.
        """
        return None

    def move(self, pixels: Tensor, rng: "CounterRng") -> Tensor:
        """Return images [B, h, w, 3] or masks [B, h, w] with their pixels moved, both alike for equal `rng`."""
        return pixels
