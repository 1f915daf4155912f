"""What authentication servers report, on its way to the licensing backend: nothing in it stops anything else.

A whole office in one process: the sidecar, and the licensing backend it asks.
"""

import hashlib
import json
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from google.protobuf.json_format import ParseDict

from person import Person
from sidecar import Running, eventually

ANY = "127.0.0.1:0"
OWNER = r"The owner's account is `owner`; its one-time password is in `(\S+)`"
LICENSE = "3A8-WN7-7TD"
PASSWORD = "correct horse battery"


class Office:
    """`serve` with a licensing backend, its owner, and a license this server is activated with."""

    def __init__(self, folder, **settings):
        self.data = folder / "data"
        self.folder = folder
        self.is_open = False
        self.settings = {"LICENSING__SUBSCRIPTION": LICENSE, "REFRESH__AT_MOST_EVERY": "10ms", "LICENSING__SMS_DELAY": "10ms"} | settings

    @contextmanager
    def runs(self):
        """From its start to its end, each time anew on the same folder."""
        listen = ["--listen", ANY, "--probe-listen", ANY, "--licensing-listen", ANY]
        arguments = ["serve", *listen, "--data-dir", self.data]
        with Running(arguments, ["enforcement", "probes", "licensing"], self.data, **self.settings) as running:
            self.running = running
            self.owner = Person(self.folder / "owner", running.licensing, running.enforcement)
            if self.is_open:
                self.owner.signs_in("owner", PASSWORD)
            yield self

    def is_founded(self):
        """The owner issues a license with 1,000 SMS credits and activates this server."""
        once = Path(self.running.line(OWNER)[1]).read_text(encoding="utf-8").strip()
        self.owner.signs_in_first("owner", once, PASSWORD)
        self.is_open = True
        limits = ["--seats", 100, "--sms-credits", 1000]
        key = self.owner.does("licenses", "create", "--id", LICENSE, "--expires-in", "365d", *limits).told_once
        self.key_file = self.owner.file("key", key)
        options = ["--device-name", "esa", "--data-dir", self.data]
        self.owner.does("activate", "--license-key-file", self.key_file, *options)
        eventually(lambda: self.status()["state"] == "ok")

    def status(self):
        """What the sidecar says."""
        return self.owner.does("status", "--json").json

    def at_backend(self):
        """SMS credits that are left at the backend."""
        [license] = self.owner.all("licenses")
        return license["sms_credits"]


def test_what_no_backend_takes_is_refused_when_it_is_reported_and_the_next_report_counts(tmp_path, protocol):
    office = Office(tmp_path)
    with office.runs():
        office.is_founded()
        messages = protocol.messages
        with grpc.insecure_channel(office.running.enforcement) as channel:
            stub = protocol.stub(channel)
            for report, field in (
                ({"sms_sent": [{"id": "good"}, {"id": "a\nb"}]}, "sms_sent[1].id"),
                ({"sms_sent": [{"id": "\t"}]}, "sms_sent[0].id"),
                ({"sms_sent": [{"id": "a", "credits": 2**32 - 1}]}, "sms_sent[0].credits"),
                ({"components": 2**60}, "components"),
                ({"active_users": 10**12 + 1}, "active_users"),
            ):
                with pytest.raises(grpc.RpcError) as refused:
                    stub.ReportUsage(ParseDict(report, messages.ReportUsageRequest()))
                assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
                assert field in refused.value.details()
        for wrong in (["--sms", "t\tab"], ["--active-users", 10**12 + 1], ["--components", -1]):
            assert office.owner.types("report-usage", *wrong).status == 2, wrong
        office.owner.does("report-usage", "--active-users", 99, "--sms", "one", "--sms", "two=2")
        eventually(lambda: office.at_backend() == 997)
        eventually(lambda: office.status()["facts"]["users"]["active"] == 99)
        told = office.status()
        assert (told["provenance"]["last_failure"], told["usage"]["sms_credits"]) == (None, 997)


