"""kill -9 under writes: nothing that was acknowledged is lost, nothing counts twice, no sequence goes back.

    kills.py BINARY [--sqlite N] [--postgres N] [--sidecar N] [--both N] [--seed N]

Each proof runs until so many kills are done, while clients write and send each change again, with the same request ID
or the same SMS, until it is acknowledged. In the end what the backend tells through its own protocol is compared with
the clients' ledgers, which know nothing but what they asked for.

    sqlite    `licensing` on SQLite is killed
    postgres  PostgreSQL is stopped at once (`tests/postgres crash`); in between one of two replicas is killed
    sidecar   `serve` is killed; the backend is away now and then
    both      `serve` and its backend are killed
"""

import argparse
import hashlib
import itertools
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "python"))

from person import Person  # noqa: E402
from sidecar import Running, binary, eventually  # noqa: E402
from wire import Protocol, error_info  # noqa: E402

OWNER = r"The owner's account is `owner`; its one-time password is in `(\S+)`"
PASSWORD = "correct horse battery"
CREDITS = 1_000_000_000
CALL_WITHIN = 5.0
SETTLE_WITHIN = 60.0
# On a Unix socket gRPC's C core takes the escaped path as the authority, which the h2 crate refuses as malformed.
OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.default_authority", "localhost"),
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 50),
    # Each has a connection of its own, as clients in different processes do.
    ("grpc.use_local_subchannel_pool", 1),
]
# An answer that may have been lost. Any other refusal ends the proof.
UNKNOWN = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
}
QUICK = {
    "REFRESH__AT_MOST_EVERY": "10ms",
    "REFRESH__RETRY_FIRST": "10ms",
    "REFRESH__RETRY_MOST": "50ms",
    "LICENSING__USAGE_DELAY": "5ms",
    "LICENSING__SMS_DELAY": "5ms",
    "LOG__LEVEL": "error",
}


class Process:
    """A command on Unix sockets, so that it is found at the same place after every start."""

    def __init__(self, arguments, listeners, home, **settings):
        self._make = lambda: Running(arguments, listeners, home, LOG__LEVEL="error", **settings)
        self.running = None

    def start(self):
        self.running = self._make().__enter__()
        return self.running

    def kill(self):
        self.running.kill()

    def kill_while_starting(self, after):
        """Starts it and kills it a little later, wherever it is by then."""
        running = self._make()
        running.begin()
        time.sleep(after)
        running.kill()

    def away(self):
        """A polite stop."""
        self.running.stop()


class Client:
    """Calls one of several replicas, and the next one when an answer may have been lost."""

    def __init__(self, protocol, sockets, progress):
        self.api, self.progress = protocol.licensing, progress
        channels = [grpc.insecure_channel(f"unix:{socket}", options=OPTIONS) for socket in sockets]
        words = ("account", "audit", "license", "sync", "unit")
        self._replicas = [{word: self.api.stub(word, channel) for word in words} for channel in channels]
        self._turn = 0

    def call(self, word, method, request, token=None):
        """Sends a request until it is acknowledged."""
        metadata = [("authorization", f"Bearer {token}")] if token else None
        deadline = time.monotonic() + SETTLE_WITHIN
        while True:
            stub = self._replicas[self._turn % len(self._replicas)][word]
            try:
                answer = getattr(stub, method)(request, timeout=CALL_WITHIN, metadata=metadata)
                self.progress.acknowledged()
                return answer
            except grpc.RpcError as error:
                # An account has a pace: nothing was changed, and it may go on after a while.
                if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and error_info(error).reason == "TOO_FAST":
                    self.progress.slowed()
                    time.sleep(1)
                    deadline += 1
                    continue
                if error.code() not in UNKNOWN or deadline < time.monotonic():
                    raise
                self.progress.unanswered()
                self._turn += 1
                time.sleep(0.005)

    def pages(self, word, method, request, field, token):
        """All records of a list."""
        while True:
            answer = self.call(word, method, request, token)
            yield from getattr(answer, field)
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token


