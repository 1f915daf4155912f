"""Health, probes and reflection as the stock tools of gRPC and Kubernetes use them.

Only whether the sidecar can be asked is looked at here; what it answers is tested elsewhere.
"""

import http.client
import time

import grpc
import pytest
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from examples import facts
from oracle import OK
from sidecar import eventually, put
from wire import CALL_WITHIN, SERVICE, Stream, health_protocol, unary

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

WITHOUT_FACTS = {"": NOT_SERVING, SERVICE: NOT_SERVING, "liveness": SERVING, "licensing.sync": NOT_SERVING}
WITH_FACTS = dict.fromkeys(WITHOUT_FACTS, SERVING)

PORTS = ["health", "probe_health"]

# How long a stream that should stay open is looked at.
LOOKED_AT_FOR = 0.3


@pytest.fixture
def port(request, everything):
    """The health service on one of the two ports of a sidecar that holds facts."""
    return getattr(everything.client, request.param)


on_both_ports = pytest.mark.parametrize("port", PORTS, indirect=True)


def named(service):
    return health_pb2.HealthCheckRequest(service=service)


def checked(health):
    return {service: health.Check(named(service), timeout=CALL_WITHIN).status for service in WITHOUT_FACTS}


@on_both_ports
def test_every_name_serves_while_facts_are_held(port):
    assert checked(port) == WITH_FACTS


@on_both_ports
def test_check_of_an_unknown_service_is_not_found(port):
    with pytest.raises(grpc.RpcError) as refused:
        port.Check(named("no.such.Service"), timeout=CALL_WITHIN)
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


@on_both_ports
def test_watch_of_an_unknown_service_says_so_and_stays_open(port):
    with Stream(port.Watch(named("no.such.Service"))) as watch:
        assert watch.next().status == SERVICE_UNKNOWN
        assert watch.is_open(within=LOOKED_AT_FOR)


@on_both_ports
def test_watch_tells_the_status_at_once_and_stays_open(port):
    with Stream(port.Watch(named(SERVICE))) as watch:
        assert watch.next().status == SERVING
        assert watch.is_open(within=LOOKED_AT_FOR)


@pytest.mark.parametrize("channel", ["channel", "probe_channel"])
def test_list_tells_every_name(everything, tmp_path, channel):
    method, _, response = health_protocol(tmp_path)["List"]
    call, request = unary(getattr(everything.client, channel), method)
    listed = call(request(), timeout=CALL_WITHIN)
    assert isinstance(listed, response)
    assert {name: listed.statuses[name].status for name in listed.statuses} == WITH_FACTS


@pytest.mark.parametrize("name", PORTS)
def test_readiness_waits_for_facts_and_liveness_does_not(serve, facts_file, name):
    with serve() as client:
        health = getattr(client, name)
        assert checked(health) == WITHOUT_FACTS
        with Stream(health.Watch(named(""))) as all_of_it, Stream(health.Watch(named("licensing.sync"))) as sync:
            assert all_of_it.next().status == sync.next().status == NOT_SERVING
            put(facts_file, facts(time.time_ns()))
            assert all_of_it.next().status == sync.next().status == SERVING
        assert checked(health) == WITH_FACTS


def get(client, path):
    connection = http.client.HTTPConnection(client.sidecar.probes, timeout=CALL_WITHIN)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_http_probes_tell_liveness_and_readiness(serve, facts_file):
    with serve() as client:
        assert (get(client, "/livez"), get(client, "/readyz")) == (200, 503)
        put(facts_file, facts(time.time_ns()))
        eventually(lambda: get(client, "/readyz") == 200)
        assert get(client, "/livez") == 200


def test_a_page_that_does_not_exist_is_not_found(everything):
    assert get(everything.client, "/no-such-page") == 404


def test_reflection_lists_every_service(everything):
    listed = set(ProtoReflectionDescriptorDatabase(everything.client.channel).get_services())
    assert {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"} <= listed


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_both_versions_of_reflection_answer_alike(everything, version):
    """The two have the same messages on the wire under different names."""
    call = everything.client.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    asked = reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)
    (answer,) = call(iter([asked]), timeout=CALL_WITHIN)
    assert answer.file_descriptor_response.file_descriptor_proto


def test_a_question_can_be_asked_with_nothing_but_reflection(everything):
    reflected = ProtoReflectionDescriptorDatabase(everything.client.channel)
    service = descriptor_pool.DescriptorPool(reflected).FindServiceByName(SERVICE)
    call, request = unary(everything.client.channel, service.methods_by_name["Authorize"])
    operations = request.DESCRIPTOR.fields_by_name["operation"].enum_type.values_by_name
    public_id = next(iter(everything.facts))
    asked = request(subscription_id=public_id, operation=operations["OPERATION_ENABLE_USERS"].number)
    answer = call(asked, timeout=CALL_WITHIN)
    fields = answer.DESCRIPTOR.fields_by_name
    assert fields["access"].enum_type.values_by_number[answer.access].name == "ACCESS_ALLOWED"
    assert fields["state"].enum_type.values_by_number[answer.state].name.endswith(OK.upper())
    assert answer.revision > 0 and answer.HasField("as_of") and answer.HasField("until")
