"""Tables: what stands in a cell."""

import pytest

from boxconv.reports.tables import rounded


@pytest.mark.parametrize("value, text", [(None, "–"), (float("nan"), "–"), (1234, "1,234"), (1234.567, "1,234.57")])
def test_numbers_for_tables(value, text):
    assert rounded(value) == text
