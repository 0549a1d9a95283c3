"""How this process's memory is got from the system."""

from __future__ import annotations

import ctypes
import platform
from functools import cache

# The numbers of <malloc.h>.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3


@cache
def keep_freed() -> bool:
    """Have the C library keep what is freed for what is asked for next, up to 1 GB; where it is glibc.

    Tensors of some megabytes come and go at every step. Given back to the system each time, their pages are fetched and
    zeroed again one by one: about 180 000 page faults a step of 32 views, a tenth of its time.

    Returns:
        Whether that could be asked for.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # 32 MB is the most that glibc takes for the first: what is larger is mapped and given back alone.
    wanted = ((M_MMAP_THRESHOLD, 2**25), (M_TRIM_THRESHOLD, 2**30), (M_TOP_PAD, 2**26))
    done = [mallopt(key, value) == 1 for key, value in wanted]
    return all(done)
