"""Every error says why: those as well that a call meets before it comes as far as its service."""

from pathlib import Path

import grpc
import pytest

from conftest import channel_to
from sidecar import Running
from wire import CALL_WITHIN, SERVICE, refusal

ENFORCEMENT, LICENSING = "esa-sidecar", "esa-licensing"
CODE = grpc.StatusCode
UNITS, ACCOUNTS, SYNC = (f"esa.licensing.v1.{word}Service" for word in ("Unit", "Account", "Sync"))

OWNER = r"The owner's account is `owner`; its one-time password is in `(\S+)`"
PASSWORD = "correct horse battery"

# Neither a message nor the beginning of one.
NONSENSE = b"\xff\xff\xff"


def asked(channel, path, message, **options):
    """What a call of bytes is refused with: its code, and the domain and reason of its ErrorInfo."""
    call = channel.unary_unary(f"/{path}")
    code, info = refusal(lambda message, timeout: call(message, timeout=timeout, **options), message)
    return code, info.domain, info.reason


@pytest.mark.parametrize(
    ("path", "message", "options", "code", "reason"),
    [
        (f"{SERVICE}/Authorize", NONSENSE, {}, CODE.INVALID_ARGUMENT, "MESSAGE_INVALID"),
        (f"{SERVICE}/BatchAuthorize", NONSENSE, {}, CODE.INVALID_ARGUMENT, "MESSAGE_INVALID"),
        (f"{SERVICE}/BatchAuthorize", b"\x0a\x01\xff", {}, CODE.INVALID_ARGUMENT, "MESSAGE_INVALID"),
        (f"{SERVICE}/GetSubscription", NONSENSE, {}, CODE.INVALID_ARGUMENT, "MESSAGE_INVALID"),
        ("grpc.health.v1.Health/Check", NONSENSE, {}, CODE.INVALID_ARGUMENT, "MESSAGE_INVALID"),
        (f"{SERVICE}/Authorize", bytes(70_000), {}, CODE.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LONG"),
        (f"{SERVICE}/BatchAuthorize", bytes(600_000), {}, CODE.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LONG"),
        (f"{SERVICE}/Simulate", bytes(600_000), {}, CODE.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LONG"),
        (f"{SERVICE}/Authorize", b"\x10\x01", "gzip", CODE.UNIMPLEMENTED, "COMPRESSION_NOT_SUPPORTED"),
        (f"{SERVICE}/Simulate", b"", "gzip", CODE.UNIMPLEMENTED, "COMPRESSION_NOT_SUPPORTED"),
        (f"{SERVICE}/Nothing", b"", {}, CODE.UNIMPLEMENTED, "METHOD_UNKNOWN"),
        ("made.up.Service/Nothing", b"", {}, CODE.UNIMPLEMENTED, "METHOD_UNKNOWN"),
        ("grpc.health.v1.Health/Check", b"\x0a\x01x", {}, CODE.NOT_FOUND, "SERVICE_UNKNOWN"),
    ],
)
def test_an_error_that_no_service_makes_has_its_code_and_a_reason(everything, path, message, options, code, reason):
    channel = everything.client.channel
    if options == "gzip":
        options = {"compression": grpc.Compression.Gzip}
    assert asked(channel, path, message, **options) == (code, ENFORCEMENT, reason)


def test_a_message_of_a_stream_that_does_not_read_ends_it_with_a_reason(everything, protocol):
    question = protocol.messages.StreamAuthorizeRequest(question=protocol.question("enable_users", subscription="AAA-AAA-AAA"))
    stream = everything.client.channel.stream_stream(f"/{SERVICE}/StreamAuthorize")
    answers = stream(iter([question.SerializeToString(), NONSENSE]), timeout=CALL_WITHIN)
    assert next(answers)
    code, info = refusal(lambda answers, timeout: next(answers), answers)
    assert (code, info.domain, info.reason) == (CODE.INVALID_ARGUMENT, ENFORCEMENT, "MESSAGE_INVALID")


def test_the_listener_of_probes_says_why_as_well(everything):
    channel = everything.client.probe_channel
    assert asked(channel, f"{SERVICE}/Authorize", b"")[::2] == (CODE.UNIMPLEMENTED, "METHOD_UNKNOWN")


@pytest.fixture(scope="module")
def backend(protocol, tmp_path_factory):
    """A channel to a licensing backend, and the token of an owner's session."""
    folder = tmp_path_factory.mktemp("errors")
    listen = ["--probe-listen", "127.0.0.1:0", "--licensing-listen", "127.0.0.1:0"]
    arguments = ["licensing", "--data-dir", folder, *listen]
    with Running(arguments, ["probes", "licensing"], folder, BACKEND__REQUEST_BYTES="65536") as running:
        once = Path(running.line(OWNER)[1]).read_text(encoding="utf-8").strip()
        messages = protocol.licensing
        with channel_to(running.licensing) as channel:
            accounts = messages.stub("account", channel)
            first = accounts.SignIn(messages.SignInRequest(name="owner", password=once), timeout=CALL_WITHIN).token
            change = messages.ChangePasswordRequest(request_id="1", old_password=once, new_password=PASSWORD)
            accounts.ChangePassword(change, timeout=CALL_WITHIN, metadata=[("authorization", f"Bearer {first}")])
            yield channel, first


def test_who_is_not_known_hears_nothing_of_what_is_wrong_with_its_message(backend):
    channel, token = backend
    bearer = lambda token: {"metadata": [("authorization", f"Bearer {token}")]}  # noqa: E731
    unknown = (CODE.UNAUTHENTICATED, LICENSING, "UNAUTHENTICATED")
    unreadable = (CODE.INVALID_ARGUMENT, LICENSING, "MESSAGE_INVALID")
    too_long = (CODE.RESOURCE_EXHAUSTED, LICENSING, "MESSAGE_TOO_LONG")
    for path, message, options, refused in (
        (f"{UNITS}/ListUnits", NONSENSE, {}, unknown),
        (f"{UNITS}/ListUnits", NONSENSE, bearer("esas_unknown"), unknown),
        (f"{UNITS}/ListUnits", NONSENSE, bearer("nonsense"), unknown),
        (f"{UNITS}/ListUnits", NONSENSE, bearer(token), unreadable),
        (f"{UNITS}/ListUnits", bytes(70_000), {}, unknown),
        (f"{UNITS}/ListUnits", bytes(70_000), bearer(token), too_long),
        (f"{ACCOUNTS}/CreateAccount", NONSENSE, {}, unknown),
        (f"{SYNC}/Sync", NONSENSE, bearer("esau_1_unknown"), unknown),
        # These may come without a credential.
        (f"{SYNC}/Sync", NONSENSE, {}, unreadable),
        (f"{UNITS}/ActivateUnit", NONSENSE, {}, unreadable),
        (f"{ACCOUNTS}/SignIn", NONSENSE, {}, unreadable),
        (f"{ACCOUNTS}/Nothing", b"", {}, (CODE.UNIMPLEMENTED, LICENSING, "METHOD_UNKNOWN")),
    ):
        assert asked(channel, path, message, **options) == refused, (path, options)
    # A watch that does not read is refused the same way.
    watch = channel.unary_stream(f"/{SYNC}/Watch")
    code, info = refusal(lambda message, timeout: next(watch(message, timeout=timeout)), NONSENSE)
    assert (code, info.domain, info.reason) == unknown
