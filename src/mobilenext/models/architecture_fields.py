"""What the record of an architecture may hold: the type and the bounds of each field, and of the network as a whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mobilenext.errors import nearest
from mobilenext.json_files import Fields, Unfit, flag, many, named, number, optional, record, sha256, shown, text, whole
from mobilenext.models.block_plan import DIVISORS, BlockPlan
from mobilenext.models.genotype import DARTS, INPUTS, NODES, NONE, Genotype

SCHEMA = 1
SPACES = ("cell", "blocks")
CELL_FORMS = {"cifar": (36, 20), "imagenet": (48, 14)}  # channels and cells of the published networks
OPERATORS = (
    *(name for name in DARTS if name != NONE),
    "sandglass_3x3", "sandglass_3x3_plain", "sandglass_5x5", "inverted_residual_3x3",
)  # that a cell can have: the names in the table of `cell_operators`, which needs Paddle  # fmt: skip

MOST_CELLS, MOST_CHANNELS = 100, 512
MOST_CELL_WEIGHTS = 200_000  # channels^2 * cells; 36 channels and 20 cells have 25,920, which is 3.3 M weights
MOST_BLOCKS, MOST_BLOCK_CHANNELS, LARGEST_KERNEL = 200, 4096, 15
MOST_BLOCK_WEIGHTS = 100_000_000  # the largest released network has 6 M
MOST_BLOCK_MULT_ADDS = 30_000_000_000  # at 224 pixels; the largest released network has 0.6 G
MOST_NUMBERS = 64


_CHANNELS = whole(1, MOST_BLOCK_CHANNELS)
_PLAN = {
    **dict.fromkeys(("in_channels", "hidden_channels", "out_channels"), _CHANNELS),
    "stride": whole(1, 2),
    **dict.fromkeys(("first_depthwise", "last_depthwise", "shortcut"), flag()),
    "kernel_size": whole(1, LARGEST_KERNEL),
}


def _edge(value: Any, place: str) -> None:
    if type(value) is not list or len(value) != 2:
        raise Unfit(f"{place} is {shown(value)}; expected [operator, input]")
    text()(value[0], f"{place}[0]")
    whole(0, INPUTS + NODES - 2)(value[1], f"{place}[1]")


def _plan(value: Any, place: str) -> None:
    record(_PLAN)(value, place)
    if unknown := value.keys() - _PLAN.keys():
        raise Unfit(f"{place} has the field {shown(min(unknown))}; expected {', '.join(_PLAN)}")


def _divisor(value: Any, place: str) -> None:
    if type(value) is not int or value not in DIVISORS:
        raise Unfit(f"{place} is {shown(value)}; expected {', '.join(map(str, DIVISORS))}")


def _numbers(value: Any, place: str) -> None:
    named(number())(value, place)
    if len(value) > MOST_NUMBERS:
        raise Unfit(f"{place} has {len(value)} entries; expected up to {MOST_NUMBERS}")


_OF_CELLS: Fields = {
    **dict.fromkeys(("normal", "reduce"), many(_edge, INPUTS * NODES)),
    "form": optional(text(*CELL_FORMS)),
    "channels": optional(whole(2, MOST_CHANNELS)),
    "cells": optional(whole(1, MOST_CELLS)),
}
_OF_BLOCKS: Fields = {"blocks": many(_plan), "identity_divisor": optional(_divisor), "base": optional(text())}
_OF_ORIGIN: Fields = {
    "operators": optional(many(text())),
    "seed": optional(whole(0)),
    **dict.fromkeys(("data_digest", "cost_table_digest"), optional(sha256())),
    "numbers": optional(_numbers),
}
HEAD: Fields = {"schema": whole(1), "space": text(*SPACES)}


def fields_of(space: str) -> Fields:
    """Return the check of each field of a record of this space; it has no others."""
    return {**HEAD, **(_OF_CELLS if space == "cell" else _OF_BLOCKS), **_OF_ORIGIN}


def check_cells(genotype: Genotype, channels: int | None, cells: int | None) -> None:
    """Raise Unfit for an operator that does not exist, and for too large a network."""
    for kind, edges in (("normal", genotype.normal), ("reduce", genotype.reduce)):
        for place, (operator, _) in enumerate(edges):
            if operator not in OPERATORS:
                near = nearest(operator, OPERATORS)
                raise Unfit(f"{kind}[{place}] names the operator {shown(operator)}, which does not exist{near}")
    if channels is not None and channels % 2:
        raise Unfit(f"channels is {channels}; expected an even number")
    weights = (channels or CELL_FORMS["imagenet"][0]) ** 2 * (cells or CELL_FORMS["cifar"][1])
    if weights > MOST_CELL_WEIGHTS:
        raise Unfit(
            f"{channels or 'open'} channels and {cells or 'open'} cells are too large a network; expected "
            f"channels^2 x cells up to {MOST_CELL_WEIGHTS:,}"
        )


def check_blocks(blocks: Sequence[BlockPlan]) -> None:
    """Raise Unfit for a block that does not take what the one before it gives, and for too large a network."""
    if not 1 <= len(blocks) <= MOST_BLOCKS:
        raise Unfit(f"blocks has {len(blocks)} entries; expected 1 to {MOST_BLOCKS}")
    weights = mult_adds = 0
    side, channels = 112, blocks[0].in_channels  # of the stem, at 224 pixels
    for place, block in enumerate(blocks):
        if block.in_channels != channels:
            raise Unfit(f"blocks[{place}] takes {block.in_channels} channels, but gets {channels} from before it")
        pointwise = (block.in_channels + block.out_channels) * block.hidden_channels
        first = block.in_channels * block.kernel_size**2 * block.first_depthwise
        last = block.out_channels * block.kernel_size**2 * block.last_depthwise
        mult_adds += (pointwise + first) * side**2
        side, channels = math.ceil(side / block.stride), block.out_channels
        mult_adds += last * side**2
        weights += pointwise + first + last
    if weights > MOST_BLOCK_WEIGHTS or mult_adds > MOST_BLOCK_MULT_ADDS:
        raise Unfit(
            f"the blocks have {weights:,} weights and {mult_adds:,} mult-adds at 224 pixels; expected up to "
            f"{MOST_BLOCK_WEIGHTS:,} and {MOST_BLOCK_MULT_ADDS:,}"
        )
