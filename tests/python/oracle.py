"""The rules a second time: what the documents say an answer must be, told without a look at the sidecar.

The table stands here as it is printed and is read from there, instants are integers of nanoseconds, percentages are
fractions. Facts have the shape of the JSON contract and are taken to be valid. This is not a validator and not fast,
and it shares nothing with the sidecar but the documents.
"""

import re
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from functools import cached_property

SECOND = 10**9
DAY = 86_400 * SECOND

COLUMNS = """
OK
Warning
SMS Credits depleted
Violation (full functionality)
Violation (limited functionality)
Not activated or ESET Secure Authentication disabled 3
"""

ROWS = """
Enable Users for 2FA                        ✔  ✔  ✔  ✔  X  X
Disable Users for 2FA                       ✔  ✔  ✔  ✔  ✔  X
Provision Users 1                           ✔  ✔  ✔  ✔  X  X
Authenticate with SMS OTP                   ✔  ✔  X  ✔  ✔  X
Authenticate with mobile app (OTP, Push) 2  ✔  ✔  ✔  ✔  ✔  X
Authenticate with hard token or FIDO        ✔  ✔  ✔  ✔  ✔  X
Manage system configuration                 ✔  ✔  ✔  ✔  ✔  X
"""

OPERATIONS = """
enable_users                   follows  Enable Users for 2FA
disable_users                  follows  Disable Users for 2FA
provision_users                follows  Provision Users
self_enroll                    follows  Authenticate with mobile app (OTP, Push)
authenticate_with_sms_otp      follows  Authenticate with SMS OTP
authenticate_with_mobile_otp   follows  Authenticate with mobile app (OTP, Push)
authenticate_with_mobile_push  follows  Authenticate with mobile app (OTP, Push)
authenticate_with_hard_token   follows  Authenticate with hard token or FIDO
authenticate_with_fido         follows  Authenticate with hard token or FIDO
manage_configuration           follows  Manage system configuration
turn_off_authentication        follows  Manage system configuration
verify_sms_otp                 follows  Authenticate with SMS OTP
"""

# From the mildest; the last two share the last column.
STATES = [
    "ok",
    "warning",
    "sms_credits_depleted",
    "violation_full_functionality",
    "violation_limited_functionality",
    "disabled",
    "not_activated",
]
OK, WARNING, DEPLETED, FULL, LIMITED, DISABLED, NOT_ACTIVATED = STATES

ROLES = ["user", "administrator", "service"]
DELIVERIES = ["vendor_credits", "own_gateway"]

# Footnote 3: an administrator may do these while the product is disabled or not activated (semantics 4.3).
FOOTNOTE_3 = {"disable_users", "turn_off_authentication"}

# The reason a denying condition gives, where it is not simply its own name.
REASONS = {"expired": "subscription_expired"}


@dataclass(frozen=True)
class Title:
    """A printed name and the numbers of the footnotes printed beside it."""

    text: str
    footnotes: tuple[int, ...]

    @classmethod
    def read(cls, printed):
        text, footnote = re.fullmatch(r"(.*?)(?: (\d))?", printed).groups()
        return cls(text, (int(footnote),) if footnote else ())


def _read_row(line):
    title, cells = re.fullmatch(r"(.*?)\s\s+([✔X ]+)", line).groups()
    return Title.read(title), [cell == "✔" for cell in cells.split()]


TABLE_COLUMNS = [Title.read(line) for line in COLUMNS.strip().splitlines()]
TABLE = dict(_read_row(line) for line in ROWS.strip().splitlines())
ROW_OF = dict(re.split(r"\s+follows\s+", line) for line in OPERATIONS.strip().splitlines())
CELLS = {title.text: cells for title, cells in TABLE.items()}


