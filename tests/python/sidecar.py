"""Runs the binary: one sidecar at a time as a child process, or `explain` over a list of lines.

It knows the command line and what is printed there, and nothing of the protocol. It never guesses that something has
happened: every wait is for a condition and has a deadline.
"""

import json
import os
import queue
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

START_WITHIN = 20.0
STOP_WITHIN = 10.0
EXPLAIN_WITHIN = 300.0


def binary():
    """The binary under test: ESA_SIDECAR_BIN, or the debug build of this repository."""
    path = os.environ.get("ESA_SIDECAR_BIN") or Path(__file__).parents[2] / "target/debug/esa-sidecar"
    assert Path(path).is_file(), f"no binary at {path}: build it or set ESA_SIDECAR_BIN"
    return str(Path(path).resolve())


def eventually(question, within=5.0):
    """Asks until the answer is true, and returns it; fails when the deadline passes first."""
    deadline = time.monotonic() + within
    while not (answer := question()):
        assert time.monotonic() < deadline, f"still {answer!r} after {within} s"
        time.sleep(0.01)
    return answer


def put(path, facts):
    """Puts a facts file in place at once, as a careful writer does: facts as JSON, or text as it is."""
    written = path.with_suffix(".new")
    written.write_text(facts if isinstance(facts, str) else json.dumps(facts), encoding="utf-8")
    written.rename(path)


def run_explain(lines):
    """What `explain` prints for these lines (bytes without line feeds), one object for each."""
    for line in lines:
        assert b"\n" not in line
    return explain_bytes(b"".join(line + b"\n" for line in lines))


def explain_bytes(written):
    """What `explain` prints for an input as it is, one object for each line printed."""
    command = [binary(), "explain"]
    done = subprocess.run(command, input=written, capture_output=True, timeout=EXPLAIN_WITHIN, check=False)
    assert done.returncode >= 0, f"explain was killed by signal {-done.returncode}: {done.stderr[-2000:]!r}"
    assert b"panicked" not in done.stderr, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.decode("utf-8").split("\n") if line]


class Running:
    """A command that listens, from its first line to SIGTERM. Settings are configuration keys: LOG__LEVEL="debug".

    `arguments` follow the name of the binary, `listeners` are the addresses it prints, `home` is where its log goes.
    """

    def __init__(self, arguments, listeners, home, stderr=None, **settings):
        self.arguments, self.listeners, self.stderr, self.settings = arguments, set(listeners), stderr, settings
        self.addresses = {}
        self.printed = []
        self._log = Path(f"{home}.log")
        self._told_to_stop = False
        self._lines = queue.SimpleQueue()

    def begin(self):
        """Starts it and waits for nothing."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ESA_SIDECAR__")}
        environment |= {f"ESA_SIDECAR__{key}": value for key, value in self.settings.items()}
        with self._log.open("ab") as log:
            stderr = log if self.stderr is None else self.stderr
            self.process = subprocess.Popen(
                self.command(), stdout=subprocess.PIPE, stderr=stderr, env=environment, **self.process_options()
            )
        threading.Thread(target=self._read, daemon=True).start()

    def command(self):
        """What is run."""
        return [binary(), *map(str, self.arguments)]

    def process_options(self):
        """What its process gets beside that."""
        return {}

    def __enter__(self):
        self.begin()
        try:
            self.wait_for_addresses()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind, error, traceback):
        if kind is None:
            self.stop()
        else:
            self._end()

    @property
    def enforcement(self):
        """Where questions are answered: HOST:PORT or unix:PATH."""
        return self.addresses["enforcement"]

    @property
    def probes(self):
        """Where probes are answered."""
        return self.addresses["probes"]

    @property
    def licensing(self):
        """Where the licensing backend takes calls."""
        return self.addresses["licensing"]

    def line(self, pattern):
        """The first printed line with a match; waits for it."""
        deadline = time.monotonic() + START_WITHIN
        for line in self.printed:
            if found := re.search(pattern, line):
                return found
        while True:
            if found := re.search(pattern, self._next_line(deadline, pattern)):
                return found

    def terminate(self):
        """Sends SIGTERM and does not wait. Only one is ever sent: a second one would cut off what is still open."""
        if not self._told_to_stop:
            self._told_to_stop = True
            self.process.send_signal(signal.SIGTERM)

    def stop(self):
        """SIGTERM, if it still runs; then it has to end by itself, in time and with status 0."""
        if self.process.poll() is None:
            self.terminate()
        try:
            status = self.process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self._end()
            raise AssertionError(f"still running {STOP_WITHIN} s after SIGTERM\n{self._tail()}") from None
        assert status == 0, f"exit status {status}\n{self._tail()}"

    def kill(self):
        """SIGKILL: it does nothing any more."""
        self.process.kill()
        self.process.wait()

    def _read(self):
        with self.process.stdout as printed:
            for line in printed:
                self._lines.put(line.decode("utf-8").strip())
        self._lines.put(None)

    def wait_for_addresses(self):
        """Returns once it has said where it listens."""
        deadline = time.monotonic() + START_WITHIN
        while not self.listeners <= self.addresses.keys():
            line = self._next_line(deadline, "an address")
            if taken := re.fullmatch(r"(enforcement|probes|licensing) listening on (\S+)", line):
                self.addresses[taken[1]] = taken[2]

    def _next_line(self, deadline, wanted):
        try:
            line = self._lines.get(timeout=max(deadline - time.monotonic(), 0))
        except queue.Empty:
            raise AssertionError(f"{wanted} was not printed within {START_WITHIN} s\n{self._tail()}") from None
        assert line is not None, f"it ended before it printed {wanted}\n{self._tail()}"
        self.printed.append(line)
        return line

    def _end(self):
        self.kill()
        print(self._tail())

    def log(self):
        """What it has logged, the end of it."""
        return self._tail()

    def _tail(self):
        return self._log.read_text(encoding="utf-8", errors="replace")[-4000:]


class Sidecar(Running):
    """One `serve` of a facts file. Settings are configuration keys: FILE__POLL_INTERVAL="50ms".

    What is a table and not a key stands in the file `config`.
    """

    def __init__(self, facts, data, listen="127.0.0.1:0", probes="127.0.0.1:0", stderr=None, config=None, **settings):
        arguments = ["serve", "--facts", facts, "--listen", listen, "--probe-listen", probes]
        if config is not None:
            arguments += ["--config", config]
        settings = {"FILE__POLL_INTERVAL": "50ms"} | settings
        super().__init__([*arguments, "--data-dir", data], ["enforcement", "probes"], data, stderr, **settings)
        self.facts, self.data = facts, data