class Progress:
    """How many answers came, and how many did not, for the killer to wait for and for the report."""

    def __init__(self):
        self._changed = threading.Condition()
        self.acks = self.lost_answers = self.told_to_wait = 0

    def acknowledged(self):
        with self._changed:
            self.acks += 1
            self._changed.notify_all()

    def unanswered(self):
        with self._changed:
            self.lost_answers += 1

    def slowed(self):
        with self._changed:
            self.told_to_wait += 1

    def wait_for_more(self, than, failed):
        """Waits until there were more answers than these; fails when writers have."""
        with self._changed:
            enough = self._changed.wait_for(lambda: than < self.acks or failed(), SETTLE_WITHIN)
        assert enough and not failed(), f"no change was acknowledged within {SETTLE_WITHIN} s"


class Owner:
    """The first owner, with an API credential that outlives every kill."""

    def __init__(self, client, one_time_password):
        self.client, api = client, client.api
        password = one_time_password
        signed_in = client.call("account", "SignIn", api.SignInRequest(name="owner", password=password))
        change = api.ChangePasswordRequest(request_id=new_id(), old_password=password, new_password=PASSWORD)
        client.call("account", "ChangePassword", change, signed_in.token)
        self.session = signed_in.token
        make = api.CreateApiCredentialRequest(request_id=new_id(), name="the proof's own")
        self.token = client.call("account", "CreateApiCredential", make, signed_in.token).token

    def does(self, word, method, request):
        return self.client.call(word, method, request, self.token)

    def issues(self, client, **license):
        """Issues a license; its answer, whose key is there when this was the first answer."""
        request = client.api.CreateLicenseRequest(request_id=new_id())
        for key, value in license.items():
            setattr(request.license, key, value)
        request.license.expires_at.FromSeconds(int(time.time()) + 365 * 86_400)
        return client.call("license", "CreateLicense", request, self.token)


class Sequences:
    """The sequences one observer is told, by subscription: none may be lower than one before."""

    def __init__(self, api):
        self._api, self.newest, self.regressions, self.told = api, {}, 0, 0

    def hears(self, signed):
        facts = self._api.SubscriptionFacts.FromString(signed.payload)
        subscription = facts.facts.subscription_id
        self.told += 1
        if facts.sequence < self.newest.get(subscription, 0):
            self.regressions += 1
        self.newest[subscription] = max(facts.sequence, self.newest.get(subscription, 0))
        return facts