def test_a_journal_with_what_nobody_takes_stops_nothing_and_says_what_it_held(tmp_path):
    office = Office(tmp_path)
    with office.runs():
        office.is_founded()
    sms = [[1, "a\nb", 1], [2, "good", 3], [3, "", 1], [4, "dear", 2**32 - 1], [5, "x" * 65, 1], [6, "fine", 4]]
    at = "2026-01-01T00:00:00Z"
    counts = {"number": 7, "active_users": 2**60, "all_users": 30, "components": None, "at": at}
    with (office.data / "usage.journal").open("a", encoding="utf-8") as journal:
        if journal.tell() == 0:
            journal.write("esa-sidecar usage 1\n")
        for line in ({"counts": None, "sms": sms}, {"counts": counts, "sms": []}):
            written = json.dumps({"reported": {"id": LICENSE} | line})
            journal.write(f"{hashlib.sha256(written.encode()).hexdigest()[:16]} {written}\n")
    with office.runs():
        eventually(lambda: office.at_backend() == 993)
        eventually(lambda: office.status()["facts"]["all_users"]["count"] == 30)
        office.owner.does("report-usage", "--active-users", 12, "--sms", "later")
        eventually(lambda: office.at_backend() == 992)
        eventually(lambda: office.status()["facts"]["users"]["active"] == 12)
        told = office.status()
        assert told["provenance"]["last_failure"] is None
        assert (told["pending_usage"]["set_aside"], told["pending_usage"]["sms_waiting"]) == (5, 0)
        assert "5 SMS and counts" in office.owner.does("status").out
    lines = (office.data / "usage.set-aside.jsonl").read_text(encoding="utf-8").splitlines()
    told = [json.loads(line) for line in lines]
    assert [item.get("sms_id", item.get("count")) for item in told] == ["a\nb", "", "dear", "x" * 65, "active_users"]
    assert all(item["reason"] and item["subscription_id"] == LICENSE for item in told)


def units_file(office):
    """The units of this server, as they are kept."""
    return json.loads((office.data / "units.json").read_text(encoding="utf-8"))


def syncs(protocol, office, unit, secret=None, **request):
    """A sync as whoever has the credential of a unit can make it: what is signed, and what was refused."""
    messages = protocol.licensing
    request = {"unit": {"unit_id": unit["unit_id"]}, "nonce": "AAAAAAAAAAAAAAAAAAAAAA=="} | request
    bearer = [("authorization", f"Bearer esau_{unit['unit_id']}_{secret or unit['secret']}")]
    with grpc.insecure_channel(office.running.licensing) as channel:
        stub = messages.stub("sync", channel)
        answer = stub.Sync(ParseDict(request, messages.SyncRequest()), metadata=bearer)
    return messages.SubscriptionFacts.FromString(answer.facts.payload).facts, answer.refused


def test_whoever_has_the_credential_of_a_deactivated_unit_spends_and_hears_nothing(tmp_path, protocol):
    office = Office(tmp_path, REFRESH__INTERVAL="1h")
    drain = {"usage": {"sms_sent": [{"id": str(number), "credits": 100} for number in range(1000)]}}
    with office.runs():
        office.is_founded()
        office.owner.does("report-usage", "--active-users", 5, "--sms", "before")
        eventually(lambda: office.at_backend() == 999)
        [unit] = units_file(office)["units"]
        told, _ = syncs(protocol, office, unit)
        assert (told.users.active, told.users.licensed, told.sms_credits) == (5, 100, 999)
        office.owner.does("units", "deactivate", unit["unit_id"])
        eventually(lambda: office.owner.all("units", "--state", "deactivated"))
        told, refused = syncs(protocol, office, unit, **drain)
        assert [(item.sms_position, item.sms_count, item.HasField("retry_after")) for item in refused] == [(0, 1000, False)]
        assert office.at_backend() == 999
        assert told.activation.HasField("since")
        facts = [field.name for field, _ in told.ListFields()]
        assert facts == ["subscription_id", "activation"]
        # The sidecar reads that, and an administrator may still turn 2FA off.
        assert eventually(lambda: office.status()["state"] == "disabled")
        asked = office.owner.types("authorize", "disable_users", "--actor", "administrator", "--json")
        assert (asked.status, asked.json["reason"]) == (0, "administrator_exception")
        office.owner.does("units", "revoke-secret", unit["unit_id"])
        with pytest.raises(grpc.RpcError) as refused:
            syncs(protocol, office, unit)
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        told = [(entry["action"], entry["outcome"]) for entry in office.owner.all("audit")]
        assert ("unit.sms_sent", "done") in told
        assert ("unit.revoke_secret", "done") in told


