"""People at a command line: each has a home of their own, and types commands of the binary.

It knows how commands are run and their JSON is read. No rule and no expectation lives here.
"""

import json
import os
import queue
import subprocess
import threading
import time
from dataclasses import dataclass

from sidecar import STOP_WITHIN, binary

RUN_WITHIN = 30.0


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self):
        """Standard output as one JSON document."""
        return json.loads(self.out)

    @property
    def told_once(self):
        """The last line of standard output, where what is told once stands."""
        return self.out.splitlines()[-1]


class Person:
    """Somebody who works with one licensing backend (`licensing`) and one sidecar (`server`)."""

    def __init__(self, home, licensing, server=None):
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        kept = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
        self.environment = kept | {"HOME": str(home), "ESA_SIDECAR_LICENSING": licensing}
        if server is not None:
            self.environment["ESA_SIDECAR_SERVER"] = server

    def types(self, *arguments):
        """Runs a command; whatever becomes of it is an answer."""
        done = subprocess.run(
            [binary(), *map(str, arguments)],
            env=self.environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_WITHIN,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def does(self, *arguments):
        """Runs a command that has to succeed."""
        ran = self.types(*arguments)
        assert ran.status == 0, (arguments, ran)
        return ran

    def file(self, name, text):
        """A file in the home, such as one with a password."""
        path = self.home / name
        path.write_text(text + "\n", encoding="utf-8")
        return path

    def signs_in(self, name, password):
        """Opens a session, which the commands after it use."""
        self.does("accounts", "sign-in", name, "--password-file", self.file("password", password))

    def signs_in_first(self, name, one_time_password, password):
        """Signs in with a one-time password and changes it."""
        self.signs_in(name, one_time_password)
        old, new = self.file("old", one_time_password), self.file("new", password)
        self.does("accounts", "change-password", "--old-password-file", old, "--new-password-file", new)

    def all(self, *listing):
        """Every record of a list, such as `all("units")`; further words are options."""
        what, *options = listing
        plural = {"audit": "entries"}.get(what, what)
        return self.does(what, "list", "--all", "--format", "json", *options).json[plural]

    def watches(self, *options):
        """`status --watch` in the background."""
        return Watching(self.environment, options)


class Watching:
    """`status --watch --json`: what it shows and when, read in the background."""

    def __init__(self, environment, options):
        self._command = [binary(), "status", "--watch", "--json", *options]
        self._environment = environment
        self._shown = queue.SimpleQueue()

    def __enter__(self):
        self._process = subprocess.Popen(
            self._command, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait(STOP_WITHIN)
        self._process.stderr.close()

    def finds(self, wanted, within=10.0):
        """The first description that is wanted, and when it was shown (time.monotonic)."""
        deadline, last = time.monotonic() + within, None
        while True:
            try:
                at, line = self._shown.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                raise AssertionError(f"not shown within {within} s; the last was {last}") from None
            assert line is not None, f"the watch ended: {self._process.stderr.read()!r}"
            last = json.loads(line)
            if wanted(last):
                return last, at

    def _read(self):
        with self._process.stdout as shown:
            for line in shown:
                self._shown.put((time.monotonic(), line))
        self._shown.put((time.monotonic(), None))
