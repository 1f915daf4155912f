"""The page of metrics, read by others: the parsers of the Python client, `promtool`, and a Prometheus that scrapes it.

What has to be on it is counted here by what clients saw, never by the page.
"""

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from attacks import ACK, PREFACE, SETTINGS, frame
from conftest import channel_to
from examples import OPERATIONS, facts
from page import WANTED, fetch, opened, read, value
from sidecar import START_WITHIN, Running, eventually, put
from wire import CALL_WITHIN, SERVICE, word


def calls(address, method, code, service=SERVICE):
    return value(address, "calls_total", listener="enforcement", service=service, method=method, code=code)


def decisions(values):
    """How often each operation was answered how, by the page."""
    found = {}
    for (name, *labels), times in values.items():
        if name == "esa_sidecar_decisions_total":
            labels = dict(labels)
            found[labels["operation"], labels["access"], labels["reason"]] = times
    return found


def answered(protocol, question, answer):
    return (
        word(protocol.messages.Operation, question.operation),
        word(protocol.messages.Access, answer.access),
        word(protocol.messages.Reason, answer.reason),
    )


def test_each_answer_is_counted_once_however_it_was_asked_for(protocol, everything):
    client = everything.client
    before = Counter(decisions(read(client.sidecar.probes)[1]))
    questions = [
        protocol.question(operation, role, subscription=told["subscription_id"])
        for told in everything.facts.values()
        for operation in OPERATIONS
        for role in ("user", "administrator")
    ]
    seen = Counter()
    for question in questions:
        seen[answered(protocol, question, client.stub.Authorize(question, timeout=CALL_WITHIN))] += 1
    # Many of a batch share an answer, and uses of footnote 3 among them do not.
    for batch in (questions[:60] * 5, questions[-60:] * 3):
        request = protocol.messages.BatchAuthorizeRequest(questions=batch)
        answer = client.stub.BatchAuthorize(request, timeout=CALL_WITHIN)
        for question, result in zip(batch, answer.results, strict=True):
            seen[answered(protocol, question, result.response)] += 1
    streamed = (protocol.messages.StreamAuthorizeRequest(question=question) for question in questions[:100])
    answers = client.stub.StreamAuthorize(streamed, timeout=CALL_WITHIN)
    for question, answer in zip(questions[:100], answers, strict=True):
        seen[answered(protocol, question, answer.response)] += 1
    assert {reason for _, _, reason in seen} >= {"allowed", "administrator_exception", "sms_credits_depleted", "not_activated"}
    for wanted in WANTED:
        assert Counter(decisions(read(client.sidecar.probes, wanted)[1])) - before == seen


def test_a_batch_that_is_refused_as_a_whole_decides_nothing(protocol, serve):
    with serve(facts(time.time_ns())) as client:
        # Two questions that read, and one whose ID is no text.
        batch = b"\x0a\x02\x10\x01" * 2 + b"\x0a\x03\x0a\x01\xff"
        call = client.channel.unary_unary(f"/{SERVICE}/BatchAuthorize")
        with pytest.raises(grpc.RpcError):
            call(batch, timeout=CALL_WITHIN)
        assert decisions(read(client.sidecar.probes)[1]) == {}
        assert calls(client.sidecar.probes, "BatchAuthorize", "INVALID_ARGUMENT") == 1
        empty = iter([protocol.messages.StreamAuthorizeRequest()])
        assert [answer.error.reason for answer in client.stub.StreamAuthorize(empty, timeout=CALL_WITHIN)] == ["FIELD_INVALID"]
        assert value(client.sidecar.probes, "questions_refused_total", reason="FIELD_INVALID") == 1


def test_footnote_3_is_logged_for_each_use_and_for_none_in_a_batch_that_is_refused(protocol, serve):
    with serve(facts(time.time_ns(), activation={"state": "deactivated", "since": "2020-01-01T00:00:00Z"})) as client:
        question = protocol.question("disable_users", "administrator")
        question.actor.id = "root"
        batch = protocol.messages.BatchAuthorizeRequest(questions=[question] * 3)
        # What does not read comes last, when all others are decided.
        with pytest.raises(grpc.RpcError, match=r"questions\[3\]"):
            client.channel.unary_unary(f"/{SERVICE}/BatchAuthorize")(batch.SerializeToString() + b"\x0a\x01\x10")
        assert "footnote 3" not in client.sidecar.log()
        assert [result.response.access for result in client.stub.BatchAuthorize(batch, timeout=CALL_WITHIN).results] == [1] * 3
        eventually(lambda: client.sidecar.log().count("footnote 3") == 3)
        # Its caller is named by the table, not by itself.
        assert client.sidecar.log().count('caller="anybody"') == 3
        assert client.sidecar.log().count('actor_id="root"') == 3


