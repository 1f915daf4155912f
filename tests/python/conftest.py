"""What the tests share: the compiled protocol, sidecars that are stopped properly, and stock clients for them.

No rule and no expectation lives here.
"""

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from certificates import Authority
from examples import one_of_each_kind
from sidecar import Sidecar, eventually, put
from wire import CALL_WITHIN, Protocol

# A proxy of the machine has no part in this.
CHANNEL_OPTIONS = [("grpc.enable_http_proxy", 0)]
# On a Unix socket gRPC's C core takes the escaped path as the authority, which the h2 crate refuses as malformed.
UNIX_OPTIONS = [*CHANNEL_OPTIONS, ("grpc.default_authority", "localhost")]


def channel_to(address, authority=None):
    """A channel to HOST:PORT or unix:PATH; over TLS to who shows a certificate of this authority, or in the clear."""
    if authority is not None:
        certificate, key = (path.read_bytes() for path in authority.caller)
        credentials = grpc.ssl_channel_credentials(authority.certificate.read_bytes(), key, certificate)
        return grpc.secure_channel(address, credentials, options=CHANNEL_OPTIONS)
    return grpc.insecure_channel(address, options=UNIX_OPTIONS if address.startswith("unix:") else CHANNEL_OPTIONS)


@dataclass(frozen=True)
class Client:
    """A sidecar and clients of it: of the enforcement service, and of health on both of its ports."""

    sidecar: Sidecar
    channel: grpc.Channel
    probe_channel: grpc.Channel
    stub: Any
    health: health_pb2_grpc.HealthStub
    probe_health: health_pb2_grpc.HealthStub

    def serves(self, service=""):
        """Whether health says that a service is serving."""
        request = health_pb2.HealthCheckRequest(service=service)
        answer = self.health.Check(request, timeout=CALL_WITHIN)
        return answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.fixture(scope="session")
def protocol(tmp_path_factory):
    """The protocol, compiled from the protos of this repository."""
    return Protocol(tmp_path_factory.mktemp("protocol"))


@pytest.fixture(scope="session")
def connect(protocol):
    """Starts a sidecar and connects clients: `with connect(facts_file, data_folder, **settings) as client`.

    With the `authority` of its certificate it is asked over TLS.
    """

    @contextmanager
    def connected(facts_file, data, ready=True, authority=None, **settings):
        with Sidecar(facts_file, data, **settings) as sidecar, ExitStack() as stack:
            # Probes come in the clear.
            opened = (channel_to(sidecar.enforcement, authority), channel_to(sidecar.probes))
            channels = [stack.enter_context(channel) for channel in opened]
            healths = [health_pb2_grpc.HealthStub(channel) for channel in channels]
            client = Client(sidecar, *channels, protocol.stub(channels[0]), *healths)
            if ready:
                eventually(client.serves)
            yield client

    return connected


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """An authority that clients of the sidecar believe, and the sidecar if it is told to."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def facts_file(tmp_path):
    """Where this test's facts go; nothing is there yet."""
    return tmp_path / "facts.json"


@pytest.fixture
def serve(connect, facts_file, tmp_path):
    """Serves facts of this test: `with serve(facts) as client`. None: no facts file; the same data folder each time."""

    def start(facts=None, **settings):
        if facts is not None:
            put(facts_file, facts)
        return connect(facts_file, tmp_path / "data", ready=facts is not None, **settings)

    return start


@dataclass(frozen=True)
class Everything:
    """One sidecar that holds one subscription of every kind: `facts` by public license ID."""

    client: Client
    facts: dict


@pytest.fixture(scope="session")
def everything(connect, tmp_path_factory):
    """A sidecar with a subscription of every kind, to ask and not to change."""
    folder = tmp_path_factory.mktemp("everything")
    held = one_of_each_kind(time.time_ns())
    put(folder / "facts.json", list(held.values()))
    with connect(folder / "facts.json", folder / "data") as client:
        yield Everything(client, held)
