"""An authority and the certificates it signs, made by the `openssl` command, in files as an operator keeps them."""

import calendar
import subprocess
import time

# What is not said here would come from a file of the machine.
CONFIG = """
[req]
distinguished_name = nobody
[nobody]
[ca]
default_ca = authority
[authority]
database = index.txt
crlnumber = crlnumber
default_md = sha256
crl_extensions = list
new_certs_dir = .
policy = anybody
rand_serial = yes
[anybody]
commonName = supplied
[server]
basicConstraints = critical,CA:FALSE
subjectAltName = DNS:localhost
[list]
authorityKeyIdentifier = keyid:always
"""


class Authority:
    """An authority in a folder of its own; `certificate` is what those who believe it are given.

    `caller` is a certificate of it, with its key, for whoever is asked to show one.
    """

    def __init__(self, folder):
        self._folder = folder
        (folder / "openssl.cnf").write_text(CONFIG, encoding="ascii")
        told = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"]
        self.certificate, self.key = self._make("ca", "An authority of tests", told)
        self.caller = self.issue("caller", "DNS:caller.test")

    def issue(self, name, *names, days=2):
        """A certificate for these names (DNS:…, IP:… or URI:…) and its key, as paths."""
        told = ["basicConstraints=critical,CA:FALSE", "extendedKeyUsage=serverAuth,clientAuth"]
        told.append("subjectAltName=" + ",".join(names))
        return self._make(name, name, told, "-CA", self.certificate, "-CAkey", self.key, days=days)

    def issue_for(self, name, since, until):
        """The same for localhost, from one instant (YYYYMMDDHHMMSSZ) until another."""
        _, key = self.issue(name, "DNS:localhost")
        asked, made = (self._folder / f"{name}.{kind}" for kind in ("csr", "dated.pem"))
        openssl("req", "-new", "-config", "openssl.cnf", "-key", key, "-subj", f"/CN={name}", "-out", asked, cwd=self._folder)
        (self._folder / "index.txt").touch()
        signed = ["-keyfile", self.key, "-cert", self.certificate, "-batch", "-notext", "-extensions", "server"]
        dates = ["-startdate", since, "-enddate", until]
        openssl("ca", "-config", "openssl.cnf", "-in", asked, "-out", made, *signed, *dates, cwd=self._folder)
        return made, key

    def settings(self):
        """Those of a sidecar on this machine that speaks TLS with a certificate of this authority."""
        certificate, key = self.issue("server", "DNS:localhost", "IP:127.0.0.1")
        return {"TLS__CERTIFICATE": str(certificate), "TLS__KEY": str(key)}

    def revocations(self, name, hours=30):
        """A list of the certificates it has revoked, none, as a path."""
        (self._folder / "index.txt").touch()
        (self._folder / "crlnumber").write_text("01\n", encoding="ascii")
        made = self._folder / f"{name}.crl"
        signed = ["-keyfile", self.key, "-cert", self.certificate, "-crlhours", str(hours), "-out", made]
        openssl("ca", "-config", "openssl.cnf", "-gencrl", *signed, cwd=self._folder)
        return made

    def end_of(self, file):
        """When a certificate, or a revocation list, is out of date, in seconds since 1970."""
        kind, option = ("crl", "-nextupdate") if file.suffix == ".crl" else ("x509", "-enddate")
        told = openssl(kind, "-in", file, "-noout", option).partition("=")[2].strip()
        return calendar.timegm(time.strptime(told, "%b %d %H:%M:%S %Y GMT"))

    def _make(self, name, subject, extensions, *signed, days=2):
        certificate, key = (self._folder / f"{name}.{kind}" for kind in ("pem", "key"))
        command = ["req", "-x509", "-config", self._folder / "openssl.cnf", "-days", str(days), "-nodes"]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", f"/CN={subject}"]
        command += ["-keyout", key, "-out", certificate, *signed]
        for extension in extensions:
            command += ["-addext", extension]
        openssl(*command)
        return certificate, key


def openssl(*command, cwd=None):
    """What it says."""
    done = subprocess.run(["openssl", *command], capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout
