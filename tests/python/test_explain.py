"""`esa-sidecar explain` against the oracle, line by line: every rule, every boundary, every mix, and bad lines.

No server runs here, and no clock: every line says for which instant it asks.
"""

import copy
import itertools
import json
import random
import re

import pytest

from examples import (
    AT,
    BOUNDARIES,
    BOUNDARY_NAMES,
    OPERATIONS,
    facts,
    kinds,
    mixes,
    questions,
    random_facts,
)
from oracle import DAY, DELIVERIES, ROLES, Outlook, instant, text
from sidecar import explain_bytes, run_explain

SEED = 20_260_615
RANDOM_MIXES = 20_000


def line(told, at, operation, role=None, delivery=None):
    """One question as a line; role and delivery may be left out."""
    asked = {"facts": told, "at": text(at), "operation": operation, "role": role, "sms_delivery": delivery}
    return json.dumps({key: value for key, value in asked.items() if value is not None}).encode()


def expected(outlook, operation, role=None, delivery=None):
    return outlook.answer(operation, role or "user", delivery or "vendor_credits")


def agrees(printed, answer):
    """Whether a printed object says exactly what the oracle says. `until` is compared as an instant."""
    printed = dict(printed)
    until = printed.pop("until", None)
    told = {
        "access": answer.access,
        "state": answer.state,
        "reason": answer.reason,
        "conditions": list(answer.conditions),
    }
    return printed == told and (None if until is None else instant(until)) == answer.until


def check(asked):
    """Asks all questions in one run: (facts, instant, [(operation, role, delivery), ...]) each."""
    lines, answers = [], []
    for told, at, them in asked:
        outlook = Outlook(told, at)
        lines += [line(told, at, *question) for question in them]
        answers += [expected(outlook, *question) for question in them]
    printed = run_explain(lines)
    assert len(printed) == len(lines)
    wrong = [trio for trio in zip(lines, printed, answers, strict=True) if not agrees(*trio[1:])]
    assert not wrong, f"{len(wrong)} of {len(lines)} differ; the first: asked, printed, expected:\n{wrong[0]}"


@pytest.mark.parametrize("kind", kinds(), ids=str)
def test_every_operation_role_and_delivery_is_answered_by_the_table(kind):
    check([(kinds()[kind], AT, questions())])


@pytest.mark.parametrize(("rule", "changes", "conditions", "state"), BOUNDARIES, ids=BOUNDARY_NAMES)
def test_each_side_of_each_boundary_is_told_as_worked_out_by_hand(rule, changes, conditions, state):
    (printed,) = run_explain([line(facts(**changes), AT, "self_enroll")])
    assert (printed.get("conditions"), printed.get("state")) == (conditions, state)


def test_each_side_of_each_boundary_is_answered_for_every_operation():
    check((facts(**changes), AT, questions()) for _, changes, _, _ in BOUNDARIES)


def test_each_boundary_is_met_by_moving_the_instant_as_well():
    overused = facts(users=(105, 100), overused=0, disabled=-2 * DAY, expires=40 * DAY)
    moments = [
        AT + clock + days * DAY + nudge
        for clock in (0, 2 * DAY, 40 * DAY)
        for days in (-30, 0, 7, 30)
        for nudge in (-1, 0, 1)
    ]
    check((overused, moment, questions()) for moment in moments)


def test_every_mix_of_conditions_is_answered_for_every_operation():
    them = list(itertools.product(OPERATIONS, ROLES[:2], DELIVERIES))
    check((told, AT, them) for told in mixes())


def test_random_mixes_near_boundaries_are_answered_by_the_rules():
    dice = random.Random(SEED)
    them = questions()
    check((*random_facts(dice), [dice.choice(them)]) for _ in range(RANDOM_MIXES))


def test_nothing_but_the_fields_of_the_contract_is_printed():
    (printed,) = run_explain([line(facts(), AT, "enable_users")])
    assert {"access", "state", "reason", "conditions"} <= printed.keys()
    assert printed.keys() <= {"access", "state", "reason", "conditions", "until"}


