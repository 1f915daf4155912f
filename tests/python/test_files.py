"""Files the binary believes, writes and reads: whose they have to be, what is in their place, and how editors save them.

Each rule is held by the real command in a folder of its own.
"""

import os
import pty
import select
import shutil
import signal
import stat
import subprocess
import termios
import time

import pytest

from examples import ID, facts
from person import Person
from sidecar import START_WITHIN, Running, Sidecar, binary, eventually, put

ANY = "127.0.0.1:0"
STRANGER = 1234
MARK = b"\xef\xbb\xbf"
IS_ROOT = os.geteuid() == 0
KEY = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


def run(*arguments, **options):
    command = [binary(), *map(str, arguments)]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False, **options
    )
    return done.returncode, done.stdout, done.stderr


def opened(folder, mode=0o777):
    folder.mkdir()
    folder.chmod(mode)
    return folder


def strangers(folder):
    folder.mkdir(mode=0o755)
    os.chown(folder, STRANGER, STRANGER)
    return folder


@pytest.fixture
def in_order(facts_file):
    put(facts_file, facts(time.time_ns()))
    return facts_file


FOLDERS = {
    "others may write to it": (opened, "(mode 0777)"),
    "others may write to it, sticky": (lambda folder: opened(folder, 0o1777), "(mode 1777)"),
    "its group may write to it": (lambda folder: opened(folder, 0o770), "(mode 0770)"),
    "it is another user's": (strangers, f"belongs to the user {STRANGER}"),
}


@pytest.mark.parametrize(("make", "said"), FOLDERS.values(), ids=FOLDERS)
def test_a_data_folder_somebody_else_may_change_is_refused_by_every_command_that_uses_it(
    make, said, in_order, tmp_path
):
    if make is strangers and not IS_ROOT:
        pytest.skip("only root can make a folder of another user")
    data = make(tmp_path / "data")
    key = tmp_path / "key"
    key.write_text("some key\n")
    for command in (
        ["serve", "--facts", in_order, "--listen", ANY, "--probe-listen", ANY, "--data-dir", data],
        ["serve", "--listen", ANY, "--probe-listen", ANY, "--licensing-listen", ANY, "--data-dir", data],
        ["licensing", "--licensing-listen", ANY, "--probe-listen", ANY, "--data-dir", data],
        ["keys", "pin", KEY, "--data-dir", data],
        ["keys", "prepare", "--data-dir", data],
        ["activate", "--license-key-file", key, "--licensing", "127.0.0.1:1", "--data-dir", data],
    ):
        status, _, err = run(*command)
        assert status == 2 and said in err and str(data) in err, (command, status, err)
    assert list(data.iterdir()) == []


@pytest.mark.skipif(not IS_ROOT, reason="only root can give a file away")
def test_a_file_of_another_user_is_not_believed(tmp_path):
    data = tmp_path / "data"
    assert run("keys", "pin", KEY, "--data-dir", data)[0] == 0
    os.chown(data / "trusted-keys", STRANGER, STRANGER)
    status, _, err = run("keys", "trusted", "--data-dir", data)
    assert status == 2 and f"belongs to the user {STRANGER}" in err, err


