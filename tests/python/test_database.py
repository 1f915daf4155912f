"""The database of a licensing backend: how it is reached, what is refused, and what is told of it."""

import os
import re
import subprocess
from contextlib import contextmanager

import pytest

from certificates import Authority
from postgres import Postgres, Recorder, environment, without_tls
from sidecar import Running, binary

PASSWORD = "s3cret-of-the-database"
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
        env=environment(BACKEND__DATABASE=database, **settings),
    )
    return done.returncode, done.stderr


def checked(home, toml):
    """What `check-config` says of a configuration."""
    file = home / "config.toml"
    file.write_text(toml, encoding="utf-8")
    done = subprocess.run([binary(), "check-config", file], capture_output=True, text=True, check=False, env=environment())
    return done.returncode, done.stdout + done.stderr


@contextmanager
def serving(home, database, **settings):
    """A backend on it while it runs."""
    arguments = ["licensing", "--data-dir", home, "--licensing-listen", "127.0.0.1:0", "--probe-listen", "127.0.0.1:0"]
    with Running(arguments, ["licensing", "probes"], home, BACKEND__DATABASE=database, **settings) as backend:
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
        (f"database = '{far}'\ndatabase_ca = '{key}'", 2, "holds no certificate"),
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
