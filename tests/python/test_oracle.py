"""The oracle against answers worked out by hand, and against the letter of the printed table.

It runs without the sidecar: it shows that what the sidecar is compared with can itself be trusted.
"""

import pytest

from examples import AT, BOUNDARIES, BOUNDARY_NAMES, facts, kinds
from oracle import (
    CELLS,
    COLUMNS,
    DAY,
    LAST,
    ROW_OF,
    ROWS,
    TABLE_COLUMNS,
    Outlook,
    Title,
    allows,
    instant,
    text,
)

EXCEPTION = "administrator_exception"

# kind of facts, operation, role, delivery, access, state, reason
ANSWERS = """
in order                       | enable_users                  | user          | vendor_credits | allowed  | ok                              | allowed
credits depleted               | authenticate_with_sms_otp     | user          | vendor_credits | disabled | sms_credits_depleted            | sms_credits_depleted
credits depleted               | authenticate_with_sms_otp     | user          | own_gateway    | allowed  | sms_credits_depleted            | allowed
credits depleted               | verify_sms_otp                | user          | vendor_credits | allowed  | sms_credits_depleted            | allowed
credits depleted               | enable_users                  | user          | vendor_credits | allowed  | sms_credits_depleted            | allowed
depleted in a violation        | authenticate_with_sms_otp     | user          | vendor_credits | disabled | violation_full_functionality    | sms_credits_depleted
depleted in a violation        | authenticate_with_sms_otp     | user          | own_gateway    | allowed  | violation_full_functionality    | allowed
expired for 3 days             | enable_users                  | user          | vendor_credits | allowed  | violation_full_functionality    | allowed
expired for 10 days            | enable_users                  | user          | vendor_credits | disabled | violation_limited_functionality | subscription_expired
expired for 10 days            | provision_users               | administrator | vendor_credits | disabled | violation_limited_functionality | subscription_expired
expired for 10 days            | disable_users                 | administrator | vendor_credits | allowed  | violation_limited_functionality | allowed
expired for 10 days            | self_enroll                   | user          | vendor_credits | allowed  | violation_limited_functionality | allowed
overused for long, then expired| enable_users                  | user          | vendor_credits | disabled | violation_limited_functionality | users_overused
expired for 40 days            | disable_users                 | user          | vendor_credits | disabled | disabled                        | subscription_expired
expired for 40 days            | disable_users                 | administrator | vendor_credits | allowed  | disabled                        | administrator_exception
expired for 40 days            | disable_users                 | service       | vendor_credits | disabled | disabled                        | subscription_expired
suspended for 40 days          | turn_off_authentication       | administrator | vendor_credits | allowed  | disabled                        | administrator_exception
suspended for 40 days          | turn_off_authentication       | user          | vendor_credits | disabled | disabled                        | disabled_by_licensing
suspended for 40 days          | manage_configuration          | administrator | vendor_credits | disabled | disabled                        | disabled_by_licensing
deactivated                    | authenticate_with_fido        | user          | vendor_credits | disabled | disabled                        | deactivated
not activated                  | authenticate_with_hard_token  | user          | vendor_credits | disabled | not_activated                   | not_activated
not activated                  | turn_off_authentication       | administrator | vendor_credits | allowed  | not_activated                   | administrator_exception
everything at once             | authenticate_with_sms_otp     | user          | own_gateway    | disabled | disabled                        | subscription_expired
everything at once             | authenticate_with_mobile_push | user          | vendor_credits | disabled | disabled                        | subscription_expired
"""  # noqa: E501

# facts at AT, operation, until after AT
UNTILS = [
    ({}, "enable_users", 370 * DAY + 1),
    ({"expires": 30 * DAY}, "enable_users", 1),
    ({"expires": 10 * DAY}, "enable_users", 10 * DAY),
    ({"expires": -3 * DAY}, "enable_users", 4 * DAY + 1),
    ({"expires": -3 * DAY}, "disable_users", 4 * DAY + 1),
    ({"expires": -10 * DAY}, "enable_users", 20 * DAY + 1),
    ({"expires": -40 * DAY}, "enable_users", None),
    ({"disabled": -DAY}, "enable_users", DAY),
    ({"disabled": 7 * DAY}, "enable_users", 1),
    ({"users": (105, 100), "overused": 3 * DAY}, "enable_users", 4 * DAY + 1),
    ({"users": (105, 100), "overused": -DAY}, "enable_users", 8 * DAY + 1),
    ({"users": (105, 100)}, "enable_users", 7 * DAY + 1),
    # The state stays, the reason turns: expiry, as severe from now on, comes before overuse in section 2.
    ({"users": (150, 100), "expires": -7 * DAY}, "enable_users", 1),
    # And for an operation that both allow, nothing turns before the product is disabled.
    ({"users": (150, 100), "expires": -7 * DAY}, "disable_users", 23 * DAY + 1),
    ({"activation": {"state": "not_activated"}}, "enable_users", None),
    ({"activation": {"state": "deactivated", "since": "2026-06-01T00:00:00Z"}}, "enable_users", 430 * DAY + 1),
]


