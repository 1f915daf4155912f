"""The sidecar as a service of systemd, which these tests play: a socket that is told how it is, and listening sockets
that are open before it starts."""

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from conftest import channel_to
from examples import facts
from sidecar import START_WITHIN, Running, binary, put
from wire import CALL_WITHIN

# Puts the descriptors that are named at 3, 4, … as systemd does between fork and exec, and says whose they are.
WRAPPER = """
import fcntl, os, sys
count = int(sys.argv[1])
high = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 100) for fd in sys.argv[2 : 2 + count]]
for position, fd in enumerate(high):
    os.dup2(fd, 3 + position, inheritable=True)
    os.close(fd)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(count)}
command = sys.argv[2 + count :]
os.execv(command[0], command)
"""


class Manager:
    """Hears what a service tells."""

    def __init__(self, path):
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # A name of no file begins with a zero, which is written `@` (unix(7)).
        self._socket.bind("\0" + self.path[1:] if self.path.startswith("@") else self.path)
        self._socket.settimeout(START_WITHIN)

    def hear(self):
        """The next thing that is told."""
        return dict(line.split("=", 1) for line in self._socket.recv(4096).decode().splitlines())

    def until(self, **told):
        """What is told until this is, all of it."""
        heard = []
        while not told.items() <= (heard[-1] if heard else {}).items():
            heard.append(self.hear())
        return heard

    def pending(self):
        """What was told by now."""
        self._socket.setblocking(False)
        heard = []
        try:
            while True:
                heard.append(self.hear())
        except BlockingIOError:
            return heard
        finally:
            self._socket.settimeout(START_WITHIN)


class Service(Running):
    """A `serve` that is started as systemd starts one, on sockets by name."""

    def __init__(self, tmp_path, sockets=None, environment=None, **settings):
        arguments = ["serve", "--facts", tmp_path / "facts.json", "--data-dir", tmp_path / "data"]
        arguments += ["--listen", "127.0.0.1:0", "--probe-listen", "127.0.0.1:0"]
        settings = {"FILE__POLL_INTERVAL": "20ms"} | settings
        super().__init__(arguments, ["enforcement", "probes"], tmp_path / "service", **settings)
        self.sockets, self.environment = sockets or {}, environment or {}

    def command(self):
        numbers = [str(passed.fileno()) for passed in self.sockets.values()]
        return [sys.executable, "-c", WRAPPER, str(len(numbers)), *numbers, *super().command()]

    def process_options(self):
        return {"pass_fds": [passed.fileno() for passed in self.sockets.values()]}

    @contextmanager
    def surroundings(self, monkeypatch):
        with monkeypatch.context() as patched:
            for name, value in self.environment.items():
                patched.setenv(name, value)
            patched.setenv("LISTEN_FDNAMES", ":".join(self.sockets))
            yield

    def started(self, monkeypatch):
        """Begins it in an environment of its own."""
        with self.surroundings(monkeypatch):
            self.begin()
        return self


@pytest.fixture
def service(tmp_path, monkeypatch):
    """Starts services, and ends those that a test leaves behind."""
    with ExitStack() as stack:

        def start(**options):
            started = Service(tmp_path, **options).started(monkeypatch)
            stack.callback(started.kill)
            return started

        yield start


