"""The loop: steps, the log, checkpoints, validation."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import paddle
from paddle import nn

from mobilenext.errors import CheckFailed, DataError, Stopped, WeightsError
from mobilenext.machine.ranks import Ranks
from mobilenext.runs.run_folder import RunFolder
from mobilenext.training.feeding import Batch, Feeder
from mobilenext.training.freezing import frozen_tensors
from mobilenext.training.optimization import (
    Average,
    cross_entropy_sum,
    make_optimizer,
    optimizer_state,
    restore_optimizer,
)
from mobilenext.training.recipes import Recipe, learning_rate
from mobilenext.training.run_log import RunLog
from mobilenext.training.state import Position, Sums, read_state, write_state
from mobilenext.training.stopping import StopRequest
from mobilenext.training.validation import Validation, is_better

log = logging.getLogger(__name__)


class Loop:
    """One run from where it stands to its end."""

    def __init__(
        self,
        network: nn.Layer,
        recipe: Recipe,
        feeder: Feeder,
        validation: Validation,
        ranks: Ranks,
        folder: RunFolder | None,
        *,
        seed: int,
        run_digest: str,
        log_every: int,
        save_every: float,
        keep_best: Callable[[Loop, str], None],
    ) -> None:
        """
        Args:
            network: in training mode, with its first weights.
            recipe, feeder, validation: what is trained, on what, and how it is judged.
            ranks: the processes; folder: of the run, in the first of them.
            seed: of dropout; run_digest: of the configuration, stored in checkpoints.
            log_every: steps between two lines; save_every: seconds between two checkpoints within an epoch.
            keep_best: called when the ``raw`` or ``ema`` weights are better than all before.
        """
        self.network, self.recipe, self.feeder, self.validation = network, recipe, feeder, validation
        self.ranks, self.folder = ranks, folder
        self.position = Position()
        self.log = RunLog(recipe, network.num_classes, feeder.steps_per_epoch, folder)
        self._seed, self._run_digest, self._keep_best = seed, run_digest, keep_best
        self._log_every, self._save_every = log_every, save_every
        self._parameters = [each for each in network.parameters() if not each.stop_gradient]
        frozen = frozen_tensors(network)
        # Batch norm's, which Paddle keeps as parameters without a gradient: network.buffers() has none of them.
        tensors = network.state_dict().items()
        self._statistics = [each for name, each in tensors if each.stop_gradient and name not in frozen]
        self._optimizer = make_optimizer(recipe, network)
        self._scaler = paddle.amp.GradScaler() if recipe.precision == "fp16" else None
        self.average: Average | None = None
        if recipe.ema_decay:
            self.average = Average(network, recipe.ema_decay, warmup=recipe.ema_warmup, frozen=frozen)
        self._on_gpu = paddle.device.get_device().startswith("gpu")
        self._pending = paddle.zeros([3], "float64")  # loss, correct and images since the last line
        self._seconds = self._reader_seconds = 0.0

    def restore(self, checkpoint: Path) -> None:
        """Go to where a checkpoint stands.

        Raises:
            DataError: no such file, damaged, or of another run. WeightsError: of another network.
        """
        self.position, parts = read_state(checkpoint, self._run_digest)
        steps, position = self.feeder.steps_per_epoch, self.position
        if position.step > steps or position.global_step != position.epoch * steps + position.step:
            raise DataError(
                f"{checkpoint} is damaged: step {position.step} of epoch {position.epoch} and {position.global_step} "
                f"steps in all; expected {steps} steps an epoch; start a new run, perhaps from best.safetensors"
            )
        expected = {name: list(tensor.shape) for name, tensor in self.network.state_dict().items()}
        if expected != {name: list(array.shape) for name, array in parts["network"].items()}:
            raise WeightsError(f"{checkpoint} does not fit the network that run.json describes")
        self.network.set_state_dict(parts["network"])
        restore_optimizer(self._optimizer, self.network, parts["optimizer"])
        if self.average:
            self.average.restore(parts["average"])
        if self._scaler and self.position.scaler:
            self._scaler.load_state_dict(self.position.scaler)
        self.feeder.unreadable.update(self.position.unreadable)

    def run(self) -> None:
        """Train to the end.

        Raises:
            CheckFailed: the loss is not finite, or much larger than that of guessing.
            Stopped: a signal asked to stop; there is a checkpoint.
            ImageError, DatasetError: what was read. OutputError: what could not be written. PeerLost: another process.
        """
        self.network.train()
        with StopRequest() as stop, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "When training, we now always track")  # Paddle's batch norm, of itself
            while not self.finished:
                self._train_epoch(stop)
                self._finish_epoch()
                self._stop_if_asked(self._agreed(stop, 0.0)[0])

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or no better result has come for as many as the recipe's patience."""
        position, best = self.position, self.position.best
        patient = not self.recipe.patience or best is None or position.epoch - best["epoch"] < self.recipe.patience
        return position.epoch >= self.recipe.all_epochs or not patient

    def weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """The network's tensors."""
        return {name: tensor.numpy() for name, tensor in self.network.state_dict().items()}

    def averaged_weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """The average's tensors."""
        assert self.average is not None
        return {name: tensor.numpy() for name, tensor in self.average.tensors.items()}

    # One epoch.

    def _train_epoch(self, stop: StopRequest) -> None:
        position, steps = self.position, self.feeder.steps_per_epoch
        saved = time.monotonic()
        for batch in self.feeder.epoch(position.epoch, position.step):
            started = time.perf_counter()
            rate = learning_rate(self.recipe, position.global_step, steps)
            self.step(batch, rate)
            position.step += 1
            position.global_step += 1
            self._seconds += time.perf_counter() - started + batch.reader_seconds
            self._reader_seconds += batch.reader_seconds
            position.window.steps += 1
            if position.step % self._log_every == 0 or position.step == steps:
                self._write_line()
            stopping, due = self._agreed(stop, saved)
            if due or stopping or position.step == steps:
                self._flush()
                self.save()
                saved = time.monotonic()
                self._stop_if_asked(stopping)

    def _agreed(self, stop: StopRequest, saved: float) -> tuple[int, bool]:
        """The signal that asks to stop (0: none), and whether a checkpoint is due: the same in every process.

        Asking the others costs a GPU its head start, so there it is done where a line is written only.
        """
        position, single = self.position, self.ranks.world == 1
        if not single and self._on_gpu and position.step % self._log_every:
            return 0, False
        stopping, due = self.ranks.sum([stop.number, time.monotonic() - saved >= self._save_every])
        return int(stopping) if single else signal.SIGTERM * bool(stopping), bool(due)

    def _stop_if_asked(self, stopping: int) -> None:
        """After a checkpoint."""
        position = self.position
        if stopping and not self.finished:
            raise Stopped(
                f"stopped after step {position.step} of epoch {position.epoch + 1}, with a checkpoint; go on "
                f"with: mobilenext train --resume {self.folder.folder if self.folder else ''}",
                stopping,
            )

    def step(self, batch: Batch, rate: float) -> None:
        """One step of the optimiser, on this process' part of a batch."""
        recipe, scaler = self.recipe, self._scaler
        self._optimizer.set_lr(rate)
        # Dropout depends on where the run stands, not on how it came there.
        paddle.seed((self._seed << 40) + (self.position.global_step << 8) + self.ranks.rank)
        weights = None if batch.class_weights is None else paddle.to_tensor(batch.class_weights)
        # The batch's nominal size (or the sum of its images' weights), so that parts and processes add up to the mean
        # over the batch.
        whole = recipe.batch_size if weights is None else batch.weight
        second_labels = batch.labels if batch.neighbors is None else batch.neighbors
        for images, labels, neighbors in zip(
            np.array_split(batch.images, recipe.accumulate),
            np.array_split(batch.labels, recipe.accumulate),
            np.array_split(second_labels, recipe.accumulate),
            strict=True,
        ):
            if not len(labels):
                continue
            targets = paddle.to_tensor(labels)
            with self._mixed_precision():
                logits = self.network(paddle.to_tensor(images))
            loss = cross_entropy_sum(logits, targets, recipe.label_smoothing, weights)
            if batch.neighbors is not None:
                others = paddle.to_tensor(neighbors)
                of_others = cross_entropy_sum(logits, others, recipe.label_smoothing, weights)
                loss = batch.share * loss + (1 - batch.share) * of_others
                if batch.share < 0.5:
                    targets = others  # the accuracy of training is that of what an image has more of
            part = loss / whole
            (scaler.scale(part) if scaler else part).backward()
            with paddle.no_grad():
                if weights is not None:  # the log divides by images: let it show the mean that is minimised
                    loss = part * recipe.batch_size
                correct = (logits.argmax(axis=1) == targets).sum()
                self._pending += paddle.stack(
                    [loss.astype("float64"), correct.astype("float64"), paddle.full([], len(labels), "float64")]
                )
        self.ranks.sum_gradients(self._parameters)
        if scaler:
            scaler.step(self._optimizer)
            scaler.update()
        else:
            self._optimizer.step()
        self._optimizer.clear_grad()
        if self.average:
            self.average.update(self.position.global_step)

    def _mixed_precision(self) -> contextlib.AbstractContextManager[None]:
        if self.recipe.precision == "fp32":
            return contextlib.nullcontext()
        dtype = {"bf16": "bfloat16", "fp16": "float16"}[self.recipe.precision]
        mixed: contextlib.AbstractContextManager[None] = paddle.amp.auto_cast(dtype=dtype, level="O1")
        return mixed

    def _flush(self) -> None:
        """Add what the device has summed up to the window; afterwards nothing is only there."""
        started = time.perf_counter()
        pending = self._pending.numpy()  # waits for the device
        self._seconds += time.perf_counter() - started
        loss, correct, images = self.ranks.sum(pending).tolist()
        self.feeder.count_unreadable_of(self.ranks)
        window = self.position.window
        window.loss += loss
        window.correct += int(correct)
        window.images += int(images)
        window.seconds += self._seconds
        window.reader_seconds += self._reader_seconds
        self.position.train_seconds += self._seconds
        self.position.images += int(images)
        self._pending = paddle.zeros([3], "float64")
        self._seconds = self._reader_seconds = 0.0
        if not math.isfinite(window.loss):
            raise self._diverged("is not finite")

    def _is_off(self, window: Sums) -> bool:
        """Whether the loss is so far above guessing that nothing good can come of it."""
        return window.loss > window.images * (5 * math.log(self.network.num_classes) + 10)

    def _diverged(self, what: str) -> CheckFailed:
        position = self.position
        return CheckFailed(
            f"the loss {what} after step {position.step} of epoch {position.epoch + 1} (learning rate "
            f"{self._optimizer.get_lr():.4g}): the training has diverged. {self._last_good()} Start a run with a lower "
            f"rate, such as --set lr={self.recipe.lr / 2:.3g}, or a longer warm-up."
        )

    def _last_good(self) -> str:
        if self.folder is None or not self.folder.checkpoint.is_file():
            return "There is no checkpoint yet."
        return f"The last good checkpoint is kept in {self.folder.checkpoint}."

    def _write_line(self) -> None:
        """Close the window: a line of the log for the steps since the last one."""
        self._flush()
        position = self.position
        # Only here, over all steps of the line: when a checkpoint happens to be due must not decide.
        if self._is_off(position.window):
            loss, guessing = position.window.loss / position.window.images, math.log(self.network.num_classes)
            raise self._diverged(f"is {loss:.2f}, where guessing has {guessing:.2f}")
        self.log.steps(position)
        position.in_epoch.add(position.window)
        position.window = Sums()

    def _finish_epoch(self) -> None:
        position = self.position
        validated = self._validate()
        for kind, counts in validated.items():
            if position.best is None or is_better(counts, position.best, self.recipe.best_metric):
                position.best = {"epoch": position.epoch + 1, "kind": kind, **counts}
                self._keep_best(self, kind)
        self.log.epoch(position, validated)
        position.final = validated
        position.epoch += 1
        position.step = 0
        position.in_epoch = Sums()
        self.save()
        if self.finished and position.epoch < self.recipe.all_epochs:
            log.info(
                "stopped early: no better %s for %d epochs; the best was that of epoch %d",
                self.recipe.best_metric, self.recipe.patience, (position.best or {})["epoch"],
            )  # fmt: skip

    def _validate(self) -> dict[str, dict[str, Any]]:
        """Counts of the raw weights and of their average."""
        # Each process has seen other images: the first one's statistics are those that are kept.
        self.ranks.share(self._statistics)
        try:
            found = {"raw": self.validation.counts(self.network)}
            if self.average:
                self.ranks.share(self.average.tensors.values())
                with self.average.in_use():
                    found["ema"] = self.validation.counts(self.network)
        except WeightsError as error:
            raise self._diverged(f"of the validation is not a number ({error})") from error
        wanted = ("images", "correct_top1", "correct_top5", "top1_percent", "top5_percent", "loss")
        return {
            kind: {name: counts.summary()[name] for name in wanted} | counts.scores().summary()
            for kind, counts in found.items()
        }

    # Checkpoints and signals.

    def save(self) -> None:
        """Write the whole state, in the first process."""
        if self.folder is None:
            return
        if self._is_off(self.position.window):
            log.warning("the loss is far above guessing: the last checkpoint is kept, and none written")
            return
        self.position.unreadable = dict(self.feeder.unreadable)
        if self._scaler:
            self.position.scaler = {
                name: value.tolist() if hasattr(value, "tolist") else value
                for name, value in self._scaler.state_dict().items()
            }
        optimizer = {name: tensor.numpy() for name, tensor in optimizer_state(self._optimizer, self.network).items()}
        parts = {"network": self.weights(), "optimizer": optimizer}
        if self.average:
            parts["average"] = self.averaged_weights()
        for part, arrays in parts.items():
            broken = [name for name, array in arrays.items() if not np.isfinite(array).all()]
            if broken:
                raise self._diverged(f"is a number, but {part}/{broken[0]} is not finite")
        write_state(self.folder.checkpoint, self._run_digest, self.position, parts)
