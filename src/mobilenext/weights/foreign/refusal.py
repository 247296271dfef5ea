"""How the readers of foreign files say no: `Refusal` carries the sentence, `read_foreign` adds the file's name."""

from __future__ import annotations

DOWNLOAD_AGAIN = "The file is damaged or incomplete: download or copy it again and compare its sha256 with the source's"
SAVE_STATE_DICT = (
    "Re-save only the state dict in the framework it came from, for example "
    "`torch.save(model.state_dict(), 'weights.pth')` or `paddle.save(model.state_dict(), 'weights.pdparams')`"
)
_LONGEST_SHOWN = 160


class Refusal(Exception):
    """What was found in a file that cannot be read, and what to do about it.

    Never leaves the package: only `mobilenext.weights.foreign.reading` knows the path that makes it a complete message.
    """

    def __init__(self, problem: str, advice: str = DOWNLOAD_AGAIN) -> None:
        super().__init__(f"{problem}. {advice}.")
        self.problem = problem
        self.advice = advice


def shown(value: object) -> str:
    """Return `value` as it may stand in a message: text escaped and cut short, anything but scalars by its type only.

    The text comes from an untrusted file, so it may be megabytes long or hold terminal control sequences.
    """
    if isinstance(value, str | bytes):
        text = repr(value[: _LONGEST_SHOWN + 1])
    elif value is None or isinstance(value, bool | int | float):
        text = repr(value)
    else:
        text = f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."
