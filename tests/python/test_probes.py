"""Whether a process is well is told to whoever asks, however many others ask and do not read what they are told."""

import socket
import time

import pytest
from grpc_health.v1 import health_pb2

from attacks import ACK, DATA, END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, PREFACE, SETTINGS
from attacks import field, frame, head, message
from examples import facts
from page import fetch, read
from sidecar import eventually
from wire import CALL_WITHIN

# How long an answer may take to be read, and when a connection that does not read has to be closed, seconds.
READ_WITHIN, CLOSED_WITHIN = 5, 15


def get(path):
    """The headers of GET: it and http are known to the static table."""
    return b"\x82\x86" + field(b":path", path) + field(b":authority", b"localhost")


def page(path):
    return lambda stream: frame(HEADERS, END_HEADERS | END_STREAM, stream, get(path))


def check(stream):
    called = frame(HEADERS, END_HEADERS, stream, head(b"Check", b"/grpc.health.v1.Health/"))
    return called + frame(DATA, END_STREAM, stream, message(b""))


def unread(address, source, call, count):
    """A connection from `source` with so many calls, which takes no byte of any answer."""
    host, port = address.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), timeout=CALL_WITHIN, source_address=(source, 0))
    connection.sendall(PREFACE + frame(SETTINGS, 0, 0, INITIAL_WINDOW_SIZE.to_bytes(2, "big") + bytes(4)))
    connection.sendall(frame(SETTINGS, ACK, 0) + b"".join(call(2 * number + 1) for number in range(count)))
    return connection


def is_closed(connection):
    """Whether the other end has closed it; what it said before is passed over."""
    connection.setblocking(False)
    try:
        while connection.recv(1 << 16):
            pass
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


# Connections, the calls of each, and how many of these connections at least have something to read.
CALLS = {
    "/livez": (page(b"/livez"), 20, 1000, 20),
    "/readyz": (page(b"/readyz"), 20, 1000, 20),
    "/metrics": (page(b"/metrics"), 4, 8, 1),
    "no page": (page(b"/nothing"), 20, 1000, 20),
    "health": (check, 20, 1000, 20),
}


@pytest.mark.parametrize("name", CALLS)
def test_answers_that_nobody_reads_keep_nobody_from_asking_and_have_an_end(serve, name):
    call, connections, count, ended = CALLS[name]
    with serve(facts(time.time_ns())) as client:
        address = client.sidecar.probes
        # Of the address that others ask from, and of two more.
        sources = [f"127.0.0.{1 + number % 3}" for number in range(connections)]
        held = [unread(address, source, call, count) for source in sources]
        try:
            asked = 0
            deadline = time.monotonic() + CLOSED_WITHIN
            while asked < 50 or sum(map(is_closed, held)) < ended:
                assert fetch(address, "/livez") == (200, "ok\n")
                assert fetch(address, "/readyz") == (200, "ok\n")
                answer = client.probe_health.Check(health_pb2.HealthCheckRequest(), timeout=CALL_WITHIN, wait_for_ready=True)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
                read(address)
                asked += 1
                assert time.monotonic() < deadline, "answers that nobody reads have no end"
        finally:
            for connection in held:
                connection.close()


def test_who_reads_a_page_slowly_has_seconds_for_it(serve):
    # Longer than what waits on the way.
    with serve([facts(time.time_ns(), subscription_id=f"AAA-AAA-{number:03}") for number in range(900)]) as client:
        host, port = client.sidecar.probes.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=CLOSED_WITHIN) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.sendall(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n" * 9)
            began = time.monotonic()
            eventually(lambda: is_closed_soon(slow), within=CLOSED_WITHIN + READ_WITHIN)
            assert time.monotonic() - began > READ_WITHIN / 2


def is_closed_soon(connection):
    """Whether it is closed, as far as that shows without reading: what is sent to it comes back as an error."""
    connection.setblocking(False)
    try:
        connection.sendall(b"\r\n")
        return False
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_one_more_connection_than_an_address_may_have_ends_its_oldest(serve):
    with serve(facts(time.time_ns()), LIMITS__CONNECTIONS_PER_PEER="20") as client:
        host, port = client.sidecar.probes.rsplit(":", 1)
        idle = [socket.create_connection((host, int(port)), timeout=CALL_WITHIN) for _ in range(40)]
        try:
            for path in ("/livez", "/readyz", "/metrics"):
                assert fetch(client.sidecar.probes, path)[0] == 200
            eventually(lambda: is_closed(idle[0]))
            assert not is_closed(idle[-1])
        finally:
            for connection in idle:
                connection.close()
