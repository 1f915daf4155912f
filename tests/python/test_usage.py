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
        self.settings = {"LICENSING__SUBSCRIPTION": LICENSE, "REFRESH__AT_MOST_EVERY": "10ms"} | settings

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
