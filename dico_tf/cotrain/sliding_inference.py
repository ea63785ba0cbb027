"""Sliding-window inference: images of any size through a network of one size.

Windows overlap by about half, the last one of a side by more; logits are averaged where windows overlap.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from dico_tf.models import segmentation


class Windowed:
    """Callable (images [B, H, W, 3] of any size, training=False) -> logits [B, h, w, C], h = ceil(H / stride).

    An image smaller than a window is padded below and to the right with the mean colour. The windows of all images at
    one position are computed at once, one position after another, so that larger images need little more memory.

    Args:
        coarse: network of square images, which returns logits at its output stride.
        window: side of these images in pixels.
        stride: output stride of the network.
        fill: mean colour, RGB in 0..255.
    """

    def __init__(self, coarse: Callable, window: int, stride: int, fill: Sequence[float]):
        self.coarse, self.window, self.stride, self.fill = coarse, window, stride, tuple(fill)

    def __call__(self, images, training=False):
        window, stride = self.window, self.stride
        if images.shape[1:3] == (window, window):
            return self.coarse(images, training=training)
        sides = tf.shape(images)[1:3]
        whole = tf.maximum(segmentation.round_up(sides, stride), window)
        images = self._padded(images, whole - sides)
        starts = [_starts(whole[axis], window, stride) for axis in (0, 1)]
        total = self._total(images, whole // stride, starts, training)
        rows, columns = (_coverage(starts[axis] // stride, whole[axis] // stride, window // stride) for axis in (0, 1))
        counts = (rows[:, None] * columns)[..., None]
        height, width = tf.unstack(segmentation.round_up(sides, stride) // stride)
        return (total / tf.cast(counts, total.dtype))[:, :height, :width]

    def _padded(self, images, spare):
        """Pad with the mean colour: spare[0] rows below and spare[1] columns to the right."""
        fill = tf.constant(self.fill, tf.float32)
        return tf.pad(tf.cast(images, tf.float32) - fill, [[0, 0], [0, spare[0]], [0, spare[1]], [0, 0]]) + fill

    def _total(self, images, places, starts, training):
        """Return the sum of all windows' logits, each at its position: [B, h, w, C] with `places` = (h, w).

        Args:
            starts: the first pixel of each window along height and along width.
        """
        window, columns = self.window, tf.size(starts[1])
        classes = self.coarse.output_shape[-1]

        def add(n, total):
            corner = [starts[0][n // columns], starts[1][n % columns]]
            part = tf.slice(images, [0, *corner, 0], [-1, window, window, -1])
            logits = self.coarse(tf.ensure_shape(part, (None, window, window, 3)), training=training)
            above, left = (start // self.stride for start in corner)
            below, right = (places[axis] - first - window // self.stride for axis, first in enumerate((above, left)))
            return n + 1, total + tf.pad(logits, [[0, 0], [above, below], [left, right], [0, 0]])

        nothing = tf.zeros([tf.shape(images)[0], *tf.unstack(places), classes])
        count = tf.size(starts[0]) * columns
        shapes = (tf.TensorShape([]), tf.TensorShape([None, None, None, classes]))
        return tf.while_loop(lambda n, _: n < count, add, (0, nothing), shapes)[1]


def _starts(side, window: int, stride: int):
    """Return the first pixel of each window along a side; the last window ends at the end of the side."""
    count = segmentation.windows_along(side, window, stride)
    return tf.minimum(tf.range(count) * segmentation.window_step(window, stride), side - window)


def _coverage(starts, places, length: int):
    """Return how many windows of this length cover each place, int32 [places]."""
    there = tf.range(places)
    return tf.reduce_sum(tf.cast((there >= starts[:, None]) & (there < starts[:, None] + length), tf.int32), axis=0)


def as_large(coarse: Windowed) -> Callable:
    """Return a callable (images [B, H, W, 3] of any size, training=False) -> logits [B, H, W, C].

    They are those of `coarse`, resized bilinearly.
    """

    def answer(images, training=False):
        logits = coarse(images, training=training)
        sides = tf.shape(images)[1:3]
        return tf.image.resize(logits, tf.shape(logits)[1:3] * coarse.stride)[:, : sides[0], : sides[1]]

    return answer
