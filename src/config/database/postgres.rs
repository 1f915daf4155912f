//! A PostgreSQL server as its URL, libpq's variables and the configuration name it.
//!
//! Everything the driver is told is told in words of ours: what it would read from the URL or the environment beside
//! that is refused, so that nothing is less secure than it looks. Not here: what the driver does with it.

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
};

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::Url;

use super::{
    environment::Environment,
    tls::{SslMode, TlsKeys},
};
use crate::edge::tls::{TlsError, Trust};

/// A server, and a database on it.
#[derive(Clone, PartialEq, Eq)]
pub struct Postgres {
    server: Server,
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
    application_name: Option<String>,
    options: Option<String>,
    statement_cache: Option<usize>,
    asked: Option<SslMode>,
    mode: SslMode,
    trust: Trust,
}

#[derive(Clone, PartialEq, Eq)]
struct Server {
    /// A name, an IP address, or the folder of a Unix socket.
    host: String,
    port: u16,
}

/// The parameters that are read, each under its name and those the driver knows it by.
#[derive(Default)]
struct Parameters {
    host: Option<String>,
    port: Option<String>,
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
    mode: Option<String>,
    root: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
    application_name: Option<String>,
    options: Option<String>,
    statement_cache: Option<String>,
}

const READ: &str =
    "host, port, user, password, dbname, sslmode, sslrootcert, sslcert, sslkey, application_name, options";

/// Parameters of libpq that are not read. The name of any other may be a part of a password.
const NOT_READ: [&str; 24] = [
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "gssencmode",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "load_balance_hosts",
    "passfile",
    "replication",
    "require_auth",
    "service",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslnegotiation",
    "sslpassword",
    "sslsni",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "target_session_attrs",
];

const MALFORMED: &str = "it does not read as a URL; write `postgres://user:password@host:port/database`, and percent-encode what \
                         is neither a letter nor a digit in the password (`@` is %40, `:` %3A, `/` %2F, `?` %3F, `#` %23, `%` %25)";

