"""Facts to ask about: one of every kind, both sides of every boundary, every mix, and random ones.

Expectations that stand here were worked out by hand from the rules. This is not where answers are computed.
"""

import copy
import itertools

from oracle import DAY, DELIVERIES, FIRST, LAST, ROLES, ROW_OF, SECOND, instant, text

AT = instant("2026-06-15T12:00:00Z")
ID = "3A8-WN7-7TD"
MOST = 2**64 - 1

HOUR = 3600 * SECOND

# What a caller may say of the role and of the delivery; None leaves it out.
SAID_ROLES = [None, *ROLES]
SAID_DELIVERIES = [None, *DELIVERIES]
OPERATIONS = list(ROW_OF)


def facts(at=AT, **changes):
    """Facts of a subscription in order as of an instant, with some of them changed.

    `expires`, `disabled` and `overused` are told as the time from `at` to the expiry, and since the other two.
    """
    told = {
        "subscription_id": ID,
        "activation": {"state": "active"},
        "expires_at": text(at + changes.pop("expires", 400 * DAY)),
        "users": {"active": 50, "licensed": 100},
        "all_users": {"count": 500, "limit": 1000},
        "components": {"count": 10, "limit": 50},
        "sms_credits": 500,
    }
    if "users" in changes:
        told["users"] = dict(zip(("active", "licensed"), changes.pop("users"), strict=True))
    if "overused" in changes:
        told["users"]["overused_since"] = text(at - changes.pop("overused"))
    if "disabled" in changes:
        since = text(at - changes.pop("disabled"))
        told["disabled_by_licensing"] = {"reason": changes.pop("reason", "suspended"), "since": since}
    for fair_use in changes.keys() & {"all_users", "components"}:
        told[fair_use] = dict(zip(("count", "limit"), changes.pop(fair_use), strict=True))
    for key, value in changes.items():
        told[key] = copy.deepcopy(value)
    return told


def deactivated(at=AT):
    return {"state": "deactivated", "since": text(at - DAY)}


def kinds(at=AT):
    """One set of facts of every kind, each far from its next turn: name -> facts."""
    return {
        "in order": facts(at),
        "without credits of the vendor": facts(at, sms_credits=None),
        "expiring soon": facts(at, expires=10 * DAY),
        "seats low": facts(at, users=(95, 100)),
        "credits low": facts(at, sms_credits=5),
        "all users near their limit": facts(at, all_users=(950, 1000)),
        "components near their limit": facts(at, components=(49, 50)),
        "credits depleted": facts(at, sms_credits=0),
        "expired for 3 days": facts(at, expires=-3 * DAY),
        "suspended for 3 days": facts(at, disabled=3 * DAY),
        "overused for 3 days": facts(at, users=(105, 100), overused=3 * DAY),
        "expired for 10 days": facts(at, expires=-10 * DAY),
        "canceled for 10 days": facts(at, disabled=10 * DAY, reason="canceled"),
        "overused for 10 days": facts(at, users=(105, 100), overused=10 * DAY),
        "overused by much": facts(at, users=(150, 100), overused=DAY),
        "expired for 40 days": facts(at, expires=-40 * DAY),
        "suspended for 40 days": facts(at, disabled=40 * DAY),
        "deactivated": facts(at, activation=deactivated(at)),
        "not activated": facts(at, activation={"state": "not_activated"}),
        "depleted in a violation": facts(at, sms_credits=0, expires=-3 * DAY),
        "overused for long, then expired": facts(at, users=(105, 100), overused=10 * DAY, expires=-DAY),
        "everything at once": facts(
            at,
            users=(150, 100),
            overused=10 * DAY,
            expires=-40 * DAY,
            disabled=10 * DAY,
            all_users=(1001, 1000),
            components=(51, 50),
            sms_credits=0,
            activation=deactivated(at),
        ),
    }