def listening(address):
    """A socket that listens, as a socket unit has it."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    passed = socket.socket(family, socket.SOCK_STREAM)
    passed.bind(address)
    passed.listen()
    return passed


def allowed(protocol, channel):
    question = protocol.question("enable_users")
    answer = protocol.stub(channel).Authorize(question, timeout=START_WITHIN, wait_for_ready=True)
    return answer.access == 1


@pytest.mark.parametrize("where", ["path", "name of no file"])
def test_ready_is_told_once_it_answers_and_the_rest_of_its_life_as_it_happens(protocol, service, tmp_path, where):
    manager = Manager(tmp_path / "notify" if where == "path" else f"@esa-sidecar-tests-{os.getpid()}")
    environment = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "200000"}
    started = service(environment=environment)
    started.wait_for_addresses()
    with channel_to(started.enforcement) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            protocol.stub(channel).Authorize(protocol.question("enable_users"), timeout=CALL_WITHIN)
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        told = manager.pending()
        assert {"STATUS": "starting: not ready yet"} in told
        # What was not ready cannot be reloading, and does not get ready by it.
        started.process.send_signal(signal.SIGHUP)
        told += manager.until(WATCHDOG="1")
        told += manager.until(WATCHDOG="1")
        assert not any("READY" in state or "RELOADING" in state for state in told), told
        put(tmp_path / "facts.json", facts(time.time_ns()))
        manager.until(READY="1")
        assert allowed(protocol, channel)
    manager.until(STATUS="ready")
    manager.until(WATCHDOG="1")
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    started.process.send_signal(signal.SIGHUP)
    [*_, reloading] = manager.until(RELOADING="1")
    assert before <= int(reloading["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    manager.until(READY="1")
    started.terminate()
    manager.until(STOPPING="1")
    started.stop()


@pytest.mark.parametrize("where", ["port", "path"])
def test_a_socket_that_was_passed_is_served_on_by_every_thread_and_outlives_the_service(
    protocol, service, tmp_path, where
):
    put(tmp_path / "facts.json", facts(time.time_ns()))
    manager = Manager(tmp_path / "notify")
    path = str(tmp_path / "questions.sock")
    with listening(("127.0.0.1", 0) if where == "port" else path) as passed:
        address = f"127.0.0.1:{passed.getsockname()[1]}" if where == "port" else f"unix:{path}"
        probes = listening(("127.0.0.1", 0))
        for _ in range(2):
            # Whoever comes before it is there waits in the queue.
            with channel_to(address) as early:
                waiting = protocol.stub(early).Authorize.future(
                    protocol.question("enable_users"), timeout=START_WITHIN, wait_for_ready=True
                )
                started = service(
                    sockets={"probes": probes, "enforcement": passed},
                    environment={"NOTIFY_SOCKET": manager.path},
                    LISTEN__THREADS="2",
                )
                started.wait_for_addresses()
                assert started.enforcement == address
                assert started.probes == f"127.0.0.1:{probes.getsockname()[1]}"
                try:
                    assert waiting.result().access == 1
                except grpc.RpcError as error:
                    # It may have come before the facts.
                    assert error.code() == grpc.StatusCode.UNAVAILABLE
                manager.until(READY="1")
                for _ in range(8):
                    with channel_to(address) as channel:
                        assert allowed(protocol, channel)
            started.stop()
        probes.close()


def refused(service, **sockets):
    """What is logged by one that does not start."""
    started = service(sockets=sockets)
    assert started.process.wait(START_WITHIN) == 64
    return started.log()


def test_what_is_checked_of_an_address_is_checked_of_a_socket_that_was_passed(service):
    with listening(("0.0.0.0", 0)) as open_to_all:
        said = refused(service, enforcement=open_to_all)
    assert "can be reached from other machines" in said and "the socket that was passed" in said
    with listening(("127.0.0.1", 0)) as passed:
        assert "the name `questions`; write `FileDescriptorName=`" in refused(service, questions=passed)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as passed:
        passed.bind(("127.0.0.1", 0))
        assert "passed as `probes` cannot be served on" in refused(service, probes=passed)


def limited(soft, hard):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Limited(Running):
    """A `serve` that may have few files open."""

    def process_options(self):
        return {"preexec_fn": limited(64, 512)}


def test_the_limit_of_open_files_is_raised_and_connections_beyond_it_are_warned_of_and_not_taken(tmp_path):
    put(tmp_path / "facts.json", facts(time.time_ns()))
    arguments = ["serve", "--facts", tmp_path / "facts.json", "--data-dir", tmp_path / "data"]
    arguments += ["--listen", "127.0.0.1:0", "--probe-listen", "127.0.0.1:0"]
    for connections, warned in [("256", False), ("257", True)]:
        home = tmp_path / connections
        with Limited(arguments, ["enforcement", "probes"], home, LIMITS__CONNECTIONS=connections) as running:
            with open(f"/proc/{running.process.pid}/limits", encoding="ascii") as limits:
                assert re.search(r"Max open files +512 +512 ", limits.read())
        assert ("`limits.connections` is 257, but the system lets" in running.log()) == warned
        assert ("512 files open: 256 are taken, 128 of one peer" in running.log()) == warned


def test_the_units_read(tmp_path):
    """Where systemd is there to read them, it finds nothing to complain of."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    for unit in (Path(__file__).parents[2] / "deploy").glob("esa-*.s*"):
        if unit.suffix in (".service", ".socket"):
            text = unit.read_text(encoding="utf-8").replace("/usr/local/bin/esa-sidecar", binary())
            (tmp_path / unit.name).write_text(text, encoding="utf-8")
    units = sorted(map(str, tmp_path.iterdir()))
    assert len(units) == 3
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
