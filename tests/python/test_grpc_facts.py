"""Facts that come, change, turn with time, are used up and go, seen by a stock gRPC client.

Each test has a sidecar of its own, and what it waits for has a deadline. Which answer is right is left to the oracle.
"""

import time

import grpc
import pytest
from grpc_health.v1 import health_pb2

from examples import HOUR, OPERATIONS, facts
from oracle import DAY, FOOTNOTE_3, ROLES, SECOND, Outlook
from sidecar import eventually, put
from wire import CALL_WITHIN, Stream, moment, refusal, word

# A watcher has to hear of a change within a second.
HEARD_WITHIN = 1.0
NEVER = {"FILE__POLL_INTERVAL": "1h"}


def ask(protocol, client, operation, role=None, delivery=None, subscription=""):
    question = protocol.question(operation, role, delivery, subscription)
    return client.stub.Authorize(question, timeout=CALL_WITHIN)


def check(protocol, client, told):
    """Holds one answer for each operation against the oracle, and returns the revision they all carry."""
    answers = [ask(protocol, client, operation) for operation in OPERATIONS]
    outlook = Outlook(told, time.time_ns())
    for operation, answer in zip(OPERATIONS, answers, strict=True):
        expected = outlook.answer(operation)
        assert protocol.told(answer) == (expected.access, expected.state, expected.reason, expected.until), operation
    (revision,) = {answer.revision for answer in answers}
    return revision


def get(protocol, client, subscription=""):
    request = protocol.messages.GetSubscriptionRequest(subscription_id=subscription)
    return client.stub.GetSubscription(request, timeout=CALL_WITHIN).subscription


def watch(protocol, client, subscription=""):
    request = protocol.messages.WatchSubscriptionRequest(subscription_id=subscription)
    return Stream(client.stub.WatchSubscription(request))


def refresh(protocol, client):
    return client.stub.RefreshSubscription(protocol.messages.RefreshSubscriptionRequest(), timeout=CALL_WITHIN)


def state(protocol, update):
    return word(protocol.held.SubscriptionState, update.subscription.state)


def origin(protocol, client):
    return word(protocol.held.Origin, get(protocol, client).provenance.origin)


def without_facts_unavailable(protocol, client, subscription):
    stub, messages = client.stub, protocol.messages
    yield stub.GetSubscription, messages.GetSubscriptionRequest(subscription_id=subscription)
    for operation in OPERATIONS:
        for role in [None, *ROLES]:
            if role != "administrator" or operation not in FOOTNOTE_3:
                yield stub.Authorize, protocol.question(operation, role, subscription=subscription)


@pytest.mark.parametrize("subscription", ["", "3A8-WN7-7TD"], ids=["unnamed", "named"])
def test_without_facts_nothing_is_answered_but_the_administrators_exception(protocol, serve, subscription):
    with serve() as client:
        assert not client.serves()
        for call, request in without_facts_unavailable(protocol, client, subscription):
            code, info = refusal(call, request)
            assert (code, info.domain) == (grpc.StatusCode.UNAVAILABLE, "esa-sidecar"), request
            assert info.reason
        for operation in FOOTNOTE_3:
            answer = ask(protocol, client, operation, "administrator", subscription=subscription)
            assert protocol.told(answer) == ("allowed", "unspecified", "administrator_exception", None)
            assert answer.revision == 0 and not answer.HasField("as_of") and answer.stale


def test_without_facts_a_question_that_cannot_be_read_is_still_invalid(protocol, serve):
    with serve() as client:
        for operation in (0, 99):
            code, _ = refusal(client.stub.Authorize, protocol.question(operation))
            assert code == grpc.StatusCode.INVALID_ARGUMENT


def test_facts_that_appear_later_turn_everything_right(protocol, serve, facts_file):
    told = facts(time.time_ns(), expires=-40 * DAY)
    with serve() as client:
        assert not client.serves()
        put(facts_file, told)
        eventually(client.serves)
        assert check(protocol, client, told) > 0
        assert origin(protocol, client) == "file"


