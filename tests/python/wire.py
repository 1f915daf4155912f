"""The protocol as a stock client sees it: protos compiled afresh, plain names for numbers, streams with deadlines.

It translates between the wire and the words of the contract. It decides nothing and expects nothing.
"""

import importlib
import queue
import re
import sys
import threading
import time
from pathlib import Path

import grpc
import grpc_tools
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from grpc_tools import protoc

from oracle import SECOND, instant

PROTOS = Path(__file__).parents[2] / "proto"
SERVICE = "esa.enforcement.v1.EnforcementService"
CALL_WITHIN = 10.0


class Protocol:
    """The protocols. Of enforcement, `messages` and `held` are the generated modules; of licensing, `licensing`."""

    def __init__(self, folder):
        protos = sorted(path.relative_to(PROTOS) for path in PROTOS.glob("esa/*/v1/*.proto"))
        _compile(protos, f"--python_out={folder}", f"--grpc_python_out={folder}")
        sys.path.insert(0, str(folder))
        self.licensing = Licensing()
        self.messages = importlib.import_module("esa.enforcement.v1.enforcement_service_pb2")
        self.held = importlib.import_module("esa.enforcement.v1.subscription_pb2")
        self._stubs = importlib.import_module("esa.enforcement.v1.enforcement_service_pb2_grpc")

    def stub(self, channel):
        return self._stubs.EnforcementServiceStub(channel)

    def question(self, operation, role=None, delivery=None, subscription=""):
        """An AuthorizeRequest in the words of the contract; role and delivery may be left out."""
        asked = self.messages.AuthorizeRequest(subscription_id=subscription)
        asked.operation = number(self.messages.Operation, operation)
        if role is not None:
            asked.actor.role = number(self.messages.ActorRole, role)
        if delivery is not None:
            asked.sms_delivery = number(self.messages.SmsDelivery, delivery)
        return asked

    def told(self, response):
        """Access, state, reason and until of an answer, in the words of the contract."""
        return (
            word(self.messages.Access, response.access),
            word(self.held.SubscriptionState, response.state),
            word(self.messages.Reason, response.reason),
            moment(response, "until"),
        )

    def facts(self, told):
        """SubscriptionFacts from facts as JSON."""
        message = self.held.SubscriptionFacts(subscription_id=told["subscription_id"])
        message.activation.state = number(self.held.ActivationState, told["activation"]["state"])
        if since := told["activation"].get("since"):
            set_moment(message.activation.since, instant(since))
        set_moment(message.expires_at, instant(told["expires_at"]))
        if disabled := told.get("disabled_by_licensing"):
            message.disabled_by_licensing.reason = disabled["reason"]
            set_moment(message.disabled_by_licensing.since, instant(disabled["since"]))
        message.users.active = told["users"]["active"]
        message.users.licensed = told["users"]["licensed"]
        if since := told["users"].get("overused_since"):
            set_moment(message.users.overused_since, instant(since))
        for fair_use in ("all_users", "components"):
            getattr(message, fair_use).count = told[fair_use]["count"]
            getattr(message, fair_use).limit = told[fair_use]["limit"]
        if told.get("sms_credits") is not None:
            message.sms_credits = told["sms_credits"]
        return message


class Licensing:
    """The licensing protocol: every message by its name, and a stub of each service by its first word."""

    def __init__(self):
        self._stubs = {}
        for word in ("account", "audit", "license", "sync", "unit"):
            module = importlib.import_module(f"esa.licensing.v1.{word}_service_pb2")
            grpc_module = importlib.import_module(f"esa.licensing.v1.{word}_service_pb2_grpc")
            self._stubs[word] = getattr(grpc_module, f"{word.capitalize()}ServiceStub")
            for name in (*module.DESCRIPTOR.message_types_by_name, *module.DESCRIPTOR.enum_types_by_name):
                setattr(self, name, getattr(module, name))

    def stub(self, word, channel):
        """A client of the service, such as `stub("unit", channel)`."""
        return self._stubs[word](channel)


