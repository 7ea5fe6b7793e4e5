"""What was replaced in a network, and what that saves."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Replacement:
    """One module of a network, and what is there now. Pairs of numbers are (before, after)."""

    name: str
    before: str
    after: str
    parameters: tuple[int, int]
    multiply_adds: tuple[int, int]


@dataclass(frozen=True)
class Report:
    """What :func:`.replace_dilated` did; ``print(report)`` shows it as a table.

    multiply_adds: half of what `torch.utils.flop_counter` counts for one image of the size given: those of convolutions
        and matrix products; a box convolution counts 1 an input pixel and 2 an output pixel.
    left: modules that were wanted but stay, and why.
    parameters, multiply_adds: of the whole network. The layers after a replaced pool see more pixels than before.
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
