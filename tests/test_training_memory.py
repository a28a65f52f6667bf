"""`keep_freed_memory`: page faults with and without it."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("torch")

MIB = 256
COUNT = f"""
import ctypes, resource, sys
from audioae.training import keep_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
is_kept = sys.argv[1] == "keep" and keep_freed_memory()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc({MIB} << 20)
    ctypes.memset(block, 1, {MIB} << 20)
    libc.free(block)
print(is_kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def count_faults(mode: str) -> tuple[bool, int]:
    """Whether freed memory is kept, and how many pages the kernel had to give for the second of two
    blocks.
    """
    told = subprocess.run(
        [sys.executable, "-c", COUNT, mode], capture_output=True, text=True, check=True
    ).stdout.split()
    return told[0] == "True", int(told[1])


def test_freed_memory_is_used_again_without_page_faults() -> None:
    is_kept, faults = count_faults("keep")
    if not is_kept:
        pytest.skip("another C library than glibc")
    pages = (MIB << 20) // 4096
    assert faults < pages / 100 < count_faults("leave")[1]
