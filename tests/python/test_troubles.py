"""What goes wrong around a sidecar, and must not go wrong in it: logs nobody reads, files that are no files, and stops
at the worst moment.

Each of these once broke it.
"""

import fcntl
import os
import signal
import subprocess
import threading
import time

import pytest

from examples import facts
from sidecar import START_WITHIN, STOP_WITHIN, binary, eventually, put
from wire import CALL_WITHIN

POLL = {"FILE__POLL_INTERVAL": "20ms"}


def credits(protocol, client):
    request = protocol.messages.GetSubscriptionRequest()
    return client.stub.GetSubscription(request, timeout=CALL_WITHIN).subscription.facts.sms_credits


def ask(protocol, client, operation="enable_users", role=None):
    return client.stub.Authorize(protocol.question(operation, role), timeout=CALL_WITHIN)


def batch_of_exceptions(protocol, client):
    questions = [protocol.question("disable_users", "administrator")] * 1000
    answer = client.stub.BatchAuthorize(protocol.messages.BatchAuthorizeRequest(questions=questions), timeout=CALL_WITHIN)
    assert all(result.response.access == 1 for result in answer.results)


@pytest.fixture
def deactivated():
    now = time.time_ns()
    return facts(now, activation={"state": "deactivated", "since": "2026-01-01T00:00:00Z"})


def test_a_log_whose_reader_is_gone_stops_nothing(protocol, serve, facts_file, deactivated):
    reading, writing = os.pipe()
    os.close(reading)
    with serve(deactivated, stderr=writing, **POLL) as client:
        batch_of_exceptions(protocol, client)
        put(facts_file, deactivated | {"sms_credits": 77})
        eventually(lambda: credits(protocol, client) == 77)
    os.close(writing)


def test_each_use_of_footnote_3_is_logged_whatever_the_level_and_the_form_of_the_question(
    protocol, serve, deactivated, tmp_path
):
    log = tmp_path / "told"
    with log.open("wb") as writing, serve(deactivated, stderr=writing, LOG__LEVEL="error") as client:
        ask(protocol, client, "disable_users", "administrator")
        batch_of_exceptions(protocol, client)
        ask(protocol, client, "disable_users", "user")
        eventually(lambda: log.read_text().count("by footnote 3") == 1001)
    assert log.read_text().count("by footnote 3") == 1001


def test_a_log_that_is_full_stops_nothing(protocol, serve, deactivated):
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with serve(deactivated, stderr=writing) as client:
        for _ in range(10):
            batch_of_exceptions(protocol, client)
        ask(protocol, client)
    os.close(reading)
    os.close(writing)


def test_a_named_pipe_in_the_place_of_the_facts_is_not_waited_for(protocol, serve, facts_file):
    told = facts(time.time_ns(), sms_credits=5)
    with serve(told, **POLL) as client:
        facts_file.unlink()
        os.mkfifo(facts_file)
        answer = client.stub.RefreshSubscription(protocol.messages.RefreshSubscriptionRequest(), timeout=CALL_WITHIN)
        assert answer.outcome == 3 and "not a regular file" in answer.detail
        put(facts_file, told | {"sms_credits": 6})
        eventually(lambda: credits(protocol, client) == 6)


def test_a_file_that_changes_all_the_time_is_read_all_the_same(protocol, serve, facts_file):
    told = facts(time.time_ns(), sms_credits=0)
    done = threading.Event()

    def edit():
        number = 0
        while not done.wait(0.01):
            number += 1
            put(facts_file, told | {"sms_credits": number})

    with serve(told, **POLL) as client:
        editing = threading.Thread(target=edit)
        editing.start()
        try:
            eventually(lambda: credits(protocol, client) > 0, within=2.0)
        finally:
            done.set()
            editing.join()


def test_an_answer_does_not_outlive_the_facts_it_may_be_given_from(protocol, serve):
    told = facts(time.time_ns())
    with serve(told, STALENESS__OPERATIONS__ENABLE_USERS="1h") as client:
        answer = ask(protocol, client)
        assert answer.until.ToNanoseconds() == answer.as_of.ToNanoseconds() + 3600 * 10**9 + 1
        assert ask(protocol, client, "authenticate_with_fido").until.ToNanoseconds() > answer.until.ToNanoseconds()
        request = protocol.messages.GetSubscriptionRequest()
        described = client.stub.GetSubscription(request, timeout=CALL_WITHIN).subscription.operations[0]
        assert described.until == answer.until


def test_what_is_refused_for_its_age_is_described_as_unanswered(protocol, serve, facts_file):
    settings = {"STALENESS__OPERATIONS__ENABLE_USERS": "300ms", "REFRESH__INTERVAL": "100ms", **POLL}
    with serve(facts(time.time_ns()), **settings) as client:
        watching = client.stub.WatchSubscription(protocol.messages.WatchSubscriptionRequest(), timeout=CALL_WITHIN)
        facts_file.unlink()
        for update in watching:
            access = {each.operation: each.access for each in update.subscription.operations}
            if access[1] == 0:
                break
        assert access == {1: 0} | {operation: 1 for operation in range(2, 13)}
        watching.cancel()