def test_a_page_longer_than_what_is_held_for_one_caller_is_read_and_many_at_once_keep_nobody_waiting(connect, tmp_path):
    many = [facts(time.time_ns(), subscription_id=f"AAA-AAA-{number:03}") for number in range(900)]
    put(tmp_path / "facts.json", many)
    with connect(tmp_path / "facts.json", tmp_path / "data", LIMITS__HELD_BYTES="1048576") as client:
        address = client.sidecar.probes
        text, values = read(address)
        assert len(text) > 1048576 and values["esa_sidecar_subscriptions", ("state", "ok")] == 900

        def ask(_):
            try:
                return len(opened(f"http://{address}/metrics").read())
            except urllib.error.HTTPError as error:
                return error.code

        with ThreadPoolExecutor(40) as askers:
            asked = askers.map(ask, range(40))
            waits = []
            for _ in range(5):
                began = time.monotonic()
                assert opened(f"http://{address}/readyz").status == 200
                waits.append(time.monotonic() - began)
            told = list(asked)
        assert set(told) & {503} and [length for length in told if length > 1048576]
        print(f"ready within {max(waits) * 1000:.1f} ms beside {len(told)} pages")
        assert value(address, "calls_open", listener="probes", room="pages") == 1


def test_a_call_is_counted_by_how_it_ended_and_timed(protocol, serve):
    with serve(facts(time.time_ns())) as client:
        address, stub = client.sidecar.probes, client.stub
        for _ in range(7):
            stub.Authorize(protocol.question("enable_users"), timeout=CALL_WITHIN)
        with pytest.raises(grpc.RpcError):
            stub.Authorize(protocol.messages.AuthorizeRequest(operation=99), timeout=CALL_WITHIN)
        request = protocol.messages.GetSubscriptionRequest(subscription_id="AAA-AAA-AAA")
        with pytest.raises(grpc.RpcError):
            stub.GetSubscription(request, timeout=CALL_WITHIN)
        watch = stub.WatchSubscription(protocol.messages.WatchSubscriptionRequest(), timeout=CALL_WITHIN)
        next(watch)
        assert value(address, "watches_open") == 1
        assert value(address, "calls_open", listener="enforcement", room="streams") == 1
        watch.cancel()
        for name in ("One", "Another"):
            made_up = client.channel.unary_unary(f"/made.up/{name}")
            with pytest.raises(grpc.RpcError):
                made_up(b"", timeout=CALL_WITHIN)
        eventually(lambda: calls(address, "WatchSubscription", "CANCELLED") == 1)
        assert (calls(address, "Authorize", "OK"), calls(address, "Authorize", "INVALID_ARGUMENT")) == (7, 1)
        assert calls(address, "GetSubscription", "NOT_FOUND") == 1
        assert calls(address, "unknown", "UNIMPLEMENTED", service="unknown") == 2
        assert value(address, "questions_refused_total", reason="FIELD_INVALID") == 1
        labels = {"listener": "enforcement", "service": SERVICE, "method": "Authorize"}
        assert value(address, "call_duration_seconds_count", **labels) == 8
        took = value(address, "call_duration_seconds_sum", **labels)
        assert 0 < took < 8 * CALL_WITHIN
        assert value(address, "call_duration_seconds_bucket", **labels, le="+Inf") == 8


