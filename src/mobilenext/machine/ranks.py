"""Several processes: started by ``python -m paddle.distributed.launch``, joined by gloo on CPUs and NCCL on GPUs.

Each process takes its part of every batch; gradients are added up in one message a step, counts of the validation as
integers. With one process nothing here costs anything.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenext.errors import PeerLost
from mobilenext.machine.packages import require_paddle


def launched() -> tuple[int, int]:
    """This process' number and how many there are, as Paddle's launcher says; (0, 1) without it. No Paddle needed."""
    return int(os.environ.get("PADDLE_TRAINER_ID", 0)), int(os.environ.get("PADDLE_TRAINERS_NUM", 1))


def launched_here() -> int:
    """How many processes the launcher has started on this machine."""
    return int(os.environ.get("PADDLE_LOCAL_SIZE", 1)) if launched()[1] > 1 else 1


class Ranks:
    """The processes of a run."""

    def __init__(self) -> None:
        """Join the others, if there are any."""
        self.rank, self.world = launched()
        if self.world > 1:
            require_paddle()
            import paddle.distributed

            paddle.distributed.init_parallel_env()

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def sum_gradients(self, parameters: Sequence[Any]) -> None:
        """Replace every gradient by its sum over the processes."""
        if self.world == 1:
            return
        import paddle

        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = paddle.concat([gradient.reshape([-1]) for gradient in gradients])
        self._all_reduce(flat)
        for gradient, part in zip(gradients, flat.split([gradient.size for gradient in gradients]), strict=True):
            gradient.set_value(part.reshape(gradient.shape))

    def sum(self, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Numbers [K] added over the processes, in float64, which holds every count exactly."""
        numbers = np.asarray(values, np.float64)
        if self.world == 1:
            return numbers
        import paddle

        tensor = paddle.to_tensor(numbers)
        self._all_reduce(tensor)
        return np.asarray(tensor.numpy())

    def share(self, tensors: Iterable[Any]) -> None:
        """The first process' values for all."""
        if self.world == 1:
            return
        import paddle.distributed

        with _peers():
            for tensor in tensors:
                paddle.distributed.broadcast(tensor, src=0)

    def gather(self, content: bytes) -> list[bytes]:
        """What each process has, for all of them."""
        if self.world == 1:
            return [content]
        import paddle
        import paddle.distributed

        sizes = self.sum(np.eye(self.world)[self.rank] * len(content)).astype(int)
        padded = np.zeros(max(1, int(sizes.max())), np.uint8)  # gloo divides by the length
        padded[: len(content)] = np.frombuffer(content, np.uint8)
        parts: list[Any] = []
        with _peers():
            paddle.distributed.all_gather(parts, paddle.to_tensor(padded))
        return [part.numpy().tobytes()[:size] for part, size in zip(parts, sizes, strict=True)]

    def from_first(self, value: Any) -> Any:
        """A value that JSON can hold, of the first process, for all."""
        if self.world == 1:
            return value
        return json.loads(self.gather(json.dumps(value).encode() if self.first else b"")[0])

    def wait(self) -> None:
        """Until all processes are here."""
        self.sum([0])

    def _all_reduce(self, tensor: Any) -> None:
        import paddle.distributed

        with _peers():
            paddle.distributed.all_reduce(tensor)


@contextlib.contextmanager
def _peers() -> Iterator[None]:
    """An exchange that fails mostly does so because a process has gone."""
    try:
        yield
    except (RuntimeError, OSError, ValueError, SystemError) as error:
        raise PeerLost(
            "an exchange with the other processes of this run failed; if one of them has ended, its own output says "
            f"why ({str(error).strip().splitlines()[-1]})"
        ) from error
