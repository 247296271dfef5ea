"""An interpreter whose ``-m mobilenext`` and ``-m mobilenext.tipc`` are copies of a process that has imported Paddle.

It is a program as others start it: with its words, folder, environment, streams and exit code. With other words it is
Python itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from warm import WarmCommands

PROGRAMS = {"mobilenext": "mobilenext.cli", "mobilenext.tipc": "mobilenext.tipc.adapter"}
_SCRIPT = """#!{python} -SIE
import json, os, signal, socket, sys
words = sys.argv[1:]
if len(words) < 2 or words[0] != "-m" or words[1] not in {programs}:
    os.execv({python!r}, [{python!r}, *words])
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.connect({address!r})
    request = {{"words": words[1:], "folder": os.getcwd(), "environment": dict(os.environ)}}
    socket.send_fds(server, [json.dumps(request).encode()], [1, 2])
    code = int(server.recv(16) or 1)
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@contextlib.contextmanager
def interpreter(commands: WarmCommands, folder: Path) -> Iterator[Path]:
    """Make such an interpreter in `folder`, one command at a time; it works as long as the block lasts."""
    program, address = folder / "python", str(folder / "socket")
    program.write_text(_SCRIPT.format(python=sys.executable, programs=set(PROGRAMS), address=address))
    program.chmod(0o755)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(address)
        listener.listen()
        thread = threading.Thread(target=_answer, args=(listener, commands), daemon=True)
        thread.start()
        yield program
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def _answer(listener: socket.socket, commands: WarmCommands) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # it has been shut down
            return
        with connection:
            text, streams, _, _ = socket.recv_fds(connection, 1 << 20, 2)
            request = json.loads(text)
            module, *words = request["words"]
            code = commands.carry_out(
                words, Path(request["folder"]), PROGRAMS[module], request["environment"], (streams[0], streams[1])
            )
            for number in streams:
                os.close(number)
            connection.send(str(code).encode())
