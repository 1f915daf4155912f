"""Questions asked by gRPC's own JavaScript, which shares nothing with its C core: each kind of call, each way to connect.

What an answer has to be comes from the oracle; `tests/node/client.js` only calls.
"""

import base64
import json
import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from examples import OPERATIONS, facts, one_of_each_kind, questions
from oracle import ROLES, SECOND, Outlook, names
from sidecar import put
from wire import PROTOS, SERVICE

REPOSITORY = Path(__file__).parents[2]
CLIENT = REPOSITORY / "tests/node/client.js"
MODULES = os.environ.get("NODE_PATH") or str(REPOSITORY / "target/tools/node_modules")
NODE_WITHIN = 60.0

HEALTH = "grpc.health.v1.Health"
OK, CANCELLED, UNAVAILABLE = (grpc.StatusCode[name] for name in ("OK", "CANCELLED", "UNAVAILABLE"))
NOT_FOUND, INVALID, NOT_ALLOWED = (
    grpc.StatusCode[name] for name in ("NOT_FOUND", "INVALID_ARGUMENT", "PERMISSION_DENIED")
)
CODES = {code.value[0]: code for code in grpc.StatusCode}

# The reasons of what cannot be answered.
NOT_HELD, UNREADABLE = "SUBSCRIPTION_NOT_HELD", "FIELD_INVALID"

# Who asks with the certificate of a caller.
CALLERS = "[[callers]]\nname = 'caller'\nrole = 'provisioning_server'\ncertificate_dns = 'caller.test'\n"

# As many as a batch may have.
QUESTIONS = 1000