def one_of_each_kind(at=AT):
    """The same as subscriptions that are held together: public license ID -> facts."""
    named = {f"KND-000-{serial:03d}": kind for serial, kind in enumerate(kinds(at).values(), start=1)}
    return {public_id: kind | {"subscription_id": public_id} for public_id, kind in named.items()}


def questions():
    """Every operation in every role with every delivery, told or left out."""
    return list(itertools.product(OPERATIONS, SAID_ROLES, SAID_DELIVERIES))


def mixes():
    """Every mix of conditions: what each clock and each count can be, with all the others."""
    clocks = [-40 * DAY, -10 * DAY, -3 * DAY, 10 * DAY]
    expiries = [{"expires": clock} for clock in [*clocks, 400 * DAY]]
    disablings = [{"disabled": -clock} for clock in clocks] + [{}]
    overuses = [
        {},
        {"users": (100, 100)},
        {"users": (105, 100), "overused": 3 * DAY},
        {"users": (105, 100), "overused": 10 * DAY},
        {"users": (150, 100), "overused": 3 * DAY},
    ]
    credits = [{"sms_credits": count} for count in (None, 0, 5, 500)]
    limits = [{}, {"all_users": (950, 1000)}, {"components": (60, 50)}]
    activations = [{"activation": state} for state in ({"state": "active"}, deactivated())]
    for mix in itertools.product(expiries, disablings, overuses, credits, activations):
        yield facts(**{key: value for part in mix for key, value in part.items()})
    for limit, credit, expiry in itertools.product(limits, credits, expiries):
        yield facts(**limit, **credit, **expiry, activation={"state": "not_activated"})
        yield facts(**limit, **credit, **expiry)


def _overused(active, licensed, since=None):
    return {"users": (active, licensed)} | ({} if since is None else {"overused": since})


