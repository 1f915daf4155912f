"""How many instructions an answer takes, counted by callgrind: instructions.py BINARY KIND [--record].

The times of a shared machine wander by a tenth and more; the instructions of one build of one toolchain do not. The
counts are kept beside this file (`instructions.json`, KIND is `debug` or `release`), and one that has grown by more than
2 % ends this with status 1: make it less again, or write the new counts down with --record and say why in the commit.

A whole call is counted from socket to socket, as the difference between many calls and few, so that what a start costs
is not in it; the parts of a call are counted where their function is entered and left.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

from in_order import FACTS

KEPT = pathlib.Path(__file__).with_name("instructions.json")
GROWTH = 0.02
ID = FACTS["subscription_id"].encode()


def field(number, content):
    """A field of a protobuf message, by hand: bytes, or a small number."""
    if isinstance(content, int):
        return bytes([number << 3, content])
    return bytes([number << 3 | 2, len(content)]) + content


def framed(message):
    return b"\0" + len(message).to_bytes(4, "big") + message


def question(operation):
    return field(1, ID) + field(2, operation)


# All operations in turn, as often as makes a thousand.
THOUSAND = [field(1, question(1 + number % 12)) for number in range(1000)]

# What is called; with what; how often, for the few and the many; answers in each; the function that is counted, if it is
# not the whole call.
ROWS = {
    "Authorize": ("Authorize", framed(question(6)), (200, 1200), 1, None),
    "Authorize: read and answered": (
        "Authorize", framed(question(6)), (0, 500), 1, "esa_sidecar::enforcement::service::Enforcement::answer"),
    "Authorize: decided": (
        "Authorize", framed(question(6)), (0, 500), 1, "esa_sidecar::domain::decision::decide"),
    "StreamAuthorize, each answer": (
        "StreamAuthorize", b"".join(framed(one) for one in THOUSAND), (2, 12), 1000, None),
    "BatchAuthorize of 1,000": ("BatchAuthorize", framed(b"".join(THOUSAND)), (2, 12), 1, None),
}


def collected(binary, folder, call, calls, function):
    """The instructions of a sidecar from its start to its end, or of one of its functions, with so many calls."""
    environment = os.environ | {
        "ESA_SIDECAR__LOG__LEVEL": "error",
        "ESA_SIDECAR__FILE__POLL_INTERVAL": "1h",
        "ESA_SIDECAR__LISTEN__THREADS": "1",
    }
    counting = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    if function:
        counting += [f"--toggle-collect={function}"]
    server = subprocess.Popen(
        [*counting, binary, "serve", "--listen", "127.0.0.1:0", "--probe-listen", "127.0.0.1:0",
         "--facts", folder / "facts.json", "--data-dir", folder / "data"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    address = server.stdout.readline().split()[-1]
    server.stdout.readline()
    asked = "nothing was asked"
    if calls:
        asked = subprocess.run(
            ["h2load", "--clients=1", "--max-concurrent-streams=1", f"--requests={calls}",
             "--header=content-type: application/grpc", "--header=te: trailers", "--data", folder / "message",
             f"http://{address}/esa.enforcement.v1.EnforcementService/{call}"],
            capture_output=True, text=True).stdout
    server.send_signal(signal.SIGTERM)
    _, told = server.communicate(timeout=60)
    found = re.search(r"Collected : (\d+)", told)
    if not found or calls and f" {calls} succeeded" not in asked:
        sys.exit(f"{call}: nothing was counted\n{asked}\n{told}")
    return int(found[1])


def count(binary, folder, row):
    call, message, (few, many), answers, function = row
    (folder / "message").write_bytes(message)
    of_few = collected(binary, folder, call, few, function) if few else 0
    return round((collected(binary, folder, call, many, function) - of_few) / (many - few) / answers)


def main():
    binary, kind = os.path.abspath(sys.argv[1]), sys.argv[2]
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    before, now = kept.get(kind, {}), {}
    grown = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "facts.json").write_text(json.dumps(FACTS))
        for name, row in ROWS.items():
            now[name] = count(binary, folder, row)
            change = now[name] / before[name] - 1 if name in before else 0.0
            print(f"{name:32}{now[name]:>12,}  {change:+7.2%}", flush=True)
            if GROWTH < change or name not in before:
                grown.append(name)
    if "--record" in sys.argv:
        KEPT.write_text(json.dumps(kept | {kind: now}, indent=2) + "\n")
    elif grown:
        sys.exit(f"more than {GROWTH:.0%} over {KEPT.name}, or not in it: {', '.join(grown)}")


main()
