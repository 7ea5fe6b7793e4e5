"""Rows that are moved as far as the edges of boxes are from their outputs, through the near memory that a program's
threads share: for short rows of K * N groups of E columns. Each of K threads has N (1 or 2) groups side by side.

A tile [1, C, K, E] is a piece of one row each for C boxes: one group of every thread. What lies left of an edge in
column k is, with P[k] the sum of all r left of k and T that of the whole row,

    Q[k] = whole * P[k] + part * r[k],    0 where k is left of all columns,    whole * T where it is right of them.

A part is the same for all columns of a box. So Q is made in place, and only then read a shift away: one number for
each output and edge. Triton's gather along the only axis of a tensor goes through shared memory, if that has several
warps. Columns with the same remainder modulo E are neighbours there, so that no two threads meet in a memory bank.
"""

import triton
import triton.language as tl

from .rows import E


@triton.jit
def stack(tiles, COUNT: tl.constexpr, C: tl.constexpr, K: tl.constexpr):
    """A tuple of 1, 2 or 4 tiles as one, [1, C, K, E, COUNT]."""
    if COUNT == 1:
        return tl.reshape(tiles[0], [1, C, K, E, 1])
    elif COUNT == 2:
        return tl.join(tiles[0], tiles[1])
    else:
        pairs = tl.join(tl.join(tiles[0], tiles[2]), tl.join(tiles[1], tiles[3]))
        return tl.reshape(pairs, [1, C, K, E, 4])


@triton.jit
def unstack(tile, COUNT: tl.constexpr, C: tl.constexpr, K: tl.constexpr):
    if COUNT == 1:
        return (tl.reshape(tile, [1, C, K, E]),)
    elif COUNT == 2:
        return tl.split(tile)
    else:
        even, odd = tl.split(tl.reshape(tile, [1, C, K, E, 2, 2]))
        first, third = tl.split(even)
        second, fourth = tl.split(odd)
        return first, second, third, fourth


@triton.jit
def place_of(tile, n, N: tl.constexpr, C: tl.constexpr, K: tl.constexpr):
    """Where column ``n`` of a row is, whose pieces begin with tile number ``tile``. A place is counted in numbers."""
    group = n // E
    return (((group % N) * C + tile) * E + n % E) * K + group // N


@triton.jit
def like_rows(tile):
    """True for every number of a ``tile`` that was read. It ties what is computed with it to the threads that read:
    the compiler would otherwise share out places and weights in another way, and move all that is found there.
    """
    return (tile == tile) | (tile != tile)


@triton.jit
def find_edge(box, n, w, has_weight, weight, true, N: tl.constexpr, C: tl.constexpr, K: tl.constexpr):
    """For an edge in columns ``n`` of a row of ``w`` columns: the place of Q; and the weights of Q, and of T."""
    inside = (n.to(tl.uint32) < w.to(tl.uint32)) & has_weight & true
    right = (n >= w) & has_weight & true
    # The others look at a column that has no pixel, if there is one: what has no weight may be a NaN.
    at = place_of(box, tl.where(inside, n, tl.minimum(w, N * K * E - 1)), N, C, K)
    return tl.broadcast_to(at, [1, C, K, E]), tl.where(inside, weight, 0.0), tl.where(right, weight, 0.0)


@triton.jit
def columns_of_groups(tile, C: tl.constexpr, K: tl.constexpr):
    """The first, second, third and fourth columns of all groups, [1, C, K] each."""
    even, odd = tl.split(tl.reshape(tile, [1, C, K, 2, 2]))
    first, third = tl.split(even)
    second, fourth = tl.split(odd)
    return first, second, third, fourth


@triton.jit
def sum_row(pieces, N: tl.constexpr, C: tl.constexpr, K: tl.constexpr):
    """Of each column of a row, the sum of all columns before it, by pieces; and that of the whole row."""
    within = ()
    before = ()
    for n in tl.static_range(N):
        first, second, third, fourth = columns_of_groups(pieces[n], C, K)
        two = first + second
        three = two + third
        within += ((first, two, three),)
        if n == 0:
            group = three + fourth
        else:
            before += (group,)
            group += three + fourth
    through = tl.cumsum(group, 2)
    start = through - group
    sums = ()
    for n in tl.static_range(N):
        first, two, three = within[n]
        at = start
        if n > 0:
            at += before[n - 1]
        pairs = tl.join(tl.join(at, at + two), tl.join(at + first, at + three))
        sums += (tl.reshape(pairs, [1, C, K, E]),)
    if K > 32:  # threads of several warps, of which Triton's sum needs fewer barriers than its gather
        total = tl.broadcast_to(tl.sum(group, 2, keep_dims=True), [1, C, K])
    else:
        total = tl.gather(through, tl.full([1, C, K], K - 1, tl.int32), 2)
    return sums, total


@triton.jit
def left_of_edges(
    rows, part, other_part, whole,
    EXACT: tl.constexpr, ROWS: tl.constexpr, N: tl.constexpr, C: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """Q of two edges for ROWS rows, of N pieces each, and whole * T for each row. If EXACT, a thin box (``whole`` 0)
    does not see sums that are not finite.
    """
    of_edge = ()
    of_other = ()
    totals = ()
    for r in tl.static_range(ROWS):
        pieces = ()
        for n in tl.static_range(N):
            pieces += (rows[r * N + n],)
        sums, total = sum_row(pieces, N, C, K)
        for n in tl.static_range(N):
            left = tl.where(whole != 0, sums[n], 0.0) if EXACT else whole * sums[n]
            of_edge += (left + part * pieces[n],)
            of_other += (left + other_part * pieces[n],)
        total = total[:, :, :, None]
        totals += (tl.where(whole != 0, total, 0.0) if EXACT else whole * total,)
    return of_edge, of_other, totals


@triton.jit
def moved(of_edge, of_other, at_edge, at_other, ROWS: tl.constexpr, N: tl.constexpr, C: tl.constexpr, K: tl.constexpr):
    """ROWS rows, of N pieces each, of two edges' Q, as found at the edges' places."""
    COUNT: tl.constexpr = ROWS * N
    SIZE: tl.constexpr = C * K * E
    tile = tl.join(stack(of_edge, COUNT, C, K), stack(of_other, COUNT, C, K))
    tile = tl.reshape(tl.permute(tile, [0, 5, 4, 1, 3, 2]), [2 * COUNT * SIZE])
    at = tl.join(stack(at_edge, N, C, K), stack(at_other, N, C, K))
    at = at[:, :, :, :, None, :, :] + (tl.arange(0, ROWS)[:, None, None] * N + tl.arange(0, 2) * COUNT) * SIZE
    found = tl.gather(tile, tl.reshape(at, [2 * COUNT * SIZE]), 0)
    of_edge, of_other = tl.split(tl.reshape(found, [1, C, K, E, COUNT, 2]))
    return unstack(of_edge, COUNT, C, K), unstack(of_other, COUNT, C, K)
