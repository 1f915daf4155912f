"""An authority and the certificates it signs, made by the `openssl` command, in files as an operator keeps them."""

import subprocess

# What is not said here would come from a file of the machine.
CONFIG = "[req]\ndistinguished_name = nobody\n[nobody]\n"


class Authority:
    """An authority in a folder of its own; `certificate` is what those who believe it are given.

    `caller` is a certificate of it, with its key, for whoever is asked to show one.
    """

    def __init__(self, folder):
        self._folder = folder
        (folder / "openssl.cnf").write_text(CONFIG, encoding="ascii")
        told = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"]
        self.certificate, self._key = self._make("ca", "An authority of tests", told)
        self.caller = self.issue("caller", "DNS:caller.test")

    def issue(self, name, *names):
        """A certificate for these names (DNS:…, IP:… or URI:…) and its key, as paths."""
        told = ["basicConstraints=critical,CA:FALSE", "extendedKeyUsage=serverAuth,clientAuth"]
        told.append("subjectAltName=" + ",".join(names))
        return self._make(name, name, told, "-CA", self.certificate, "-CAkey", self._key)

    def settings(self):
        """Those of a sidecar on this machine that speaks TLS with a certificate of this authority."""
        certificate, key = self.issue("server", "DNS:localhost", "IP:127.0.0.1")
        return {"TLS__CERTIFICATE": str(certificate), "TLS__KEY": str(key)}

    def _make(self, name, subject, extensions, *signed):
        certificate, key = (self._folder / f"{name}.{kind}" for kind in ("pem", "key"))
        command = ["openssl", "req", "-x509", "-config", self._folder / "openssl.cnf", "-days", "2", "-nodes"]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", f"/CN={subject}"]
        command += ["-keyout", key, "-out", certificate, *signed]
        for extension in extensions:
            command += ["-addext", extension]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return certificate, key
