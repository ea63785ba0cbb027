"""The views of a batch of images or clips: each branch sees the same image in its own way."""

from typing import Any

import keras
import tensorflow as tf

from dico_tf.views.counter_rng import CounterRng
from dico_tf.views.piece import WindowPiece
from dico_tf.views.policies import Policy, parse_all
from dico_tf.views.view_maker import ViewMaker, apply_policy


@keras.saving.register_keras_serializable("dico_tf", name="Views")  # the name in files saved since version 0
class ImageViews(ViewMaker):
    """Callable that makes S views of images [B, H, W, 3] or clips [B, T, H, W, 3]; a clip's frames share all draws."""

    def _parse(self) -> None:
        self._policies = parse_all(self.policies, self.splits, "classification")

    def __call__(self, images: tf.Tensor, index: tf.Tensor, epoch: Any, cut: bool = False) -> list[tf.Tensor]:
        """Return S views, float32 [B, H, W, 3] in 0..255, or [B, T, H, W, 3] of clips.

        Args:
            index: numbers of the images in the data set, [B]. The draws depend on them and on `epoch`.
            cut: the images are the windows that `windows` drew, with an axis S after B; with `same`, S is 1.
        """
        each = tf.unstack(images, axis=1) if cut else [images] * self.distinct
        views = [self.view(each[branch], index, epoch, branch, cut) for branch in range(self.distinct)]
        return views * self.splits if self.same else views

    def view(self, images: tf.Tensor, index: tf.Tensor, epoch: Any, branch: int, cut: bool = False) -> tf.Tensor:
        """Return one branch's view of images [B, H, W, 3] or clips [B, T, H, W, 3], float32 of the same shape.

        Args:
            cut: the images are the windows that `windows` drew for this branch.
        """
        images = tf.cast(images, tf.float32)
        shape = images.shape
        if shape.rank == 5:
            index = tf.repeat(index, tf.shape(images)[1])
            images = tf.ensure_shape(tf.reshape(images, [-1, *shape[2:]]), (None, *shape[2:]))
        rng = CounterRng(self.seed, epoch, index, branch)
        view = apply_policy(images, self._policies[branch], rng, self.fill, cut)
        return tf.ensure_shape(tf.reshape(view, [-1, *shape[1:]]), shape) if shape.rank == 5 else view

    @property
    def needs_windows(self) -> bool:
        """True if the policy of any branch begins with a window.

        Of images that can be decoded on demand, such windows are cut while they are decoded.
        """
        return any(_first_window(policy) for policy in self._policies)

    def windows(self, index: tf.Tensor, sizes: tf.Tensor, epoch: Any) -> tf.Tensor:
        """Draw the window of each branch, float32 [B, S, (left, top, right, bottom)]; with `same`, S is 1.

        If a policy does not begin with a window, its branch has the window (0, 0, 0, 0), which stands for the central
        square. For videos the result is [B, S, 5]: the fifth value is the first frame of the branch's clip. With the
        policy `none` it is -1, which stands for the clip in the middle.

        Args:
            index: image indices [B], or one per branch [B, S].
            sizes: (width, height) of the images, [B, 2] or [B, S, 2]; of videos (width, height, number of frames with
                which a clip can begin), [B, 3] or [B, S, 3].
        """
        index, sizes = tf.convert_to_tensor(index), tf.convert_to_tensor(sizes)
        if index.shape.rank == 1:
            index = tf.tile(index[:, None], [1, self.distinct])
            sizes = tf.tile(sizes[:, None], [1, self.distinct, 1])
        branches = [self._window(branch, index[:, branch], sizes[:, branch], epoch) for branch in range(self.distinct)]
        return tf.stack(branches, axis=1)

    def _window(self, branch: int, index: tf.Tensor, sizes: tf.Tensor, epoch: Any) -> tf.Tensor:
        rng, policy = CounterRng(self.seed, epoch, index, branch), self._policies[branch]
        if piece := _first_window(policy):
            window = piece.window(sizes[:, :2], self.image_size, rng.scope(f"0 {type(piece).__name__}"))
            window = tf.cast(window, tf.float32)
        else:
            window = tf.zeros([tf.shape(index)[0], 4])
        if sizes.shape[-1] == 2:
            return window
        frame = tf.cast(rng.integers("first frame", sizes[:, 2]), tf.float32) if policy else -tf.ones_like(window[:, 0])
        return tf.concat([window, frame[:, None]], axis=-1)


def _first_window(policy: Policy) -> WindowPiece | None:
    """Return the first piece of a policy if it is a window, else None."""
    return policy[0] if policy and isinstance(policy[0], WindowPiece) else None
