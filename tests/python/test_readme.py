"""What the README tells a newcomer to do works as it stands there."""

import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from person import Person
from sidecar import STOP_WITHIN, Running, binary, eventually

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def block(language, holding):
    """The one code block of a language that holds a text."""
    blocks = [text for text in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if holding in text]
    assert len(blocks) == 1
    return blocks[0]


@contextmanager
def demo():
    """The demo on any port, as `(address, everything it printed)`."""
    listen = [word for kind in ("", "probe-", "licensing-") for word in (f"--{kind}listen", "127.0.0.1:0")]
    command = [binary(), "demo", *listen]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            printed = []
            while "Ctrl-C" not in "".join(printed[-1:]):
                printed.append(process.stdout.readline())
                assert printed[-1], printed
            yield printed[0].split()[-1], "".join(printed)
        finally:
            process.terminate()
            process.wait(STOP_WITHIN)


def test_the_python_client_of_the_readme_gets_its_answer():
    with demo() as (address, _):
        program = block("python", "grpc_reflection").replace("127.0.0.1:50051", address)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "disabled REASON_SMS_CREDITS_DEPLETED\n"), done.stderr


def test_the_answer_shown_in_the_readme_is_the_one_given():
    shown = block("console", "ACM-EVL-005").splitlines()
    command = shown[0].removeprefix("$ target/release/esa-sidecar ").split()
    with demo() as (address, _):
        done = subprocess.run([binary(), *command, "--server", address], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    given = [re.sub(r"\d{4}-\S+Z", "INSTANT", line) for line in done.stdout.splitlines()]
    assert given == [re.sub(r"\d{4}-\S+Z", "INSTANT", line) for line in shown[1:]]


def test_every_command_the_demo_suggests_works(tmp_path):
    environment = {"HOME": str(tmp_path)}
    with demo() as (_, printed):
        suggested = [line.partition("#") for line in printed.splitlines() if line.startswith(f"  {binary()} ")]
        assert len(suggested) == 10
        for command, _, remark in suggested:
            command, password = command.split(), remark.strip().removeprefix("password: ")
            if "--watch" in command:
                continue
            if password:
                # It asks at a terminal; a program hands the same password over.
                command += ["--password-file", "-"]
            done = subprocess.run(command, input=password, capture_output=True, text=True, env=environment, check=False)
            assert done.returncode in (0, 1) and done.stdout, (command, done.stderr)


def test_the_facts_of_the_readme_are_taken(tmp_path):
    facts = re.search(r"<<'JSON'\n(.*?)\nJSON", block("sh", "facts.json"), re.DOTALL)[1]
    path = tmp_path / "facts.json"
    path.write_text(facts, encoding="utf-8")
    command = [binary(), "matrix", "--facts", path, "--at", "2026-11-22T00:00:00Z"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.startswith("3A8-WN7-7TD at 2026-11-22T00:00:00Z: OK\n"), done


def test_the_first_steps_of_the_readme_lead_to_a_violation_within_seconds(tmp_path):
    """Without any setting: the backend in the same process, activated while it runs."""
    data = tmp_path / "data"
    arguments = ["serve", "--data-dir", data]
    for kind in ("", "probe-", "licensing-"):
        arguments += [f"--{kind}listen", "127.0.0.1:0"]
    with Running(arguments, ["enforcement", "probes", "licensing"], data) as serving:
        file = serving.line(r"The owner's account is `owner`; its one-time password is in `(\S+)`")[1]
        one_time_password = Path(file).read_text(encoding="utf-8").strip()
        owner = Person(tmp_path / "home", serving.licensing, serving.enforcement)
        owner.signs_in_first("owner", one_time_password, "correct horse battery")
        key = tmp_path / "license.key"
        owner.does("licenses", "create", "--seats", "150", "--expires-in", "365d", "--key-output", key)
        owner.does("activate", "--license-key-file", key, "--data-dir", data)
        state = lambda: re.findall(r"state +(\w+)", owner.types("authorize", "enable_users").out)  # noqa: E731
        eventually(lambda: state() == ["ok"], within=2)
        owner.does("report-usage", "--active-users", "157")
        eventually(lambda: state() == ["violation_full_functionality"], within=2)
        owner.does("report-usage", "--active-users", "166")
        eventually(lambda: state() == ["violation_limited_functionality"], within=2)
