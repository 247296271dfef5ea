"""What a sandglass block is made of; without Paddle, since it is read from files of architectures."""

from __future__ import annotations

from dataclasses import dataclass

from mobilenext.errors import UsageError

DIVISORS = (1, 2, 3, 4, 6)  # of the channels that a shortcut joins: those of the paper; they divide every width of x1.0


@dataclass(frozen=True)
class BlockPlan:
    """What one sandglass block is made of.

    Raises:
        UsageError: a block that cannot be built.
    """

    in_channels: int
    hidden_channels: int
    out_channels: int
    stride: int
    first_depthwise: bool
    last_depthwise: bool
    shortcut: bool
    kernel_size: int = 3  # of both depthwise convolutions

    def __post_init__(self) -> None:
        if self.stride != 1 and not self.last_depthwise:
            raise UsageError(f"{self}: a stride of {self.stride} needs the last depthwise convolution")
        if self.shortcut and (self.stride != 1 or self.in_channels != self.out_channels):
            raise UsageError(
                f"{self}: a shortcut needs a stride of 1 and as many channels before the block as after it"
            )
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise UsageError(f"{self}: expected an odd kernel_size from 1 up")
