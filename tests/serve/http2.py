# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 frame by frame, for what no client of good manners would send."""

import os
import socket
import struct

from support import PATIENCE_S

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = \
    range(10)
END_STREAM, END_HEADERS, ACK = 1, 4, 1
LARGEST = 16384  # of a frame


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def setting(number, value):
    return struct.pack(">HI", number, value)


def length_of(text):
    """A length as HPACK writes it, in seven bits and more."""
    if text < 127:
        return bytes([text])
    out = [127]
    text -= 127
    while text >= 128:
        out.append(text % 128 | 128)
        text //= 128
    return bytes(out + [text])


def headers(*pairs):
    """A header block in which nothing is indexed."""
    return b"".join(b"\0" + length_of(len(name)) + name + length_of(len(value)) + value
                    for name, value in pairs)


def request_headers(path=b"/weir.v1.Limiter/Allow", *more):
    return headers((b":method", b"POST"), (b":scheme", b"http"), (b":path", path),
                   (b":authority", b"x"), (b"content-type", b"application/grpc"),
                   (b"te", b"trailers"), *more)


def message(body):
    """A message of gRPC."""
    return b"\0" + struct.pack(">I", len(body)) + body


class Client:
    """A connection."""

    def __init__(self, address, greet=True, buffer_bytes=None):
        if address.startswith("unix:"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(PATIENCE_S)
            self.socket.connect(address[5:])
        else:
            host, port = address.rsplit(":", 1)
            self.socket = socket.socket()
            self.socket.settimeout(PATIENCE_S)
            if buffer_bytes:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
            self.socket.connect((host, int(port)))
        self.input = b""
        self.next_stream = 1
        if greet:
            self.send(PREFACE + frame(SETTINGS))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def send_until_refused(self, data, times):
        """Send DATA again and again.  Returns whether the other side had enough."""
        try:
            for _ in range(times):
                self.send(data)
            while self.frame():
                pass
        except (ConnectionError, BrokenPipeError):
            pass
        except TimeoutError:
            return False
        return True

    def read(self, count):
        while len(self.input) < count:
            data = self.socket.recv(65536)
            if not data:
                return None
            self.input += data
        data, self.input = self.input[:count], self.input[count:]
        return data

    def frame(self):
        """The next (kind, flags, stream, payload); None at the end."""
        head = self.read(9)
        if head is None:
            return None
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        payload = self.read(int.from_bytes(head[:3], "big"))
        return None if payload is None else (kind, flags, stream, payload)

    def until(self, wanted, stream=None):
        """The next frame of kind WANTED; None at the end."""
        while True:
            found = self.frame()
            if found is None or (found[0] == wanted and stream in (None, found[2])):
                return found

    def closed(self):
        """Wait for the end, however it comes.  Returns the code of a GOAWAY, or None."""
        code = None
        try:
            while True:
                found = self.frame()
                if found is None:
                    return code
                if found[0] == GOAWAY:
                    code = int.from_bytes(found[3][4:8], "big")
        except ConnectionError:
            return code

    def begin(self, block=None, flags=END_HEADERS):
        """Begin a request, and return its stream."""
        stream = self.next_stream
        self.next_stream += 2
        self.send(frame(HEADERS, flags, stream, block or request_headers()))
        return stream

    def upload(self, stream, body):
        """Send a request's BODY as fast as the other side's windows let it."""
        windows = {0: 65535, stream: 65535}
        at = 0
        while at < len(body):
            piece = body[at:at + min(LARGEST, *windows.values())]
            at += len(piece)
            self.send(frame(DATA, 0 if at < len(body) else END_STREAM, stream, piece))
            for number in windows:
                windows[number] -= len(piece)
            while min(windows.values()) == 0:
                _, _, number, payload = self.until(WINDOW_UPDATE)
                if number in windows:
                    windows[number] += int.from_bytes(payload, "big")

    def call(self, body, path=b"/weir.v1.Limiter/Allow"):
        """A unary call: the message of the answer."""
        stream = self.begin(request_headers(path))
        self.send(frame(DATA, END_STREAM, stream, message(body)))
        found = self.until(DATA, stream)
        return found[3][5:] if found else None


def resident_bytes(process):
    """What a process has in memory."""
    with open(f"/proc/{process.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