def test_the_same_file_name_in_another_folder_is_another_source(protocol, tmp_path):
    told = facts(time.time_ns())
    for name in ["one", "other"]:
        (tmp_path / name).mkdir()
    put(tmp_path / "one" / "facts.json", told)
    command = [binary(), "serve", "--facts", "facts.json", "--data-dir", str(tmp_path / "data")]
    command += ["--listen", "127.0.0.1:0", "--probe-listen", "127.0.0.1:0"]
    answers = []
    for folder in ["one", "other"]:
        with subprocess.Popen(command, cwd=tmp_path / folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            server = process.stdout.readline().split()[-1]
            asking = [binary(), "authorize", "enable_users", "--server", server]
            ready = [binary(), "healthcheck", "--server", process.stdout.readline().split()[-1]]
            if folder == "one":
                eventually(lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0)
            answers.append(subprocess.run(asking, capture_output=True, check=False).returncode)
            process.terminate()
            assert process.wait(STOP_WITHIN) == 0
    assert answers == [0, 2]


def test_a_stop_as_soon_as_an_address_is_told_is_a_clean_one(tmp_path):
    put(tmp_path / "facts.json", facts(time.time_ns()))
    for round_ in range(20):
        command = [binary(), "serve", "--facts", str(tmp_path / "facts.json"), "--data-dir", str(tmp_path / "data")]
        command += ["--listen", f"unix:{tmp_path}/s{round_}", "--probe-listen", "127.0.0.1:0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            assert process.wait(START_WITHIN) == 0
        assert not (tmp_path / f"s{round_}").exists(), "the socket is tidied up"


def test_a_sidecar_that_finds_its_socket_taken_leaves_it_to_the_other(protocol, serve, tmp_path, tmp_path_factory):
    socket = tmp_path_factory.mktemp("s") / "s"
    with serve(facts(time.time_ns()), listen=f"unix:{socket}") as client:
        command = [binary(), "demo", "--listen", f"unix:{socket}", "--probe-listen", "127.0.0.1:0"]
        second = subprocess.run(command, capture_output=True, text=True, timeout=STOP_WITHIN, check=False)
        assert second.returncode == 2 and "another program listens there" in second.stderr, second
        asking = [binary(), "authorize", "enable_users", "--server", f"unix:{socket}"]
        asked = subprocess.run(asking, capture_output=True, text=True, check=False)
        assert asked.returncode == 0, asked
        ask(protocol, client)


def test_a_bound_on_age_that_every_interval_would_break_is_refused(tmp_path):
    path = tmp_path / "sidecar.toml"
    path.write_text("refresh.interval = '1h'\nstaleness.unavailable_after = '4s'\nlisten.probes = '127.0.0.1:50051'\n")
    check = subprocess.run([binary(), "check-config", path], capture_output=True, text=True, check=False)
    assert check.returncode == 64 and len(check.stderr.splitlines()) == 2, check
    assert "4s is shorter than `refresh.interval`, 1h" in check.stderr


def test_a_configuration_from_a_pipe_is_read(tmp_path):
    check = subprocess.run(
        [binary(), "check-config", "/dev/stdin"], input="log.level = 'loud'\n", capture_output=True, text=True, check=False
    )
    assert check.returncode == 64 and "`loud` is not one of" in check.stderr


def test_environment_values_are_texts_whatever_they_look_like(tmp_path):
    path = tmp_path / "empty.toml"
    path.write_text("")
    environment = {"ESA_SIDECAR__DATA_DIR": "007", "ESA_SIDECAR__FILE__PATH": "1.50"}
    check = subprocess.run([binary(), "check-config", path], env=environment, capture_output=True, check=False)
    assert check.returncode == 0, check.stderr
    check = subprocess.run(
        [binary(), "check-config", path], env={"ESA_SIDECAR__": "x"}, capture_output=True, text=True, check=False
    )
    assert check.returncode == 64, check


def test_a_refused_edit_shows_in_what_is_held_until_it_is_mended(protocol, serve, facts_file):
    told = facts(time.time_ns())
    with serve(told, **POLL) as client:
        watching = client.stub.WatchSubscription(protocol.messages.WatchSubscriptionRequest(), timeout=CALL_WITHIN)
        failures = (update.subscription.provenance.last_failure for update in watching)
        assert next(failures) == ""
        put(facts_file, told | {"sms_credits": -1})
        assert "`sms_credits`: invalid type: integer `-1`" in next(failures)
        put(facts_file, told)
        assert next(failures) == ""
        watching.cancel()
