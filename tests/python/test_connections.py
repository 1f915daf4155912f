"""Connections as clients on gRPC's C core and plain sockets meet them: growing old, too many, without descriptors."""

import resource
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from attacks import ATTACKS, Connection
from examples import facts
from page import value
from sidecar import eventually
from wire import CALL_WITHIN

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


def processor_seconds(process):
    """What a process has run for, threads and all."""
    with open(f"/proc/{process.pid}/stat", encoding="ascii") as told:
        user, system = told.read().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / 100


def socket_to(address):
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)))


def test_no_call_fails_while_connections_grow_old(protocol, serve):
    with serve(facts(time.time_ns()), LIMITS__CONNECTION_AGE="50ms") as client:

        def ask(_):
            return client.stub.Authorize(protocol.question("enable_users"), timeout=CALL_WITHIN).access

        with ThreadPoolExecutor(4) as callers:
            assert set(callers.map(ask, range(4000))) == {1}


def test_without_descriptors_it_waits_and_serves_whom_it_has(protocol, serve):
    with serve(facts(time.time_ns()), LIMITS__HANDSHAKE="2s") as client:
        process = client.sidecar.process

        def ask():
            return client.stub.Authorize(protocol.question("enable_users"), timeout=CALL_WITHIN).access

        ask()
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (64, 64))
        idle = [socket_to(client.sidecar.enforcement) for _ in range(100)]
        for connection in idle:
            connection.sendall(PREFACE)
        began, busy = time.monotonic(), processor_seconds(process)
        while time.monotonic() - began < 2:
            assert ask() == 1
            time.sleep(0.05)
        # A loop that takes connections without end would use all of a processor.
        assert processor_seconds(process) - busy < 0.5
        for connection in idle:
            connection.close()

        def newcomer():
            with grpc.insecure_channel(client.sidecar.enforcement, [("grpc.use_local_subchannel_pool", 1)]) as channel:
                try:
                    return protocol.stub(channel).Authorize(protocol.question("enable_users"), timeout=CALL_WITHIN)
                except grpc.RpcError:
                    return None

        eventually(newcomer, within=10)


@pytest.mark.parametrize("attack", ["PING", "PING between bytes of messages"])
def test_who_only_pings_is_read_at_its_pace_and_keeps_nobody_waiting(protocol, serve, attack):
    pace, burst = 4096, 64 << 10
    with serve(facts(time.time_ns()), LIMITS__OVERHEAD_BYTES=str(pace)) as client:
        attacker = Connection(client.sidecar.enforcement, ATTACKS[attack])
        attacker.socket.setblocking(True)
        said = attacker.waiting
        while len(said) < burst:
            said += next(attacker.chunks)
        began = time.monotonic()
        attacker.socket.sendall(said)
        heard, slowed = 0, lambda: value(client.sidecar.probes, "connections_slowed_total", listener="enforcement")
        while time.monotonic() - began < 1:
            heard += len(attacker.socket.recv(1 << 16))
            # What time allows for, as much at once, the turn in which it was too much, and the settings.
            assert heard <= (time.monotonic() - began) * pace + 2 * pace + 4096 + 100
        assert slowed() == 1

        # Who asks may say as much as it likes, in calls, in long ones, and in many parts of one.
        for _ in range(100):
            assert client.stub.Authorize(protocol.question("enable_users"), timeout=CALL_WITHIN).access == 1
        asked = [protocol.question("enable_users")] * 10_000
        assert sum(1 for _ in client.stub.StreamAuthorize(iter(asked), timeout=CALL_WITHIN)) == len(asked)
        assert slowed() == 1
        attacker.socket.close()


def test_who_does_not_stop_saying_too_much_is_closed_although_it_has_gone(serve):
    settings = {"LIMITS__OVERHEAD_BYTES": "1024", "LIMITS__OVERHEAD_PATIENCE": "200ms"}
    with serve(facts(time.time_ns()), **settings) as client:

        def is_open():
            return value(client.sidecar.probes, "connections_open", listener="enforcement") > before

        before = value(client.sidecar.probes, "connections_open", listener="enforcement")
        attacker = Connection(client.sidecar.enforcement, ATTACKS["WINDOW_UPDATE"])
        attacker.send()
        attacker.send()
        eventually(is_open)
        # It has left more than a minute's worth.
        attacker.socket.close()
        eventually(lambda: not is_open(), within=10)
