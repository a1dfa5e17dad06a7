"""Runs a program in a pseudo-terminal, for tests. Usage: terminal.py COLUMNS ROWS PROGRAM ARGUMENT...

What the program writes goes to stdout. Lines of stdin: "resize COLUMNS ROWS", "type TEXT". Exits with its exit code.
"""

import fcntl
import os
import pty
import select
import struct
import sys
import termios


def resize(terminal, columns, rows):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", int(rows), int(columns), 0, 0))


columns, rows, *command = sys.argv[1:]
pid, terminal = pty.fork()
if pid == 0:
    # The size must be there before the program asks for it.
    resize(0, columns, rows)
    os.execvp(command[0], command)
pending = b""
sources = [terminal, 0]
while True:
    ready, _, _ = select.select(sources, [], [])
    if 0 in ready:
        text = os.read(0, 4096)
        if not text:
            sources.remove(0)
        pending += text
        *lines, pending = pending.split(b"\n")
        for line in lines:
            action, _, argument = line.decode().partition(" ")
            if action == "resize":
                resize(terminal, *argument.split())
            else:
                os.write(terminal, argument.encode())
    if terminal in ready:
        try:
            written = os.read(terminal, 65536)
        except OSError:
            written = b""
        if not written:
            break
        sys.stdout.buffer.write(written)
        sys.stdout.flush()
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)
