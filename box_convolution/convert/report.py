"""What was replaced in a network, and what that saves."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Replacement:
    """One replaced module of a network, described ``before`` and ``after``. Pairs of numbers are (before, after)."""

    name: str
    before: str
    after: str
    parameters: tuple[int, int]
    multiply_adds: tuple[int, int]


@dataclass(frozen=True)
class Report:
    """What :func:`.replace_dilated` did; ``print(report)`` shows it as a table.

    replaced: the replaced modules.
    left: names of modules that were to be replaced but could not be, and why.
    parameters, multiply_adds: of the whole network, (before, after). Multiply-adds are half of what
        `torch.utils.flop_counter` counts for one image of the given size: those of convolutions and matrix products; a
        box convolution counts 1 for each input pixel and 2 for each output pixel. They may grow, because the layers
        after a replaced pool get more pixels than before.
    """

    replaced: list[Replacement]
    left: dict[str, str]
    parameters: tuple[int, int]
    multiply_adds: tuple[int, int]

    def __str__(self) -> str:
        rows = [("module", "from", "to", "parameters", "million multiply-adds")]
        for one in self.replaced:
            rows.append((one.name, one.before, one.after, _change(one.parameters), _millions(one.multiply_adds)))
        rows.append(("whole network", "", "", _change(self.parameters), _millions(self.multiply_adds)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join(lines + [f"left as it is: {name}: {reason}" for name, reason in self.left.items()])


def _change(pair: tuple[int, int]) -> str:
    return f"{pair[0]:,} -> {pair[1]:,}"


def _millions(pair: tuple[int, int]) -> str:
    return f"{pair[0] / 1e6:,.1f} -> {pair[1] / 1e6:,.1f}"