impl Postgres {
    pub(super) fn read(text: &str, environment: &Environment) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|_| MALFORMED.to_owned())?;
        let after = text.split_once("://").map_or(text, |(_, after)| after);
        let behind = after.split_once(['/', '?', '#']).map_or("", |(_, behind)| behind);
        // A password that ends the host early, so that a part of it would be taken for something else.
        if url.fragment().is_some() || behind.contains('@') {
            return Err(MALFORMED.to_owned());
        }
        let said = Parameters::of(&url)?;
        let port = said.port.or_else(|| environment.get("PGPORT"));
        let port = port.map_or(Ok(5432), |port| port.parse().map_err(|_| "its port is not a number"))?;
        let host = said.host.or_else(|| environment.get("PGHOSTADDR")).or_else(|| environment.get("PGHOST"));
        let host = host.unwrap_or_else(|| usual_host(port));
        if host.contains(',') {
            return Err(
                "it names several hosts; name one, which leads to the server that takes writes".to_owned()
            );
        }
        let mode = said.mode.or_else(|| environment.get("PGSSLMODE"));
        let mode = mode.map(|mode| {
            SslMode::read(&mode).ok_or(
                "`sslmode` (or PGSSLMODE) is none of disable, allow, prefer, require, verify-ca, verify-full",
            )
        });
        let path =
            |said: Option<String>, variable| said.or_else(|| environment.get(variable)).map(PathBuf::from);
        let (certificate, key) = (path(said.certificate, "PGSSLCERT"), path(said.key, "PGSSLKEY"));
        let shown = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                return Err("`sslcert` and `sslkey` go together (or PGSSLCERT and PGSSLKEY)".to_owned());
            }
        };
        // `system` is libpq's word for the authorities of the machine.
        let ca = path(said.root, "PGSSLROOTCERT").filter(|path| path != Path::new("system"));
        let statement_cache = said.statement_cache.map(|number| number.parse());
        Ok(Self {
            server: Server { host, port },
            user: said.user,
            password: said.password,
            database: said.database.or_else(|| environment.get("PGDATABASE")),
            application_name: said.application_name.or_else(|| environment.get("PGAPPNAME")),
            options: said.options,
            statement_cache: statement_cache
                .transpose()
                .map_err(|_| "`statement-cache-capacity` is not a whole number")?,
            asked: mode.transpose()?,
            mode: SslMode::VerifyFull,
            trust: Trust { ca, shown },
        }
        .settled(&TlsKeys::default()))
    }

    /// Takes what the configuration says beside the URL; what is wrong with both of them together, by key.
    pub(in crate::config) fn settle(&mut self, keys: &TlsKeys) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let twice = "the URL (or libpq's environment) names one, too; leave one of them out";
        match (&keys.ca, &self.trust.ca) {
            (Some(_), Some(_)) => faults.push(("backend.database_ca", twice.to_owned())),
            (Some(ca), None) => self.trust.ca = Some(ca.clone()),
            (None, _) => {}
        }
        match (&keys.certificate, &keys.key, &self.trust.shown) {
            (Some(_), Some(_), Some(_)) => faults.push(("backend.database_certificate", twice.to_owned())),
            (Some(certificate), Some(key), None) => {
                self.trust.shown = Some((certificate.clone(), key.clone()))
            }
            (Some(_), None, _) => {
                faults
                    .push(("backend.database_certificate", "it goes with `backend.database_key`".to_owned()));
            }
            (None, Some(_), _) => {
                faults
                    .push(("backend.database_key", "it goes with `backend.database_certificate`".to_owned()));
            }
            (None, None, _) => {}
        }
        *self = self.clone().settled(keys);
        if self.mode != SslMode::VerifyFull && !self.is_on_this_machine() && !keys.plaintext {
            let what = format!(
                "`sslmode={}` (in the URL, or PGSSLMODE) does not protect what is said to `{}`, which is another machine: \
                 whoever is on the way reads the password and changes licenses; leave it out, which means verify-full, or \
                 set `backend.database_plaintext = true` if the way is safe, as in a tunnel",
                self.mode, self.server.host
            );
            faults.push(("backend.database", what));
        }
        faults
    }

    fn settled(mut self, keys: &TlsKeys) -> Self {
        let names_authorities = self.trust.ca.is_some();
        let default = if names_authorities || !(self.is_on_this_machine() || keys.plaintext) {
            SslMode::VerifyFull
        } else {
            SslMode::Disable
        };
        self.mode = match self.asked {
            // PostgreSQL speaks no TLS on Unix sockets, and libpq asks for none there whatever it is told.
            _ if self.is_socket() => SslMode::Disable,
            asked => asked.unwrap_or(default),
        };
        self
    }

    /// How the connections are secured.
    #[must_use]
    pub const fn mode(&self) -> SslMode {
        self.mode
    }

    /// Whether the machine's own authorities are what its certificate is verified by.
    #[must_use]
    pub const fn trusts_machine(&self) -> bool {
        self.mode.verifies() && self.trust.ca.is_none()
    }

    /// Reads the files of certificates and keys, where they count.
    pub fn check_files(&self) -> Result<(), TlsError> {
        if self.mode.may_encrypt() { self.trust.check() } else { Ok(()) }
    }

    /// How it is spoken to, for people.
    #[must_use]
    pub fn security(&self) -> String {
        let by = match &self.trust.ca {
            Some(ca) => format!("the authorities in `{}`", ca.display()),
            None => "the authorities of this machine".to_owned(),
        };
        match self.mode {
            SslMode::VerifyFull => {
                format!("TLS (verify-full): its certificate has to be for `{}`, by {by}", self.server.host)
            }
            SslMode::VerifyCa => format!("TLS (verify-ca): its certificate has to be by {by}, for any name"),
            SslMode::Require => "TLS with whoever answers (require)".to_owned(),
            SslMode::Prefer => "TLS if it offers any (prefer)".to_owned(),
            SslMode::Disable | SslMode::Allow if self.is_on_this_machine() => {
                "no TLS, for it is on this machine".to_owned()
            }
            SslMode::Disable | SslMode::Allow => "no TLS, as `backend.database_plaintext` says".to_owned(),
        }
    }

    /// The URL for the driver, with the password; `machine` is a file with the authorities of this machine.
    #[must_use]
    pub fn driver_url(&self, machine: Option<&Path>) -> String {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let authorities = self.trust.ca.as_deref().or(machine).map(path);
        let shown = self.trust.shown.as_ref().filter(|_| self.mode.may_encrypt());
        let said = [
            ("host", Some(self.server.host.clone())),
            ("port", Some(self.server.port.to_string())),
            ("user", self.user.clone()),
            ("password", self.password.clone()),
            ("dbname", self.database.clone()),
            ("sslmode", Some(self.mode.to_string())),
            ("sslrootcert", authorities.filter(|_| self.mode.verifies())),
            ("sslcert", shown.map(|(certificate, _)| path(certificate))),
            ("sslkey", shown.map(|(_, key)| path(key))),
            ("application_name", self.application_name.clone()),
            ("options", self.options.clone()),
            ("statement-cache-capacity", self.statement_cache.map(|number| number.to_string())),
        ];
        let said = said.into_iter().filter_map(|(key, value)| {
            Some(format!("{key}={}", utf8_percent_encode(&value?, NON_ALPHANUMERIC)))
        });
        format!("postgres:///?{}", said.collect::<Vec<_>>().join("&"))
    }

    fn is_socket(&self) -> bool {
        self.server.host.starts_with('/')
    }

    /// Whether what is said there stays on this machine.
    #[must_use]
    pub fn is_on_this_machine(&self) -> bool {
        let host = &self.server.host;
        let ip = host.parse::<IpAddr>();
        self.is_socket() || host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    }
}