# rule, what the facts differ in, the conditions that hold at AT, the state: one row for each side of each boundary
BOUNDARIES = [
    ("2.1", {"expires": 30 * DAY + 1}, [], "ok"),
    ("2.1", {"expires": 30 * DAY}, [], "ok"),
    ("2.1", {"expires": 30 * DAY - 1}, ["expires_soon"], "warning"),
    ("2.1", {"expires": 1}, ["expires_soon"], "warning"),
    ("2.2", {"users": (89, 100)}, [], "ok"),
    ("2.2", {"users": (90, 100)}, [], "ok"),
    ("2.2", {"users": (91, 100)}, ["seats_low"], "warning"),
    ("2.2", {"users": (44, 50)}, [], "ok"),
    ("2.2", {"users": (45, 50)}, [], "ok"),
    ("2.2", {"users": (46, 50)}, ["seats_low"], "warning"),
    ("2.2", {"users": (989, 1000)}, [], "ok"),
    ("2.2", {"users": (990, 1000)}, [], "ok"),
    ("2.2", {"users": (991, 1000)}, ["seats_low"], "warning"),
    ("2.2", {"users": (13, 15)}, [], "ok"),
    ("2.2", {"users": (14, 15)}, ["seats_low"], "warning"),
    ("2.2", {"users": (99, 100)}, ["seats_low"], "warning"),
    ("2.2", {"users": (100, 100)}, ["seats_low"], "warning"),
    ("2.2", {"users": (0, 1)}, [], "ok"),
    ("2.2", {"users": (1, 1)}, ["seats_low"], "warning"),
    ("2.2", {"users": (0, 0)}, [], "ok"),
    ("2.2", {"users": (MOST - 10, MOST)}, [], "ok"),
    ("2.2", {"users": (MOST - 9, MOST)}, ["seats_low"], "warning"),
    ("2.2", {"users": (0, MOST)}, [], "ok"),
    ("2.3", {"sms_credits": 11}, [], "ok"),
    ("2.3", {"sms_credits": 10}, ["sms_credits_low"], "warning"),
    ("2.3", {"sms_credits": 9}, ["sms_credits_low"], "warning"),
    ("2.3", {"sms_credits": 1}, ["sms_credits_low"], "warning"),
    ("2.3", {"sms_credits": None}, [], "ok"),
    ("2.3", {"sms_credits": MOST}, [], "ok"),
    ("2.4", {"all_users": (899, 1000)}, [], "ok"),
    ("2.4", {"all_users": (900, 1000)}, [], "ok"),
    ("2.4", {"all_users": (901, 1000)}, ["all_users_near_limit"], "warning"),
    ("2.4", {"all_users": (1001, 1000)}, ["all_users_near_limit"], "warning"),
    ("2.4", {"all_users": (MOST, 1)}, ["all_users_near_limit"], "warning"),
    ("2.4", {"all_users": (MOST, MOST)}, ["all_users_near_limit"], "warning"),
    ("2.4", {"all_users": (0, MOST)}, [], "ok"),
    ("2.4", {"all_users": (5, 0)}, [], "ok"),
    ("2.4", {"all_users": (0, 0)}, [], "ok"),
    ("2.5", {"components": (8, 10)}, [], "ok"),
    ("2.5", {"components": (9, 10)}, [], "ok"),
    ("2.5", {"components": (10, 10)}, ["components_near_limit"], "warning"),
    ("2.5", {"components": (11, 10)}, ["components_near_limit"], "warning"),
    ("2.5", {"components": (0, 1)}, [], "ok"),
    ("2.5", {"components": (1, 1)}, ["components_near_limit"], "warning"),
    ("2.5", {"components": (MOST, 0)}, [], "ok"),
    ("2.6", {"sms_credits": 0}, ["sms_credits_depleted"], "sms_credits_depleted"),
    ("2.7", {"expires": 0}, ["expired"], "violation_full_functionality"),
    ("2.7", {"expires": -1}, ["expired"], "violation_full_functionality"),
    ("2.7", {"expires": -7 * DAY + 1}, ["expired"], "violation_full_functionality"),
    ("2.7", {"expires": -7 * DAY}, ["expired"], "violation_full_functionality"),
    ("2.7", {"expires": -7 * DAY - 1}, ["expired"], "violation_limited_functionality"),
    ("2.7", {"expires": -30 * DAY + 1}, ["expired"], "violation_limited_functionality"),
    ("2.7", {"expires": -30 * DAY}, ["expired"], "violation_limited_functionality"),
    ("2.7", {"expires": -30 * DAY - 1}, ["expired"], "disabled"),
    ("2.8", {"disabled": -1}, [], "ok"),
    ("2.8", {"disabled": 0}, ["disabled_by_licensing"], "violation_full_functionality"),
    ("2.8", {"disabled": 1}, ["disabled_by_licensing"], "violation_full_functionality"),
    ("2.8", {"disabled": 7 * DAY - 1}, ["disabled_by_licensing"], "violation_full_functionality"),
    ("2.8", {"disabled": 7 * DAY}, ["disabled_by_licensing"], "violation_full_functionality"),
    ("2.8", {"disabled": 7 * DAY + 1}, ["disabled_by_licensing"], "violation_limited_functionality"),
    ("2.8", {"disabled": 30 * DAY - 1}, ["disabled_by_licensing"], "violation_limited_functionality"),
    ("2.8", {"disabled": 30 * DAY}, ["disabled_by_licensing"], "violation_limited_functionality"),
    ("2.8", {"disabled": 30 * DAY + 1}, ["disabled_by_licensing"], "disabled"),
    ("2.8", {"disabled": 40 * DAY, "reason": "a reason of its own"}, ["disabled_by_licensing"], "disabled"),
    ("2.9", _overused(101, 100), ["users_overused"], "violation_full_functionality"),
    ("2.9", _overused(101, 100, since=-DAY), ["users_overused"], "violation_full_functionality"),
    ("2.9", _overused(101, 100, since=7 * DAY - 1), ["users_overused"], "violation_full_functionality"),
    ("2.9", _overused(101, 100, since=7 * DAY), ["users_overused"], "violation_full_functionality"),
    ("2.9", _overused(101, 100, since=7 * DAY + 1), ["users_overused"], "violation_limited_functionality"),
    ("2.9", _overused(101, 100, since=1000 * DAY), ["users_overused"], "violation_limited_functionality"),
    ("2.9", _overused(109, 100, since=0), ["users_overused"], "violation_full_functionality"),
    ("2.9", _overused(110, 100, since=0), ["users_overused"], "violation_full_functionality"),
    ("2.9", _overused(111, 100, since=0), ["users_overused"], "violation_limited_functionality"),
    ("2.9", _overused(111, 100), ["users_overused"], "violation_limited_functionality"),
    ("2.9", _overused(111, 100, since=-DAY), ["users_overused"], "violation_limited_functionality"),
    ("2.9", _overused(16, 15, since=0), ["users_overused"], "violation_full_functionality"),
    ("2.9", _overused(17, 15, since=0), ["users_overused"], "violation_limited_functionality"),
    ("2.9", _overused(1, 0, since=0), ["users_overused"], "violation_limited_functionality"),
    ("2.9", _overused(MOST, MOST - 1, since=0), ["users_overused"], "violation_full_functionality"),
    ("2.9", _overused(MOST, 1, since=0), ["users_overused"], "violation_limited_functionality"),
    ("2.9", _overused(50, 100, since=10 * DAY), [], "ok"),
    ("2.10", {"activation": deactivated()}, ["deactivated"], "disabled"),
    ("2.11", {"activation": {"state": "not_activated"}}, ["not_activated"], "not_activated"),
    (
        "2.11",
        {"activation": {"state": "not_activated"}, "expires": -40 * DAY, "sms_credits": 0},
        ["not_activated"],
        "not_activated",
    ),
]