def test_what_is_said_of_a_subscription_is_what_callers_are_told(protocol, everything):
    address = everything.client.sidecar.probes
    _, values = read(address)
    started, now = values["process_start_time_seconds",], time.time()
    for told in everything.facts.values():
        identity = told["subscription_id"]
        request = protocol.messages.GetSubscriptionRequest(subscription_id=identity)
        subscription = everything.client.stub.GetSubscription(request, timeout=CALL_WITHIN).subscription
        of_it = {
            (name.removeprefix("esa_sidecar_"), *(text for label, text in labels if label != "subscription_id")): held
            for (name, *labels), held in values.items()
            if ("subscription_id", identity) in labels
        }
        held = {name[1]: held for name, held in of_it.items() if name[0] == "subscription_state"}
        assert len(held) == 7 and sum(held.values()) == 1
        assert held[word(protocol.held.SubscriptionState, subscription.state)] == 1
        conditions = {name[1] for name, held in of_it.items() if name[0] == "subscription_condition" and held == 1}
        kinds = {word(protocol.held.ConditionKind, condition.kind) for condition in subscription.conditions}
        assert conditions == kinds
        turns = [(name[1], held) for name, held in of_it.items() if name[0] == "subscription_turn_timestamp_seconds"]
        expected = [(word(protocol.held.SubscriptionState, turn.state), turn.at.ToNanoseconds()) for turn in subscription.timeline]
        assert [state for state, _ in turns] == [state for state, _ in expected[:1]]
        assert all(abs(at * 1e9 - wanted) < 1e6 for (_, at), (_, wanted) in zip(turns, expected))
        assert of_it["users_active",] == told["users"]["active"]
        assert of_it.get(("sms_credits",)) == told.get("sms_credits")
        # No older than the sidecar, which was started for these tests.
        assert 0 <= of_it["facts_age_seconds",] <= now - started
        assert of_it["facts_revision",] == subscription.provenance.revision and of_it["facts_stale",] == 0
    of_state = {labels[0][1]: held for (name, *labels), held in values.items() if name == "esa_sidecar_subscriptions"}
    assert sum(of_state.values()) == len(everything.facts)


def test_subscriptions_beyond_the_limit_are_counted_and_have_no_rows(everything, connect, tmp_path):
    held = list(everything.facts.values())
    (tmp_path / "facts.json").write_text(json.dumps(held), encoding="utf-8")
    with connect(tmp_path / "facts.json", tmp_path / "data", LIMITS__METRICS_SUBSCRIPTIONS="2") as client:
        values = read(client.sidecar.probes)[1]
    rows = {dict(labels)["subscription_id"] for name, *labels in values if name == "esa_sidecar_facts_stale"}
    assert rows == set(sorted(told["subscription_id"] for told in held)[:2])
    assert sum(held for (name, *_), held in values.items() if name == "esa_sidecar_subscriptions") == len(held)


def test_facts_that_are_not_told_again_go_stale_on_the_page(protocol, serve, facts_file):
    with serve(facts(time.time_ns()), STALENESS__STALE_AFTER="1ms", REFRESH__INTERVAL="1h") as client:
        address = client.sidecar.probes
        eventually(lambda: value(address, "facts_stale", subscription_id="3A8-WN7-7TD") == 1)
        assert value(address, "in_sync") == 0 and value(address, "ready") == 1
        client.stub.Authorize(protocol.question("enable_users"), timeout=CALL_WITHIN)
        assert value(address, "decisions_stale_total") == 1
        facts_file.write_text("{", encoding="utf-8")
        eventually(lambda: value(address, "refresh_failing") == 1)
        assert value(address, "refreshes_total", outcome="failed") >= 1
        assert value(address, "refreshes_total", outcome="updated") == 1


CALLERS = """
[[callers]]
name = 'desk "A"'
role = 'authentication_server'
loopback = true
vouches_for_administrators = false
operations = ['enable_users', 'disable_users']
questions_per_second = 1
burst = 3
"""


def test_who_asks_what_it_may_not_or_too_much_is_told_by_name(protocol, serve, tmp_path):
    config = tmp_path / "callers.toml"
    config.write_text(CALLERS, encoding="utf-8")
    with serve(facts(time.time_ns()), config=config, LISTEN__METRICS="all") as client:
        address, name = client.sidecar.probes, 'desk "A"'
        client.stub.Authorize(protocol.question("disable_users", "administrator"), timeout=CALL_WITHIN)
        codes = []
        for operation in ("self_enroll", "enable_users", "enable_users"):
            try:
                client.stub.Authorize(protocol.question(operation), timeout=CALL_WITHIN)
            except grpc.RpcError as error:
                codes.append(error.code().name)
        assert codes == ["PERMISSION_DENIED", "RESOURCE_EXHAUSTED"]
        assert value(address, "caller_refusals_total", caller=name, reason="NOT_ENTITLED") == 1
        assert value(address, "caller_refusals_total", caller=name, reason="OVER_QUOTA") == 1
        assert value(address, "questions_refused_total", reason="OVER_QUOTA") == 1
        assert value(address, "roles_not_vouched_total") == 1


# A caller that is told of one subscription alone.
SCOPED = """
[[callers]]
name = 'scoped'
role = 'authentication_server'
loopback = true
subscriptions = ['AAA-AAA-AA1']
"""


