"""Unit Management from the first sign-in to a server that was deactivated: through the command line alone.

Every process is a real one on any port, every person has a home of their own. That a change counts at a sidecar is
read off `status --watch`, and has to be seen within a second of the command that made it.
"""

import csv
import io
import json
import shutil
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from person import Person
from sidecar import Running, eventually

TOOL = Path(__file__).parents[1] / "postgres"
ANY = "127.0.0.1:0"
OWNER = r"The owner's account is `owner`; its one-time password is in `(\S+)`"
LICENSE = "3A8-WN7-7TD"
SECOND = 1.0


@pytest.fixture(scope="session")
def postgres():
    """Starts PostgreSQL servers of the tests' own: `url = postgres()`."""
    with ExitStack() as stack:

        def start():
            # A short path: a Unix socket's may have 107 bytes.
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="esa-", dir="/tmp")))
            folder.chmod(0o755)
            server = folder / "server"
            stack.callback(subprocess.run, [TOOL, "stop", server], check=False)
            told = subprocess.run([TOOL, "start", server], stdout=subprocess.PIPE, text=True, check=True)
            return told.stdout.strip()

        yield start


def one_time_password(backend):
    """What the first owner signs in with: in a file for its owner alone, and told nowhere else."""
    file = Path(backend.line(OWNER)[1])
    assert file.stat().st_mode & 0o777 == 0o600
    password = file.read_text(encoding="utf-8").strip()
    assert password not in backend.log()
    return password


def licensing(data, database):
    """A licensing backend by itself."""
    arguments = ["licensing", "--licensing-listen", ANY, "--probe-listen", ANY, "--data-dir", data]
    return Running([*arguments, "--database", database], ["licensing", "probes"], data)


def sidecar(data, *backends):
    """A sidecar of these backends that trusts their keys, which are shown where they run and pinned where it runs.

    A backend is `(its process, its data folder)`.
    """
    for _, home in backends:
        shown = keys(home, "show")["keys"]
        for key in shown:
            keys(data, "pin", key["public_key"])
    arguments = ["serve", "--listen", ANY, "--probe-listen", ANY, "--data-dir", data]
    urls = ",".join(f"http://{backend.licensing}" for backend, _ in backends)
    return Running(arguments, ["enforcement", "probes"], data, LICENSING__URLS=urls, LICENSING__SUBSCRIPTION=LICENSE)


def keys(data, *arguments):
    """Runs `keys` on a data folder."""
    return Person(data.parent / "operator", ANY).does("keys", *arguments, "--json", "--data-dir", data).json


@dataclass
class Office:
    """A licensing backend, the sidecar of the head office, and one of a branch which is not activated yet."""

    folder: Path
    backends: list
    head: Running
    head_data: Path
    branch: Running
    branch_data: Path
    one_time_password: str
    latencies: dict = field(default_factory=dict)

    def person(self, name, server=None):
        """Somebody with a home of their own."""
        server = self.head if server is None else server
        return Person(self.folder / f"home-{name}", self.backends[0][0].licensing, server.enforcement)


@contextmanager
def embedded(folder, _):
    """`serve` with the licensing backend in the same process."""
    data = folder / "head"
    arguments = ["serve", "--listen", ANY, "--probe-listen", ANY, "--licensing-listen", ANY, "--data-dir", data]
    listeners = ["enforcement", "probes", "licensing"]
    with Running(arguments, listeners, data, LICENSING__SUBSCRIPTION=LICENSE) as head:
        backends = [(head, data)]
        with sidecar(folder / "branch", *backends) as branch:
            yield Office(folder, backends, head, data, branch, folder / "branch", one_time_password(head))


@contextmanager
def separate(folder, postgres):
    """`licensing` on PostgreSQL, and a sidecar that asks it."""
    backend_data, data = folder / "backend", folder / "head"
    with ExitStack() as stack:
        backend = stack.enter_context(licensing(backend_data, postgres()))
        backends = [(backend, backend_data)]
        head = stack.enter_context(sidecar(data, *backends))
        branch = stack.enter_context(sidecar(folder / "branch", *backends))
        yield Office(folder, backends, head, data, branch, folder / "branch", one_time_password(backend))


