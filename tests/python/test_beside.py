"""A licensing backend in a sidecar's own process that speaks TLS: other machines may call it, and the sidecar beside it does."""

import shutil
import socket
import ssl
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from conftest import CHANNEL_OPTIONS
from person import Person
from sidecar import Running, eventually
from wire import CALL_WITHIN

OWNER = r"The owner's account is `owner`; its one-time password is in `(\S+)`"
PASSWORD = "correct horse battery"


@pytest.fixture
def shown(authority, tmp_path):
    """`shown(name)` puts the certificate of that name in place."""

    def put(name):
        for made, place in zip(authority.issue(name, "DNS:localhost"), ("server.pem", "server.key"), strict=True):
            shutil.copy(made, tmp_path / place)

    put("beside-1")
    return put


@contextmanager
def serving(folder, authority, **settings):
    """A sidecar with its backend, which every machine reaches; questions come on a Unix socket, as the port asks callers."""
    listen = ["--listen", f"unix:{folder}/questions.sock", "--probe-listen", "127.0.0.1:0"]
    arguments = ["serve", "--data-dir", folder / "data", *listen, "--licensing-listen", "0.0.0.0:0"]
    tls = {"certificate": folder / "server.pem", "key": folder / "server.key", "client_ca": authority.certificate}
    settings |= {f"TLS__{key.upper()}": str(path) for key, path in tls.items()} | {"TLS__RELOAD_INTERVAL": "50ms"}
    with Running(arguments, ["enforcement", "probes", "licensing"], folder / "data", **settings) as running:
        yield running


def health(channel):
    """What health on a channel says of the licensing backend."""
    return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=CALL_WITHIN).status


def test_others_call_it_over_tls_alone_and_the_sidecar_beside_it_needs_none(authority, shown, tmp_path):
    with serving(tmp_path, authority) as running:
        port = running.licensing.rpartition(":")[2]
        believed = grpc.ssl_channel_credentials(authority.certificate.read_bytes())
        with grpc.secure_channel(f"localhost:{port}", believed, options=CHANNEL_OPTIONS) as channel:
            # Nobody is asked for a certificate; it serves once it has looked at its database.
            eventually(lambda: health(channel) == health_pb2.HealthCheckResponse.SERVING)
        with (
            grpc.insecure_channel(f"localhost:{port}", options=CHANNEL_OPTIONS) as channel,
            pytest.raises(grpc.RpcError) as refused,
        ):
            health(channel)
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE, "in the clear nothing is said"
        owner = Person(tmp_path / "owner", f"https://localhost:{port}", f"unix:{tmp_path}/questions.sock")
        owner.environment["ESA_SIDECAR_CA"] = str(authority.certificate)
        one_time_password = Path(running.line(OWNER)[1]).read_text(encoding="utf-8").strip()
        owner.signs_in_first("owner", one_time_password, PASSWORD)
        owner.does("licenses", "create", "--seats", "5", "--expires-in", "90d", "--key-output", "key")
        owner.does("activate", "--license-key-file", "key", "--data-dir", tmp_path / "data")
        del owner.environment["ESA_SIDECAR_CA"]
        eventually(lambda: owner.types("authorize", "enable_users").status == 0)
        private = tmp_path / "data/licensing/beside.sock"
        assert private.is_socket() and private.stat().st_mode & 0o777 == 0o600
    assert not private.exists(), "it goes with the process"


def test_a_certificate_that_is_renewed_is_shown_without_a_restart(authority, shown, tmp_path):
    context = ssl.create_default_context(cafile=authority.certificate)

    def serial():
        with (
            socket.create_connection(("localhost", port)) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as stream,
        ):
            return stream.getpeercert()["serialNumber"]

    with serving(tmp_path, authority) as running:
        port = int(running.licensing.rpartition(":")[2])
        first = serial()
        shown("beside-2")
        eventually(lambda: serial() != first)


def test_without_tls_it_is_refused_beyond_this_machine(tmp_path):
    nobody = Person(tmp_path, "127.0.0.1:1")
    config = nobody.file("config.toml", "listen.licensing = '0.0.0.0:0'")
    data = tmp_path / "data"
    for command in [("check-config", config), ("serve", "--config", config, "--data-dir", data)]:
        refused = nobody.types(*command)
        assert refused.status == 64 and "passwords would go there in the clear" in refused.err, refused
    assert not data.exists()