@pytest.mark.parametrize("after", [0, 1, 1_000, 1_000_000, 120_000_000, 123_456_789])
def test_until_is_written_with_z_and_as_few_of_0_3_6_9_digits_as_it_needs(after):
    (printed,) = run_explain([line(facts(expires=DAY + after), AT, "enable_users")])
    assert printed["until"] == text(AT + DAY + after)


def test_null_and_absent_optional_facts_say_the_same():
    told = facts(sms_credits=None)
    nulls = copy.deepcopy(told) | {"disabled_by_licensing": None}
    nulls["users"]["overused_since"] = None
    absent = {key: value for key, value in told.items() if key != "sms_credits"}
    first, second = run_explain([line(nulls, AT, "enable_users"), line(absent, AT, "enable_users")])
    assert first == second and "error" not in first


def test_a_line_may_end_with_crlf_and_the_last_one_with_nothing():
    asked = line(facts(), AT, "enable_users")
    first, last = explain_bytes(asked + b"\r\n" + asked)
    assert first == last and first["access"] == "allowed"


def test_no_lines_give_no_lines():
    assert explain_bytes(b"") == []


GOOD = line(facts(disabled=DAY), AT, "enable_users", "user", "vendor_credits")
REMOVED = object()


def spoiled(path, value):
    """A good line with one key, at a dotted path, put to another value, added or removed."""
    spoilt = json.loads(GOOD)
    *folders, key = path.split(".")
    place = spoilt
    for folder in folders:
        place = place[folder]
    if value is REMOVED:
        del place[key]
    else:
        place[key] = value
    return json.dumps(spoilt).encode()


