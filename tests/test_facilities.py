"""The layer and every network compute the same with each facility of PyTorch as without it.

The table is in `facilities/`; `make compatibility` also tests the rows and networks that take too long here.
"""

import pytest
import torch
from facilities import FACILITIES, Facility, check


def _cases() -> list[object]:
    return [
        pytest.param(row, subject, id=f"{row.use.__name__}-{row.name}-{subject}")
        for row in FACILITIES
        for subject in row.subjects
        if subject in row.in_tests
    ]


@pytest.mark.filterwarnings("ignore::UserWarning:torch", "ignore::DeprecationWarning:torch")
@pytest.mark.parametrize("row, subject", _cases())
def test_facility(row: Facility, subject: str) -> None:
    if torch.__version__ < row.since:
        pytest.skip(f"works since PyTorch {'.'.join(map(str, row.since))}")
    if row.refused:
        with pytest.raises(Exception):  # noqa: B017 -- of any kind: once it works, this fails, and the page is to change
            check(row, subject)
    else:
        check(row, subject)