def instant(text):
    """Nanoseconds since 1970 of an RFC 3339 text in UTC."""
    fields = re.fullmatch(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?Z", text)
    if fields is None:
        raise ValueError(f"not an instant in UTC: {text!r}")
    year, month, day, hour, minute, second = (int(field) for field in fields.groups()[:6])
    days = date(year, month, day).toordinal() - date(1970, 1, 1).toordinal()
    fraction = int((fields[7] or "").ljust(9, "0"))
    return days * DAY + (hour * 3600 + minute * 60 + second) * SECOND + fraction


def text(moment):
    """RFC 3339 with Z and as few digits of 0, 3, 6 or 9 as the instant needs."""
    days, rest = divmod(moment, DAY)
    seconds, fraction = divmod(rest, SECOND)
    day = date.fromordinal(days + date(1970, 1, 1).toordinal())
    digits = next(n for n in (0, 3, 6, 9) if fraction % 10 ** (9 - n) == 0)
    tail = f".{fraction:09d}"[: digits + 1] if digits else ""
    return f"{day.isoformat()}T{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{tail}Z"


FIRST = instant("0001-01-01T00:00:00Z")
LAST = instant("9999-12-31T23:59:59.999999999Z")


@dataclass(frozen=True)
class Condition:
    """A condition of semantics 2 that holds, and the column it puts the subscription in."""

    name: str
    column: str

    @property
    def severity(self):
        return STATES.index(self.column)


@dataclass(frozen=True)
class Answer:
    """What an answer must be. `until` is the first instant at which it is another one, or None for good."""

    access: str
    state: str
    reason: str
    conditions: tuple[str, ...]
    until: int | None


@dataclass(frozen=True)
class Turn:
    """An instant from which other conditions or another state hold."""

    at: int
    state: str
    conditions: tuple[str, ...]


class Outlook:
    """One set of facts, seen from one instant onward, while nothing but time passes."""

    def __init__(self, facts, at):
        self.facts, self.at = facts, at
        self.expires_at = instant(facts["expires_at"])
        disabled = facts.get("disabled_by_licensing")
        self.disabled_since = instant(disabled["since"]) if disabled else None
        told = facts["users"].get("overused_since")
        self.overused_since = instant(told) if told else at

    def answer(self, operation, role="user", delivery="vendor_credits"):
        """The answer to one question."""
        (_, now), *later = self._moments
        asked = (operation, role, delivery)
        first = decide(now, *asked)
        until = next((moment for moment, held in later if decide(held, *asked) != first), None)
        return Answer(*first, tuple(condition.name for condition in now), until)

    def conditions(self):
        """The conditions that hold now, in the order of semantics 2."""
        return self._moments[0][1]

    def turns(self):
        """Every later instant at which the state or the list of conditions turns."""
        (_, before), *later = self._moments
        turns, last = [], (state_of(before), names(before))
        for moment, held in later:
            here = (state_of(held), names(held))
            if here != last:
                turns.append(Turn(moment, *here))
                last = here
        return turns

    @cached_property
    def _moments(self):
        """Now and every later instant at which anything can turn, each with what holds then."""
        clocks = [self.expires_at, self.disabled_since, self.overused_since]
        edges = {
            clock + days * DAY + nudge
            for clock in clocks
            if clock is not None
            for days in (-30, 0, 7, 30)
            for nudge in (-1, 0, 1)
        }
        later = sorted(edge for edge in edges if self.at < edge <= LAST)
        return [(moment, self._conditions_at(moment)) for moment in [self.at, *later]]

    def _conditions_at(self, moment):
        if self.facts["activation"]["state"] == "not_activated":
            return [Condition("not_activated", NOT_ACTIVATED)]
        return [Condition(name, column) for name, column in self._columns_at(moment) if column is not None]

    def _columns_at(self, moment):
        """Each condition of semantics 2.1 to 2.10 in order, with its column, or None where it does not hold."""
        left = self.expires_at - moment
        yield "expires_soon", WARNING if 0 < left < 30 * DAY else None
        yield from self._columns_of_counts
        yield "expired", column_after(-left)
        if self.disabled_since is not None:
            yield "disabled_by_licensing", column_after(moment - self.disabled_since)
        yield "users_overused", self._overuse_at(moment)
        yield "deactivated", DISABLED if self.facts["activation"]["state"] == "deactivated" else None

    @cached_property
    def _columns_of_counts(self):
        """Semantics 2.2 to 2.6, which time does not change."""
        credits = self.facts.get("sms_credits")
        return [
            ("seats_low", WARNING if seats_low(**self._seats) else None),
            ("sms_credits_low", WARNING if credits in range(1, 11) else None),
            ("all_users_near_limit", WARNING if near_limit(**self.facts["all_users"]) else None),
            ("components_near_limit", WARNING if near_limit(**self.facts["components"]) else None),
            ("sms_credits_depleted", DEPLETED if credits == 0 else None),
        ]

    @property
    def _seats(self):
        return {key: self.facts["users"][key] for key in ("active", "licensed")}

    def _overuse_at(self, moment):
        active, licensed = self._seats.values()
        if active <= licensed:
            return None
        if licensed == 0 or Fraction(active - licensed, licensed) > Fraction(1, 10):
            return LIMITED
        return FULL if moment - self.overused_since <= 7 * DAY else LIMITED


def seats_low(active, licensed):
    """Semantics 2.2: less than 10 % and less than 10 seats are free."""
    if licensed == 0 or active > licensed:
        return False
    free = licensed - active
    return Fraction(free, licensed) < Fraction(10, 100) and free < 10


def near_limit(count, limit):
    """Semantics 2.4 and 2.5: more than 90 % of a limit, if there is one."""
    return limit != 0 and Fraction(count, limit) > Fraction(90, 100)


def column_after(elapsed):
    """Semantics 2.7 and 2.8: where the time since an end puts a subscription."""
    if elapsed < 0:
        return None
    if elapsed <= 7 * DAY:
        return FULL
    return LIMITED if elapsed <= 30 * DAY else DISABLED


def names(conditions):
    """The names of conditions, in their order."""
    return tuple(condition.name for condition in conditions)


def state_of(conditions):
    """Semantics 3: the most severe column of all that hold."""
    return STATES[max((condition.severity for condition in conditions), default=0)]


def allows(state, operation):
    """The printed cell of an operation's row under a state."""
    return CELLS[ROW_OF[operation]][min(STATES.index(state), len(TABLE_COLUMNS) - 1)]


def decide(conditions, operation, role, delivery):
    """Semantics 4: access, state and reason of one question while these conditions hold."""
    state = state_of(conditions)
    credits_count = operation != "verify_sms_otp" and delivery != "own_gateway"
    counted = [c for c in conditions if credits_count or c.name != "sms_credits_depleted"]
    denying = [c for c in counted if not allows(c.column, operation)]
    if not denying:
        return "allowed", state, "allowed"
    if role == "administrator" and operation in FOOTNOTE_3 and state in (NOT_ACTIVATED, DISABLED):
        return "allowed", state, "administrator_exception"
    # `max` keeps the first of equals: the order of semantics 2.
    worst = max(denying, key=lambda condition: condition.severity)
    return "disabled", state, REASONS.get(worst.name, worst.name)