@contextmanager
def replicas(folder, postgres):
    """Two `licensing` on one PostgreSQL with one key; the sidecar of the head office asks them in turn."""
    data, database = folder / "head", postgres()
    with ExitStack() as stack:
        backends = []
        for name in ("one", "other"):
            if backends:
                # Without the key that signs it would not start.
                shutil.copytree(folder / "one/licensing/keys", folder / name / "licensing/keys")
            backends.append((stack.enter_context(licensing(folder / name, database)), folder / name))
        head = stack.enter_context(sidecar(data, *backends))
        branch = stack.enter_context(sidecar(folder / "branch", *reversed(backends)))
        yield Office(folder, backends, head, data, branch, folder / "branch", one_time_password(backends[0][0]))


def owner_of(office):
    """The owner, signed in and with a password of their own."""
    owner = office.person("owner")
    owner.signs_in_first("owner", office.one_time_password, "correct horse battery")
    return owner


def security_admin(office, owner, name):
    """A security admin the owner makes, signed in and with a password of their own."""
    made = owner.does("accounts", "create", name, "--role", "security_admin")
    admin = office.person(name)
    admin.signs_in_first(name, made.told_once, f"{name}: correct horse")
    return admin


def delegates(owner, admin, name):
    """The owner offers the license, the security admin accepts it."""
    owner.does("licenses", "delegate", LICENSE, "--to", name)
    admin.does("licenses", "accept", LICENSE)


def issues(owner, seats=100, sms_credits=500):
    """The owner issues the license; its key."""
    limits = ["--seats", seats, "--sms-credits", sms_credits]
    return owner.does("licenses", "create", "--id", LICENSE, "--expires-in", "365d", *limits).told_once


def activates_head(office, owner, key):
    """The head office is activated by license key."""
    file = owner.file("key", key)
    options = ["--device-name", "esa-head", "--data-dir", office.head_data]
    owner.does("activate", "--license-key-file", file, *options)


def in_state(state):
    """Whether a description shows this state, from facts that are live."""
    return lambda told: told["state"] == state and told["provenance"]["last_failure"] is None


def within_a_second(office, what, began, shown):
    """Notes how long after the command began the change was shown."""
    office.latencies[what] = shown - began
    print(f"{what}: shown after {1000 * (shown - began):.0f} ms")
    assert shown - began < SECOND, what


