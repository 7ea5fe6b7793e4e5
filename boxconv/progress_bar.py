"""Progress bars on a terminal."""

from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress_bar(iterable: Iterable[Any] | None = None, *, shown: bool = True, **options: Any) -> Any:
    """Return a bar on standard error that disappears when it is full; options are those of `tqdm.tqdm`.

    Nothing is drawn if ``shown`` is False, or if standard error is not a terminal: a log file gets lines, not the
    thousands of updates of a bar.
    """
    return tqdm(iterable, leave=False, disable=None if shown else True, **options)