def test_facts_are_kept_for_their_owner_alone_and_no_link_is_written_through(in_order, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("a file elsewhere")
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "facts.jsonl.new").symlink_to(elsewhere)
    before = os.umask(0)
    try:
        with Sidecar(in_order, data):
            eventually(lambda: (data / "facts.jsonl").exists())
    finally:
        os.umask(before)
    assert stat.S_IMODE((data / "facts.jsonl").stat().st_mode) == 0o600
    assert elsewhere.read_text() == "a file elsewhere"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The sample company, and its owner who is signed in."""
    folder = tmp_path_factory.mktemp("demo")
    listen = [word for kind in ("", "probe-", "licensing-") for word in (f"--{kind}listen", ANY)]
    with Running(["demo", *listen], ["enforcement", "probes", "licensing"], folder / "demo") as running:
        password = running.line(r"accounts sign-in owner .*# password: (\S+)")[1]
        running.line("Ctrl-C")
        person = Person(folder / "home", running.licensing, running.enforcement)
        (person.home / "password").write_bytes(MARK + password.encode() + b"\r\n")
        person.does("accounts", "sign-in", "owner", "--password-file", person.home / "password")
        yield person


def test_a_session_others_may_read_is_refused(demo):
    session = demo.home / ".local/state/esa-sidecar/session.json"
    session.chmod(0o666)
    try:
        ran = demo.types("accounts", "whoami")
        assert ran.status == 2 and "mode 0666" in ran.err and "chmod 600" in ran.err, ran
    finally:
        session.chmod(0o600)
    assert demo.does("accounts", "whoami")


def test_what_is_written_follows_links_and_never_takes_the_place_of_what_is_no_plain_file(demo, tmp_path):
    csv = demo.does("licenses", "export").out
    target = tmp_path / "target.csv"
    target.write_text("of yesterday")
    target.chmod(0o640)
    link = tmp_path / "link.csv"
    link.symlink_to(target)
    demo.does("licenses", "export", "--output", link)
    assert link.is_symlink() and target.read_text() == csv and stat.S_IMODE(target.stat().st_mode) == 0o640
    assert demo.does("licenses", "export", "--output", "-").out == csv
    assert demo.does("licenses", "export", "--output", "/dev/stdout").out == csv
    demo.does("audit", "export", "--output", "/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert not (demo.home / "-").exists()

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True)
    demo.does("licenses", "export", "--output", pipe)
    assert reader.communicate(timeout=10)[0] == csv and stat.S_ISFIFO(pipe.stat().st_mode)

    fresh = tmp_path / "fresh"
    (tmp_path / "to-fresh").symlink_to(fresh)
    demo.does("accounts", "credentials", "create", "one", "--token-output", tmp_path / "to-fresh")
    assert stat.S_IMODE(fresh.stat().st_mode) == 0o600 and fresh.read_text().startswith("esac_")
    ran = demo.types("accounts", "credentials", "create", "two", "--token-output", tmp_path / "to-fresh")
    assert ran.status == 2 and "there already" in ran.err, ran
    token = demo.does("accounts", "credentials", "create", "three", "--token-output", "-").told_once
    assert token.startswith("esac_")

    # Read back as an editor saves it.
    (tmp_path / "token").write_bytes(MARK + token.encode() + b"\n")
    assert demo.does("accounts", "whoami", "--json", "--token-file", tmp_path / "token").json["name"] == "owner"
    (tmp_path / "token").write_bytes(token.encode("utf-16"))
    ran = demo.types("accounts", "whoami", "--token-file", tmp_path / "token")
    assert ran.status == 2 and "UTF-16" in ran.err, ran
    unit = demo.all("units")[0]["unit_id"]
    (tmp_path / "units").write_bytes(MARK + unit.encode() + b"\n")
    ran = demo.does("units", "deactivate", "--from-file", tmp_path / "units", "--format", "json")
    assert ran.json["results"][0]["state"] == "deactivation_pending"


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path):
    file = tmp_path / "facts.json"
    put(file, facts(time.time_ns()))
    file.write_bytes(MARK + file.read_bytes())
    status, out, err = run("matrix", "--facts", file)
    assert status == 0 and ID in out, err
    config = tmp_path / "esa-sidecar.toml"
    config.write_bytes(MARK + f'[file]\npath = "{file}"\n'.encode())
    assert run("check-config", config)[0] == 0, run("check-config", config)
    with Sidecar(file, tmp_path / "data") as sidecar:
        server = sidecar.enforcement
        eventually(lambda: run("status", "--server", server)[0] == 0)


def test_permissions_of_a_socket_are_those_that_were_written_or_refused_with_what_to_write(in_order, tmp_path):
    def checked(toml, **environment):
        config = tmp_path / "config.toml"
        config.write_text(toml)
        return run("check-config", config, env=os.environ | environment)

    for toml in ("socket_mode = 0o660", "socket_mode = 432", "socket_mode = 660", 'socket_mode = "0x1b0"'):
        status, out, err = checked(f"[listen]\n{toml}\n")
        assert status == 64 and "listen.socket_mode" in err and "660" in err, (toml, out, err)
    for mode in ("0o660", "0660", "660"):
        socket = tmp_path / f"{mode}.sock"
        config = tmp_path / f"{mode}.toml"
        config.write_text(f'[listen]\nsocket_mode = "{mode}"\n')
        with Sidecar(in_order, tmp_path / "data", listen=f"unix:{socket}", config=config):
            assert stat.S_IMODE(socket.stat().st_mode) == 0o660
        with Sidecar(in_order, tmp_path / "data", listen=f"unix:{socket}", LISTEN__SOCKET_MODE=mode):
            assert stat.S_IMODE(socket.stat().st_mode) == 0o660
    for toml, said in {"[tls]\nminimum_version = 1.2": None, "[refresh]\ninterval = '1M'": "a minute or a month"}.items():
        status, _, err = checked(toml)
        assert (status == 0) if said is None else (status == 64 and said in err), (toml, err)
    (tmp_path / "config.toml").write_text("")
    environment = os.environb | {b"ESA_SIDECAR__DATA_DIR": b"/tmp/d\xe9p\xf4t"}
    status, _, err = run("check-config", tmp_path / "config.toml", env=environment)
    assert status == 64 and "UTF-8" in err, err


def test_a_password_prompt_leaves_the_terminal_as_it_was(tmp_path):
    for end in (b"\x03", signal.SIGTERM, b"wrong password\r"):
        process, terminal = pty.fork()
        if process == 0:
            os.environ["HOME"] = str(tmp_path)
            os.execv(binary(), [binary(), "accounts", "sign-in", "owner", "--licensing", "127.0.0.1:1"])
        shown = read_until(terminal, b"password: ")
        eventually(lambda: not echoes(terminal))
        if isinstance(end, bytes):
            os.write(terminal, end)
        else:
            os.kill(process, end)
        eventually(lambda: echoes(terminal))
        read_until(terminal, None)
        _, status = os.waitpid(process, 0)
        assert status != 0, shown
        os.close(terminal)


def echoes(terminal):
    """Whether the terminal shows what is typed, and makes a signal of Ctrl-C."""
    local = termios.tcgetattr(terminal)[3]
    return bool(local & termios.ECHO) and bool(local & termios.ISIG)


def read_until(terminal, wanted):
    """What is shown, until it holds this; None: until its end."""
    shown, deadline = b"", time.monotonic() + START_WITHIN
    while wanted is None or wanted not in shown:
        assert select.select([terminal], [], [], deadline - time.monotonic())[0], shown
        try:
            more = os.read(terminal, 4096)
        except OSError:
            return shown
        if not more:
            return shown
        shown += more
    return shown


def test_no_core_is_dumped_of_what_holds_secrets(in_order, tmp_path):
    with Sidecar(in_order, tmp_path / "data") as sidecar:
        limits = open(f"/proc/{sidecar.process.pid}/limits").read()
        line = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
        assert line.split()[4:6] == ["0", "0"], line
    if not IS_ROOT:
        return
    # What is not dumpable belongs to root in /proc, whoever runs it: no other process of that user can look inside.
    tool = tmp_path / "esa-sidecar"
    shutil.copy(binary(), tool)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and not folder.stat().st_mode & 0o001:
            folder.chmod(0o711)
    in_order.chmod(0o644)
    with AsStranger(in_order, strangers(tmp_path / "theirs"), tool) as sidecar:
        assert os.stat(f"/proc/{sidecar.process.pid}/environ").st_uid == 0
        assert os.stat(f"/proc/{sidecar.process.pid}").st_uid in (0, STRANGER)
        server = sidecar.enforcement
        eventually(lambda: ID in run("status", "--server", server)[1])


class AsStranger(Sidecar):
    """A sidecar that is run by another user."""

    def __init__(self, facts, data, tool):
        super().__init__(facts, data)
        self._tool = tool

    def command(self):
        return [str(self._tool), *super().command()[1:]]

    def process_options(self):
        return {"user": STRANGER, "group": STRANGER, "extra_groups": []}
