"""The training loop: epochs, checkpoints, evaluation, and continuing after a stop."""

import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from dico_tf.config import Config
from dico_tf.data.epoch_order import plan
from dico_tf.data.pipeline import evaluation_batches, plain_faults, training_batches
from dico_tf.data.source import Split
from dico_tf.errors import UserError
from dico_tf.files.json_files import FORMAT
from dico_tf.training import steps
from dico_tf.training.averaging import averaged
from dico_tf.training.checkpoints import Checkpoints
from dico_tf.training.metrics_log import VIEWED_IMAGES, MetricsLog
from dico_tf.training.progress import Bar, epoch_line
from dico_tf.training.strategy import Devices

RECALIBRATION_BATCHES = 20


class Stopped(Exception):  # noqa: N818 - not an error
    """Raised when a signal ended the training, after the state was saved."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.signal = signal_number


class Loop:
    """Trains a model on a split, and evaluates it on another one to find the best epoch."""

    def __init__(
        self,
        config: Config,
        devices: Devices,
        model,
        train: Split,
        select: Split,
        checkpoints: Checkpoints,
        say: Callable[[str], None],
    ):
        self.config, self.devices, self.model, self.train, self.select = config, devices, model, train, select
        self.checkpoints, self.say = checkpoints, say
        self.batch_size = config.optimisation.batch_size
        self.steps_per_epoch = train.size // self.batch_size
        self.epochs_done, self.best, self.rows, self.seconds = 0, None, [], 0.0
        self._stop_requested = 0.0
        self._step = steps.train_function(devices, model)
        self._places = tf.function(model.views.windows, autograph=False)  # traced once, not in every epoch
        self._evaluate = steps.Evaluator(devices, model, config.run.evaluation_batch_size)
        self.metrics_log: MetricsLog | None = None

    def resume(self) -> None:
        """Restore the newest usable checkpoint, if there are checkpoints; see `Checkpoints.restore`."""
        facts = self.checkpoints.restore(self.model, self.say)
        if facts:
            self.epochs_done, self.best, self.rows = facts["epochs_done"], facts["best"], facts["rows"]
            self.seconds = facts["seconds"]
            self.say(f"continuing from step {facts['step']}, epoch {self.epochs_done + 1}")
        if self.devices.workers > 1:
            self._check_machines()

    def _check_machines(self) -> None:
        """Raise UserError if this machine has restored another step than the mean of all machines' steps.

        If machines have different steps, at least two of them raise it.
        """
        strategy, own = self.devices.strategy, float(self.step)
        mean = float(strategy.reduce(tf.distribute.ReduceOp.MEAN, strategy.run(lambda: tf.constant(own)), axis=None))
        if mean != own:
            raise UserError(
                f"--workdir={self.checkpoints.folder.parent}: machines have different checkpoints, "
                f"this one step {own:.0f}: give a folder that all machines share"
            )

    @property
    def total_steps(self) -> int:
        whole = self.config.optimisation.epochs * self.steps_per_epoch
        return min(whole, self.config.optimisation.max_steps or whole)

    @property
    def step(self) -> int:
        return int(self.model.step.numpy())

    @property
    def stopped_early(self) -> bool:
        """True if --patience ends the training before all its steps are done."""
        patience, name = self.config.run.patience, self.config.run.select
        if not (patience and self.best and self.step < self.total_steps):
            return False
        later = [row for row in self.rows if name in row and row["epoch"] > self.best["epoch"]]
        return len(later) >= patience

    def run(self) -> None:
        """Train until all epochs, or --max_steps, are done, or --patience has run out.

        Raises:
            Stopped: after a signal, when the state is saved. A second signal raises KeyboardInterrupt without saving.
            UserError: if the loss of a branch is not finite.
        """
        if self.devices.chief:
            self.metrics_log = MetricsLog(self.checkpoints.folder.parent, self.rows)
        before = {number: signal.signal(number, self._request_stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            with plain_faults():
                while self.step < self.total_steps and not self.stopped_early:
                    self._epoch(self.epochs_done)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if self.metrics_log:
                self.metrics_log.close()
        if self.stopped_early:
            self.say(
                f"stopped early after epoch {self.epochs_done}: the last {self.config.run.patience} evaluations were "
                f"not better than that of epoch {self.best['epoch'] + 1} (--patience)"
            )

    def _request_stop(self, number, frame) -> None:
        if self._stop_requested:
            raise KeyboardInterrupt  # second signal: stop at once, without saving
        self._stop_requested = float(number)

    def _epoch(self, epoch: int) -> None:
        done = self.step - epoch * self.steps_per_epoch
        self.model.backbones.begin_epoch(epoch)  # also for a run that continues within an epoch
        if done == 0:
            self.model.begin_epoch(epoch)
            self.model.reset_metrics()
            self.seconds = 0.0
            self._show_views(epoch)
        self._steps(epoch, done)
        if self.step == (epoch + 1) * self.steps_per_epoch:
            self._finish_epoch(epoch)
        else:  # stopped by --max_steps
            self._save()

    def _steps(self, epoch: int, done: int) -> None:
        """Run the steps of an epoch. A step's report is read one step later, so that the device does not wait."""
        count = min(self.steps_per_epoch - done, self.total_steps - self.step)
        step, last, started, before = self.step, (epoch + 1) * self.steps_per_epoch, time.monotonic(), self.seconds
        report, stop, bar = None, False, self._bar(epoch, done)
        try:
            for batch in self._batches(epoch, done, count):
                earlier, report = report, self._step(batch, tf.constant(self._stop_requested))
                if earlier is not None:
                    stop = self._read(step, earlier, bar) > 0
                step += 1
                self.seconds = before + time.monotonic() - started
                if step < last and (stop or self._is_save_step(step)):
                    self._read(step, report, bar, images=0)
                    self._save()
                    if stop:
                        raise Stopped(f"stopped at step {step}, saved; the same command continues", self._stop_signal())
            self._read(step, report, bar)
        finally:
            bar.close()

    def _is_save_step(self, step: int) -> bool:
        return bool(self.config.run.save_every) and step % self.config.run.save_every == 0

    def _read(self, step: int, report, bar: Bar, images: int | None = None) -> float:
        """Show the report of a step in the bar. Return a number above 0 if a stop was requested.

        Raises UserError if a loss is not finite.

        Args:
            images: by how many images the bar advances; None = a batch.
        """
        values = report.numpy()
        self._check(step, values[: self.model.splits])
        progress = {"loss": float(values[:-2].sum()), "ensemble": float(values[-2])}
        bar.advance(self.batch_size if images is None else images, progress)
        return float(values[-1])

    def _stop_signal(self) -> int:
        return int(self._stop_requested) or signal.SIGTERM  # 0: another machine got the signal

    def _bar(self, epoch: int, done: int) -> Bar:
        title = f"epoch {epoch + 1}/{self.config.optimisation.epochs}"
        return Bar(title, self.steps_per_epoch * self.batch_size, done * self.batch_size)

    def _batches(self, epoch: int, first_step: int, count: int):
        independent = self.config.cotraining.training == "independent"
        indices = plan(
            self.train.size,
            self.batch_size,
            self.config.run.seed,
            epoch,
            first_step=first_step,
            worker=self.devices.worker,
            workers=self.devices.workers,
            replicas=self.devices.replicas,
            branches=self.config.network.splits if independent else None,
            repeats=self.config.optimisation.repeated_augmentation,
        )[:count]
        return self.devices.distribute(lambda: training_batches(self.train, indices, self._windows(epoch)))

    def _windows(self, epoch: int):
        """Return the `windows` of `training_batches` for an epoch; None for images whose views need no windows."""
        if not (self.model.views.needs_windows or self.train.videos):
            return None
        return lambda index, sizes: self._places(index, sizes, tf.constant(epoch, tf.int64))

    def _check(self, step: int, losses: np.ndarray) -> None:
        bad = [s for s, loss in enumerate(losses) if not np.isfinite(loss)]
        if bad:
            saved = self.checkpoints.steps()
            state = f"the checkpoint of step {saved[0]} is intact" if saved else "no checkpoint was written yet"
            raise UserError(
                f"the loss of branch {', '.join(map(str, bad))} is not finite at step {step}; {state}: "
                "try a lower --lr, a longer --warmup_epochs or --clip_norm, in another --workdir"
            )

    def _facts(self) -> dict[str, Any]:
        return {"epochs_done": self.epochs_done, "best": self.best, "rows": self.rows, "seconds": self.seconds}

    def _save(self) -> None:
        self.checkpoints.save(self.model, self._facts())

    def _finish_epoch(self, epoch: int) -> None:
        row = self._row(epoch)
        self.rows = [*self.rows, row]
        self.epochs_done = epoch + 1
        self._save()
        if self.metrics_log:
            self.metrics_log.add(row)
        self.say(epoch_line(row, self.config.optimisation.epochs))

    def _row(self, epoch: int) -> dict[str, Any]:
        shared = self.config.cotraining.training == "together"
        row = {
            "format": FORMAT,
            "epoch": epoch,
            "step": self.step,
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.steps_per_epoch * self.batch_size / max(self.seconds, 1e-9), 1),
            "lr": float(self.model.optimizer.learning_rate),
            **self.model.results(shared),
        }
        if not self._evaluated(epoch):
            return row
        name = self.config.run.select
        row[name] = self._evaluate(self.select)
        self._save_if_best(epoch, row[name], chosen=not self.config.optimisation.evaluate_ema)
        if self.config.optimisation.ema:
            with averaged(self.model, self.recalibration_batches()):
                row[f"{name}_ema"] = self._evaluate(self.select)
                self._save_if_best(epoch, row[f"{name}_ema"], chosen=self.config.optimisation.evaluate_ema)
        return row

    def _evaluated(self, epoch: int) -> bool:
        """Return True for every --evaluate_every-th epoch, and for the last one that --max_steps does not cut short."""
        last = self.total_steps // self.steps_per_epoch - 1
        return (epoch + 1) % self.config.run.evaluate_every == 0 or epoch == last

    def recalibration_batches(self):
        """Return training images without augmentation, to recompute the statistics of batch normalisation."""
        size = min(self.batch_size, self.train.size)
        return evaluation_batches(self.train, size).take(RECALIBRATION_BATCHES)

    def _save_if_best(self, epoch: int, scores: dict[str, Any], chosen: bool) -> None:
        score = scores[self.model.scores.best_by]
        if not chosen or (self.best and score <= self.best["score"]):
            return
        weights = "ema" if self.config.optimisation.evaluate_ema else "raw"
        self.best = {"epoch": epoch, "score": score, "select": self.config.run.select, "weights": weights}
        self.checkpoints.save_best(self.model, self.best)

    def _show_views(self, epoch: int) -> None:
        if not self.metrics_log or epoch:
            return
        first = np.arange(min(VIEWED_IMAGES, self.train.size))[None, None]
        batch = next(iter(training_batches(self.train, first, self._windows(epoch))))
        views = self.model.views(batch["image"], batch["index"], tf.constant(epoch, tf.int64), "window" in batch)
        stored = self.train.take(first[0, 0]) if isinstance(self.train, Split) else self.train.framed(first[0, 0])[0]
        self.metrics_log.show_views(stored, [view.numpy() for view in views], epoch)