@pytest.mark.parametrize("told", ("", "totals", "none", "all"))
def test_a_page_that_any_program_reads_does_not_say_what_callers_are_kept_from(protocol, connect, tmp_path, told):
    held = [{**facts(time.time_ns()), "subscription_id": held} for held in ("AAA-AAA-AA1", "BBB-BBB-BB2")]
    put(tmp_path / "facts.json", held)
    (tmp_path / "callers.toml").write_text(SCOPED, encoding="utf-8")
    settings = {"config": tmp_path / "callers.toml", **({"LISTEN__METRICS": told} if told else {})}
    with connect(tmp_path / "facts.json", tmp_path / "data", **settings) as client:
        with pytest.raises(grpc.RpcError, match="PERMISSION_DENIED"):
            client.stub.GetSubscription(protocol.messages.GetSubscriptionRequest(subscription_id="BBB-BBB-BB2"), timeout=CALL_WITHIN)
        for path in ("/livez", "/readyz"):
            assert fetch(client.sidecar.probes, path) == (200, "ok\n")
        status, page = fetch(client.sidecar.probes, "/metrics")
        names = [name for name in ("AAA-AAA-AA1", "BBB-BBB-BB2", "scoped") if name in page]
        assert bool(names) == (told == "all"), names
        assert (status == 403) == (told == "none")
        if told != "none":
            assert value(client.sidecar.probes, "subscriptions", state="ok") == 2
            refused = {"caller": "scoped"} if told == "all" else {}
            assert value(client.sidecar.probes, "caller_refusals_total", **refused, reason="NOT_ENTITLED") == 1


def test_the_format_that_is_wanted_most_is_written(everything):
    for wanted, kind in (
        ("text/plain, application/openmetrics-text;q=0", "text/plain"),
        ("text/plain;q=0.9, application/openmetrics-text;q=0.1", "text/plain"),
        ("text/plain;q=0.1, application/openmetrics-text;q=0.9", "application/openmetrics-text"),
    ):
        request = urllib.request.Request(f"http://{everything.client.sidecar.probes}/metrics", headers={"Accept": wanted})
        with opened(request) as answer:
            assert answer.headers["content-type"].split(";")[0] == kind, wanted


def test_beyond_this_machine_health_is_told_and_metrics_only_if_the_operator_says_so(serve):
    for told, status in (("", 403), ("totals", 200), ("all", 200)):
        settings = {"LISTEN__METRICS": told} if told else {}
        with serve(facts(time.time_ns()), probes="0.0.0.0:0", **settings) as client:
            address = client.sidecar.probes.replace("0.0.0.0", "127.0.0.1")
            assert [fetch(address, path) for path in ("/livez", "/readyz")] == [(200, "ok\n")] * 2
            assert fetch(address, "/metrics")[0] == status
            assert ("3A8-WN7-7TD" in fetch(address, "/metrics")[1]) == (told == "all")


def test_each_question_that_a_caller_may_not_ask_counts_however_it_was_asked(protocol, serve, tmp_path):
    config = tmp_path / "callers.toml"
    narrow = "subscriptions = ['AAA-AAA-AA1']\noperations = ['enable_users']"
    config.write_text(f"[[callers]]\nname = 'desk'\nrole = 'authentication_server'\nloopback = true\n{narrow}\n", encoding="utf-8")
    with serve(facts(time.time_ns()), config=config, LISTEN__METRICS="all") as client:

        def refused():
            address, name = client.sidecar.probes, "desk"
            by_caller = value(address, "caller_refusals_total", caller=name, reason="NOT_ENTITLED")
            assert by_caller == value(address, "questions_refused_total", reason="NOT_ENTITLED")
            return by_caller

        # What is held is another's, and no operation but this.
        for operation in ("enable_users", "self_enroll"):
            with pytest.raises(grpc.RpcError, match="PERMISSION_DENIED"):
                client.stub.Authorize(protocol.question(operation), timeout=CALL_WITHIN)
        assert refused() == 2
        questions = [protocol.question("self_enroll", "user") for _ in range(50)]
        for number, question in enumerate(questions):
            question.actor.id = f"user {number}"
        client.stub.BatchAuthorize(protocol.messages.BatchAuthorizeRequest(questions=questions), timeout=CALL_WITHIN)
        assert refused() == 52