def test_more_sms_than_a_unit_can_send_wait_at_the_sidecar_and_everything_else_counts(tmp_path):
    office = Office(tmp_path, BACKEND__SMS_CREDITS="5")
    with office.runs():
        office.is_founded()
        office.owner.does("report-usage", "--sms", "dear=600", "--sms", "cheap=5")
        eventually(lambda: office.at_backend() == 995)
        told = eventually(lambda: (told := office.status())["usage"]["sms_credits"] == 395 and told)
        pending = told["pending_usage"]
        assert (pending["sms_waiting"], pending["sms_deferred"], pending["set_aside"]) == (1, 1, 0)
        assert "backend.sms_credits" in pending["reason"]
        office.owner.does("report-usage", "--active-users", 8, "--sms", "another=4")
        eventually(lambda: office.at_backend() == 991)
        eventually(lambda: office.status()["facts"]["users"]["active"] == 8)
        assert office.status()["provenance"]["last_failure"] is None
    office.settings |= {"BACKEND__SMS_CREDITS": "600"}
    with office.runs():
        eventually(lambda: office.at_backend() == 391)
        eventually(lambda: office.status()["pending_usage"] is None)


def test_a_server_renews_its_secret_and_a_crash_on_the_way_leaves_one_that_opens(tmp_path, protocol):
    office = Office(tmp_path, LICENSING__SECRET_AGE="1ms")
    with office.runs():
        office.is_founded()
        first = units_file(office)["units"][0]
        office.owner.does("report-usage", "--active-users", 3)
        renewed = eventually(
            lambda: (unit := units_file(office)["units"][0])["secret"] != first["secret"] and "next_secret" not in unit and unit
        )
        assert renewed["unit_id"] == first["unit_id"]
        with pytest.raises(grpc.RpcError) as refused:
            syncs(protocol, office, first)
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        eventually(lambda: office.status()["facts"]["users"]["active"] == 3)
    office.settings |= {"LICENSING__SECRET_AGE": "30d"}
    last = units_file(office)
    # Before the backend heard of the next one; after it did; and after it was used, with the old one still on disk.
    unknown, known = "next-that-nobody-was-told-of-012345678901234", "next-that-was-told-01234567890123456789012345"
    for step in ("not told", "told", "used"):
        unit = last["units"][0]
        present, following = unit["secret"], known if step != "not told" else unknown
        with office.runs():
            if step != "not told":
                digest = hashlib.sha256(following.encode()).hexdigest()
                syncs(protocol, office, unit, next_secret_sha256=digest)
            if step == "used":
                syncs(protocol, office, unit, secret=following)
        unit |= {"secret": present, "next_secret": following}
        (office.data / "units.json").write_text(json.dumps(last), encoding="utf-8")
        with office.runs():
            done = eventually(lambda: (units := units_file(office))["units"][0]["secret"] != present and units)
            assert done["units"][0]["secret"] == following, step
            assert "next_secret" not in done["units"][0]
            office.owner.does("report-usage", "--sms", f"after {step}")
            assert office.status()["provenance"]["last_failure"] is None
        last = done
        known += step.replace(" ", "")
