"""Collective operations of a distributed run: sum, gather, broadcast from the first process.

``python -m paddle.distributed.launch`` starts the processes; gloo connects them on CPUs, NCCL on GPUs. Each process
takes its part of every batch; gradients are summed in one message a step, counts of the validation as integers.
With one process every operation returns at once.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenext.errors import PeerLost
from mobilenext.machine.packages import require_paddle


def launched() -> tuple[int, int]:
    """Return this process' number and their count, as Paddle's launcher sets them; (0, 1) without it."""
    return int(os.environ.get("PADDLE_TRAINER_ID", 0)), int(os.environ.get("PADDLE_TRAINERS_NUM", 1))


def launched_here() -> int:
    """Return the number of processes that the launcher has started on this machine."""
    return int(os.environ.get("PADDLE_LOCAL_SIZE", 1)) if launched()[1] > 1 else 1


class Ranks:
    """The processes of a run."""

    def __init__(self) -> None:
        """Join the other processes, if there are any."""
        self.rank, self.world = launched()
        if self.world > 1:
            require_paddle()
            import paddle.distributed

            paddle.distributed.init_parallel_env()

    @property
    def first(self) -> bool:
        """True in the process that writes the files."""
        return self.rank == 0

    def sum_gradients(self, parameters: Sequence[Any]) -> None:
        """Replace every gradient by its sum over the processes (all-reduce)."""
        if self.world == 1:
            return
        import paddle

        # One message for all gradients instead of one for each of some hundred tensors, each with a latency of its own.
        # All processes have the same parameters in the same order, and the same of them have a gradient: only so do
        # the parts of the sum belong together.
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        shapes = [gradient.shape for gradient in gradients]
        flat = paddle.concat([gradient.flatten() for gradient in gradients])
        self._all_reduce(flat)
        parts = flat.split([math.prod(shape) for shape in shapes])  # Tensor.size takes as long as copying
        for gradient, part, shape in zip(gradients, parts, shapes, strict=True):
            gradient.copy_(part.reshape_(shape), False)

    def sum(self, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the sum of the numbers [K] over the processes, in float64, which is exact for counts below 2**53."""
        numbers = np.asarray(values, np.float64)
        if self.world == 1:
            return numbers
        import paddle

        tensor = paddle.to_tensor(numbers)
        self._all_reduce(tensor)
        return np.asarray(tensor.numpy())

    def share(self, tensors: Iterable[Any]) -> None:
        """Broadcast the tensors from process 0, in place."""
        if self.world == 1:
            return
        import paddle.distributed

        with _peers():
            for tensor in tensors:
                paddle.distributed.broadcast(tensor, src=0)

    def gather(self, content: bytes) -> list[bytes]:
        """Gather bytes: return the content of each process, in the order of their numbers."""
        if self.world == 1:
            return [content]
        import paddle
        import paddle.distributed

        # Tensors of an all-gather have one length in all processes. First the sizes, as a sum of vectors that are zero
        # but for the own place; then the contents, padded to the longest and cut afterwards.
        sizes = self.sum(np.eye(self.world)[self.rank] * len(content)).astype(int)
        padded = np.zeros(max(1, int(sizes.max())), np.uint8)  # gloo divides by the length
        padded[: len(content)] = np.frombuffer(content, np.uint8)
        parts: list[Any] = []
        with _peers():
            paddle.distributed.all_gather(parts, paddle.to_tensor(padded))
        return [part.numpy().tobytes()[:size] for part, size in zip(parts, sizes, strict=True)]

    def from_first(self, value: Any) -> Any:
        """Broadcast a JSON value from process 0."""
        if self.world == 1:
            return value
        # The others send nothing, so this is a broadcast, of a size that only process 0 knows.
        return json.loads(self.gather(json.dumps(value).encode() if self.first else b"")[0])

    def wait(self) -> None:
        """Wait until all processes have called this: a barrier, since a sum needs a number from each of them."""
        self.sum([0])

    def _all_reduce(self, tensor: Any) -> None:
        import paddle.distributed

        with _peers():
            paddle.distributed.all_reduce(tensor)


@contextlib.contextmanager
def _peers() -> Iterator[None]:
    """Turn a failed exchange into PeerLost: mostly another process has ended."""
    try:
        yield
    # gloo and NCCL report a closed connection in many ways, and Paddle raises each as another class.
    except (RuntimeError, OSError, ValueError, SystemError) as error:
        raise PeerLost(
            "an exchange with the other processes of this run failed; if one of them has ended, its own output says "
            f"why ({str(error).strip().splitlines()[-1]})"
        ) from error
