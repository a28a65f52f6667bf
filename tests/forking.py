"""Worker processes that start in milliseconds: forked by a server that has imported libraries."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext

# There is one server in each process of pytest, so all tests have the same list.
PRELOADED = [
    "audioae.cli.denoise",
    "audioae.cli.many",
    "audioae.denoising.batch",
    "librosa.core",
    "librosa.filters",
]


def forking() -> ForkServerContext:
    """The context of the server, which is started by its first process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context