def test_connections_are_counted_and_those_that_are_turned_away_as_well(serve):
    with serve(facts(time.time_ns()), LIMITS__CONNECTIONS_PER_PEER="2") as client:
        address = client.sidecar.probes
        host, port = client.sidecar.enforcement.rsplit(":", 1)

        def lost(reason):
            return value(address, "connections_lost_total", listener="enforcement", reason=reason)

        taken = value(address, "connections_total", listener="enforcement")
        silent = [socket.create_connection((host, int(port))) for _ in range(2)]
        # Where it is full the one that has been silent for longest makes room.
        eventually(lambda: lost("silent") == 1)
        assert lost("peer_full") == 0
        silent[1].sendall(PREFACE + frame(SETTINGS, 0, 0))
        # It says what it speaks, and that has been read when it is acknowledged; it asks nothing.
        told = b""
        while frame(SETTINGS, ACK, 0) not in told:
            told += silent[1].recv(64)
        opened = silent + [socket.create_connection((host, int(port)))]
        try:
            eventually(lambda: lost("idle") == 1)
            assert lost("peer_full") == 0
            assert value(address, "connections_total", listener="enforcement") == taken + 3
            assert value(address, "connections_open", listener="enforcement") == 2
        finally:
            for connection in opened:
                connection.close()
        eventually(lambda: value(address, "connections_open", listener="enforcement") == 1)


def test_who_looks_at_a_port_of_tls_is_told_apart_from_who_does_not_agree(authority, connect, tmp_path):
    put(tmp_path / "facts.json", facts(time.time_ns()))
    with connect(tmp_path / "facts.json", tmp_path / "data", authority=authority, **authority.settings()) as client:

        def lost(reason):
            return value(client.sidecar.probes, "connections_lost_total", listener="enforcement", reason=reason)

        host, port = client.sidecar.enforcement.rsplit(":", 1)
        for _ in range(3):
            socket.create_connection((host, int(port))).close()
        eventually(lambda: lost("gone") == 3)
        assert lost("tls") == 0
        # One that does not believe this authority says so, and goes.
        with pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(
                socket.create_connection((host, int(port))), server_hostname="localhost"
            )
        eventually(lambda: lost("tls") == 1)
        assert lost("gone") == 3


def test_it_is_told_when_certificates_and_revocation_lists_run_out_and_when_they_are_renewed(authority, connect, tmp_path):
    put(tmp_path / "facts.json", facts(time.time_ns()))
    certificate, key = authority.issue("expiring", "DNS:localhost", "IP:127.0.0.1")
    files = {"TLS__CERTIFICATE": certificate, "TLS__KEY": key, "TLS__CLIENT_CA": authority.certificate}
    files |= {"TLS__REVOCATIONS": authority.revocations("expiring")}
    settings = {name: str(path) for name, path in files.items()} | {"TLS__RELOAD_INTERVAL": "20ms"}
    # It asks callers for certificates, and this one only looks.
    with connect(tmp_path / "facts.json", tmp_path / "data", ready=False, **settings) as client:

        def told(file):
            return value(client.sidecar.probes, "tls_expiry_timestamp_seconds", listener="enforcement", file=file)

        assert told("certificate") == authority.end_of(certificate)
        assert told("client_ca") == authority.end_of(authority.certificate)
        assert told("revocations") == authority.end_of(files["TLS__REVOCATIONS"])
        before = told("certificate")
        assert authority.issue("expiring", "DNS:localhost", "IP:127.0.0.1", days=9) == (certificate, key)
        eventually(lambda: told("certificate") == authority.end_of(certificate))
        assert told("certificate") - before > 6 * 86400
        assert value(client.sidecar.probes, "tls_expiry_timestamp_seconds", listener="probes", file="certificate") is None


def test_a_licensing_backend_by_itself_shows_its_own_calls_and_none_of_a_sidecar(tmp_path):
    arguments = ["licensing", "--licensing-listen", "127.0.0.1:0", "--probe-listen", "127.0.0.1:0", "--data-dir", tmp_path]
    with Running(arguments, ["licensing", "probes"], tmp_path / "data") as backend, channel_to(backend.licensing) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        check(health_pb2.HealthCheckRequest(), timeout=CALL_WITHIN)
        values = read(backend.probes)[1]
    labels = {"listener": "licensing", "service": "grpc.health.v1.Health", "method": "Check", "code": "OK"}
    assert values["esa_sidecar_calls_total", *sorted(labels.items())] == 1
    assert not [name for name, *_ in values if "decisions" in name or "subscription" in name]