class Writer(threading.Thread):
    """Makes changes one after the other and keeps a ledger of what was acknowledged."""

    def __init__(self, number, protocol, sockets, owner, progress, seed):
        super().__init__(daemon=True)
        self.client, self.owner = Client(protocol, sockets, progress), owner
        self.api, self.random = protocol.licensing, random.Random(seed * 1000 + number)
        self.sequences = Sequences(self.api)
        self.stopping, self.failure, self.changes = threading.Event(), None, Counter()
        self.name = f"writer-{number}"
        site = owner.issues(
            self.client, product=f"Site {number}", name=self.name, seats=1_000_000, sms_credits=CREDITS
        )
        self.site, self.key = site.license, site.license_key
        # The ledger.
        self.licenses, self.credentials, self.seats = {self.site.license_id: self.name}, set(), 1_000_000
        self.active, self.pending, self.gone, self.users, self.spent = {}, {}, set(), {}, 0
        self.activate()

    def run(self):
        likely = [self.sync] * 6 + [self.activate] * 3 + [self.deactivate] * 2
        likely += [self.hear, self.issue, self.credential, self.resize]
        try:
            while not self.stopping.is_set():
                change = self.random.choice(likely)
                change()
                self.changes[change.__name__] += 1
        except BaseException as failure:  # noqa: BLE001: told by the killer
            self.failure = failure
            self.client.progress.acknowledged()
            raise

    def activate(self):
        secret = hashlib.sha256(os.urandom(32)).hexdigest()
        request = self.api.ActivateUnitRequest(
            request_id=new_id(),
            license_key=self.key,
            device_name=new_id(),
            secret_sha256=hashlib.sha256(secret.encode()).hexdigest(),
        )
        unit = self.client.call("unit", "ActivateUnit", request).unit
        self.active[unit.unit_id] = f"esau_{unit.unit_id}_{secret}"

    def deactivate(self):
        if len(self.active) < 2:
            return
        unit_id = self.random.choice(list(self.active))
        request = self.api.DeactivateUnitsRequest(request_id=new_id(), unit_ids=[unit_id])
        [result] = self.owner_does("unit", "DeactivateUnits", request).results
        assert result.state == self.api.UnitState.UNIT_STATE_DEACTIVATION_PENDING, result
        self.pending[unit_id] = self.active.pop(unit_id)
        self.users.pop(unit_id, None)

    def hear(self):
        """A unit that was deactivated connects and is told so."""
        if self.pending:
            unit_id, token = self.pending.popitem()
            facts = self.tells(unit_id, token)
            assert facts.facts.activation.HasField("since"), facts
            self.gone.add(unit_id)

    def sync(self):
        """An active unit hands over usage: counts and SMS, the same again until they are acknowledged."""
        unit_id, token = self.random.choice(list(self.active.items()))
        usage = self.api.Usage()
        users = self.random.randrange(1_000)
        usage.counts.active_users = users
        usage.counts.counted_at.GetCurrentTime()
        spent = 0
        for _ in range(self.random.randrange(4)):
            credits = self.random.randrange(1, 4)
            usage.sms_sent.add(id=new_id(), credits=credits)
            spent += credits
        facts = self.tells(unit_id, token, usage)
        self.users[unit_id] = users
        self.spent += spent
        # Nobody else spends: it has to show at once.
        assert facts.facts.sms_credits == CREDITS - self.spent, (facts.facts.sms_credits, CREDITS - self.spent)
        assert facts.facts.users.active == sum(self.users.values())

    def tells(self, unit_id, token, usage=None):
        request = self.api.SyncRequest(nonce=os.urandom(16), usage=usage)
        request.unit.unit_id = unit_id
        return self.sequences.hears(self.client.call("sync", "Sync", request, token).facts)

    def issue(self):
        name = new_id()
        issued = self.owner.issues(self.client, product=f"Extra {self.name}", name=name, seats=1)
        self.licenses[issued.license.license_id] = name

    def credential(self):
        name = new_id()
        request = self.api.CreateApiCredentialRequest(request_id=new_id(), name=name)
        # A credential makes no other.
        self.client.call("account", "CreateApiCredential", request, self.owner.session)
        self.credentials.add(name)

    def resize(self):
        seats = self.random.randrange(1_000_000, 2_000_000)
        request = self.api.UpdateLicenseRequest(request_id=new_id(), license_id=self.site.license_id)
        request.license.seats = seats
        request.update_mask.paths.append("seats")
        self.owner_does("license", "UpdateLicense", request)
        self.seats = seats

    def owner_does(self, word, method, request):
        return self.client.call(word, method, request, self.owner.token)


class Watcher(threading.Thread):
    """A unit that watches through every kill."""

    def __init__(self, writer, sockets):
        super().__init__(daemon=True)
        self.api, self.sequences, self.stopping = writer.api, Sequences(writer.api), threading.Event()
        [(self.unit_id, self.token), *_] = writer.active.items()
        self._sockets = itertools.cycle(sockets)

    def run(self):
        while not self.stopping.is_set():
            with grpc.insecure_channel(f"unix:{next(self._sockets)}", options=OPTIONS) as channel:
                request = self.api.WatchRequest(unit_id=self.unit_id, nonce=os.urandom(16))
                metadata = [("authorization", f"Bearer {self.token}")]
                try:
                    for answer in self.api.stub("sync", channel).Watch(request, metadata=metadata):
                        self.sequences.hears(answer.facts)
                        if self.stopping.is_set():
                            return
                except grpc.RpcError:
                    time.sleep(0.01)


class Verdict:
    """What came out of one proof."""

    def __init__(self, what):
        self.what, self.counts, self.faults, self.began = what, Counter(), Counter(), time.monotonic()
        for fault in ("lost", "doubled", "sequence regressions"):
            self.faults[fault] = 0

    def compare(self, what, expected, told):
        """Compares counted things: fewer than expected are lost, more are doubled."""
        expected, told = Counter(expected), Counter(told)
        lost, doubled = expected - told, told - expected
        for fault, found in (("lost", lost), ("doubled", doubled)):
            if found:
                self.faults[fault] += found.total()
                print(f"{self.what}: {fault}, {what}: {found.most_common(5)}", flush=True)

    def tell(self):
        """Prints it; whether it holds."""
        took = time.monotonic() - self.began
        counts = ", ".join(f"{count} {what}" for what, count in self.counts.items())
        faults = ", ".join(f"{count} {what}" for what, count in self.faults.items())
        print(f"{self.what}: {counts}; {faults} ({took:.0f} s)", flush=True)
        return not self.faults.total()


