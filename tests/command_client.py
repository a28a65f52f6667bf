"""The program `audioae` of a `CommandServer`: runs a command there and ends as it ends.

Imports next to nothing, to start within milliseconds.
"""

import marshal
import os
import socket
import sys
from contextlib import suppress

address, *arguments = sys.argv[1:]
request = marshal.dumps((arguments, os.getcwd(), dict(os.environ)))
with socket.socket(socket.AF_UNIX) as server:
    try:
        server.connect(address)
    except OSError:  # it has died
        os.execv(sys.executable, [sys.executable, "-m", "audioae", *arguments])
    socket.send_fds(server, [len(request).to_bytes(8)], [0, 1, 2])
    server.sendall(request)
    answer = server.recv(64)
if not answer:
    sys.exit("the server of commands died")
code = marshal.loads(answer)
if code < 0:  # the number of a signal
    import signal

    with suppress(OSError):
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
