"""What-if over gRPC: any facts at any instant, with nothing held changed by it.

`Simulate` takes its instant from the caller, so each boundary is met to the nanosecond on a real server.
"""

import time

import grpc
import pytest

from examples import AT, BOUNDARIES, BOUNDARY_NAMES, OPERATIONS, deactivated, facts, kinds
from oracle import DAY, FIRST, LAST, ROW_OF, TABLE, Outlook, names, text
from wire import CALL_WITHIN, moment, number, refusal, set_moment, word


def simulate(protocol, client, at=AT, mask=(), **request):
    request = protocol.messages.SimulateRequest(**request)
    request.change_mask.paths.extend(mask)
    set_moment(request.at, at)
    return client.stub.Simulate(request, timeout=CALL_WITHIN).subscription


def check(protocol, subscription, told, at=AT):
    """Holds the whole of a simulated answer against the oracle."""
    outlook = Outlook(told, at)
    assert moment(subscription, "evaluated_at") == at
    assert subscription.subscription_id == told["subscription_id"]
    assert word(protocol.held.SubscriptionState, subscription.state) == outlook.answer("enable_users").state
    assert conditions_of(protocol, subscription.conditions) == names(outlook.conditions())
    check_operations(protocol, subscription, outlook)
    check_timeline(protocol, subscription, outlook)


def conditions_of(protocol, conditions):
    return tuple(word(protocol.held.ConditionKind, condition.kind) for condition in conditions)


def check_operations(protocol, subscription, outlook):
    messages = protocol.messages
    rows = {title.text: row for row, title in enumerate(TABLE, start=1)}
    assert [word(messages.Operation, each.operation) for each in subscription.operations] == OPERATIONS
    for each in subscription.operations:
        operation = word(messages.Operation, each.operation)
        user, administrator = (outlook.answer(operation, role) for role in ("user", "administrator"))
        assert each.row == rows[ROW_OF[operation]], operation
        assert word(messages.Access, each.access) == user.access, operation
        assert word(messages.Reason, each.reason) == user.reason, operation
        assert moment(each, "until") == user.until, operation
        assert word(messages.Access, each.administrator_access) == administrator.access, operation
        assert word(messages.Reason, each.administrator_reason) == administrator.reason, operation


def check_timeline(protocol, subscription, outlook):
    """Every turn is told, soonest first, and what is told of each instant is true.

    An instant at which no more than the column of a condition turns may be told as well.
    """
    told = [moment(turn, "at") for turn in subscription.timeline]
    assert told == sorted(set(told)) and all(at > outlook.at for at in told)
    assert {turn.at for turn in outlook.turns()} <= set(told)
    for turn in subscription.timeline:
        then = Outlook(outlook.facts, moment(turn, "at"))
        assert word(protocol.held.SubscriptionState, turn.state) == then.answer("enable_users").state
        kinds_then = tuple(word(protocol.held.ConditionKind, kind) for kind in turn.conditions)
        assert kinds_then == names(then.conditions())


@pytest.mark.parametrize("kind", kinds(), ids=str)
def test_given_facts_of_every_kind_are_answered_by_the_rules(protocol, everything, kind):
    told = kinds()[kind]
    check(protocol, simulate(protocol, everything.client, facts=protocol.facts(told)), told)


def is_clear_of_memory(changes):
    """Whether the overuse clock is told: without it, it starts at an instant of the sidecar's own."""
    return "users" not in changes or "overused" in changes or changes["users"][0] <= changes["users"][1]


TOLD_BOUNDARIES = [
    pytest.param(facts(**changes), id=name)
    for (_, changes, _, _), name in zip(BOUNDARIES, BOUNDARY_NAMES, strict=True)
    if is_clear_of_memory(changes)
]


@pytest.mark.parametrize("told", TOLD_BOUNDARIES)
def test_each_side_of_each_boundary_is_met_to_the_nanosecond(protocol, everything, told):
    check(protocol, simulate(protocol, everything.client, facts=protocol.facts(told)), told)


@pytest.mark.parametrize("after", [-1, 0, 1, 7 * DAY, 7 * DAY + 1, 30 * DAY, 30 * DAY + 1])
def test_the_held_facts_can_be_asked_for_any_instant(protocol, everything, after):
    public_id, told = next(iter(everything.facts.items()))
    at = Outlook(told, 0).expires_at + after
    check(protocol, simulate(protocol, everything.client, subscription_id=public_id, at=at), told, at)


