"""Runs a command on a terminal of 80 x 24 of its own and presses Ctrl-C after some seconds.
Writes what the terminal got to stdout; the exit status is the command's."""

import os, pty, select, sys, time, fcntl, struct, termios

seconds = float(sys.argv[1])
pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    os.execvp(sys.argv[2], sys.argv[2:])
interrupt_at = time.monotonic() + seconds
interrupted = False
while True:
    if not interrupted and time.monotonic() >= interrupt_at:
        os.write(terminal, b"\x03")
        interrupted = True
    ready, _, _ = select.select([terminal], [], [], 0.05)
    if not ready:
        continue
    try:
        data = os.read(terminal, 65536)
    except OSError:  # EIO: nobody has the other side open any more
        break
    if not data:
        break
    os.write(1, data)
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status) & 255)
