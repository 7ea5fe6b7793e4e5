"""How the Triton kernels share out the work of a call among programs and threads.

For rows that one kernel is faster for than another, and how many boxes, threads and registers are best, was measured.
"""

from typing import NamedTuple

GROUP = 4  # neighbouring columns that a thread has, E in rows.py
_FORWARD_REGISTERS, _BACKWARD_REGISTERS = 168, 255  # of a thread that walks down short rows
# Those of a forward pass that reads a residual, by pieces of a row and bytes of a number.
_RESIDUAL_REGISTERS = {(1, 4): 200, (1, 2): 200, (2, 4): 232, (2, 2): 168}
_MOST_MOVED = 512  # threads and boxes' rows that the backward pass moves at a time: 32 KB, of which every GPU has 64
_BOXES = {1: 4, 2: 1}  # as many as the backward pass has registers for, of rows in so many pieces


class Limits(NamedTuple):
    """What the work is cut to fit: ``processors`` with registers, 128 each, for ``warps`` of ``warp`` threads, or for
    half as many in the backward pass and for rows in two pieces.

    A program has at most ``threads`` threads. A strip has at least ``rows`` rows: as it starts, it reads as many as its
    boxes are high.
    """

    processors: int
    warp: int = 32
    warps: int = 16
    threads: int = 256
    rows: int = 8


class Row(NamedTuple):
    """How threads share a row of pixels: ``pieces`` of ``threads`` groups of columns, or parts of it that long."""

    pieces: int
    threads: int
    pitch: int  # groups of a whole row
    long: bool


class Plan(NamedTuple):
    """How a call's work is shared out: ``programs`` take one item after the other.

    An item is a strip of ``strip`` rows of a plane, one of ``strips``. A program walks down ``boxes`` boxes at a time,
    of which a channel has ``together`` such groups: in the forward pass, each group is an item of its own.
    """

    programs: int
    items: int
    together: int
    strips: int
    strip: int
    boxes: int
    warps: int


def short_row(size: int, w: int, per_channel: int, stride: int, forward: bool, limits: Limits) -> Row | None:
    """How threads share a row that is moved through shared memory; None where one is left in scratch memory.

    It takes a program of several warps, and numbers of ``size`` bytes that fit the registers. For which rows it is
    faster was measured on an H200.
    """
    groups = share_row(w, limits).pitch
    pieces = 2 if forward and groups > limits.warp else 1
    row = Row(pieces, groups // pieces, groups, False)
    warps = row.threads / limits.warp
    fast = warps <= 2 if forward else warps <= 1 or warps == 4
    several = _boxes(per_channel, row, forward, True, limits) * row.threads > limits.warp
    return row if stride == 1 and size <= 4 and fast and several else None


def short_registers(size: int, row: Row, forward: bool, residual: bool) -> int:
    """The most registers of a thread that walks down short rows of numbers of ``size`` bytes."""
    if not forward:
        return _BACKWARD_REGISTERS
    return _RESIDUAL_REGISTERS[row.pieces, size] if residual else _FORWARD_REGISTERS


def share_row(w: int, limits: Limits) -> Row:
    """One warp has a row of up to 256 pixels, so that its sums go through no other."""
    groups = max(2, power_of_two(-(-w // GROUP)))  # Triton 3.6 cannot compile tensors of which only E is not 1
    pieces = 2 if groups > limits.warp else 1
    threads = min(groups // pieces, limits.threads)
    return Row(pieces, threads, groups, GROUP * pieces * threads < w)


def _boxes(per_channel: int, row: Row, forward: bool, short: bool, limits: Limits) -> int:
    """How many a program walks down at a time: a power of two. Short rows of the forward pass have two warps."""
    threads = 2 * limits.warp if forward and short else limits.threads
    boxes = min(power_of_two(per_channel), max(1, threads // row.threads))
    if not forward:
        boxes = min(boxes, _BOXES[row.pieces])
        while short and boxes * boxes * row.threads > _MOST_MOVED:
            boxes //= 2
    return boxes


def share_work(
    planes: int, per_channel: int, walked: int, row: Row, forward: bool, registers: int | None, limits: Limits
) -> Plan:
    """For planes of ``walked`` rows to walk down; forward, with a channel's groups of boxes in items of their own.

    ``registers`` are those of a thread that walks down short rows, None for other rows.
    """
    boxes = _boxes(per_channel, row, forward, registers is not None, limits)
    together = -(-per_channel // boxes)
    warps = max(1, boxes * row.threads // limits.warp)
    if registers is not None:
        room = limits.warps * 128 // registers
    else:
        room = limits.warps if forward and row.pieces == 1 else limits.warps // 2
    resident = limits.processors * max(1, room // warps)
    items = planes * together if forward else planes
    strip = -(-walked // max(1, min(resident // items, -(-walked // limits.rows))))
    strips = -(-walked // strip)
    return Plan(min(items * strips, resident), items * strips, together, strips, strip, boxes, warps)


def power_of_two(number: int) -> int:
    """The smallest that is not below ``number``."""
    return 1 << (number - 1).bit_length()