@pytest.mark.parametrize("deployment", [embedded, separate], ids=lambda deployment: deployment.__name__)
def test_seats_follow_the_units_from_activation_to_deactivation(deployment, tmp_path, postgres):
    with deployment(tmp_path, postgres) as office:
        owner = owner_of(office)
        anna, ben = (security_admin(office, owner, name) for name in ("anna", "ben"))
        key = issues(owner)
        for admin, name in ((anna, "anna"), (ben, "ben")):
            delegates(owner, admin, name)
        with owner.watches() as watching:
            watching.finds(in_state("not_activated"))
            began = time.monotonic()
            activates_head(office, owner, key)
            within_a_second(office, "activated", began, watching.finds(in_state("ok"))[1])
            owner.does("report-usage", "--active-users", 70, "--all-users", 200, "--components", 2)
            watching.finds(lambda told: told["facts"]["users"]["active"] == 70)

            # Anna activates the branch, which takes the users over the seats: by less than a tenth.
            branch_options = ["--device-name", "esa-branch", "--data-dir", office.branch_data]
            anna.does("activate", "--license", LICENSE, *branch_options)
            at_branch = office.person("anna", office.branch)
            eventually(lambda: at_branch.types("status", "--json").json["state"] == "ok")
            began = time.monotonic()
            at_branch.does("report-usage", "--active-users", 35)
            told, shown = watching.finds(in_state("violation_full_functionality"))
            within_a_second(office, "the branch reports: violation", began, shown)
            assert told["facts"]["users"] | {"overused_since": None} == {
                "active": 105,
                "licensed": 100,
                "overused_since": None,
            }
            asked = owner.types("authorize", "enable_users", "--json")
            assert (asked.status, asked.json["state"]) == (0, "violation_full_functionality"), asked
            for users in (36, 37):
                # Right after the one before: it must not have to wait for longer.
                began = time.monotonic()
                at_branch.does("report-usage", "--active-users", users)
                _, shown = watching.finds(lambda told, users=users: told["facts"]["users"]["active"] == 70 + users)
                within_a_second(office, f"the branch reports {users}", began, shown)
            [license] = owner.all("licenses")
            assert (license["status"], license["active_units"]) == ("problem", 2)

            # Ben does not let Anna's unit go, and is told whose it is.
            units = {unit["device_name"]: unit for unit in owner.all("units")}
            branch_unit, head_unit = units["esa-branch"]["unit_id"], units["esa-head"]["unit_id"]
            tried = ben.types("units", "deactivate", branch_unit, head_unit, "--format", "json")
            by_account, by_key = tried.json["results"]
            assert tried.status == 1
            assert (by_account["refusal"], by_key["refusal"]) == ("other_account", "license_key")
            assert "anna" in by_account["message"] and "license key" in by_key["message"]
            assert {unit["state"] for unit in owner.all("units")} == {"active"}

            # She does, and the seats are enough again.
            began = time.monotonic()
            anna.does("units", "deactivate", branch_unit)
            _, shown = watching.finds(in_state("ok"))
            within_a_second(office, "anna deactivates: ok", began, shown)
            allowed = owner.types("authorize", "enable_users", "--json")
            assert (allowed.status, allowed.json["reason"]) == (0, "allowed")
            deactivated = ["units", "--state", "deactivated"]
            eventually(lambda: [unit["unit_id"] for unit in owner.all(*deactivated)] == [branch_unit])
            eventually(lambda: at_branch.types("authorize", "enable_users", "--json").json["reason"] == "deactivated")

            # The owner deactivates the unit of the head office itself.
            began = time.monotonic()
            owner.does("units", "deactivate", head_unit)
            _, shown = watching.finds(in_state("disabled"))
            within_a_second(office, "owner deactivates: disabled", began, shown)
        # Footnote 3.
        for role, status, reason in (("administrator", 0, "administrator_exception"), ("user", 1, "deactivated")):
            ran = owner.types("authorize", "turn_off_authentication", "--actor", role, "--json")
            assert (ran.status, ran.json["reason"]) == (status, reason), ran
        eventually(lambda: len(owner.all(*deactivated)) == 2)
        audit_tells_all(owner, branch_unit, head_unit)
        exports_agree(owner)
        the_log_stays_for_a_day(owner)


def audit_tells_all(owner, branch_unit, head_unit):
    """Who did what to what, and what came of it, in the order in which it happened."""
    entries = owner.all("audit")
    told = [(entry["actor"], entry["action"], entry["target"], entry["outcome"]) for entry in entries]
    expected = [
        ("owner", "account.sign_in", "owner", "done"),
        ("owner", "account.change_password", "owner", "done"),
        ("owner", "account.create", "anna", "done"),
        ("anna", "account.sign_in", "anna", "done"),
        ("owner", "license.create", LICENSE, "done"),
        ("owner", "license.delegate", LICENSE, "done"),
        ("anna", "license.accept", LICENSE, "done"),
        (f"license key of {LICENSE}", "unit.activate", head_unit, "done"),
        ("anna", "unit.activate", branch_unit, "done"),
        ("ben", "unit.deactivate", branch_unit, "refused"),
        ("ben", "unit.deactivate", head_unit, "refused"),
        ("anna", "unit.deactivate", branch_unit, "done"),
        (f"unit {branch_unit}", "unit.deactivated", branch_unit, "done"),
        ("owner", "unit.deactivate", head_unit, "done"),
        (f"unit {head_unit}", "unit.deactivated", head_unit, "done"),
    ]
    places = [told.index(entry) for entry in expected if entry in told]
    assert [entry for entry in expected if entry not in told] == [], told
    assert places == sorted(places), told
    assert [entry["at"] for entry in entries] == sorted(entry["at"] for entry in entries)