BOUNDARY_NAMES = [f"{rule}-{changes}" for rule, changes, _, _ in BOUNDARIES]


def random_facts(dice):
    """Facts and an instant that like to stand on a boundary."""
    at = dice.choice([AT, AT, dice.randint(FIRST, LAST), LAST - dice.choice([0, 1, 7 * DAY, 40 * DAY]), FIRST])

    def near(origin):
        away = dice.choice([0, 7 * DAY, 30 * DAY, dice.randrange(60 * DAY)])
        nudge = dice.choice([0, 0, 1, 1000, 10**6, SECOND, dice.randrange(DAY)])
        moment = origin + dice.choice([-1, 1]) * away + dice.choice([-1, 1]) * nudge
        return text(min(max(moment, FIRST), LAST))

    def count():
        small = [0, 1, 9, 10, 11, 50, 90, 91, 99, 100, 101, 110, 111, 900, 901, 1000]
        return dice.choice([*small, dice.randrange(200), dice.randrange(2**32), MOST, MOST - dice.randrange(20)])

    def about(limit):
        tenth = limit // 10
        around = dice.choice([limit, limit - tenth, limit + tenth, limit - 10, limit * 9 // 10])
        return dice.choice([count(), min(max(around + dice.randint(-1, 1), 0), MOST)])

    licensed, all_limit, component_limit = count(), count(), count()
    told = {
        "subscription_id": ID,
        "activation": dice.choice([{"state": "active"}] * 10 + [deactivated(), {"state": "not_activated"}]),
        "expires_at": near(at),
        "users": {"active": about(licensed), "licensed": licensed},
        "all_users": {"count": about(all_limit), "limit": all_limit},
        "components": {"count": about(component_limit), "limit": component_limit},
    }
    if dice.random() < 0.5:
        told["users"]["overused_since"] = dice.choice([None, near(at)])
    if dice.random() < 0.5:
        since = near(dice.choice([at, instant(told["expires_at"])]))
        told["disabled_by_licensing"] = dice.choice([None, {"reason": "suspended", "since": since}])
    if dice.random() < 0.8:
        told["sms_credits"] = dice.choice([None, 0, 0, 1, 10, 11, count()])
    return told, at