def new_id():
    return uuid.uuid4().hex


def settled(verdict, writers, watchers, owner):
    """Lets everybody finish, and compares the ledgers with what the backend tells."""
    for thread in (*writers, *watchers):
        thread.stopping.set()
    for writer in writers:
        writer.join(2 * SETTLE_WITHIN)
        assert not writer.is_alive() and writer.failure is None, writer.failure
        while writer.pending:
            writer.hear()
        # One stays pending, to be seen as such.
        writer.deactivate()
    api, client = owner.client.api, owner.client
    licenses = list(
        client.pages("license", "ListLicenses", api.ListLicensesRequest(page_size=1000), "licenses", owner.token)
    )
    expected = [item for writer in writers for item in writer.licenses.items()]
    ours = {id for id, _ in expected}
    verdict.compare("licenses", expected, [(one.license_id, one.name) for one in licenses if one.license_id in ours])
    others = [one for one in licenses if one.license_id not in ours and one.product != "Sidecar"]
    verdict.compare("licenses nobody was told of", [], [one.name for one in others])
    by_id = {one.license_id: one for one in licenses}
    states = [api.UnitState.Value(f"UNIT_STATE_{word}") for word in ("ACTIVE", "DEACTIVATION_PENDING", "DEACTIVATED")]
    for writer in writers:
        site = by_id[writer.site.license_id]
        verdict.compare("seats", [writer.seats], [site.seats])
        verdict.compare("active units", ["unit"] * len(writer.active), ["unit"] * site.active_units)
        spent = CREDITS - site.sms_credits
        verdict.compare("SMS credits spent", {"credits": writer.spent}, {"credits": spent})
        told_users = site.subscription.users.active
        verdict.compare("active users", {"users": sum(writer.users.values())}, {"users": told_users})
        request = api.ListUnitsRequest(page_size=1000, license_ids=[site.license_id], states=states)
        units = client.pages("unit", "ListUnits", request, "units", owner.token)
        ledger = zip(states, (writer.active, writer.pending, writer.gone), strict=True)
        expected = [(unit_id, state) for state, ids in ledger for unit_id in ids]
        verdict.compare("units", expected, [(unit.unit_id, unit.state) for unit in units])
        verdict.counts["acknowledged changes"] += sum(writer.changes.values())
        observers = [writer.sequences]
        observers += [watcher.sequences for watcher in watchers]
        final = {}
        for unit_id, token in list(writer.active.items())[:1]:
            facts = writer.tells(unit_id, token)
            final[facts.facts.subscription_id] = facts.sequence
        for observer in observers:
            behind = [id for id, last in final.items() if last < observer.newest.get(id, 0)]
            verdict.faults["sequence regressions"] += len(behind)
    for observer in (*(writer.sequences for writer in writers), *(watcher.sequences for watcher in watchers)):
        verdict.faults["sequence regressions"] += observer.regressions
        verdict.counts["sequences told"] += observer.told
    credentials = client.pages(
        "account", "ListApiCredentials", api.ListApiCredentialsRequest(page_size=1000), "credentials", owner.token
    )
    expected = [name for writer in writers for name in writer.credentials]
    verdict.compare("credentials", [*expected, "the proof's own"], [one.name for one in credentials])
    audit_agrees(verdict, writers, owner)


