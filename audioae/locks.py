"""Files that one process at a time has: a lock that ends with its process, however that ends, so that none is ever stale."""

from __future__ import annotations

try:
    import fcntl
except ImportError:  # Windows: two processes at once are not noticed
    fcntl = None  # type: ignore[assignment]


def claim(handle: int) -> bool:
    """Lock an open file until it is closed; False where another process has it. A file system without locks locks nothing out."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True