def tool(name):
    """A program of Prometheus, as `tests/run` unpacks it, or of this machine."""
    unpacked = Path(os.environ.get("ESA_SIDECAR_PROMETHEUS") or Path(__file__).parents[2] / "target/tools/prometheus")
    found = unpacked / "usr/bin" / name
    path = str(found) if found.is_file() else shutil.which(name)
    assert path, f"no {name}: see tests/run"
    return path


def test_promtool_finds_nothing_to_say_about_the_page(everything):
    text, _ = read(everything.client.sidecar.probes, "*/*")
    command = [tool("promtool"), "check", "metrics"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=START_WITHIN, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


NAME = re.compile(r"\besa_sidecar_[a-z_]+")
DEPLOY = Path(__file__).parents[2] / "deploy"


def test_alerts_read_and_are_about_what_is_on_the_page(everything):
    rules = DEPLOY / "alerts.yml"
    command = [tool("promtool"), "check", "rules", "--lint=all", rules]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_WITHIN, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    text, _ = read(everything.client.sidecar.probes, "*/*")
    shown = set(re.findall(r"# TYPE (\S+)", text))
    expressions = [line for line in rules.read_text(encoding="utf-8").splitlines() if " expr: " in line]
    named = set(NAME.findall("\n".join(expressions)))
    assert len(named) >= 10 and named <= shown, named - shown


def test_each_alert_fires_when_what_it_is_about_has_lasted_and_not_before():
    cases = Path(__file__).parents[1] / "alerts.yml"
    done = subprocess.run(
        [tool("promtool"), "test", "rules", cases], capture_output=True, text=True, timeout=START_WITHIN, check=False
    )
    assert done.returncode == 0, done.stderr
    rules, tried = (DEPLOY / "alerts.yml").read_text(encoding="utf-8"), cases.read_text(encoding="utf-8")
    # Some are tried together, as `EsaSidecar(One|Other)`.
    named = {
        name + part
        for name, parts in re.findall(r"(Esa\w+)(?:\(([\w|]+)\))?", tried)
        for part in (parts.split("|") if parts else [""])
    }
    assert set(re.findall(r"alert: (\w+)", rules)) <= named


CONFIG = """
rule_files: ["{rules}"]
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
scrape_configs: [{{job_name: esa-sidecar, static_configs: [{{targets: ["{target}"]}}]}}]
"""


def test_a_prometheus_scrapes_it_and_answers_what_an_alert_asks(everything, tmp_path):
    (tmp_path / "prometheus.yml").write_text(CONFIG.format(target=everything.client.sidecar.probes, rules=DEPLOY / "alerts.yml"), encoding="utf-8")
    address = "127.0.0.1:0"
    log = (tmp_path / "log").open("w+", encoding="utf-8")
    command = [tool("prometheus"), f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    command += [f"--web.listen-address={address}", "--log.format=json"]
    prometheus = subprocess.Popen(command, stdout=log, stderr=log)
    try:

        def said(field):
            for line in (tmp_path / "log").read_text(encoding="utf-8").splitlines():
                if line.endswith("}") and field in (told := json.loads(line)) and told.get("msg") == "Listening on":
                    return told[field]
            return None

        listening = eventually(lambda: said("address"), START_WITHIN)

        def is_ready():
            try:
                return opened(f"http://{listening}/-/ready").status == 200
            except urllib.error.HTTPError:
                return False

        def ask(query):
            with opened(f"http://{listening}/api/v1/query?query={urllib.parse.quote(query)}") as answer:
                return json.load(answer)["data"]["result"]

        eventually(is_ready, START_WITHIN)

        eventually(lambda: ask("up == 1"), START_WITHIN)
        in_violation = 'esa_sidecar_subscription_state{state=~"violation.*"} == 1'
        asked = {row["metric"]["subscription_id"] for row in eventually(lambda: ask(in_violation), START_WITHIN)}
        told = everything.facts.values()
        assert asked and asked < {each["subscription_id"] for each in told}
        assert ask("esa_sidecar_facts_age_seconds > 86400") == []
        firing = 'ALERTS{alertname="EsaSubscriptionInViolation", alertstate="firing"}'
        alerted = {row["metric"]["subscription_id"] for row in eventually(lambda: ask(firing), START_WITHIN)}
        assert asked < alerted and not ask('ALERTS{alertname=~"EsaSidecar.*"}')
    finally:
        prometheus.terminate()
        prometheus.wait(START_WITHIN)
        log.close()
