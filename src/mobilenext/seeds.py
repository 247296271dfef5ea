"""Generators of random numbers that are functions of the seed and of the place where a run stands.

Nothing random has a state that would have to be stored: an image is augmented alike whatever was drawn before it, and
in whichever process.
"""

from __future__ import annotations

import numpy as np

from mobilenext.errors import UsageError

# The purposes of generators. A task numbers its own from 2 on; two purposes never share a number of a seed.
ORDER, SAMPLE = 0, 1


def generator(seed: int, epoch: int, index: int, purpose: int = 0) -> np.random.Generator:
    """Return the generator for one image in one epoch; `purpose` tells independent uses of it apart.

    The four numbers are the key and the start of the counter of Philox: no two generators of a seed share a number.

    Raises:
        UsageError: a number that is negative or does not fit 64 bits.
    """
    numbers = (seed, epoch, index, purpose)
    if min(numbers) < 0 or max(numbers) >> 64:
        raise UsageError(f"seed, epoch, index, purpose are {numbers}; expected integers from 0 to 2**64 - 1")
    # The lowest word of the counter counts blocks of four numbers; it would overflow after 2**64 of them.
    counter = np.array([0, index, epoch, purpose], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=seed, counter=counter))
