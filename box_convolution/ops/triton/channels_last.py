"""The Triton kernel that moves an image from channels_last memory to planes, or back: it transposes matrices.

In memory, a channels_last image is a matrix [pixels, channels], and its planes are the matrix [channels, pixels]. A
tile of it is read along its rows and written along those of its transpose; between the two, Triton moves it through the
near memory of a program's threads. PyTorch's own copy reads or writes single numbers that are far apart.
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["rows", "columns"])
def transpose(
    p_matrix, p_transposed, rows, columns, ROW_STEP: tl.constexpr, COLUMN_STEP: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Matrices [rows, columns], one after the other: a tile of ROWS x COLUMNS of one of them a program.

    Rows are a multiple of ROW_STEP and columns of COLUMN_STEP, which lets a thread read and write so many together.
    """
    rows = rows // ROW_STEP * ROW_STEP
    columns = columns // COLUMN_STEP * COLUMN_STEP
    across = tl.cdiv(columns, COLUMNS)
    tiles = tl.cdiv(rows, ROWS) * across
    matrix = (tl.program_id(0) // tiles).to(tl.int64) * rows * columns
    tile = tl.program_id(0) % tiles
    row = (tile // across * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = (tile % across * COLUMNS + tl.arange(0, COLUMNS)).to(tl.int64)
    inside = (row < rows)[:, None] & (column < columns)[None, :]
    read = tl.load(p_matrix + matrix + row[:, None] * columns + column[None, :], mask=inside)
    tl.store(p_transposed + matrix + column[None, :] * rows + row[:, None], read, mask=inside)