def audit_agrees(verdict, writers, owner):
    """Each change has one entry."""
    api, client = owner.client.api, owner.client
    request = api.ListAuditEntriesRequest(page_size=1000)
    entries = list(client.pages("audit", "ListAuditEntries", request, "entries", owner.token))
    expected, actions = [], ("unit.activate", "unit.deactivate", "unit.deactivated")
    known = set()
    for writer in writers:
        for unit_id in (*writer.active, *writer.pending, *writer.gone):
            known.add(unit_id)
            expected.append(("unit.activate", unit_id))
        expected += [("unit.deactivate", unit_id) for unit_id in (*writer.pending, *writer.gone)]
        expected += [("unit.deactivated", unit_id) for unit_id in writer.gone]
    told = [(one.action, one.target) for one in entries if one.action in actions and one.target in known]
    verdict.compare("entries of the audit log", expected, told)


@contextmanager
def short_folder():
    """A short path: a Unix socket's may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="esa-", dir="/tmp") as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


def backend(folder, name="backend", *more, **settings):
    """`licensing` and where it listens."""
    data, socket = folder / name, folder / f"{name}.sock"
    arguments = ["licensing", "--licensing-listen", f"unix:{socket}", "--probe-listen", f"unix:{folder}/{name}.probe"]
    arguments += ["--data-dir", data, *more]
    return Process(arguments, ["licensing", "probes"], data, **settings), socket


class Writing:
    """Writers and watchers at work on a backend that runs."""

    def __init__(self, protocol, sockets, one_time_password, seed, writers=3):
        self.progress = Progress()
        self.owner = Owner(Client(protocol, sockets, self.progress), one_time_password)
        self.writers = [
            Writer(number, protocol, sockets, self.owner, self.progress, seed) for number in range(writers)
        ]
        self.watchers = [Watcher(self.writers[0], sockets)]
        for thread in (*self.writers, *self.watchers):
            thread.start()

    def failed(self):
        return any(writer.failure for writer in self.writers)

    def some_changes(self, chance, most=0.03):
        """Waits until changes were acknowledged, and then for a random part of a few more."""
        self.progress.wait_for_more(self.progress.acks + chance.randrange(1, 6), self.failed)
        time.sleep(chance.uniform(0, most))

    def settled(self, verdict):
        settled(verdict, self.writers, self.watchers, self.owner)
        verdict.counts["tries that were not answered"] = self.progress.lost_answers
        verdict.counts["tries that came too fast"] = self.progress.told_to_wait


def sqlite(protocol, kills, seed):
    """`licensing` on SQLite is killed at random instants, of its start as well."""
    verdict, chance = Verdict("sqlite"), random.Random(seed)
    with short_folder() as folder:
        process, socket = backend(folder)
        password = Path(process.start().line(OWNER)[1]).read_text(encoding="utf-8").strip()
        try:
            writing = Writing(protocol, [socket], password, seed)
            for _ in range(kills):
                writing.some_changes(chance)
                process.kill()
                verdict.counts["kills"] += 1
                if chance.random() < 0.2:
                    process.kill_while_starting(chance.uniform(0, 0.1))
                    verdict.counts["kills while starting"] += 1
                process.start()
            writing.settled(verdict)
        finally:
            process.kill()
    return verdict


@contextmanager
def postgres_server(folder):
    """A PostgreSQL server of the proof's own: how to crash it, and its URL."""
    tool, server = HERE / "postgres", folder / "server"
    url = subprocess.run([tool, "start", server], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    try:
        yield lambda: subprocess.run([tool, "crash", server], check=True), url
    finally:
        subprocess.run([tool, "stop", server], check=False)


def postgres(protocol, crashes, seed):
    """PostgreSQL is stopped at once; every third time a replica is killed as well."""
    verdict, chance = Verdict("postgres"), random.Random(seed)
    with short_folder() as folder, postgres_server(folder) as (crash, url), ExitStack() as stack:
        replicas = [backend(folder, name, BACKEND__DATABASE=url) for name in ("one", "other")]
        password = Path(replicas[0][0].start().line(OWNER)[1]).read_text(encoding="utf-8").strip()
        # Without the key that signs it would not start.
        shutil.copytree(folder / "one/licensing/keys", folder / "other/licensing/keys")
        replicas[1][0].start()
        for process, _ in replicas:
            stack.callback(process.kill)
        writing = Writing(protocol, [socket for _, socket in replicas], password, seed)
        for _ in range(crashes):
            writing.some_changes(chance)
            if chance.random() < 1 / 3:
                process, _ = chance.choice(replicas)
                process.kill()
                verdict.counts["replicas killed"] += 1
                crash()
                process.start()
            else:
                crash()
            verdict.counts["immediate stops"] += 1
        writing.settled(verdict)
    return verdict


class Reporter(threading.Thread):
    """An authentication server: reports counts and SMS to its sidecar, the same again until it is answered."""

    def __init__(self, protocol, socket, seed):
        super().__init__(daemon=True)
        self.protocol, self.random, self.progress = protocol, random.Random(seed), Progress()
        self.stub = protocol.stub(grpc.insecure_channel(f"unix:{socket}", options=OPTIONS))
        self.spent, self.users, self.reports, self.repeated = 0, None, 0, 0
        self.revision = self.regressions = self.too_many = self.too_few = 0
        self.stopping, self.failure = threading.Event(), None

    def run(self):
        try:
            while not self.stopping.is_set():
                self.report()
                self.look()
        except BaseException as failure:  # noqa: BLE001: told by the killer
            self.failure = failure
            self.progress.acknowledged()
            raise

    def report(self):
        users = self.random.randrange(1_000)
        request = self.protocol.messages.ReportUsageRequest(active_users=users)
        spent = 0
        for _ in range(self.random.randrange(1, 4)):
            credits = self.random.randrange(1, 4)
            request.sms_sent.add(id=new_id(), credits=credits)
            spent += credits
        answer = self.call("ReportUsage", request)
        self.spent, self.users, self.reports = self.spent + spent, users, self.reports + 1
        self.repeated += answer.sms_repeated
        assert answer.sms_counted + answer.sms_repeated == len(request.sms_sent), answer
        # Nobody else spends: what remains is known to the credit. Killed between facts that know of a report and the note
        # that it was taken, the sidecar subtracts it once more until the next sync: fewer are safe, more never are.
        self.too_many += CREDITS - self.spent < answer.sms_credits
        self.too_few += answer.sms_credits < CREDITS - self.spent

    def look(self):
        told = self.call("GetSubscription", self.protocol.messages.GetSubscriptionRequest()).subscription
        revision = told.provenance.revision
        self.regressions += revision < self.revision
        self.revision = max(revision, self.revision)

    def call(self, method, request):
        deadline = time.monotonic() + SETTLE_WITHIN
        while True:
            try:
                answer = getattr(self.stub, method)(request, timeout=CALL_WITHIN)
                self.progress.acknowledged()
                return answer
            except grpc.RpcError as error:
                if error.code() not in UNKNOWN or deadline < time.monotonic():
                    raise
                self.progress.unanswered()
                time.sleep(0.005)


class Site:
    """A sidecar that is activated at a backend, and its reporter."""

    def __init__(self, protocol, folder, home, backend_socket, owner, seed):
        issued = owner.issues(owner.client, product="Sidecar", name="site", seats=2_000, sms_credits=CREDITS)
        self.license_id, self.owner, data = issued.license.license_id, owner, folder / "sidecar"
        operator = Person(folder / "operator", f"unix:{backend_socket}")
        for key in operator.does("keys", "show", "--json", "--data-dir", home).json["keys"]:
            operator.does("keys", "pin", key["public_key"], "--data-dir", data)
        file = operator.file("key", issued.license_key)
        operator.does("activate", "--license-key-file", file, "--device-name", "site", "--data-dir", data)
        socket = folder / "sidecar.sock"
        arguments = ["serve", "--listen", f"unix:{socket}", "--probe-listen", f"unix:{folder}/sidecar.probe"]
        arguments += ["--data-dir", data]
        settings = QUICK | {"LICENSING__URLS": f"unix:{backend_socket}"}
        settings.pop("LOG__LEVEL")
        self.process = Process(arguments, ["enforcement", "probes"], data, **settings)
        self.process.start()
        self.reporter = Reporter(protocol, socket, seed)
        eventually(lambda: self.reporter.call("GetSubscription", protocol.messages.GetSubscriptionRequest()))
        self.reporter.start()

    def some_reports(self, chance):
        progress = self.reporter.progress
        progress.wait_for_more(progress.acks + chance.randrange(1, 6), lambda: self.reporter.failure)
        time.sleep(chance.uniform(0, 0.03))

    def settled(self, verdict):
        """Lets the last report be handed over, and compares the credits that remain, and the users."""
        reporter = self.reporter
        reporter.stopping.set()
        reporter.join(2 * SETTLE_WITHIN)
        assert not reporter.is_alive() and reporter.failure is None, reporter.failure
        api = self.owner.client.api
        get = api.GetLicenseRequest(license_id=self.license_id)
        told = lambda: self.owner.does("license", "GetLicense", get).license  # noqa: E731
        deadline = time.monotonic() + SETTLE_WITHIN
        while CREDITS - told().sms_credits < reporter.spent and time.monotonic() < deadline:
            time.sleep(0.05)
        while told().subscription.users.active != reporter.users and time.monotonic() < deadline:
            time.sleep(0.05)
        # Whatever waits to be handed over once more has time to: it must not count.
        refresh = reporter.protocol.messages.RefreshSubscriptionRequest()
        for _ in range(3):
            reporter.call("RefreshSubscription", refresh)
        license = told()
        verdict.compare("SMS credits", {"credits": reporter.spent}, {"credits": CREDITS - license.sms_credits})
        verdict.compare("users", {"users": reporter.users}, {"users": license.subscription.users.active})
        verdict.faults["sequence regressions"] += reporter.regressions
        verdict.faults["answers with credits that are spent"] += reporter.too_many
        verdict.counts["acknowledged reports"] += reporter.reports
        verdict.counts["SMS credits"] += reporter.spent
        verdict.counts["SMS kept of reports that were not answered"] += reporter.repeated
        verdict.counts["answers with fewer credits until the next sync"] += reporter.too_few


def sidecar(protocol, kills, seed):
    """`serve` is killed at random instants; the backend stops now and then and comes back a little later."""
    verdict, chance = Verdict("sidecar"), random.Random(seed)
    with short_folder() as folder, ExitStack() as stack:
        process, socket = backend(folder)
        password = Path(process.start().line(OWNER)[1]).read_text(encoding="utf-8").strip()
        stack.callback(lambda: process.kill())
        owner = Owner(Client(protocol, [socket], Progress()), password)
        site = Site(protocol, folder, folder / "backend", socket, owner, seed)
        stack.callback(site.process.kill)
        away = False
        for _ in range(kills):
            site.some_reports(chance)
            site.process.kill()
            verdict.counts["kills"] += 1
            if away:
                process.start()
                away = False
            elif chance.random() < 0.2:
                process.away()
                away = True
                verdict.counts["times the backend was away"] += 1
            site.process.start()
        if away:
            process.start()
        site.settled(verdict)
    return verdict


def both(protocol, kills, seed):
    """`serve` and its backend are killed, each at instants of its own, while people write to the backend, too."""
    verdict, chance = Verdict("both"), random.Random(seed)
    with short_folder() as folder, ExitStack() as stack:
        process, socket = backend(folder)
        password = Path(process.start().line(OWNER)[1]).read_text(encoding="utf-8").strip()
        stack.callback(lambda: process.kill())
        writing = Writing(protocol, [socket], password, seed, writers=1)
        site = Site(protocol, folder, folder / "backend", socket, writing.owner, seed)
        stack.callback(site.process.kill)
        for _ in range(kills):
            if chance.random() < 0.5:
                writing.some_changes(chance)
                process.kill()
                verdict.counts["kills of the backend"] += 1
                process.start()
            else:
                site.some_reports(chance)
                site.process.kill()
                verdict.counts["kills of the sidecar"] += 1
                site.process.start()
        site.settled(verdict)
        writing.settled(verdict)
    return verdict


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("binary", nargs="?")
    proofs = (sqlite, postgres, sidecar, both)
    for proof in proofs:
        parser.add_argument(f"--{proof.__name__}", type=int, default=0, metavar="N")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    asked = parser.parse_args()
    if asked.binary:
        os.environ["ESA_SIDECAR_BIN"] = asked.binary
    print(f"{binary()}, seed {asked.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        protocol = Protocol(Path(folder))
        holds = True
        for proof in proofs:
            if 0 < (count := getattr(asked, proof.__name__)):
                holds &= proof(protocol, count, asked.seed).tell()
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
