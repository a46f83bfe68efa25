"""What Nova's console proxy does, on standard input and output: PORT SECRET."""

import os
import select
import socket
import sys

with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as far:
    far.sendall(f"CONNECT /{sys.argv[2]} HTTP/1.1\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        if not (byte := far.recv(1)):
            sys.exit(1)
        head += byte
    while True:
        ready = select.select([0, far], [], [])[0]
        for source, to in ((0, far.fileno()), (far.fileno(), 1)):
            if source in ready or (source == far.fileno() and far in ready):
                if not (data := os.read(source, 65536)):
                    sys.exit(0)
                os.write(to, data)