def test_facts_that_cannot_be_read_at_start_are_as_good_as_none_until_they_can(protocol, serve, facts_file):
    told = facts(time.time_ns())
    put(facts_file, "{")
    with serve() as client:
        assert refusal(client.stub.Authorize, protocol.question("enable_users"))[0] == grpc.StatusCode.UNAVAILABLE
        put(facts_file, told)
        eventually(client.serves)
        check(protocol, client, told)


def test_a_watcher_hears_of_an_edit_within_a_second_and_answers_follow_it(protocol, serve, facts_file):
    now = time.time_ns()
    with serve(facts(now)) as client, watch(protocol, client) as updates:
        first = updates.next()
        assert state(protocol, first) == "ok"
        depleted = facts(now, sms_credits=0)
        put(facts_file, depleted)
        heard, _ = updates.find(lambda update: state(protocol, update) == "sms_credits_depleted", within=HEARD_WITHIN)
        before, after = (update.subscription.provenance.revision for update in (first, heard))
        assert before < after == check(protocol, client, depleted)
        assert heard.subscription.facts == protocol.facts(depleted)


def test_every_watcher_hears_of_an_edit(protocol, serve, facts_file):
    now = time.time_ns()
    with serve(facts(now)) as client:
        watches = [watch(protocol, client) for _ in range(20)]
        for updates in watches:
            updates.next()
        put(facts_file, facts(now, activation={"state": "not_activated"}))
        for updates in watches:
            with updates:
                updates.find(lambda update: state(protocol, update) == "not_activated", within=HEARD_WITHIN)


def invalid_edits(now):
    """Edits that are refused, and the path of the key that is wrong: name -> (edit, path)."""
    negative, unknown, late = (facts(now, sms_credits=0) for _ in range(3))
    negative["users"]["active"] = -1
    unknown["users"]["seats"] = 5
    late["expires_at"] = "2027-02-29T12:00:00Z"
    return {
        "a negative count": (negative, "users.active"),
        "an unknown key": (unknown, "users.seats"),
        "an impossible day": (late, "expires_at"),
        "no JSON": ("{", ""),
        "half of it valid": ([facts(now, sms_credits=0), negative], "users.active"),
    }


@pytest.mark.parametrize("name", invalid_edits(0), ids=str)
def test_an_invalid_edit_changes_nothing_and_a_refresh_names_the_key(protocol, serve, facts_file, name):
    now = time.time_ns()
    told = facts(now)
    edit, path = invalid_edits(now)[name]
    with serve(told) as client:
        revision = check(protocol, client, told)
        put(facts_file, edit)
        answer = refresh(protocol, client)
        assert word(protocol.messages.RefreshOutcome, answer.outcome) == "failed"
        assert answer.detail and path in answer.detail
        assert answer.revision == revision == check(protocol, client, told)


def test_a_refresh_takes_up_an_edit_at_once(protocol, serve, facts_file):
    now = time.time_ns()
    with serve(facts(now), **NEVER) as client:
        revision = get(protocol, client).provenance.revision
        suspended = facts(now, disabled=40 * DAY)
        put(facts_file, suspended)
        answer = refresh(protocol, client)
        assert word(protocol.messages.RefreshOutcome, answer.outcome) in ("updated", "unchanged")
        assert answer.revision == check(protocol, client, suspended) > revision
        assert moment(answer, "as_of") <= time.time_ns()


def test_the_same_facts_written_again_are_no_change(protocol, serve, facts_file):
    told = facts(time.time_ns())
    with serve(told, **NEVER) as client:
        revision = get(protocol, client).provenance.revision
        put(facts_file, told)
        answer = refresh(protocol, client)
        assert word(protocol.messages.RefreshOutcome, answer.outcome) == "unchanged"
        assert answer.revision == revision == get(protocol, client).provenance.revision


