"""Run the loop of a training: steps, the log, checkpoints, validation."""

from __future__ import annotations

import logging
import math
import signal
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import paddle
from paddle import nn

from mobilenext.errors import CheckFailed, DataError, Stopped, WeightsError
from mobilenext.job import Batch, Setup, Stepper
from mobilenext.json_files import Check
from mobilenext.runs.log import Moment, RunLog, Sums
from mobilenext.runs.run_folder import RunFolder
from mobilenext.training.feeding import Feeder
from mobilenext.training.freezing import frozen_tensors
from mobilenext.training.optimization import Average
from mobilenext.training.schedule import learning_rate
from mobilenext.training.state import Position, check_counted, check_parts, read_state, write_state
from mobilenext.training.stopping import StopRequest
from mobilenext.training.validation import Validation, is_better

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Records:
    """Where a loop writes, and how often."""

    folder: RunFolder | None  # in the first process only
    run_digest: str  # of the configuration, stored in checkpoints
    check_summary: Check  # of a validation's summary that comes back from a checkpoint
    log_every: int = 20  # steps between two rows of the log
    save_every: float = 600.0  # seconds between two checkpoints within an epoch
    verb: str = "train"  # of the command line, that goes on with the run


class Loop:
    """One run from where it stands to its end."""

    def __init__(
        self,
        setup: Setup,
        network: nn.Layer,
        stepper: Stepper,
        feeder: Feeder,
        validation: Validation,
        records: Records,
        keep_best: Callable[[Mapping[str, Any], str], None],
    ) -> None:
        """Prepare to train `network`, which is in training mode and has its first weights.

        `keep_best` is called with the ``raw`` or ``ema`` tensors, and with that word, when they score higher than all
        before.
        """
        self.recipe, self.job, self.ranks = setup.recipe, setup.job, setup.ranks
        self.network, self.stepper, self.feeder, self.validation = network, stepper, feeder, validation
        self._begin_epoch = setup.begin_epoch
        self.folder, self._records, self._keep_best = records.folder, records, keep_best
        self.position = Position(window=self._no_sums(), in_epoch=self._no_sums())
        steps = feeder.steps_per_epoch
        self.total_steps, self.total_epochs = self.recipe.total_steps(steps), self.recipe.total_epochs(steps)
        self.log = RunLog(self.job, self.total_epochs, steps, self.folder)
        frozen = frozen_tensors(network)
        # The statistics of batch norms: Paddle keeps them as parameters without a gradient, not in network.buffers().
        tensors = network.state_dict().items()
        self._statistics = [tensor for name, tensor in tensors if tensor.stop_gradient and name not in frozen]
        self.average: Average | None = None
        if self.recipe.ema_decay:
            self.average = Average(network, self.recipe.ema_decay, warmup=self.recipe.ema_warmup, frozen=frozen)
        self._on_gpu = paddle.device.get_device().startswith("gpu")
        # What the steps since the last flush have summed up stays on the device: reading a number there would make the
        # processor wait for each step, instead of preparing the next one meanwhile.
        self._pending = self._nothing()
        self._seconds = 0.0

    def _nothing(self) -> paddle.Tensor:
        return paddle.zeros([2 + len(self.job.counted)], "float64")  # loss, images, and what the job counts

    def _no_sums(self) -> Sums:
        return Sums(counted=dict.fromkeys(self.job.counted, 0))

    def restore(self, checkpoint: Path) -> None:
        """Go to where a checkpoint stands.

        Raises:
            DataError: no such file, damaged, or of another run. WeightsError: of another network.
        """
        self.position, parts = read_state(checkpoint, self._records.run_digest, self._records.check_summary)
        steps, position = self.feeder.steps_per_epoch, self.position
        finished = min(position.epoch * steps + position.step, self.total_steps)  # the last epoch may be shorter
        if position.step > steps or position.global_step != finished:
            raise DataError(
                f"{checkpoint} is damaged: step {position.step} of epoch {position.epoch} and {position.global_step} "
                f"steps in all; expected {steps} steps an epoch; start a new run, perhaps from best.safetensors"
            )
        own, tensors = set(self.stepper.parts()), {"network", "average"} if self.average else {"network"}
        # Before the stepper's first step its parts may be empty, and so not in the file. In float16 the scaler may
        # leave the first steps out.
        begun = position.global_step and self.recipe.precision != "fp16"
        check_parts(checkpoint, parts, needed=tensors | own if begun else tensors, known=tensors | own)
        check_counted(checkpoint, position, self.job.counted)
        expected = {name: list(tensor.shape) for name, tensor in self.network.state_dict().items()}
        if expected != {name: list(array.shape) for name, array in parts["network"].items()}:
            raise WeightsError(f"{checkpoint} does not fit the network that run.json describes")
        self.network.set_state_dict(parts["network"])
        self.stepper.restore(parts, position.scaler)
        if self.average:
            self.average.restore(parts["average"])
        self.feeder.unreadable.update(position.unreadable)

    def run(self) -> None:
        """Train to the end.

        Raises:
            CheckFailed: the loss is not finite, or much larger than that of guessing.
            Stopped: a signal asked to stop; there is a checkpoint.
            ImageError, DatasetError: what was read. OutputError: what could not be written. PeerLost: another process.
        """
        self.network.train()
        with StopRequest() as stop, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "When training, we now always track")  # Paddle's own batch norm warns
            while not self.finished:
                self._train_epoch(stop)
                self._finish_epoch()
                self._stop_if_asked(self._agreed(stop, 0.0)[0])

    @property
    def finished(self) -> bool:
        """Return whether all epochs are done, no better result has come for as many as the recipe's patience, or the
        stepper is done."""
        position, best = self.position, self.position.best
        patient = not self.recipe.patience or best is None or position.epoch - best["epoch"] < self.recipe.patience
        return position.epoch >= self.total_epochs or not patient or self.stepper.done

    def weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return the network's tensors."""
        return {name: tensor.numpy() for name, tensor in self.network.state_dict().items()}

    def averaged_weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return the average's tensors."""
        assert self.average is not None
        return {name: tensor.numpy() for name, tensor in self.average.tensors.items()}

    # One epoch.

    def _train_epoch(self, stop: StopRequest) -> None:
        position, steps = self.position, self.feeder.steps_per_epoch
        if position.global_step == self.total_steps:  # stopped between the last step and the validation
            return
        if self._begin_epoch:
            self._begin_epoch(self.recipe, self.network, position.epoch, self.total_epochs)
        saved = time.monotonic()
        for batch in self.feeder.epoch(position.epoch, position.step):
            started = time.perf_counter()
            self.step(batch, learning_rate(self.recipe, position.global_step, steps))
            position.step += 1
            position.global_step += 1
            self._seconds += time.perf_counter() - started + batch.reader_seconds
            position.window.steps += 1
            last = position.step == steps or position.global_step == self.total_steps
            if position.step % self._records.log_every == 0 or last:
                self._write_row()
            stopping, due = self._agreed(stop, saved)
            if due or stopping or last:
                self._flush()
                self.save()
                saved = time.monotonic()
                self._stop_if_asked(stopping)
            if last:
                return

    def step(self, batch: Batch, rate: float) -> None:
        """Make one step on this process' part of a batch."""
        for sums in self.stepper(batch, self.position.global_step, rate):
            self._pending += sums
        if self.average:
            self.average.update(self.position.global_step)

    def _agreed(self, stop: StopRequest, saved: float) -> tuple[int, bool]:
        """Return the signal that asks to stop (0: none), and whether a checkpoint is due: the same in every process.

        A process that stopped alone would leave the others waiting for its gradients. So all add up their wishes: who
        has got no signal stops as for SIGTERM. On a GPU this exchange would wait for the device to finish the step, so
        there it is made only where a row is written, which waits anyway.
        """
        position, single = self.position, self.ranks.world == 1
        if not single and self._on_gpu and position.step % self._records.log_every:
            return 0, False
        stopping, due = self.ranks.sum([stop.number, time.monotonic() - saved >= self._records.save_every])
        return int(stopping) if single else signal.SIGTERM * bool(stopping), bool(due)

    def _stop_if_asked(self, stopping: int) -> None:
        """Stop after a checkpoint was written."""
        position = self.position
        if stopping and not self.finished:
            raise Stopped(
                f"stopped after step {position.step} of epoch {position.epoch + 1}, with a checkpoint; go on "
                f"with: mobilenext {self._records.verb} --resume {self.folder.folder if self.folder else ''}",
                stopping,
            )

    # The log.

    def _flush(self) -> None:
        """Add what the device has summed up to the window; afterwards nothing is only there."""
        started = time.perf_counter()
        pending = self._pending.numpy()  # waits for the device
        self._seconds += time.perf_counter() - started
        loss, images, *counted = self.ranks.sum(pending).tolist()
        self.feeder.count_unreadable_of(self.ranks)
        whole = [int(number) if number.is_integer() else number for number in counted]
        named = dict(zip(self.job.counted, whole, strict=True))
        reading = self.feeder.reading  # of a stepper's own feeder, too
        self.position.window.add(Sums(loss, named, int(images), self._seconds, reading.seconds))
        self.position.train_seconds += self._seconds
        self.position.images += int(images)
        self._pending = self._nothing()
        self._seconds = reading.seconds = 0.0
        if not math.isfinite(self.position.window.loss):
            raise self._diverged("is not finite")

    def _is_off(self, window: Sums) -> bool:
        """Return whether the loss is so far above guessing that nothing good can come of it."""
        return window.loss > window.images * (5 * self.job.chance + 10)

    def _diverged(self, what: str) -> CheckFailed:
        position = self.position
        return CheckFailed(
            f"the loss {what} after step {position.step} of epoch {position.epoch + 1} (learning rate "
            f"{self._last_rate():.4g}): the training has diverged. {self._last_good()} Start a run with a lower "
            f"rate, such as --set lr={self.recipe.lr / 2:.3g}, or a longer warm-up."
        )

    def _last_rate(self) -> float:
        return learning_rate(self.recipe, max(0, self.position.global_step - 1), self.feeder.steps_per_epoch)

    def _last_good(self) -> str:
        if self.folder is None or not self.folder.checkpoint.is_file():
            return "There is no checkpoint yet."
        return f"The last good checkpoint is kept in {self.folder.checkpoint}."

    def _moment(self) -> Moment:
        position, window, passes = self.position, self.position.window, self.stepper.passes
        done = position.global_step  # the rest at the speed of this window: the very first step also compiles loops
        left = passes(done, self.total_steps) * window.seconds / max(1, passes(done - window.steps, done))
        return Moment(position.epoch, position.step, done, self._last_rate(), left)

    def _write_row(self) -> None:
        """Close the window: a row of the log for the steps since the last one."""
        self._flush()
        position = self.position
        # Only here, over all steps of the row: when a checkpoint happens to be due must not decide.
        if self._is_off(position.window):
            loss = position.window.loss / position.window.images
            raise self._diverged(f"is {loss:.2f}, where guessing has {self.job.chance:.2f}")
        self.log.steps(self._moment(), position.window)
        position.in_epoch.add(position.window)
        position.window = self._no_sums()

    # The end of an epoch.

    def _finish_epoch(self) -> None:
        position = self.position
        last = position.epoch + 1 >= self.total_epochs
        summaries = self._validate() if last or (position.epoch + 1) % self.recipe.validate_every == 0 else {}
        for kind, summary in summaries.items():
            if position.best is None or is_better(self.job, summary, position.best):
                position.best = {"epoch": position.epoch + 1, "kind": kind, **summary}
                self._keep_best(self.weights() if kind == "raw" else self.averaged_weights(), kind)
        report = self.stepper.finish_epoch(position.epoch)
        self.log.epoch(self._moment(), position.in_epoch, summaries, report)
        position.final = summaries or position.final
        position.epoch, position.step = position.epoch + 1, 0
        position.in_epoch = self._no_sums()
        self.save()
        if self.finished and position.epoch < self.total_epochs and not self.stepper.done:
            log.info(
                "stopped early: no better %s for %d epochs; the best was that of epoch %d",
                self.recipe.objective.best_metric, self.recipe.patience, (position.best or {})["epoch"],
            )  # fmt: skip

    def _validate(self) -> dict[str, dict[str, Any]]:
        """Return the summaries of the raw weights and of their average."""
        # The statistics of batch norms are those of other images in each process. All weights that are evaluated and
        # stored have the first process' ones.
        self.ranks.share(self._statistics)
        try:
            summaries = {"raw": self.validation.summary(self.network)}
            if self.average:
                self.ranks.share(self.average.tensors.values())
                with self.average.in_use():
                    summaries["ema"] = self.validation.summary(self.network)
        except WeightsError as error:
            raise self._diverged(f"of the validation is not a number ({error})") from error
        return summaries

    def save(self) -> None:
        """Write the whole state, in the first process.

        Raises:
            CheckFailed: a tensor is not finite; the last checkpoint is kept.
        """
        if self.folder is None:
            return
        if self._is_off(self.position.window):
            log.warning("the loss is far above guessing: the last checkpoint is kept, and none written")
            return
        self.position.unreadable = dict(self.feeder.unreadable)
        self.position.scaler = self.stepper.values()
        parts = {"network": self.weights(), **self.stepper.parts()}
        if self.average:
            parts["average"] = self.averaged_weights()
        for part, arrays in parts.items():
            broken = [name for name, array in arrays.items() if not np.isfinite(array).all()]
            if broken:
                raise self._diverged(f"is a number, but {part}/{broken[0]} is not finite")
        write_state(self.folder.checkpoint, self._records.run_digest, self.position, parts)
        for name, content in self.stepper.files().items():
            self.folder.write(name, content)