@dataclass(frozen=True)
class Node:
    """A JavaScript client of one address: `tls` names the files of `authority`, `certificate` and `key`."""

    address: str
    tls: dict = field(default_factory=dict)

    def asks(self, *calls):
        """The outcome of each call, `(service, method, requests)` and for a stream how many messages are taken."""
        named = [dict(zip(("service", "method", "requests", "take"), call)) for call in calls]
        tls = {name: str(path) for name, path in self.tls.items()}
        written = json.dumps({"protos": str(PROTOS), "address": self.address, "tls": tls or None, "calls": named})
        done = subprocess.run(
            ["node", CLIENT],
            input=written,
            capture_output=True,
            text=True,
            timeout=NODE_WITHIN,
            env=os.environ | {"NODE_PATH": MODULES},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [Outcome(**outcome) for outcome in json.loads(done.stdout)]


@dataclass(frozen=True)
class Outcome:
    """The messages that came, as JavaScript has them, and how the call ended."""

    messages: list
    code: int
    message: str | None = None
    details: str | None = None

    def answered(self, ended=OK):
        assert CODES[self.code] == ended, self
        return self.messages

    def refused(self):
        """The code, and the ErrorInfo that came with it."""
        assert self.messages == []
        status = status_pb2.Status.FromString(base64.b64decode(self.details))
        assert (status.code, status.message) == (self.code, self.message)
        assert self.message
        info = error_details_pb2.ErrorInfo()
        assert [detail.Unpack(info) for detail in status.details].count(True) == 1
        assert info.domain == "esa-sidecar"
        return CODES[self.code], info.reason


@dataclass(frozen=True)
class Way:
    """One way to connect, and the facts that are held at its end, by public license ID."""

    node: Node
    facts: dict


def over_tls(authority):
    """The settings of a sidecar that speaks TLS, and who is believed by those who ask it."""
    return {"authority": authority} | authority.settings(), {"authority": authority.certificate}


def wanting_certificates(authority):
    """The same of one that wants a certificate, and what those who ask it believe and show."""
    settings, believed = over_tls(authority)
    shown = dict(zip(("certificate", "key"), authority.caller, strict=True))
    return settings | {"TLS__CLIENT_CA": str(authority.certificate)}, believed | shown


@pytest.fixture(scope="module", params=["TCP", "Unix socket", "TLS", "TLS and a certificate of the caller"])
def way(request, connect, authority, tmp_path_factory):
    """Every way to connect, to a sidecar with a subscription of every kind."""
    folder = tmp_path_factory.mktemp("n")
    held = one_of_each_kind(time.time_ns())
    put(folder / "facts.json", list(held.values()))
    settings, tls = {
        "TCP": ({}, {}),
        "Unix socket": ({"listen": f"unix:{folder}/s"}, {}),
        "TLS": over_tls(authority),
        "TLS and a certificate of the caller": wanting_certificates(authority),
    }[request.param]
    with connect(folder / "facts.json", folder / "data", **settings) as client:
        yield Way(Node(client.sidecar.enforcement, tls), held)


def all_asked(held):
    """Every question about every subscription, in the words of the contract."""
    return [(told, question) for told in held.values() for question in questions()]


def written(told, question):
    """An AuthorizeRequest; what is left out is not there."""
    operation, role, delivery = question
    asked = {"subscription_id": told["subscription_id"], "operation": f"OPERATION_{operation.upper()}"}
    if role is not None:
        asked["actor"] = {"role": f"ACTOR_ROLE_{role.upper()}"}
    if delivery is not None:
        asked["sms_delivery"] = f"SMS_DELIVERY_{delivery.upper()}"
    return asked


def moment(stamp):
    return None if stamp is None else int(stamp["seconds"]) * SECOND + stamp.get("nanos", 0)


def word(prefix, name):
    assert name.startswith(prefix)
    return name.removeprefix(prefix).lower()


def said(answer):
    """Access, state, reason and until of an AuthorizeResponse, in the words of the contract."""
    return (
        word("ACCESS_", answer["access"]),
        word("SUBSCRIPTION_STATE_", answer["state"]),
        word("REASON_", answer["reason"]),
        moment(answer.get("until")),
    )


def check(asked, answers):
    """Compares answers with the oracle."""
    assert len(answers) == len(asked)
    outlooks = {}
    for (told, (operation, role, delivery)), answer in zip(asked, answers, strict=True):
        outlook = outlooks.setdefault(told["subscription_id"], Outlook(told, time.time_ns()))
        expected = outlook.answer(operation, role or "user", delivery or "vendor_credits")
        assert said(answer) == (expected.access, expected.state, expected.reason, expected.until), (told, operation)


def test_questions_asked_alone_are_answered_by_the_table(way):
    # All calls are open at once; these are enough to tell the kinds of facts and the operations apart.
    asked = all_asked(way.facts)[::7]
    outcomes = way.node.asks(*((SERVICE, "Authorize", [written(*each)]) for each in asked))
    check(asked, [answer for outcome in outcomes for answer in outcome.answered()])


def test_batches_answer_every_question_in_order(way):
    asked = all_asked(way.facts)
    batches = [asked[start : start + QUESTIONS] for start in range(0, len(asked), QUESTIONS)]
    calls = [[{"questions": [written(*each) for each in batch]}] for batch in batches]
    outcomes = way.node.asks(*((SERVICE, "BatchAuthorize", requests) for requests in calls))
    results = [result for outcome in outcomes for result in outcome.answered()[0]["results"]]
    check(asked, [result["response"] for result in results])


def test_a_stream_answers_every_question_in_order_and_goes_on_after_an_error(way):
    # JavaScript sends all of them, as far as it may, before it reads an answer.
    asked = all_asked(way.facts)
    bad = {"subscription_id": "NOT-HEL-D00", "operation": "OPERATION_ENABLE_USERS"}
    requests = [{"question": question} for question in [bad, *(written(*each) for each in asked)]]
    (outcome,) = way.node.asks((SERVICE, "StreamAuthorize", requests))
    refused, *answered = outcome.answered()
    assert (CODES[refused["error"]["code"]], refused["error"]["reason"]) == (NOT_FOUND, NOT_HELD)
    check(asked, [message["response"] for message in answered])


def test_what_is_held_is_told_when_asked_and_as_the_first_message_of_a_watch(way):
    calls = []
    for public_id in way.facts:
        calls.append((SERVICE, "GetSubscription", [{"subscription_id": public_id}]))
        calls.append((SERVICE, "WatchSubscription", [{"subscription_id": public_id}], 1))
    outcomes = way.node.asks(*calls)
    assert len(outcomes) == 2 * len(way.facts)
    for told, got, watched in zip(way.facts.values(), outcomes[::2], outcomes[1::2], strict=True):
        for outcome, ended in [(got, OK), (watched, CANCELLED)]:
            (message,) = outcome.answered(ended)
            held = message["subscription"]
            outlook = Outlook(told, moment(held["evaluated_at"]))
            assert held["subscription_id"] == told["subscription_id"]
            assert word("SUBSCRIPTION_STATE_", held["state"]) == outlook.answer("enable_users").state
            conditions = [word("CONDITION_KIND_", condition["kind"]) for condition in held["conditions"]]
            assert conditions == list(names(outlook.conditions()))
            # Instants at which no more than the column of a condition turns may be told as well.
            assert {turn.at for turn in outlook.turns()} <= {moment(turn["at"]) for turn in held["timeline"]}
            for each in held["operations"]:
                user, administrator = (outlook.answer(word("OPERATION_", each["operation"]), role) for role in ROLES[:2])
                assert word("ACCESS_", each["access"]) == user.access
                assert moment(each["until"]) == user.until
                assert word("ACCESS_", each["administrator_access"]) == administrator.access
            assert len(held["operations"]) == len(OPERATIONS)
            assert int(held["usage"]["active_users"]) == told["users"]["active"]


def test_health_says_that_it_serves_and_that_it_does_not_know(way):
    known, unknown = way.node.asks(
        (HEALTH, "Check", [{"service": SERVICE}]), (HEALTH, "Check", [{"service": "no.such.Service"}])
    )
    assert known.answered() == [{"status": "SERVING"}]
    assert unknown.answered(NOT_FOUND) == []


def test_an_error_comes_with_its_code_and_its_details(way):
    public_id = next(iter(way.facts))
    nowhere, malformed, nothing, watched = way.node.asks(
        (SERVICE, "Authorize", [{"subscription_id": "NOT-HEL-D00", "operation": "OPERATION_ENABLE_USERS"}]),
        (SERVICE, "GetSubscription", [{"subscription_id": "3A8"}]),
        (SERVICE, "Authorize", [{"subscription_id": public_id}]),
        (SERVICE, "WatchSubscription", [{"subscription_id": "NOT-HEL-D00"}]),
    )
    assert nowhere.refused() == watched.refused() == (NOT_FOUND, NOT_HELD)
    assert malformed.refused() == nothing.refused() == (INVALID, UNREADABLE)


def test_a_caller_is_known_by_its_certificate_and_told_what_it_may_not(serve, authority, tmp_path):
    told = facts(time.time_ns())
    settings, tls = wanting_certificates(authority)
    config = tmp_path / "esa-sidecar.toml"
    config.write_text(CALLERS, encoding="ascii")
    with serve(told, config=config, **settings) as client:
        may, may_not = ("provision_users", None, None), ("enable_users", None, None)
        calls = [(SERVICE, "Authorize", [written(told, question)]) for question in (may, may_not)]
        answered, refused = Node(client.sidecar.enforcement, tls).asks(*calls)
        check([(told, may)], answered.answered())
        assert refused.refused() == (NOT_ALLOWED, "NOT_ENTITLED")
        believed = {"authority": authority.certificate}
        for name, stranger in [("no certificate", believed), ("no TLS", {})]:
            outcomes = Node(client.sidecar.enforcement, stranger).asks(*calls)
            assert [CODES[outcome.code] for outcome in outcomes] == [UNAVAILABLE] * 2, name