def test_a_watcher_hears_of_a_turn_by_time_not_before_it_and_within_a_second(protocol, serve, facts_file):
    with serve(facts(time.time_ns())) as client, watch(protocol, client) as updates:
        updates.next()
        expiring = facts(time.time_ns(), expires=2 * SECOND)
        expires_at = Outlook(expiring, 0).expires_at
        put(facts_file, expiring)
        warned, _ = updates.find(lambda update: state(protocol, update) == "warning", within=HEARD_WITHIN)
        assert moment(warned.subscription.timeline[0], "at") == expires_at
        assert protocol.told(ask(protocol, client, "enable_users")) == ("allowed", "warning", "allowed", expires_at)

        turned, heard_at = updates.find(lambda update: state(protocol, update) != "warning")
        assert state(protocol, turned) == "violation_full_functionality"
        assert expires_at <= heard_at <= expires_at + HEARD_WITHIN * SECOND
        assert expires_at <= moment(turned.subscription, "evaluated_at")
        assert turned.subscription.provenance.revision == warned.subscription.provenance.revision
        check(protocol, client, expiring)


def test_a_watch_ends_with_not_found_when_its_subscription_is_no_longer_held(protocol, serve, facts_file):
    now = time.time_ns()
    kept, removed = facts(now), facts(now, subscription_id="REM-OVE-D00")
    with serve([kept, removed]) as client:
        with watch(protocol, client, "REM-OVE-D00") as gone, watch(protocol, client, "3A8-WN7-7TD") as stays:
            gone.next(), stays.next()
            put(facts_file, [kept])
            assert gone.rest()[1] == grpc.StatusCode.NOT_FOUND
            code, _ = refusal(client.stub.Authorize, protocol.question("self_enroll", subscription="REM-OVE-D00"))
            assert code == grpc.StatusCode.NOT_FOUND
            check(protocol, client, kept)
            put(facts_file, [facts(now, sms_credits=0)])
            stays.find(lambda update: state(protocol, update) == "sms_credits_depleted", within=HEARD_WITHIN)


def test_sigterm_ends_open_watches_with_ok_and_the_process_with_0(protocol, serve):
    with serve(facts(time.time_ns())) as client:
        watches = [watch(protocol, client) for _ in range(3)]
        for updates in watches:
            updates.next()
        with Stream(client.health.Watch(health_pb2.HealthCheckRequest())) as health:
            assert health.next().status == health_pb2.HealthCheckResponse.SERVING
            client.sidecar.terminate()
            for updates in watches:
                with updates:
                    assert updates.rest()[1] == grpc.StatusCode.OK
            told, _ = health.rest()
            assert told and told[-1].status == health_pb2.HealthCheckResponse.NOT_SERVING
        client.sidecar.stop()


def test_a_restart_without_the_file_goes_on_from_the_persisted_facts(protocol, serve, facts_file):
    told = facts(time.time_ns(), users=(150, 100), overused=HOUR, disabled=DAY, sms_credits=None)
    with serve(told) as client:
        revision = check(protocol, client, told)
        as_of = moment(get(protocol, client).provenance, "as_of")
    facts_file.unlink()
    with serve() as client:
        eventually(client.serves)
        assert check(protocol, client, told) == revision
        assert origin(protocol, client) == "persisted"
        held = get(protocol, client)
        assert held.facts == protocol.facts(told)
        assert moment(held.provenance, "as_of") >= as_of

        changed = facts(time.time_ns(), sms_credits=0)
        put(facts_file, changed)
        eventually(lambda: origin(protocol, client) == "file")
        assert check(protocol, client, changed) > revision


