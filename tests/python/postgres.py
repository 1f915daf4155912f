"""A PostgreSQL server of the tests' own that speaks TLS, and servers that only look like one."""

import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
from pathlib import Path

from sidecar import eventually

SCRIPT = Path(__file__).parents[1] / "postgres"
SSL_REQUEST = struct.pack("!II", 8, 80877103)
ASKS_FOR_CLEARTEXT = b"R" + struct.pack("!II", 8, 3)


class Postgres:
    """A server with the certificate and key `shown`, which believes the certificates of `authority`."""

    def __init__(self, shown, authority):
        # A short path that the server's own user may enter.
        self._folder = Path(tempfile.mkdtemp(prefix="esa-pg.", dir="/tmp"))
        self._folder.chmod(0o755)
        self._server = self._folder / "server"
        started = [SCRIPT, "start", self._server, *shown, authority]
        done = subprocess.run(started, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        self.url = done.stdout.strip()
        self.port = int((self._server / "port").read_text(encoding="ascii"))

    def sql(self, *statements, database="postgres"):
        """What `psql` prints for these, run by the server's owner."""
        url = self.url.replace("/postgres?", f"/{database}?")
        commands = [part for statement in statements for part in ("-c", statement)]
        command = ["psql", "-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", *commands, url]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def close(self):
        """Stops it at once."""
        subprocess.run([SCRIPT, "stop", self._server], check=False, capture_output=True)
        shutil.rmtree(self._folder, ignore_errors=True)


class Pooler:
    """PgBouncer before a server, on a Unix socket. ESA_SIDECAR_PGBOUNCER is the folder it is unpacked in, if it is not installed."""

    def __init__(self, server, mode):
        self._folder = Path(tempfile.mkdtemp(prefix="esa-pgb.", dir="/tmp"))
        self._folder.chmod(0o777)
        target = server.url.partition("?")[2].replace("&", " ")
        (self._folder / "config").write_text(
            f"[databases]\n* = {target} user=postgres\n[pgbouncer]\nlisten_port = 6432\nlisten_addr =\n"
            f"unix_socket_dir = {self._folder}\nauth_type = any\npool_mode = {mode}\n"
            "ignore_startup_parameters = extra_float_digits\n"
            + ("user = postgres\n" if os.getuid() == 0 else ""),
            encoding="ascii",
        )
        unpacked = os.environ.get("ESA_SIDECAR_PGBOUNCER")
        program = f"{unpacked}/usr/sbin/pgbouncer" if unpacked else "pgbouncer"
        libraries = {"LD_LIBRARY_PATH": ":".join(map(str, Path(unpacked).glob("usr/lib/*")))} if unpacked else {}
        self._process = subprocess.Popen(
            [program, self._folder / "config"], env=os.environ | libraries, stderr=subprocess.DEVNULL
        )
        eventually((self._folder / ".s.PGSQL.6432").exists)

    def url(self, database):
        """The URL of a database through it."""
        return f"postgres://postgres@localhost/{database}?host={self._folder}&port=6432"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


class Recorder:
    """A listener on every address of this machine that keeps what it hears and answers with `answer`, or hangs up."""

    def __init__(self, answer):
        self.heard = bytearray()
        self._answer = answer
        self._socket = socket.create_server(("0.0.0.0", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection:
            try:
                while said := connection.recv(65536):
                    self.heard += said
                    if not (answer := self._answer(bytes(said))):
                        return
                    connection.sendall(answer)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()


def without_tls(said):
    """A server without TLS that asks for the password in the clear, and has then heard enough."""
    if said == SSL_REQUEST:
        return b"N"
    return b"" if said.startswith(b"p") else ASKS_FOR_CLEARTEXT


def environment(**settings):
    """Of a process with these configuration keys, and these variables of libpq and of the authorities of the machine."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ESA_SIDECAR__", "PG"))}
    as_it_is = ("PG", "SSL_")
    return kept | {key if key.startswith(as_it_is) else f"ESA_SIDECAR__{key}": value for key, value in settings.items()}