impl Parameters {
    fn of(url: &Url) -> Result<Self, String> {
        let mut said = Self::default();
        let host = url.host_str().map(decoded).transpose()?.filter(|host| !host.is_empty());
        // An IPv6 address is in brackets here and nowhere else.
        said.host = host.map(|host| {
            let inside = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            inside.unwrap_or(&host).to_owned()
        });
        said.port = url.port().map(|port| port.to_string());
        said.user = Some(decoded(url.username())?).filter(|user| !user.is_empty());
        said.password = url.password().map(decoded).transpose()?;
        let database = decoded(url.path().strip_prefix('/').unwrap_or(url.path()))?;
        said.database = Some(database).filter(|database| !database.is_empty());
        for pair in url.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| MALFORMED.to_owned())?;
            let value = decoded(value)?;
            *said.place(&decoded(key)?)? = Some(value).filter(|value| !value.is_empty());
        }
        said.host = said.host.map(|host| lower(&host));
        Ok(said)
    }

    fn place(&mut self, key: &str) -> Result<&mut Option<String>, String> {
        Ok(match key {
            "host" => &mut self.host,
            "port" => &mut self.port,
            "user" => &mut self.user,
            "password" => &mut self.password,
            "dbname" => &mut self.database,
            "sslmode" | "ssl-mode" => &mut self.mode,
            "sslrootcert" | "ssl-root-cert" | "ssl-ca" => &mut self.root,
            "sslcert" | "ssl-cert" => &mut self.certificate,
            "sslkey" | "ssl-key" => &mut self.key,
            "application_name" => &mut self.application_name,
            "options" => &mut self.options,
            "statement-cache-capacity" => &mut self.statement_cache,
            _ if NOT_READ.contains(&key) => return Err(format!("`{key}` is not read; leave it out")),
            _ => {
                return Err(format!(
                    "it has a parameter after `?` that is not known here; those that are: {READ}. If that is a part of the \
                     password, percent-encode what is neither a letter nor a digit there (`?` is %3F)"
                ));
            }
        })
    }
}

fn decoded(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| MALFORMED.to_owned())?;
    if decoded.contains('\0') { Err(MALFORMED.to_owned()) } else { Ok(decoded.into_owned()) }
}

/// The name of a host in lower case; the folder of a socket as it is.
fn lower(host: &str) -> String {
    if host.starts_with('/') { host.to_owned() } else { host.to_ascii_lowercase() }
}

/// Where libpq looks when nothing is said: the usual folders of the socket, then this machine by its name. Not in `/tmp`,
/// where anybody may have put a socket, which would be told the password.
fn usual_host(port: u16) -> String {
    let folder = ["/run/postgresql", "/var/run/postgresql"]
        .into_iter()
        .find(|folder| Path::new(folder).join(format!(".s.PGSQL.{port}")).exists());
    folder.unwrap_or("localhost").to_owned()
}

impl fmt::Display for Postgres {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Server { host, port } = &self.server;
        let database = self.database.as_deref().unwrap_or_default();
        if host.contains(':') {
            write!(formatter, "[{host}]:{port}/{database}")
        } else {
            write!(formatter, "{host}:{port}/{database}")
        }
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
