"""What is wrong with a configuration is told where it is, and a password that stands there is told nowhere."""

import subprocess

import pytest

from postgres import environment
from sidecar import START_WITHIN, binary

CANARY = "c4n4ry"
URL = f"postgres://esa:{CANARY}@db.example/licensing"
NOWHERE = ["--data-dir", "/dev/null/nowhere"]
COMMANDS = {"check-config": ["check-config"], "serve": ["serve", *NOWHERE, "--config"], "licensing": ["licensing", *NOWHERE, "--config"]}

BROKEN = [
    # What TOML does not read.
    f"backend.database = {URL}",
    f'backend.database = "{URL}',
    f"backend.database = '{URL}\n",
    f'backend.database = """{URL}\nlog.level = "info"',
    f'backend.database "{URL}"',
    f'backend.database = "{URL}" "',
    f'backend.database = "\\{URL}"',
    f"{URL}",
    f"[backend]\ndatabase = '{URL}'\n[backend]\ndatabase = '{URL}'",
    f"database = '{URL}'\ndatabase.password = '{CANARY}'",
    f"backend = {{ database = '{URL}'",
    f"[[callers]]\nname = '{CANARY}\n",
    # What is no value of its key.
    f"backend.database = 'postgres://esa:{CANARY}@host:port/licensing'",
    f"backend.database = 'postgres://esa:{CANARY}#x@host/licensing'",
    f"backend.database = 'postgres://esa:x@{CANARY}?1@host/licensing'",
    f"backend.database = 'mysql://esa:{CANARY}@host/licensing'",
    f"backend.database = 'host=db password={CANARY}'",
    f"backend.database = ['{URL}']",
    f"backend.database = {{ password = '{CANARY}' }}",
    f"backend = '{URL}'",
    f"backend.database_password = '{URL}'",
    f"licensing.urls = ['https://unit:{CANARY}@licensing.example:50052']",
    f"licensing.urls = 'https://unit:{CANARY}@licensing.example:50052'",
    f"licensing.urls = [['{CANARY}']]",
    f"licensing.keys = ['{CANARY}']",
    f"licensing.keys = ['''-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----''']",
    f"licensing.subscription = '{CANARY}-ABCDE-FGHJK-MNPQR'",
    *(
        f"{key} = '{URL}'"
        for key in (
            "listen.enforcement",
            "listen.metrics",
            "listen.threads",
            "listen.socket_mode",
            "listen.socket_owner",
            "listen.trust_network",
            "refresh.interval",
            "tls.minimum_version",
            "log.level",
            "log.format",
            "callers",
        )
    ),
    *(
        f"[[callers]]\nname = 'it'\nrole = 'probe'\n{row}"
        for row in (
            f"user = '{URL}'",
            f"user = '{CANARY}'",
            f"loopback = '{CANARY}'",
            f"certificate = '{URL}'",
            f"certificate_dns = '{URL}'",
            f"certificate_uri = 'unit {URL}'",
            f"user = 1\noperations = ['{URL}']",
            f"user = 1\noperations = '{CANARY}'",
            f"user = 1\nsubscriptions = ['{URL}']",
            f"user = 1\nburst = '{CANARY}'",
        )
    ),
    f"[[callers]]\nname = 'it'\nrole = '{CANARY}'\nuser = 1",
]


def said(command, file, **settings):
    """The status and all the output of a command that is given this configuration."""
    command = [binary(), *COMMANDS[command], str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=START_WITHIN, env=environment(**settings))
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_no_value_that_may_be_a_secret_is_told_whatever_is_wrong_with_it(command, tmp_path):
    file = tmp_path / "esa-sidecar.toml"
    # They read it alike, so some rows do for those that would serve.
    for broken in BROKEN[:: 1 if command == "check-config" else 5]:
        file.write_text(broken, encoding="utf-8")
        status, told = said(command, file)
        assert status == 64 and str(file) in told, (broken, told)
        assert CANARY not in told, (broken, told)
    file.write_text("", encoding="utf-8")
    for key, value in [
        ("BACKEND__DATABASE", f"postgres://esa:{CANARY}@host:port/licensing"),
        ("BACKEND", URL),
        ("LICENSING__URLS", f"https://unit:{CANARY}@licensing.example:50052"),
        ("LICENSING__KEYS", CANARY),
        ("LISTEN__LICENSING", URL),
        ("LOG__LEVEL", URL),
        ("CALLERS", URL),
        ("BACKEND__DATABASE_PASSWORD", CANARY),
    ]:
        status, told = said(command, file, **{key: value})
        assert status == 64 and CANARY not in told, (key, told)


def test_a_password_in_an_address_of_the_environment_is_not_told():
    for variable, command in [
        ("ESA_SIDECAR_LICENSING", ["units", "list"]),
        ("ESA_SIDECAR_LICENSING", ["activate", "--license-key-file", "key"]),
        ("ESA_SIDECAR_SERVER", ["status"]),
        ("ESA_SIDECAR_PROBES", ["healthcheck"]),
    ]:
        variables = environment() | {variable: f"https://unit:{CANARY}@licensing.example:50052"}
        done = subprocess.run([binary(), *command], capture_output=True, text=True, check=False, timeout=START_WITHIN, env=variables)
        assert done.returncode == 2 and "address" in done.stderr, done
        assert CANARY not in done.stdout + done.stderr, done


def test_what_toml_does_not_read_is_told_with_its_line_and_column(tmp_path):
    file = tmp_path / "esa-sidecar.toml"
    for toml, what in [
        (f"[backend]\ndatabase = {URL}\n", "line 2, column 12: invalid string, expected"),
        ("[log]\nlevel = 'info'\nlevel = 'warn'\n", "line 3, column 1: this key or table is there already"),
    ]:
        file.write_text(toml, encoding="utf-8")
        status, told = said("check-config", file)
        assert status == 64 and f"`{file}`: {what}" in told, told
