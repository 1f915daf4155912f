"""The database of a licensing backend: how it is reached, what is refused, and what is told of it."""

import os
import re
import resource
import subprocess
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from certificates import Authority
from person import Person
from postgres import Pooler, Postgres, Recorder, environment, without_tls
from sidecar import Running, binary, eventually

PASSWORD = "s3cret-of-the-database"
OWNER = r"The owner's account is `owner`; its one-time password is in `(\S+)`"
OWNERS_PASSWORD = "correct horse battery"
# Linux takes both for this machine; the configuration cannot know that, so to it they are other machines.
FAR, OTHER_NAME = "0.0.0.0", "[::ffff:127.0.0.1]"
WITHIN = 30


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The authority of the database."""
    return Authority(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def postgres(own):
    """A server that speaks TLS, with a database `licensing` of the role `esa`, who has a password."""
    server = Postgres(own.issue("postgres", f"IP:{FAR}", "DNS:localhost"), own.certificate)
    server.sql(
        f"CREATE ROLE esa LOGIN PASSWORD '{PASSWORD}'",
        "CREATE ROLE certified LOGIN",
        "CREATE DATABASE licensing OWNER esa",
        "GRANT esa TO certified",
    )
    yield server
    server.close()


def url(host, port, rest="", user=f"esa:{PASSWORD}"):
    """The URL of the database `licensing` there."""
    return f"postgres://{user}@{host}:{port}/licensing{rest}"


def started(home, database, **settings):
    """What a backend that cannot start says: its exit status and its standard error."""
    arguments = ["licensing", "--data-dir", home, "--licensing-listen", "127.0.0.1:0", "--probe-listen", "127.0.0.1:0"]
    done = subprocess.run(
        [binary(), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=WITHIN,
        check=False,
        # Few enough for any machine's open files: a warning of these is not what is looked for.
        env=environment(BACKEND__DATABASE=database, LIMITS__CONNECTIONS="1000", LIMITS__CONNECTIONS_PER_PEER="500", **settings),
    )
    return done.returncode, done.stderr


def checked(home, toml):
    """What `check-config` says of a configuration."""
    file = home / "config.toml"
    file.write_text(toml, encoding="utf-8")
    done = subprocess.run([binary(), "check-config", file], capture_output=True, text=True, check=False, env=environment())
    return done.returncode, done.stdout + done.stderr


class Backend(Running):
    """A backend that is told of a file that may not grow as of a full disk."""

    is_known = False

    def process_options(self):
        """Python ignores the signal, and would have its child hear it."""
        return {"restore_signals": False}

    def is_ready(self):
        """Whether `/readyz` says so."""
        try:
            with urllib.request.urlopen(f"http://{self.probes}/readyz", timeout=WITHIN) as answer:
                return answer.status == 200
        except urllib.error.HTTPError:
            return False

    def writes(self, home, password_file=None):
        """Whether the owner signs in, which is written down; the first time with a one-time password."""
        who = Person(home / "person", self.licensing)
        if not self.is_known:
            told = password_file or Path(self.line(OWNER)[1])
            one_time_password = told.read_text(encoding="utf-8").strip()
            who.signs_in_first("owner", one_time_password, OWNERS_PASSWORD)
            self.is_known = True
        said = who.types("accounts", "sign-in", "owner", "--password-file", who.file("password", OWNERS_PASSWORD))
        assert said.status == 0 or "database" in said.err, said
        return said.status == 0


@contextmanager
def serving(home, database, **settings):
    """A backend on it while it runs."""
    arguments = ["licensing", "--data-dir", home, "--licensing-listen", "127.0.0.1:0", "--probe-listen", "127.0.0.1:0"]
    with Backend(arguments, ["licensing", "probes"], home, BACKEND__DATABASE=database, **settings) as backend:
        yield backend


def test_a_database_on_another_machine_is_reached_over_tls_to_its_name(postgres, own, tmp_path):
    """With verify-full: by the keys of the configuration, by parameters of the URL, and with a certificate shown."""
    far, certified = url(FAR, postgres.port), url(FAR, postgres.port, user="certified")
    ca = {"BACKEND__DATABASE_CA": str(own.certificate)}
    certificate, key = own.issue("certified", "DNS:certified")
    shown = {"BACKEND__DATABASE_CERTIFICATE": str(certificate), "BACKEND__DATABASE_KEY": str(key)}
    for database, settings in [
        (far, ca),
        (f"{far}?sslmode=verify-full&sslrootcert={own.certificate}", {}),
        (certified, ca | shown),
    ]:
        with serving(tmp_path / "data", database, **settings):
            sessions = postgres.sql(
                "SELECT count(*), bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
                " WHERE usename IN ('esa', 'certified')"
            )
            count, all_of_them = sessions.split("|")
            assert 0 < int(count) and all_of_them == "t"


def test_whoever_does_not_prove_to_be_the_database_hears_no_password(postgres, own, authority, tmp_path):
    """Another name, another authority (also one of the machine beside a named one), no TLS, a question in the clear."""
    ca = {"BACKEND__DATABASE_CA": str(own.certificate)}
    other = {"BACKEND__DATABASE_CA": str(authority.certificate)}
    for number, (database, settings, words) in enumerate(
        [
            (url(OTHER_NAME, postgres.port), ca, "not valid for name"),
            (url(FAR, postgres.port), other, "backend.database_ca"),
            (url(FAR, postgres.port), {}, "backend.database_ca"),
            (url(FAR, postgres.port), other | {"SSL_CERT_FILE": str(own.certificate)}, "backend.database_ca"),
        ]
    ):
        status, said = started(tmp_path / str(number), database, **settings)
        assert status == 2 and words in said, said
        assert PASSWORD not in said
    for number, settings in enumerate([{}, ca, {"PGSSLMODE": "verify-full"}]):
        with Recorder(without_tls) as nobody:
            status, said = started(tmp_path / f"nobody{number}", url(FAR, nobody.port), **settings)
            assert status == 2 and "TLS" in said and PASSWORD not in said, said
            assert nobody.heard and PASSWORD.encode() not in nobody.heard and b"esa" not in nobody.heard


def test_less_than_verify_full_is_refused_unless_a_key_of_its_own_says_so(own, tmp_path):
    """In the URL and in the environment; nothing is said to whoever listens there."""
    with Recorder(without_tls) as nobody:
        for mode in ["disable", "allow", "prefer", "require", "verify-ca"]:
            for database, settings in [
                (url(FAR, nobody.port, f"?sslmode={mode}"), {}),
                (url(FAR, nobody.port), {"PGSSLMODE": mode}),
            ]:
                status, said = started(tmp_path, database, **settings)
                assert status == 64 and "backend.database_plaintext" in said and PASSWORD not in said, said
        assert not nobody.heard
        # An operator's own word.
        for rest in ["", "?sslmode=disable"]:
            started(tmp_path, url(FAR, nobody.port, rest), BACKEND__DATABASE_PLAINTEXT="true", BACKEND__CONNECTIONS="1")
            assert PASSWORD.encode() in nobody.heard
            nobody.heard.clear()


def test_check_config_tells_how_the_database_is_spoken_to(own, authority, tmp_path):
    """And what is wrong with the files that it takes."""
    far, key = url("db.example", 5432), own.caller[1]
    for toml, status, words in [
        (f"database = '{far}'", 0, r"PostgreSQL at db.example:5432/licensing; TLS \(verify-full\).*of this machine"),
        (f"database = '{far}'\ndatabase_ca = '{own.certificate}'", 0, f"verify-full.*{re.escape(str(own.certificate))}"),
        (f"database = '{far}'\ndatabase_plaintext = true", 0, "no TLS, as `backend.database_plaintext` says"),
        (f"database = '{url('127.0.0.1', 1)}'", 0, "no TLS, for it is on this machine"),
        (f"database = '{far}?sslmode=require'", 64, "sslmode=require.*backend.database_plaintext = true"),
        (f"database = '{far}'\ndatabase_ca = '/nowhere.pem'", 2, "/nowhere.pem"),
        (f"database = '{far}'\ndatabase_ca = '{key}'", 2, "line 1: a certificate is expected here, not `PRIVATE KEY`"),
        (f"database = '{far}'\ndatabase_certificate = '{own.caller[0]}'", 64, "goes with `backend.database_key`"),
        (
            f"database = '{far}'\ndatabase_certificate = '{own.caller[0]}'\ndatabase_key = '{authority.caller[1]}'",
            2,
            "do not go together",
        ),
        ("database = 'x.db'\ndatabase_ca = 'y.pem'", 64, "postgres://"),
    ]:
        ended, said = checked(tmp_path, f"[backend]\n{toml}\n")
        assert ended == status and re.search(words, said), (toml, ended, said)
        assert PASSWORD not in said


def test_a_disk_that_was_full_is_written_to_again_and_the_outage_is_told_once(tmp_path):
    """The process is not restarted; it is not ready meanwhile."""
    database = tmp_path / "licensing.db"
    with serving(tmp_path / "data", str(database), BACKEND__POLL_INTERVAL="100ms") as backend:
        eventually(backend.is_ready)
        assert backend.writes(tmp_path)
        full = database.with_name("licensing.db-wal").stat().st_size
        resource.prlimit(backend.process.pid, resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
        assert not backend.writes(tmp_path)
        eventually(lambda: not backend.is_ready(), within=WITHIN)
        assert not backend.writes(tmp_path)
        resource.prlimit(backend.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        eventually(lambda: backend.writes(tmp_path), within=WITHIN)
        eventually(backend.is_ready, within=WITHIN)
        assert backend.log().count("the database cannot be used") == 1
        assert backend.log().count("the database can be used again") == 1


class OnItsOwnDisk(Backend):
    """A backend on a file system of its own, of so many MiB and in memory, which nobody else sees."""

    MIB = 4

    def command(self):
        """In a mount namespace of its own."""
        return ["unshare", "--map-root-user", "--mount", "sh", "-c", MOUNTED, str(self.MIB), *super().command()]

    def disk(self):
        """Its root, as it is seen from outside."""
        return Path(f"/proc/{self.process.pid}/root{DISK}")


# A folder every machine has; within the namespace it is the file system.
DISK = "/mnt"
MOUNTED = f'mount -t tmpfs -o size="$0"m tmpfs {DISK} && exec "$@"'


def may_mount():
    """Whether this user may have mounts of its own here, as most containers forbid."""
    done = subprocess.run(["unshare", "--map-root-user", "--mount", "sh", "-c", MOUNTED, "1", "true"], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.skipif(not may_mount(), reason="no file system may be mounted here: a disk is full by a limit of the process alone")
def test_a_disk_without_space_is_written_to_again_once_there_is_some(tmp_path):
    """The system says ENOSPC, as of a disk, and not EFBIG, as of a file that may not grow."""
    home = f"{DISK}/data"
    arguments = ["licensing", "--data-dir", home, "--licensing-listen", "127.0.0.1:0", "--probe-listen", "127.0.0.1:0"]
    with OnItsOwnDisk(arguments, ["licensing", "probes"], tmp_path / "data", BACKEND__POLL_INTERVAL="100ms") as backend:
        eventually(backend.is_ready)
        one_time_password = backend.disk() / "data/licensing/owner-password"
        assert backend.writes(tmp_path, one_time_password)
        filler = backend.disk() / "filler"
        with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        eventually(lambda: not backend.writes(tmp_path), within=WITHIN)
        eventually(lambda: not backend.is_ready(), within=WITHIN)
        assert not backend.writes(tmp_path)
        filler.unlink()
        eventually(lambda: backend.writes(tmp_path), within=WITHIN)
        eventually(backend.is_ready, within=WITHIN)
        assert backend.log().count("the database cannot be used") == 1
        assert backend.log().count("the database can be used again") == 1


def test_sessions_that_became_read_only_are_given_up(postgres, tmp_path):
    """As after a failover, where they are on what was made a standby; it is not ready meanwhile."""
    postgres.sql("CREATE DATABASE failover")
    ours = postgres.url.replace("/postgres?", "/failover?")

    def others(setting):
        postgres.sql(
            f"ALTER DATABASE failover SET default_transaction_read_only = {setting}",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'failover'" if setting == "on" else "",
        )

    with serving(tmp_path / "data", ours, BACKEND__POLL_INTERVAL="100ms") as backend:
        eventually(backend.is_ready)
        assert backend.writes(tmp_path)
        others("on")
        eventually(lambda: not backend.is_ready(), within=WITHIN)
        assert not backend.writes(tmp_path)
        others("off")
        eventually(lambda: backend.writes(tmp_path), within=WITHIN)
        eventually(backend.is_ready, within=WITHIN)


def test_a_role_that_only_reads_and_writes_rows_runs_on_a_schema_that_is_up_to_date(postgres, tmp_path):
    """The owner of the database migrates it; before that the role is told so."""
    postgres.sql("CREATE DATABASE rows_only", "CREATE ROLE worker LOGIN")
    owner = postgres.url.replace("/postgres?", "/rows_only?")
    worker = owner.replace("postgres@", "worker@", 1)
    status, said = started(tmp_path / "data", worker)
    assert status == 2 and "esa-sidecar licensing migrate" in said and len(said.splitlines()) == 1, said
    for words in ["is up to date now", "was up to date"]:
        migrate = [binary(), "licensing", "migrate", "--database", owner]
        done = subprocess.run(migrate, capture_output=True, text=True, check=False, env=environment())
        assert done.returncode == 0 and words in done.stdout, done
    postgres.sql("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO worker", database="rows_only")
    with serving(tmp_path / "data", worker) as backend:
        eventually(backend.is_ready)
        assert backend.writes(tmp_path)


def test_what_cannot_be_worked_with_is_told_at_the_start(postgres, tmp_path):
    """A database that is not in UTF8, and a pooler that gives a connection several sessions."""
    postgres.sql("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    status, said = started(tmp_path / "latin", postgres.url.replace("/postgres?", "/latin?"))
    assert status == 2 and "LATIN1" in said and "ENCODING 'UTF8'" in said and len(said.splitlines()) == 1, said
    postgres.sql("CREATE DATABASE pooled")
    with Pooler(postgres, "transaction") as pooler:
        status, said = started(tmp_path / "pooled", pooler.url("pooled"))
        assert status == 2 and "pool_mode = session" in said and len(said.splitlines()) == 1, said
    with Pooler(postgres, "session") as pooler, serving(tmp_path / "pooled", pooler.url("pooled")) as backend:
        eventually(backend.is_ready)
        assert backend.writes(tmp_path)


def test_a_file_of_somebody_else_is_told_in_one_line_and_left_as_it_is(tmp_path):
    """Its mode, its bytes, and what is beside it."""
    notes = tmp_path / "notes.txt"
    notes.write_text("notes", encoding="ascii")
    notes.chmod(0o644)
    status, said = started(tmp_path / "data", str(notes))
    assert status == 2 and "no file of SQLite" in said and len(said.splitlines()) == 1, said
    assert notes.read_text(encoding="ascii") == "notes" and notes.stat().st_mode & 0o777 == 0o644
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "notes.txt"]
