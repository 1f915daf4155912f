"""Questions over gRPC, asked by a stock client: answers for facts of every kind, refusals, and the printed table.

The facts stay as they are here. What happens when they come, change and go is in `test_grpc_facts.py`.
"""

import hashlib
import queue
import time

import grpc
import pytest

from examples import OPERATIONS, facts, kinds, questions
from oracle import DELIVERIES, ROLES, ROW_OF, STATES, TABLE, TABLE_COLUMNS, Outlook, Title, names
from wire import CALL_WITHIN, Stream, moment, number, refusal, word

INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND

ACCESS = {True: "allowed", False: "disabled"}
UNSPECIFIED = "unspecified"
# Every role and delivery the wire knows, and none.
WIRE_QUESTIONS = questions() + [(operation, UNSPECIFIED, UNSPECIFIED) for operation in OPERATIONS]

MALFORMED_IDS = ["3A8", "3A8WN77TD", "3A8-WN7-7T!", "3A8-WN7-7TD-", " 3A8-WN7-7TD", "3A8-WN7-7T\u00c4", "x" * 1000]


def expected(outlook, operation, role, delivery):
    role = "user" if role in (None, UNSPECIFIED) else role
    delivery = "vendor_credits" if delivery in (None, UNSPECIFIED) else delivery
    answer = outlook.answer(operation, role, delivery)
    return answer.access, answer.state, answer.reason, answer.until


def check(protocol, asked, answers):
    """Compares answers with the oracle: (facts, question) each, and the answer to each."""
    assert len(answers) == len(asked)
    outlooks = {}
    for (told, question), answer in zip(asked, answers, strict=True):
        outlook = outlooks.setdefault(told["subscription_id"], Outlook(told, time.time_ns()))
        assert protocol.told(answer) == expected(outlook, *question), (told, question)
        assert answer.revision > 0
        assert moment(answer, "as_of") <= time.time_ns()
        assert not answer.stale and not answer.role_not_vouched


def all_asked(held):
    return [(told, question) for told in held.facts.values() for question in WIRE_QUESTIONS]


def ask(protocol, told, question):
    return protocol.question(*question, subscription=told["subscription_id"])


@pytest.mark.parametrize("index", range(len(kinds())), ids=list(kinds()))
def test_authorize_answers_every_question_by_the_table(protocol, everything, index):
    told = list(everything.facts.values())[index]
    asked = [(told, question) for question in WIRE_QUESTIONS]
    call = everything.client.stub.Authorize
    check(protocol, asked, [call(ask(protocol, *each), timeout=CALL_WITHIN) for each in asked])


def test_a_batch_answers_every_question_in_order(protocol, everything):
    asked = all_asked(everything)
    answers = []
    for start in range(0, len(asked), 1_000):
        batch = protocol.messages.BatchAuthorizeRequest()
        batch.questions.extend(ask(protocol, *each) for each in asked[start : start + 1_000])
        answer = everything.client.stub.BatchAuthorize(batch, timeout=CALL_WITHIN)
        answers += [result.response for result in answer.results]
    check(protocol, asked, answers)


def test_a_stream_answers_every_question_in_order(protocol, everything):
    asked = all_asked(everything)
    requests = (protocol.messages.StreamAuthorizeRequest(question=ask(protocol, *each)) for each in asked)
    answers = everything.client.stub.StreamAuthorize(requests, timeout=60)
    check(protocol, asked, [answer.response for answer in answers])


def test_a_stream_answers_each_question_before_the_next_and_goes_on_after_an_error(protocol, everything):
    questions_to_ask = queue.SimpleQueue()
    told = next(iter(everything.facts.values()))
    good = protocol.question("enable_users", subscription=told["subscription_id"])
    bad = protocol.question(99, subscription=told["subscription_id"])
    with Stream(everything.client.stub.StreamAuthorize(iter(questions_to_ask.get, None))) as answers:
        for question, result in [(good, "response"), (bad, "error"), (good, "response")]:
            questions_to_ask.put(protocol.messages.StreamAuthorizeRequest(question=question))
            assert answers.next().WhichOneof("result") == result
        questions_to_ask.put(None)
        assert answers.rest() == ([], grpc.StatusCode.OK)


def test_a_batch_of_1000_is_answered_and_of_1001_refused(protocol, everything):
    public_id = next(iter(everything.facts))
    question = protocol.question("enable_users", subscription=public_id)
    call = everything.client.stub.BatchAuthorize
    full = protocol.messages.BatchAuthorizeRequest(questions=[question] * 1_000)
    assert len(call(full, timeout=CALL_WITHIN).results) == 1_000
    check_refused(call, protocol.messages.BatchAuthorizeRequest(questions=[question] * 1_001), INVALID)


def check_refused(call, request, code):
    refused, info = refusal(call, request)
    assert refused == code
    assert info.domain == "esa-sidecar"
    assert info.reason
    return info.reason