# a name, the line: not even an object of JSON
UNREADABLE = [
    ("not JSON", b"what may I do?"),
    ("an empty line", b""),
    ("a line of spaces", b"   "),
    ("half an object", GOOD[: len(GOOD) // 2]),
    ("two objects", GOOD + GOOD),
    ("something after the object", GOOD + b" ?"),
    ("invalid UTF-8", GOOD.replace(b"suspended", b"susp\xff\xfeded")),
    ("a lone surrogate as bytes", GOOD.replace(b"suspended", b"\xed\xa0\x80")),
    ("a byte of zero", b"\0"),
    ("NaN", GOOD.replace(b'"active": 50', b'"active": NaN')),
    ("Infinity", GOOD.replace(b'"active": 50', b'"active": Infinity')),
    ("an array", b"[]"),
    ("a question as an array", json.dumps(list(json.loads(GOOD).values())).encode()),
    ("null", b"null"),
    ("a number", b"7"),
    ("a string", b'"enable_users"'),
    ("2 MiB of one string", b'{"facts": "' + b"a" * 2**21 + b'"}'),
    ("2 MiB of no JSON", b"x" * 2**21),
    ("deep arrays", b"[" * 100_000 + b"]" * 100_000),
    ("deep objects", b'{"facts":' * 100_000 + b"1" + b"}" * 100_000),
    ("deep and never closed", b"[" * 100_000),
]

# the key's path, what stands there instead
IMPOSSIBLE = [
    ("facts.seats", 5),
    ("facts.users.seats", 5),
    ("facts.activation.by", "somebody"),
    ("facts.disabled_by_licensing.until", "2027-01-01T00:00:00Z"),
    ("facts.users.active", -1),
    ("facts.users.licensed", -(2**63)),
    ("facts.users.active", 1.5),
    ("facts.users.licensed", 2**64),
    ("facts.users.active", "50"),
    ("facts.users.active", None),
    ("facts.users.active", True),
    ("facts.all_users.count", -1),
    ("facts.all_users.limit", 0.5),
    ("facts.components.count", 10**30),
    ("facts.components.limit", []),
    ("facts.sms_credits", -1),
    ("facts.sms_credits", 0.1),
    ("facts.sms_credits", "none"),
    ("facts.expires_at", None),
    ("facts.expires_at", "soon"),
    ("facts.expires_at", ""),
    ("facts.expires_at", 1_800_000_000),
    ("facts.expires_at", "2027-06-30"),
    ("facts.expires_at", "2027-06-30T12:00:00"),
    ("facts.expires_at", "2027-02-29T12:00:00Z"),
    ("facts.expires_at", "2027-13-01T12:00:00Z"),
    ("facts.expires_at", "2027-06-30T25:00:00Z"),
    ("facts.expires_at", "2027-06-30T12:60:00Z"),
    ("facts.expires_at", "10000-01-01T00:00:00Z"),
    ("facts.expires_at", "-0001-01-01T00:00:00Z"),
    ("facts.users.overused_since", "yesterday"),
    ("facts.disabled_by_licensing.since", "2026-11-31T08:00:00Z"),
    ("facts.disabled_by_licensing.since", None),
    ("facts.disabled_by_licensing.reason", 7),
    ("facts.activation.state", "paused"),
    ("facts.activation.state", "ACTIVE"),
    ("facts.activation.state", None),
    ("facts.users", None),
    ("facts.users", [50, 100, None]),
    ("facts.all_users", [500, 1000]),
    ("facts.activation", "active"),
    ("facts.subscription_id", ""),
    ("facts.subscription_id", "3A8-WN7"),
    ("facts.subscription_id", "3A8WN77TD"),
    ("facts.subscription_id", "3A8-WN7-7T!"),
    ("facts.subscription_id", "3A8-WN7-7TD-"),
    ("facts.subscription_id", " 3A8-WN7-7TD"),
    ("facts.subscription_id", "3A8-WN7-7T\u00c4"),
    ("facts.subscription_id", "3A8\u2013WN7\u20137TD"),
    ("facts.subscription_id", 123_456_789),
    ("at", "now"),
    ("at", "2026-06-15 noon"),
    ("at", 5),
    ("operation", "dance"),
    ("operation", "ENABLE_USERS"),
    ("operation", "unspecified"),
    ("operation", 1),
    ("role", "root"),
    ("role", 2),
    ("sms_delivery", "pigeon"),
    ("question", "why?"),
]

# the path of a key that must be there
NEEDED = [
    "facts",
    "facts.subscription_id",
    "facts.activation",
    "facts.activation.state",
    "facts.expires_at",
    "facts.users",
    "facts.users.active",
    "facts.users.licensed",
    "facts.all_users",
    "facts.all_users.count",
    "facts.components",
    "facts.components.limit",
    "facts.disabled_by_licensing.reason",
    "facts.disabled_by_licensing.since",
    "operation",
]


def error_of(bad):
    """The error printed for a bad line that stands between two good ones, which are answered all the same."""
    before, printed, after = run_explain([GOOD, bad, GOOD])
    assert before == after and agrees(before, Outlook(facts(disabled=DAY), AT).answer("enable_users"))
    assert printed.keys() == {"error"}, printed
    assert isinstance(printed["error"], str) and printed["error"].strip()
    assert len(printed["error"]) < 2_000, "an error does not repeat a whole line"
    return printed["error"]


@pytest.mark.parametrize("bad", [bad for _, bad in UNREADABLE], ids=[name for name, _ in UNREADABLE])
def test_a_line_that_is_no_question_gives_an_error_in_its_place(bad):
    error_of(bad)


@pytest.mark.parametrize(("path", "value"), IMPOSSIBLE, ids=[f"{path}={value!r}" for path, value in IMPOSSIBLE])
def test_an_impossible_value_or_unknown_key_is_refused_with_its_path(path, value):
    assert path.removeprefix("facts.") in error_of(spoiled(path, value))


def test_a_number_no_machine_holds_is_refused_with_its_path():
    assert "users.active" in error_of(GOOD.replace(b'"active": 50', b'"active": 1e400'))


def test_a_deactivation_that_says_not_since_when_is_refused_with_its_path():
    error = error_of(spoiled("facts.activation", {"state": "deactivated"}))
    assert re.search(r"activation.*since", error)


@pytest.mark.parametrize("path", NEEDED)
def test_a_missing_key_is_refused_by_name_and_place(path):
    in_order = ".*".join(map(re.escape, path.removeprefix("facts.").split(".")))
    assert re.search(in_order, error_of(spoiled(path, REMOVED)), re.DOTALL)


def test_a_thousand_bad_lines_do_not_stop_the_next_good_one():
    *errors, last = run_explain([b"{"] * 1_000 + [GOOD])
    assert all(error.keys() == {"error"} for error in errors)
    assert len(errors) == 1_000 and last["access"] == "allowed"
