"""Run a command in a network of its own, where there is loopback and nothing else: `alone.py COMMAND [ARGUMENT ...]`.

Ray listens on all interfaces whatever it is told; here there are none. Where namespaces are forbidden, as in many
containers, the command runs without, and a line says so.
"""

import ctypes
import fcntl
import os
import socket
import struct
import sys

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1


def main() -> None:
    """Leave the machine's network, bring up loopback, become the command."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        print(f"no network of its own ({os.strerror(ctypes.get_errno())}): it will listen on all interfaces")
    else:
        with socket.socket() as any_socket:
            fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
