"""Runs a command on a terminal of 80 x 24 of its own and presses Ctrl-C when a file exists.
Writes what the terminal got to stdout; the exit status is the command's."""

import fcntl, os, pty, select, struct, sys, termios

file, command = sys.argv[1], sys.argv[2:]
pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    os.execvp(command[0], command)
interrupted = False
while True:
    if not interrupted and os.path.exists(file):
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