def exports_agree(owner):
    """CSV and JSON hold the same units, whether exported to standard output or to a file."""
    states = [word for state in ("active", "deactivation_pending", "deactivated") for word in ("--state", state)]
    file = owner.home / "units.csv"
    owner.does("units", "export", *states, "--output", file)
    rows = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))
    records = owner.does("units", "export", *states, "--format", "json").json
    assert len(records) == 2
    assert [list(row) for row in rows] == [list(record) for record in records]
    for row, record in zip(rows, records, strict=True):
        written = {key: as_in_a_sheet(value) for key, value in record.items()}
        assert row == written


def the_log_stays_for_a_day(owner):
    """Whoever got into the owner's session takes nothing away that is younger: it is in a file, and in the log as well."""
    entries = owner.all("audit")
    kinds = {entry["actor"].split()[0]: entry["actor_kind"] for entry in entries if entry["outcome"] == "done"}
    assert kinds["owner"] == "session", kinds
    assert kinds["backend"] == "backend", kinds
    assert kinds["unit"] == "unit", kinds
    by_backend = owner.does("audit", "list", "--actor-kind", "backend", "--format", "json").json["entries"]
    assert by_backend == [entry for entry in entries if entry["actor_kind"] == "backend"]
    file = owner.home / "audit.json"
    command = ["audit", "archive", "--before", datetime.now(UTC).isoformat(), "--output", file, "--format", "json"]
    refused = owner.types(*command)
    assert refused.status != 0, refused
    assert "stay in the log for a day" in refused.err, refused
    assert json.loads(file.read_text(encoding="utf-8")) == entries
    assert file.stat().st_mode & 0o777 == 0o600
    again = owner.types(*command)
    assert again.status == 2, again
    assert "exists already" in again.err, again
    before = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    owner.does("audit", "archive", "--before", before, "--output", owner.home / "older.json", "--format", "json")
    assert json.loads((owner.home / "older.json").read_text(encoding="utf-8")) == []
    assert [entry for entry in owner.all("audit") if entry["outcome"] == "done"] == [
        entry for entry in entries if entry["outcome"] == "done"
    ]


def as_in_a_sheet(value):
    """A JSON value as CSV has it."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_a_change_at_one_replica_reaches_a_sidecar_of_the_other_within_a_second(tmp_path, postgres):
    with replicas(tmp_path, postgres) as office:
        (one, _), (other, _) = office.backends
        owner = owner_of(office)
        key = issues(owner)
        elsewhere = Person(owner.home, other.licensing, office.head.enforcement)
        elsewhere.signs_in("owner", "correct horse battery")
        with owner.watches() as watching:
            watching.finds(in_state("not_activated"))
            activates_head(office, owner, key)
            watching.finds(in_state("ok"))
            for seats in (90, 80, 70):
                began = time.monotonic()
                elsewhere.does("licenses", "update", LICENSE, "--seats", seats)
                _, shown = watching.finds(lambda told, seats=seats: told["facts"]["users"]["licensed"] == seats)
                within_a_second(office, f"{seats} seats at the other replica", began, shown)

            # The replica the sidecar is connected to stops: it goes on with the other.
            one.stop()
            elsewhere.does("licenses", "update", LICENSE, "--seats", 60)
            watching.finds(lambda told: told["facts"]["users"]["licensed"] == 60)
            began = time.monotonic()
            elsewhere.does("licenses", "update", LICENSE, "--seats", 50)
            _, shown = watching.finds(lambda told: told["facts"]["users"]["licensed"] == 50)
            within_a_second(office, "50 seats after the first replica stopped", began, shown)
        probe = ["healthcheck", "--server", office.head.probes, "--service", "licensing.sync"]
        eventually(lambda: owner.types(*probe).status == 0)
        owner.does("report-usage", "--active-users", 7)
        eventually(lambda: [unit["active_users"] for unit in elsewhere.all("units")] == [7])
        told = owner.does("status", "--json").json
        assert (told["provenance"]["stale"], told["provenance"]["last_failure"]) == (False, None), told