def health_protocol(folder):
    """Message classes of the health protocol as this repository prints it, apart from those of any package."""
    printed = folder / "health.binpb"
    _compile([Path("grpc/health/v1/health.proto")], f"--descriptor_set_out={printed}", "--include_imports")
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(printed.read_bytes()).file:
        pool.Add(file)
    service = pool.FindServiceByName("grpc.health.v1.Health")
    return {method.name: (method, *_classes(method)) for method in service.methods}


def unary(channel, method):
    """A call made from nothing but the descriptor of its method, and the class of its request."""
    request, response = _classes(method)
    path = f"/{method.containing_service.full_name}/{method.name}"
    call = channel.unary_unary(
        path, request_serializer=request.SerializeToString, response_deserializer=response.FromString
    )
    return call, request


def word(enum, value):
    """The name of a value in the words of the contract: lower case, without the prefix of its enum."""
    return enum.Name(value).removeprefix(_prefix(enum)).lower()


def number(enum, name):
    """The number of a value named in the words of the contract; a number stays as it is."""
    return name if isinstance(name, int) else enum.Value(_prefix(enum) + name.upper())


def moment(message, field):
    """A Timestamp field in nanoseconds, or None where it is absent."""
    if not message.HasField(field):
        return None
    stamp = getattr(message, field)
    assert 0 <= stamp.nanos < SECOND
    return stamp.seconds * SECOND + stamp.nanos


def set_moment(stamp, nanoseconds):
    """Fills a Timestamp."""
    stamp.seconds, stamp.nanos = divmod(nanoseconds, SECOND)
    stamp.SetInParent()


def refusal(call, request):
    """The status code a call is refused with, and the ErrorInfo that comes with it."""
    try:
        answer = call(request, timeout=CALL_WITHIN)
    except grpc.RpcError as error:
        return error.code(), error_info(error)
    raise AssertionError(f"answered instead of refused: {answer}")


def error_info(error):
    """The ErrorInfo of a refusal."""
    status = rpc_status.from_call(error)
    assert status is not None, f"no details with {error.code()}: {error.details()}"
    infos = [detail for detail in status.details if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)]
    assert len(infos) == 1, f"not one ErrorInfo: {status.details}"
    info = error_details_pb2.ErrorInfo()
    infos[0].Unpack(info)
    return info


class Stream:
    """Reads a stream in the background, so that every wait for it has a deadline."""

    def __init__(self, call):
        self._call = call
        self._read = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._pump, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._call.cancel()
        self._thread.join(CALL_WITHIN)

    def next(self, within=CALL_WITHIN):
        """The next message."""
        try:
            message = self._read.get(timeout=within)
        except queue.Empty:
            raise AssertionError(f"nothing came within {within} s") from None
        assert not isinstance(message, grpc.StatusCode), f"the stream ended with {message}"
        return message

    def find(self, wanted, within=CALL_WITHIN):
        """The first message that is wanted, and the wall clock in nanoseconds after it came."""
        deadline = time.monotonic() + within
        while True:
            message = self.next(within=max(deadline - time.monotonic(), 0))
            if wanted(message):
                return message, time.time_ns()

    def rest(self, within=CALL_WITHIN):
        """The messages still to come and the status the stream ends with."""
        messages, deadline = [], time.monotonic() + within
        while True:
            try:
                message = self._read.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                raise AssertionError(f"the stream is still open after {within} s") from None
            if isinstance(message, grpc.StatusCode):
                return messages, message
            messages.append(message)

    def is_open(self, within):
        """Whether nothing comes and nothing ends for a while."""
        try:
            self._read.get(timeout=within)
        except queue.Empty:
            return self._call.is_active()
        return False

    def _pump(self):
        try:
            for message in self._call:
                self._read.put(message)
        except grpc.RpcError:
            pass
        self._read.put(self._call.code())


def _compile(protos, *outputs):
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    arguments = ["protoc", f"--proto_path={PROTOS}", f"--proto_path={well_known}", *outputs]
    assert protoc.main([*arguments, *map(str, protos)]) == 0, f"protoc failed for {protos}"


def _classes(method):
    return tuple(message_factory.GetMessageClass(kind) for kind in (method.input_type, method.output_type))


def _prefix(enum):
    return re.sub(r"(?<!^)(?=[A-Z])", "_", enum.DESCRIPTOR.name).upper() + "_"
