"""What the other end says reaches terminal and log as plain characters, on lines of our own: a program that took the port
answers whatever it likes, and a sidecar passes on what its backend said.
"""

import json
import re
import subprocess
import unicodedata
from concurrent import futures
from contextlib import contextmanager

import grpc
import pytest

from person import Person
from sidecar import Running, binary, eventually

HOSTILE = "a\x1b]0;owned\x07\x1b[2J\x1b[31m\r\nFORGED\x9b1m\x7f\u2028FORGED\u2029\u202e\u200b\U000e0041\xa0z"
SERVICE = "esa.enforcement.v1.EnforcementService"
LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z  ?(ERROR|WARN|INFO|DEBUG)  ?\S.*")
COLOR = re.compile(r"\x1b\[[0-9;]*m")


class Anybody(grpc.GenericRpcHandler):
    """Answers `answers[call]`, and refuses all other calls with a text of its own."""

    def __init__(self, answers):
        self._answers = answers

    def service(self, details):
        name = details.method.rpartition("/")[2]

        def call(_, context):
            if (answer := self._answers.get(name)) is not None:
                return answer
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, HOSTILE * 40)

        return grpc.unary_unary_rpc_method_handler(call)


@contextmanager
def anybody(**answers):
    """Somebody listens on a port: `with anybody(Call=bytes) as address`."""
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[Anybody(answers)], options=[("grpc.so_reuseport", 0)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def is_plain(text):
    return all(character == " " or unicodedata.category(character)[0] not in "CZ" for character in text)


def check(printed):
    """Nothing but plain characters, lines and colors of our own, and no line of the other end's making."""
    for line in printed.split("\n"):
        bare = COLOR.sub("", line)
        assert is_plain(bare), line
        assert not bare.lstrip().startswith("FORGED"), line
        assert len(bare) < 9000


def test_what_whoever_took_the_sidecars_port_says_is_shown_escaped(protocol, tmp_path):
    held = protocol.held
    condition = held.Condition(kind=held.CONDITION_KIND_DISABLED_BY_LICENSING, licensing_reason=HOSTILE)
    described = protocol.messages.Subscription(subscription_id=HOSTILE, conditions=[condition])
    described.provenance.last_failure = HOSTILE
    described.facts.subscription_id = HOSTILE
    answer = protocol.messages.GetSubscriptionResponse(subscription=described).SerializeToString()
    with anybody(GetSubscription=answer) as address:
        person = Person(tmp_path / "home", address, server=address)
        person.environment["CLICOLOR_FORCE"] = "1"
        for command in (
            ["status"],
            ["status", "--watch"],
            ["authorize", "enable_users"],
            ["report-usage", "--active-users", "1"],
            ["healthcheck", "--server", address],
        ):
            ran = person.types(*command)
            assert "owned" in ran.out + ran.err, (command, ran)
            check(ran.out)
            check(ran.err)
        ran = person.types("status", "--json")
        check(ran.out)
        assert ran.json["provenance"]["last_failure"] == HOSTILE
        ran = person.types("activate", "--license-key-file", person.file("key", "some key"), "--data-dir", tmp_path / "a")
        assert "owned" in ran.err and ran.status == 2, ran
        check(ran.err)


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_a_backend_says_is_on_one_line_of_the_log(form, tmp_path):
    data = tmp_path / "data"
    pinned = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    subprocess.run([binary(), "keys", "pin", pinned, "--data-dir", data], check=True, capture_output=True)
    with anybody() as address:
        arguments = ["serve", "--listen", "127.0.0.1:0", "--probe-listen", "127.0.0.1:0", "--data-dir", data]
        settings = {"LICENSING__URLS": address, "LICENSING__SUBSCRIPTION": "3A8-WN7-7TD"}
        settings |= {"LOG__FORMAT": form, "LOG__LEVEL": "debug"}
        with Running(arguments, ["enforcement", "probes"], data, **settings) as sidecar:
            eventually(lambda: "owned" in sidecar.log(), within=10)
        log = (tmp_path / "data.log").read_text(encoding="utf-8")
    check(log)
    for line in log.splitlines():
        if form == "text":
            assert LOG_LINE.fullmatch(line), line
        else:
            assert json.loads(line)["level"]