# what is in `changes` (facts it is taken from), the mask, the facts that come of it: all start from facts in order
CHANGES = {
    "one number of a fact": ({"users": (91, 0)}, ["users.active"], {"users": (91, 100)}),
    "a number put to zero": ({"users": (0, 0)}, ["users.active"], {"users": (0, 100)}),
    "a whole fact": ({"users": (120, 110), "overused": DAY}, ["users"], {"users": (120, 110), "overused": DAY}),
    "credits put to zero": ({"sms_credits": 0}, ["sms_credits"], {"sms_credits": 0}),
    "credits cleared": ({"sms_credits": None}, ["sms_credits"], {"sms_credits": None}),
    "another expiry": ({"expires": -10 * DAY}, ["expires_at"], {"expires": -10 * DAY}),
    "suspended": ({"disabled": 10 * DAY}, ["disabled_by_licensing"], {"disabled": 10 * DAY}),
    "deactivated": ({"activation": deactivated()}, ["activation"], {"activation": deactivated()}),
    "a limit": ({"all_users": (0, 510)}, ["all_users.limit"], {"all_users": (500, 510)}),
    "two at once": (
        {"components": (50, 0), "expires": DAY},
        ["components.count", "expires_at"],
        {"components": (50, 50), "expires": DAY},
    ),
    "only what the mask names": ({"sms_credits": 0, "expires": -DAY}, ["sms_credits"], {"sms_credits": 0}),
}


@pytest.mark.parametrize("name", CHANGES, ids=str)
def test_a_mask_takes_the_fields_it_names_from_the_changes(protocol, everything, name):
    changes, mask, outcome = CHANGES[name]
    answer = simulate(
        protocol,
        everything.client,
        facts=protocol.facts(facts()),
        changes=protocol.facts(facts(**changes)),
        mask=mask,
    )
    check(protocol, answer, facts(**outcome))
    assert answer.facts == protocol.facts(facts(**outcome))


def test_a_field_the_mask_names_and_the_changes_lack_is_cleared(protocol, everything):
    suspended, nothing = facts(disabled=10 * DAY), protocol.held.SubscriptionFacts()
    answer = simulate(
        protocol,
        everything.client,
        facts=protocol.facts(suspended),
        changes=nothing,
        mask=["disabled_by_licensing", "sms_credits"],
    )
    check(protocol, answer, facts(sms_credits=None))


def test_without_a_mask_every_field_that_is_set_is_taken(protocol, everything):
    changes = protocol.held.SubscriptionFacts(sms_credits=0)
    set_moment(changes.expires_at, AT - 3 * DAY)
    answer = simulate(protocol, everything.client, facts=protocol.facts(facts()), changes=changes)
    check(protocol, answer, facts(expires=-3 * DAY, sms_credits=0))


def test_the_held_facts_can_be_changed_and_stay_as_they_are(protocol, everything):
    public_id, told = next(iter(everything.facts.items()))
    before = held(protocol, everything.client, public_id)
    changes = protocol.held.SubscriptionFacts()
    changes.activation.state = number(protocol.held.ActivationState, "not_activated")
    answer = simulate(protocol, everything.client, subscription_id=public_id, changes=changes, mask=["activation"])
    check(protocol, answer, told | {"activation": {"state": "not_activated"}})
    after = held(protocol, everything.client, public_id)
    assert (after.facts, after.provenance.revision) == (before.facts, before.provenance.revision)


def held(protocol, client, public_id):
    request = protocol.messages.GetSubscriptionRequest(subscription_id=public_id)
    return client.stub.GetSubscription(request, timeout=CALL_WITHIN).subscription


def test_without_an_instant_it_is_now(protocol, everything):
    asked_at = time.time_ns()
    request = protocol.messages.SimulateRequest(facts=protocol.facts(facts()))
    answer = everything.client.stub.Simulate(request, timeout=CALL_WITHIN).subscription
    assert asked_at <= moment(answer, "evaluated_at") <= time.time_ns()


def bad_requests(protocol):
    """What cannot be simulated: name -> request."""
    request, good = protocol.messages.SimulateRequest, protocol.facts(facts())
    unknown_mask, nanoseconds, far, bad_id, no_expiry = (request(facts=good) for _ in range(5))
    unknown_mask.change_mask.paths.append("users.seats")
    nanoseconds.at.nanos = 10**9
    far.at.seconds = 253_402_300_800
    bad_id.facts.subscription_id = "3A8"
    no_expiry.facts.ClearField("expires_at")
    unspecified = request(facts=good)
    unspecified.facts.activation.state = 0
    endless = request(facts=good)
    endless.facts.expires_at.seconds = 2**62
    return {
        "a mask that names no fact": unknown_mask,
        "an instant with a second of nanoseconds": nanoseconds,
        "an instant after the year 9999": far,
        "a malformed ID": bad_id,
        "no expiry": no_expiry,
        "no activation": unspecified,
        "an expiry no calendar has": endless,
    }


def test_what_cannot_be_read_is_refused(protocol, everything):
    for name, request in bad_requests(protocol).items():
        code, info = refusal(everything.client.stub.Simulate, request)
        assert (code, info.domain) == (grpc.StatusCode.INVALID_ARGUMENT, "esa-sidecar"), name
        assert info.reason, name


@pytest.mark.parametrize("end", [FIRST, LAST], ids=text)
def test_a_simulation_may_stand_at_either_end_of_time(protocol, everything, end):
    told = facts() | {"expires_at": text(end)}
    check(protocol, simulate(protocol, everything.client, facts=protocol.facts(told), at=end), told, end)
