"""The layer and every network give under each facility of PyTorch what they give alone.

The table is in `facilities/`; `make compatibility` tries the rows and networks that are left out here for their time.
"""

import pytest
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
    if row.refused:
        with pytest.raises(Exception):  # noqa: B017 -- of any kind: once it works, this fails, and the page is to change
            check(row, subject)
    else:
        check(row, subject)
