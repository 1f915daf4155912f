"""Files of certificates, keys and revocation lists: each is read whole, or refused in words an operator knows."""

import re
import subprocess

from certificates import openssl
from postgres import environment
from sidecar import binary


def checked(folder, **files):
    """What `check-config` says of these files of TLS."""
    config = folder / "config.toml"
    rows = "".join(f"{key} = '{path}'\n" for key, path in files.items())
    config.write_text(f"[tls]\n{rows}", encoding="utf-8")
    command = [binary(), "check-config", config]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    return done.returncode, done.stdout + done.stderr


def put(path, *contents):
    """These, one right after the other, in a file."""
    path.write_bytes(b"".join(contents))
    return path


def test_a_file_of_which_a_block_is_not_read_is_refused_with_the_line(authority, tmp_path):
    """Whatever the file is for; byte-order marks and line ends of Windows are passed over."""
    certificate, key = authority.issue("files", "DNS:localhost")
    ca = authority.certificate
    older = authority.revocations("older").read_bytes()
    pem, private, root = (path.read_bytes() for path in (certificate, key, ca))
    good = {"certificate": certificate, "key": key, "client_ca": ca}
    mark = b"\xef\xbb\xbf"
    for number, (name, contents, line) in enumerate(
        [
            ("revocations", [older.rstrip(b"\n"), older], older.count(b"\n")),
            ("certificate", [pem.rstrip(b"\n"), root], pem.count(b"\n")),
            ("client_ca", [root.rstrip(b"\n"), root], root.count(b"\n")),
            ("client_ca", [root, root.replace(b"-----BEGIN", b"----BEGIN")], root.count(b"\n") + 1),
            ("client_ca", [root, root.replace(b" CERTIFICATE", b" TRUSTED CERTIFICATE")], root.count(b"\n") + 1),
            ("client_ca", [root, root.partition(b"-----END")[0]], root.count(b"\n") + 1),
            ("key", [private, private], private.count(b"\n") + 1),
        ]
    ):
        file = put(tmp_path / f"{number}.pem", *contents)
        status, said = checked(tmp_path, **(good | {name: file}))
        assert status == 2 and f"`{file}`: line {line}: " in said, (name, said)
    for contents in [[mark, root, mark, root], [root.replace(b"\n", b"\r\n")]]:
        status, said = checked(tmp_path, **(good | {"client_ca": put(tmp_path / "good.pem", *contents)}))
        assert status == 0 and "nothing is wrong" in said, said
    asked, old = tmp_path / "old.csr", tmp_path / "old.pem"
    openssl("req", "-new", "-key", key, "-subj", "/CN=an authority of version 1", "-out", asked)
    openssl("x509", "-req", "-in", asked, "-signkey", key, "-out", old)
    assert checked(tmp_path, **(good | {"client_ca": old}))[0] == 0
    shown = {"certificate": put(tmp_path / "c.pem", mark, pem), "key": put(tmp_path / "k.pem", mark, private)}
    assert checked(tmp_path, **shown)[0] == 0


def test_what_an_operator_gets_wrong_is_told_in_words(authority, tmp_path):
    """An encrypted key, a certificate that has expired or is an authority's, a file in DER."""
    certificate, key = authority.issue("words", "DNS:localhost")
    encrypted, old, der = (tmp_path / name for name in ("encrypted.key", "old.key", "certificate.der"))
    openssl("pkey", "-in", key, "-aes256", "-passout", "pass:secret", "-out", encrypted)
    openssl("ec", "-in", key, "-aes256", "-passout", "pass:secret", "-out", old)
    openssl("x509", "-in", certificate, "-outform", "der", "-out", der)
    for files, status, words in [
        ({"certificate": certificate, "key": encrypted}, 2, "is encrypted; decrypt it"),
        ({"certificate": certificate, "key": old}, 2, "is encrypted; decrypt it"),
        ({"certificate": der, "key": key}, 2, "in DER"),
        ({"certificate": authority.certificate, "key": authority.key}, 0, r"it can be used, but .*CA:TRUE"),
    ]:
        ended, said = checked(tmp_path, **files)
        assert ended == status and re.search(words, said), (files, said)
    for name, since, until, words in [
        ("gone", "20200101000000Z", "20210101000000Z", "has expired at 2021-01-01T00:00:00Z"),
        ("early", "20980101000000Z", "20990101000000Z", "is not valid before 2098-01-01T00:00:00Z"),
    ]:
        certificate, key = authority.issue_for(name, since, until)
        ended, said = checked(tmp_path, certificate=certificate, key=key)
        assert ended == 0 and re.search(f"it can be used, but .*{words}", said), said
