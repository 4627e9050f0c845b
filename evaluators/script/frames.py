"""Messages over a stream socket: a length, then the bytes."""

import socket
import struct

HEADER = struct.Struct(">Q")
MOST_BYTES = 1 << 30
PIECE = 1 << 20


def send(stream: socket.socket, message: bytes) -> None:
    """Sends one message. Raises OSError where nobody reads."""
    stream.sendall(HEADER.pack(len(message)))
    stream.sendall(message)


def receive(stream: socket.socket) -> bytes | None:
    """One message; None where the stream ends. Raises OSError for one that is too long."""
    header = _exactly(stream, HEADER.size)
    if header is None:
        return None
    (size,) = HEADER.unpack(header)
    if size > MOST_BYTES:
        raise OSError(f"a message of {size:,} bytes")
    return _exactly(stream, size)


def _exactly(stream: socket.socket, size: int) -> bytes | None:
    found = bytearray()
    while len(found) < size:
        piece = stream.recv(min(PIECE, size - len(found)))
        if not piece:
            return None
        found += piece
    return bytes(found)
