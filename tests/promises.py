"""The sizes and times the README promises, of a release build: promises.py BINARY.

Not a benchmark: each bar is far from what is measured, and what is measured is printed.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time

from in_order import FACTS

BINARY = os.path.abspath(sys.argv[1])


def facts(number, **changes):
    told = FACTS | {"subscription_id": f"{number // 1000:03}-{number % 1000:03}-000"}
    return told | changes


def promise(what, measured, bar, unit):
    print(f"{what}: {measured:.3g} {unit} (at most {bar})", flush=True)
    if bar < measured:
        sys.exit(f"broken promise: {what}")


class Running:
    """A sidecar on any ports, and how long it took to be ready."""

    def __init__(self, *arguments):
        began = time.monotonic()
        self.process = subprocess.Popen(
            [BINARY, *arguments, "--listen", "127.0.0.1:0", "--probe-listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.enforcement = self.process.stdout.readline().split()[-1]
        self.probes = self.process.stdout.readline().split()[-1]
        while self.run("healthcheck", "--server", self.probes).returncode != 0:
            if self.process.poll() is not None or 60 < time.monotonic() - began:
                sys.exit("it never got ready")
        self.ready_after = time.monotonic() - began

    def run(self, *arguments):
        return subprocess.run([BINARY, *arguments], capture_output=True, text=True)

    def resident_mebibytes(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024

    def stop_with(self, number):
        began = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(timeout=30)
        if code != 0:
            sys.exit(f"it ended with status {code}")
        return time.monotonic() - began


def explain_100_000_lines():
    operations = ["enable_users", "authenticate_with_sms_otp", "manage_configuration", "disable_users"]
    lines = []
    for number in range(100_000):
        question = {
            "facts": facts(number, sms_credits=number % 20, users={"active": 80 + number % 40, "licensed": 100}),
            "at": f"20{90 + number % 9}-07-01T00:00:00Z",
            "operation": operations[number % 4],
            "role": "administrator" if number % 3 == 0 else "user",
        }
        lines.append(json.dumps(question) if number % 10 else "not JSON")
    began = time.monotonic()
    answers = subprocess.run([BINARY, "explain"], input="\n".join(lines), capture_output=True, text=True, check=True)
    promise("explain, 100,000 mixed lines", time.monotonic() - began, 3, "s")
    if len(answers.stdout.splitlines()) != 100_000 or answers.stdout.count('"error"') != 10_000:
        sys.exit("not every line was answered")


def demo():
    running = Running("demo")
    promise("demo, from start to ready", running.ready_after, 1, "s")
    watches = [
        subprocess.Popen(
            [BINARY, "status", "--watch", "--subscription", "ACM-EOK-001", "--server", running.enforcement],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(5)
    ]
    for watch in watches:
        watch.stdout.readline()
    # The backend and its database are in it.
    promise("demo, resident memory with 5 watches", running.resident_mebibytes(), 32, "MiB")
    promise("demo, from SIGINT to its end, watches open", running.stop_with(signal.SIGINT), 5, "s")
    if any(watch.wait(timeout=10) != 0 for watch in watches):
        sys.exit("a watch did not end well")
    promise("demo, from SIGTERM to its end", Running("demo").stop_with(signal.SIGTERM), 5, "s")


def at_rest():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "facts.json")
        with open(path, "w") as file:
            json.dump(facts(0), file)
        running = Running("serve", "--facts", path, "--data-dir", os.path.join(folder, "data"))
        # How much of the program's file is mapped is the system's to say, so that the bar is no closer.
        promise("at rest, resident memory", running.resident_mebibytes() * 1.048576, 16, "MB")
        running.stop_with(signal.SIGTERM)


def a_hundred_thousand_subscriptions():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "facts.json")
        with open(path, "w") as file:
            json.dump([facts(number) for number in range(100_000)], file)
        running = Running("serve", "--facts", path, "--data-dir", os.path.join(folder, "data"))
        promise("100,000 subscriptions, from start to ready", running.ready_after, 5, "s")
        print(f"100,000 subscriptions, resident memory: {running.resident_mebibytes():.0f} MiB", flush=True)
        asked = running.run(
            "authorize", "enable_users", "--server", running.enforcement, "--subscription", "099-999-000"
        )
        if asked.returncode != 0:
            sys.exit(asked.stderr)
        running.stop_with(signal.SIGTERM)


explain_100_000_lines()
at_rest()
demo()
a_hundred_thousand_subscriptions()