def test_an_overuse_clock_nobody_told_starts_when_first_seen_and_survives_a_restart(protocol, serve):
    earliest = time.time_ns()
    told = facts(earliest, users=(105, 100))
    with serve(told) as client:
        first = ask(protocol, client, "enable_users")
        latest = time.time_ns()
    until = moment(first, "until")
    assert earliest < until - 7 * DAY <= latest + 1
    assert protocol.told(first) == ("allowed", "violation_full_functionality", "allowed", until)
    with serve(told) as client:
        assert protocol.told(ask(protocol, client, "enable_users")) == protocol.told(first)


def test_facts_older_than_stale_after_are_called_stale_and_answered_all_the_same(protocol, serve):
    told = facts(time.time_ns())
    with serve(told, **NEVER, STALENESS__STALE_AFTER="1s") as client:
        eventually(lambda: ask(protocol, client, "enable_users").stale)
        assert get(protocol, client).provenance.stale
        check(protocol, client, told)
        assert client.serves() and not client.serves("licensing.sync")


def report(protocol, client, *ids, credits=0):
    sent = [protocol.messages.SmsSent(id=each, credits=credits) for each in ids]
    request = protocol.messages.ReportUsageRequest(sms_sent=sent)
    answer = client.stub.ReportUsage(request, timeout=CALL_WITHIN)
    remaining = answer.sms_credits if answer.HasField("sms_credits") else None
    return answer.sms_counted, answer.sms_repeated, remaining


def test_the_same_sms_counts_once_and_the_last_credit_depletes_at_once(protocol, serve):
    told = facts(time.time_ns(), sms_credits=3)
    with serve(told) as client, watch(protocol, client) as updates:
        assert state(protocol, updates.next()) == "warning"
        assert report(protocol, client, "first") == (1, 0, 2)
        assert report(protocol, client, "first") == (0, 1, 2)
        assert report(protocol, client, "second", "second", "first") == (1, 2, 1)
        assert get(protocol, client).usage.sms_credits == 1
        assert protocol.told(ask(protocol, client, "authenticate_with_sms_otp"))[:2] == ("allowed", "warning")

        assert report(protocol, client, "third") == (1, 0, 0)
        answer = ask(protocol, client, "authenticate_with_sms_otp")
        assert protocol.told(answer)[:3] == ("disabled", "sms_credits_depleted", "sms_credits_depleted")
        depleted = told | {"sms_credits": 0}
        check(protocol, client, depleted)
        own = ask(protocol, client, "authenticate_with_sms_otp", delivery="own_gateway")
        assert protocol.told(own)[:3] == ("allowed", "sms_credits_depleted", "allowed")
        updates.find(lambda update: state(protocol, update) == "sms_credits_depleted", within=HEARD_WITHIN)


def test_an_sms_may_cost_several_credits_and_the_pool_never_goes_below_zero(protocol, serve):
    with serve(facts(time.time_ns(), sms_credits=5)) as client:
        assert report(protocol, client, "first", credits=3) == (1, 0, 2)
        assert report(protocol, client, "second", credits=10_000) == (1, 0, 0)
        assert report(protocol, client, "third") == (1, 0, 0)


def test_without_credits_of_the_vendor_none_remain_to_be_told(protocol, serve):
    told = facts(time.time_ns(), sms_credits=None)
    with serve(told) as client:
        assert report(protocol, client, "first")[2] is None
        check(protocol, client, told)


@pytest.mark.parametrize("bad_id", ["", "x" * 65], ids=["empty", "65 bytes"])
def test_an_sms_without_a_proper_id_is_refused_and_nothing_is_counted(protocol, serve, bad_id):
    sent = [protocol.messages.SmsSent(id=each) for each in ("good", bad_id)]
    with serve(facts(time.time_ns(), sms_credits=3)) as client:
        code, info = refusal(client.stub.ReportUsage, protocol.messages.ReportUsageRequest(sms_sent=sent))
        assert (code, info.domain) == (grpc.StatusCode.INVALID_ARGUMENT, "esa-sidecar")
        assert report(protocol, client, "good") == (1, 0, 2)