def unreadable(protocol, public_id):
    """Questions that cannot be answered and the code of each: name -> (question, code)."""
    return {
        "no subscription named where several are held": (protocol.question("enable_users"), INVALID),
        "a subscription not held": (protocol.question("enable_users", subscription="NOT-HEL-D00"), NOT_FOUND),
        "no operation": (protocol.question(0, subscription=public_id), INVALID),
        "an unknown operation": (protocol.question(99, subscription=public_id), INVALID),
        "a negative operation": (protocol.question(-1, subscription=public_id), INVALID),
        "an unknown role": (protocol.question("enable_users", role=99, subscription=public_id), INVALID),
        "an unknown delivery": (protocol.question("enable_users", delivery=99, subscription=public_id), INVALID),
    } | {
        f"malformed ID {public_id[:20]!r}": (protocol.question("enable_users", subscription=public_id), INVALID)
        for public_id in MALFORMED_IDS
    }


def test_a_question_that_cannot_be_answered_is_refused_with_a_stable_reason(protocol, everything):
    call = everything.client.stub.Authorize
    for name, (question, code) in unreadable(protocol, next(iter(everything.facts))).items():
        first, again = (check_refused(call, question, code) for _ in range(2))
        assert first == again, name


def test_bad_questions_of_a_batch_get_their_own_error_and_the_others_an_answer(protocol, everything):
    told = next(iter(everything.facts.values()))
    good = ("enable_users", "user", "vendor_credits")
    bad = list(unreadable(protocol, told["subscription_id"]).values())
    batch = protocol.messages.BatchAuthorizeRequest()
    for question, _ in bad:
        batch.questions.extend([question, ask(protocol, told, good)])
    results = list(everything.client.stub.BatchAuthorize(batch, timeout=CALL_WITHIN).results)
    check(protocol, [(told, good)] * len(bad), [result.response for result in results[1::2]])
    for (question, code), result in zip(bad, results[::2], strict=True):
        assert result.WhichOneof("result") == "error", question
        assert result.error.code == code.value[0], question
        assert result.error.reason == check_refused(everything.client.stub.Authorize, question, code)
        assert result.error.message


def test_the_other_calls_refuse_an_unheld_and_a_malformed_id_alike(protocol, everything):
    stub, messages = everything.client.stub, protocol.messages
    for call, request in [
        (stub.GetSubscription, messages.GetSubscriptionRequest),
        (stub.ReportUsage, messages.ReportUsageRequest),
        (stub.RefreshSubscription, messages.RefreshSubscriptionRequest),
        (stub.Simulate, messages.SimulateRequest),
    ]:
        check_refused(call, request(subscription_id="NOT-HEL-D00"), NOT_FOUND)
        check_refused(call, request(subscription_id="3A8"), INVALID)
    for public_id, code in [("NOT-HEL-D00", NOT_FOUND), ("3A8", INVALID), ("", INVALID)]:
        with Stream(stub.WatchSubscription(messages.WatchSubscriptionRequest(subscription_id=public_id))) as watch:
            assert watch.rest() == ([], code)


def test_with_one_subscription_held_no_id_is_needed(protocol, serve):
    told = facts(time.time_ns())
    with serve(told) as client:
        answer = client.stub.Authorize(protocol.question("enable_users"), timeout=CALL_WITHIN)
        check(protocol, [(told, ("enable_users", None, None))], [answer])
        held = client.stub.GetSubscription(protocol.messages.GetSubscriptionRequest(), timeout=CALL_WITHIN)
        assert held.subscription.subscription_id == told["subscription_id"]


def test_questions_are_answered_on_a_unix_socket_as_well(protocol, serve, tmp_path_factory):
    socket = tmp_path_factory.mktemp("s") / "s"
    told = facts(time.time_ns())
    with serve(told, listen=f"unix:{socket}") as client:
        assert client.sidecar.enforcement == f"unix:{socket}"
        answer = client.stub.Authorize(protocol.question("enable_users"), timeout=CALL_WITHIN)
        check(protocol, [(told, ("enable_users", None, None))], [answer])


def get(protocol, client, public_id=""):
    request = protocol.messages.GetSubscriptionRequest(subscription_id=public_id)
    return client.stub.GetSubscription(request, timeout=CALL_WITHIN).subscription


@pytest.mark.parametrize("index", range(len(kinds())), ids=list(kinds()))
def test_get_subscription_tells_all_that_is_held(protocol, everything, index):
    told = list(everything.facts.values())[index]
    asked_at = time.time_ns()
    held = get(protocol, everything.client, told["subscription_id"])
    outlook = Outlook(told, moment(held, "evaluated_at"))

    assert asked_at <= outlook.at <= time.time_ns()
    assert held.facts == protocol.facts(told)
    assert held.subscription_id == told["subscription_id"]
    assert word(protocol.held.SubscriptionState, held.state) == outlook.answer("enable_users").state
    assert kinds_of(protocol, held) == names(outlook.conditions())
    check_numbers_of_conditions(protocol, told, held, outlook)
    check_usage(told, held.usage)
    assert protocol.held.Origin.Name(held.provenance.origin) == "ORIGIN_FILE"
    assert held.provenance.revision > 0 and not held.provenance.stale
    assert held.provenance.age.ToNanoseconds() == outlook.at - moment(held.provenance, "as_of") >= 0


