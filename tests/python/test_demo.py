"""The demo shows all there is to see: every state, every status of a license, every colour of a connection."""

import pytest

from person import Person
from sidecar import Running, eventually

# The sample company's subscriptions, each with the state it is there to show.
SHOWN = {
    "ACM-EOK-001": "ok",
    "ACM-EWA-002": "warning",
    "ACM-ESM-003": "sms_credits_depleted",
    "ACM-EVF-004": "violation_full_functionality",
    "ACM-EVL-005": "violation_limited_functionality",
    "ACM-ENA-006": "not_activated",
    "ACM-EDI-007": "disabled",
}


@pytest.fixture(scope="module")
def visitor(tmp_path_factory):
    """Somebody who has started the demo and signed in with the password it prints."""
    folder = tmp_path_factory.mktemp("demo")
    listen = [word for kind in ("", "probe-", "licensing-") for word in (f"--{kind}listen", "127.0.0.1:0")]
    with Running(["demo", *listen], ["enforcement", "probes", "licensing"], folder / "demo") as demo:
        password = demo.line(r"accounts sign-in owner .*# password: (\S+)")[1]
        demo.line("Ctrl-C")
        person = Person(folder / "home", demo.licensing, demo.enforcement)
        person.signs_in("owner", password)
        yield person


@pytest.mark.parametrize(("subscription", "state"), SHOWN.items(), ids=SHOWN.values())
def test_the_demo_shows_the_state(visitor, subscription, state):
    status = ["status", "--json", "--subscription", subscription]
    eventually(lambda: visitor.does(*status).json["state"] == state)
    told = visitor.does(*status).json
    assert (told["provenance"]["origin"], told["provenance"]["last_failure"]) == ("live", None)
    asked = visitor.types("authorize", "authenticate_with_sms_otp", "--json", "--subscription", subscription)
    assert (asked.json["state"], asked.status in (0, 1)) == (state, True)


@pytest.mark.parametrize("listing", ["units", "licenses"])
def test_the_demo_shows_every_license_status(visitor, listing):
    statuses = {record["status"] for record in visitor.all(listing)}
    assert statuses == {"valid", "attention", "problem"}
    for status in statuses:
        assert {record["status"] for record in visitor.all(listing, "--status", status)} == {status}


def test_the_demo_shows_every_colour_of_a_connection(visitor):
    assert {unit["connection"] for unit in visitor.all("units")} == {"recent", "orange", "red"}


def test_the_demo_shows_units_in_every_state_and_from_everybody(visitor):
    states = ["active", "deactivation_pending", "deactivated"]
    units = visitor.all("units", *(word for state in states for word in ("--state", state)))
    assert {unit["state"] for unit in units} == set(states)
    assert {unit["activated_by"] for unit in units} == {"anna", "ben", None}
    assert {unit["from_remote_management"] for unit in units} == {True, False}


def test_the_demo_takes_neither_the_database_of_a_real_backend_nor_its_listeners_from_the_environment(tmp_path):
    database, listens = tmp_path / "real.db", [word for kind in ("", "probe-", "licensing-") for word in (f"--{kind}listen", "127.0.0.1:0")]
    environment = {
        "BACKEND__DATABASE": str(database),
        "LISTEN__TRUST_NETWORK": "true",
        "TLS__CERTIFICATE": str(tmp_path / "missing.pem"),
        "TLS__KEY": str(tmp_path / "missing.key"),
    }
    ready = ["enforcement", "probes", "licensing"]
    with Running(["demo", *listens], ready, tmp_path / "demo", **environment) as demo:
        demo.line("Ctrl-C")
        assert not database.exists()