def rows_of(table):
    return [tuple(cell.strip() for cell in line.split("|")) for line in table.strip().splitlines()]


@pytest.mark.parametrize("row", rows_of(ANSWERS), ids="-".join)
def test_answers_are_as_worked_out_by_hand(row):
    kind, operation, role, delivery, *expected = row
    answer = Outlook(kinds()[kind], AT).answer(operation, role, delivery)
    assert [answer.access, answer.state, answer.reason] == expected


@pytest.mark.parametrize(("rule", "changes", "conditions", "state"), BOUNDARIES, ids=BOUNDARY_NAMES)
def test_each_side_of_each_boundary_is_as_worked_out_by_hand(rule, changes, conditions, state):
    answer = Outlook(facts(**changes), AT).answer("self_enroll")
    assert (list(answer.conditions), answer.state) == (conditions, state)


@pytest.mark.parametrize(("changes", "operation", "after"), UNTILS)
def test_until_is_the_first_instant_of_another_answer(changes, operation, after):
    assert Outlook(facts(**changes), AT).answer(operation).until == (None if after is None else AT + after)


def test_an_until_past_the_last_instant_is_for_good():
    ending = facts() | {"expires_at": text(LAST - DAY)}
    assert Outlook(ending, LAST - 2 * DAY).answer("enable_users").until == LAST - DAY
    assert Outlook(ending, LAST - DAY).answer("enable_users").until is None


def test_all_conditions_are_reported_in_the_order_of_section_2():
    assert Outlook(kinds()["everything at once"], AT).answer("enable_users").conditions == (
        "all_users_near_limit",
        "components_near_limit",
        "sms_credits_depleted",
        "expired",
        "disabled_by_licensing",
        "users_overused",
        "deactivated",
    )


def test_the_administrator_gains_nothing_beyond_footnote_3():
    for name, told in kinds().items():
        for operation in ROW_OF:
            user, administrator = (Outlook(told, AT).answer(operation, role) for role in ("user", "administrator"))
            if administrator.reason == EXCEPTION:
                assert operation in ("disable_users", "turn_off_authentication"), name
                assert user.access == "disabled" and user.state in ("disabled", "not_activated"), name
            else:
                assert (administrator.access, administrator.reason) == (user.access, user.reason), name


def test_the_printed_table_is_read_cell_by_cell():
    assert len(ROWS.strip().splitlines()) == 7 and len(COLUMNS.strip().splitlines()) == 6
    assert sum(len(cells) for cells in CELLS.values()) == 42
    assert [title for title, cells in CELLS.items() if not cells[4]] == ["Enable Users for 2FA", "Provision Users"]
    assert [title for title, cells in CELLS.items() if not cells[2]] == ["Authenticate with SMS OTP"]
    assert not any(cells[5] for cells in CELLS.values())
    assert all(cells[0] and cells[1] and cells[3] for cells in CELLS.values())
    assert TABLE_COLUMNS[5] == Title("Not activated or ESET Secure Authentication disabled", (3,))
    assert allows("not_activated", "enable_users") == allows("disabled", "enable_users") is False


def test_every_operation_follows_a_row_that_is_printed():
    assert set(ROW_OF.values()) == set(CELLS) and len(ROW_OF) == 12


@pytest.mark.parametrize(
    ("written", "nanoseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59.999999999Z", -1),
        ("2001-09-09T01:46:40Z", 10**18),
        ("2001-09-09T01:46:40.120Z", 10**18 + 120_000_000),
        ("2001-09-09T01:46:40.000001Z", 10**18 + 1000),
        ("2024-02-29T00:00:00Z", 19_782 * DAY),
        ("0001-01-01T00:00:00Z", -62_135_596_800 * 10**9),
        ("9999-12-31T23:59:59.999999999Z", 253_402_300_800 * 10**9 - 1),
    ],
)
def test_instants_are_read_and_written_as_rfc_3339(written, nanoseconds):
    assert instant(written) == nanoseconds
    assert text(nanoseconds) == written