def kinds_of(protocol, held):
    return tuple(word(protocol.held.ConditionKind, condition.kind) for condition in held.conditions)


def check_numbers_of_conditions(protocol, told, held, outlook):
    facts_held = held.facts
    seats = (facts_held.users.active, facts_held.users.licensed)
    numbers = {
        "seats_low": seats,
        "users_overused": seats,
        "all_users_near_limit": (facts_held.all_users.count, facts_held.all_users.limit),
        "components_near_limit": (facts_held.components.count, facts_held.components.limit),
        "sms_credits_low": (facts_held.sms_credits, None),
        "sms_credits_depleted": (0, None),
    }
    since = {
        "expired": moment(facts_held, "expires_at"),
        "disabled_by_licensing": moment(facts_held.disabled_by_licensing, "since"),
        "users_overused": moment(facts_held.users, "overused_since"),
        "deactivated": moment(facts_held.activation, "since"),
    }
    for condition, expects in zip(held.conditions, outlook.conditions(), strict=True):
        name = expects.name
        assert word(protocol.held.SubscriptionState, condition.column) == expects.column
        count, limit = (optional(condition, field) for field in ("count", "limit"))
        assert (count, limit) == numbers.get(name, (None, None)), name
        assert moment(condition, "since") == since.get(name), name
        assert moment(condition, "expires_at") == (outlook.expires_at if name == "expires_soon" else None)
        disabled_by = told["disabled_by_licensing"]["reason"] if name == "disabled_by_licensing" else ""
        assert condition.licensing_reason == disabled_by


def optional(message, field):
    return getattr(message, field) if message.HasField(field) else None


def check_usage(told, usage):
    assert (usage.active_users, usage.licensed_users) == (told["users"]["active"], told["users"]["licensed"])
    assert (usage.all_users, usage.all_users_limit) == tuple(told["all_users"].values())
    assert (usage.components, usage.components_limit) == tuple(told["components"].values())
    assert optional(usage, "sms_credits") == told["sms_credits"]


def test_the_restriction_table_is_the_printed_one(protocol, everything):
    table = everything.client.stub.GetRestrictionTable(
        protocol.messages.GetRestrictionTableRequest(), timeout=CALL_WITHIN
    )
    assert [Title(column.title, tuple(column.footnotes)) for column in table.columns] == TABLE_COLUMNS
    state = protocol.held.SubscriptionState
    stands_for = [{word(state, each) for each in column.states} for column in table.columns]
    assert stands_for == [{each} for each in STATES[:5]] + [set(STATES[5:])]

    printed = [
        (Title(row.title, tuple(row.footnotes)), [word(protocol.messages.Access, cell) for cell in row.cells])
        for row in table.rows
    ]
    assert printed == [(row, [ACCESS[allowed] for allowed in cells]) for row, cells in TABLE.items()]
    assert [row.row for row in table.rows] == list(range(1, 8))
    follows = {word(protocol.messages.Operation, each): row.title for row in table.rows for each in row.operations}
    assert follows == ROW_OF
    assert [footnote.number for footnote in table.footnotes] == [1, 2, 3]
    assert all(footnote.text for footnote in table.footnotes)


def test_the_sha_256_of_the_table_can_be_recomputed_and_is_repeated_with_each_subscription(protocol, everything):
    messages = protocol.messages
    table = everything.client.stub.GetRestrictionTable(messages.GetRestrictionTableRequest(), timeout=CALL_WITHIN)
    row_names = {row.text: word(messages.RestrictionRow, place) for place, row in enumerate(TABLE, start=1)}
    column_names = [*STATES[:5], "not_activated_or_disabled"]
    lines = [
        f"{row_names[row.text]}\t{column}\t{ACCESS[allowed]}\n"
        for row, cells in TABLE.items()
        for column, allowed in zip(column_names, cells, strict=True)
    ]
    lines += [f"{operation}\t{row_names[ROW_OF[operation]]}\n" for operation in OPERATIONS]
    assert len(lines) == 42 + 12
    assert table.sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()
    for public_id in everything.facts:
        assert get(protocol, everything.client, public_id).restriction_table_sha256 == table.sha256


def test_every_name_of_the_wire_is_the_name_of_the_documents(protocol):
    """Holds the protos to the words the oracle speaks, so that nothing is left uncompared."""
    messages, held = protocol.messages, protocol.held
    for enum, words in [
        (messages.Operation, OPERATIONS),
        (messages.ActorRole, ROLES),
        (messages.SmsDelivery, DELIVERIES),
        (held.SubscriptionState, STATES),
    ]:
        assert {word(enum, value) for value in enum.values()} == {UNSPECIFIED, *words}
        assert [number(enum, UNSPECIFIED)] == [0]
