"""`keep_freed_memory`: a setting of the C library for programs that run networks on the CPU."""

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # in glibc's malloc.h


def keep_freed_memory() -> bool:
    """Tell the C library to keep freed memory for the next tensors, in the whole process. Only Linux's glibc can.

    Without this, glibc returns a large tensor to the system as soon as it is freed. The next one gets fresh memory, and
    the system maps it page by page as it is first written. At 512 x 1024 pixels, on one thread, this takes 15 to
    44 % of the time of a network. With it, the process keeps as much memory as it has used at most.

    Call it once, before the first image and before other threads start. Returns False where the C library cannot do it;
    then nothing has changed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    # One arena for all threads: the others would still return large tensors to the system.
    return bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1) and mallopt(_MMAP_MAX, 0) and mallopt(_ARENA_MAX, 1))
