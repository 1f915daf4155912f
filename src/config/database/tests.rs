//! What is read, what is refused, and that no part of a password is ever shown.

use super::*;

fn read(text: &str) -> Result<Database, String> {
    Database::read(text, &Environment::default())
}

fn postgres(text: &str, environment: &[(&'static str, &str)], keys: &TlsKeys) -> Result<Postgres, String> {
    let variables = environment.iter().map(|(name, value)| (*name, (*value).to_owned()));
    let Database::Postgres(mut postgres) = Database::read(text, &Environment::of(variables))? else {
        panic!("{text}")
    };
    match postgres.settle(keys).pop() {
        Some((key, what)) => Err(format!("{key}: {what}")),
        None => Ok(*postgres),
    }
}

#[test]
fn a_database_is_read_as_it_is_written() {
    for (text, shown) in [
        ("licensing.db", "SQLite at licensing.db"),
        ("/var/lib/a b/licensing.db", "SQLite at /var/lib/a b/licensing.db"),
        ("./host=a", "SQLite at ./host=a"),
        ("sqlite:///var/lib/licensing.db", "SQLite at /var/lib/licensing.db"),
        ("postgres://esa:secret@db.example:5433/licensing", "PostgreSQL at db.example:5433/licensing"),
        ("postgresql://DB.example/licensing", "PostgreSQL at db.example:5432/licensing"),
        (
            "postgres://db.example/licensing?user=esa&password=secret",
            "PostgreSQL at db.example:5432/licensing",
        ),
        ("postgres://esa:sec@ret@db.example/licensing", "PostgreSQL at db.example:5432/licensing"),
        ("postgres://esa:secret@[::1]:5433/licensing", "PostgreSQL at [::1]:5433/licensing"),
        ("postgres://esa:secret@[2001:db8::1]/licensing", "PostgreSQL at [2001:db8::1]:5432/licensing"),
        ("postgres://esa@%2Frun%2Fpg/licensing", "PostgreSQL at /run/pg:5432/licensing"),
        ("postgres://esa@localhost/licensing?host=/run/pg", "PostgreSQL at /run/pg:5432/licensing"),
        ("postgres:///licensing?host=::1&port=1", "PostgreSQL at [::1]:1/licensing"),
    ] {
        let database = read(text).unwrap_or_else(|what| panic!("{text}: {what}"));
        assert_eq!(database.to_string(), shown, "{text}");
        assert_eq!(format!("{database:?}"), shown, "{text}");
    }
}

#[test]
fn what_is_no_database_is_refused_and_never_repeated() {
    for (text, what) in [
        ("", "empty"),
        (" ", "empty"),
        ("host=s3cr dbname=s3cret", "`key=value` pairs"),
        ("dbname=s3cret", "`key=value` pairs"),
        ("user=esa password=s3cret:x", "`key=value` pairs"),
        ("mysql://esa:s3cret@host/x", "postgres://user:password@host/database"),
        ("esa:s3cret@host/x", "postgres://user:password@host/database"),
        ("jdbc:postgresql://host/x?password=s3cret", "postgres://user:password@host/database"),
        (":memory:", "the path of a file"),
        ("sqlite://", "names no file"),
        ("sqlite://s3cret.db?mode=ro", "the path of the file alone"),
        ("licensing.db\n", "control character"),
        ("postgres://esa:s3cret\n@host/x", "control character"),
        ("postgres://esa:top@s3cret?1@host/x", "percent-encode"),
        ("postgres://esa:top@s3cret?1", "percent-encode"),
        ("postgres://esa:top?s3cret=1@host/x", "percent-encode"),
        ("postgres://esa:top?s3cret=1", "percent-encode"),
        ("postgres://esa:1/s3cret@host/x", "percent-encode"),
        ("postgres://esa:top#s3cret@host/x", "percent-encode"),
        ("postgres://esa:1#s3cret", "percent-encode"),
        ("postgres://esa:s3cret/x", "percent-encode"),
        ("postgres://esa:s3cret:x@[host/x", "percent-encode"),
        ("postgres://esa:%FFs3cret@host/x", "percent-encode"),
        ("postgres://host/x?password=s3c@ret", "percent-encode"),
        ("postgres://esa:s3cret@a,b/x", "several hosts"),
        ("postgres://esa:s3cret@a/x?port=s3cret", "port is not a number"),
        ("postgres://esa:s3cret@a/x?sslmode=s3cret", "verify-full"),
        ("postgres://esa:s3cret@a/x?sslcert=s3cret", "go together"),
        ("postgres://esa:s3cret@a/x?channel_binding=s3cret", "`channel_binding` is not read"),
        ("postgres://esa:s3cret@a/x?statement-cache-capacity=s3cret", "whole number"),
    ] {
        let refused = read(text).expect_err(text);
        assert!(refused.contains(what), "{text}: {refused}");
        for part in ["s3cr", "s3c", "ret@", "top", "esa"] {
            assert!(!refused.contains(part), "{text}: {refused}");
        }
    }
}

#[test]
fn another_machine_is_spoken_to_over_tls_to_its_name_unless_a_key_of_its_own_says_less() {
    let far = "postgres://esa:secret@db.example/x";
    let with = |mode: &str| format!("{far}?sslmode={mode}");
    let (no, plaintext) = (TlsKeys::default(), TlsKeys { plaintext: true, ..TlsKeys::default() });
    let mode = |text: &str, keys| postgres(text, &[], keys).map(|postgres| postgres.mode().name());
    assert_eq!(mode(far, &no), Ok("verify-full"));
    assert_eq!(mode(&with("verify-full"), &no), Ok("verify-full"));
    for less in ["disable", "allow", "prefer", "require", "verify-ca"] {
        let refused = mode(&with(less), &no).unwrap_err();
        assert!(refused.contains("backend.database_plaintext = true"), "{refused}");
        let refused = postgres(far, &[("PGSSLMODE", less)], &no).unwrap_err();
        assert!(refused.contains("backend.database_plaintext = true"), "{refused}");
        assert_eq!(mode(&with(less), &plaintext), Ok(less));
    }
    assert_eq!(mode(far, &plaintext), Ok("disable"));
    // The URL is nearer than the environment.
    let both = postgres(&with("verify-full"), &[("PGSSLMODE", "disable")], &no).unwrap();
    assert_eq!(both.mode(), SslMode::VerifyFull);
    assert!(postgres(far, &[("PGSSLMODE", "of course")], &no).is_err());
    // Whatever is not this machine by its address may be another one.
    for host in
        ["0.0.0.0", "10.0.0.1", "[::ffff:127.0.0.1]", "[fe80::1]", "localhost.example", "127.0.0.1.example"]
    {
        assert_eq!(mode(&format!("postgres://{host}/x"), &no), Ok("verify-full"), "{host}");
    }
    let elsewhere = postgres("postgres:///x", &[("PGHOST", "db.example"), ("PGSSLMODE", "disable")], &no);
    assert!(elsewhere.unwrap_err().contains("db.example"));
    let elsewhere = postgres("postgres:///x", &[("PGHOSTADDR", "10.0.0.1")], &no).unwrap();
    assert_eq!(elsewhere.mode(), SslMode::VerifyFull);
    for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "[::1]", "%2Frun%2Fpg"] {
        assert_eq!(mode(&format!("postgres://{host}/x"), &no), Ok("disable"), "{host}");
    }
    assert_eq!(mode("postgres://localhost/x?sslmode=verify-full", &no), Ok("verify-full"));
    assert_eq!(mode("postgres://localhost/x?sslrootcert=ca.pem", &no), Ok("verify-full"));
    // There is no TLS on a Unix socket.
    assert_eq!(mode("postgres:///x?host=/run/pg&sslmode=verify-full", &no), Ok("disable"));
}

#[test]
fn the_driver_is_told_everything_whatever_the_environment_says() {
    let keys = TlsKeys {
        plaintext: false,
        ca: Some("/ca.pem".into()),
        certificate: Some("/c.pem".into()),
        key: Some("/k.pem".into()),
    };
    let url = |text: &str, keys: &TlsKeys, machine: Option<&str>| {
        postgres(text, &[], keys).unwrap().driver_url(machine.map(std::path::Path::new))
    };
    assert_eq!(
        url("postgres://e%40a:p%3F%20@[::1]:1/a%2Fb", &keys, Some("/machine.pem")),
        "postgres:///?host=%3A%3A1&port=1&user=e%40a&password=p%3F%20&dbname=a%2Fb&sslmode=verify%2Dfull\
         &sslrootcert=%2Fca%2Epem&sslcert=%2Fc%2Epem&sslkey=%2Fk%2Epem"
    );
    assert_eq!(
        url("postgres://db.example/x?sslrootcert=system", &TlsKeys::default(), Some("/machine.pem")),
        "postgres:///?host=db%2Eexample&port=5432&dbname=x&sslmode=verify%2Dfull&sslrootcert=%2Fmachine%2Epem"
    );
    assert_eq!(
        url("postgres://localhost/x?options=-c%20a%3Db", &TlsKeys::default(), Some("/machine.pem")),
        "postgres:///?host=localhost&port=5432&dbname=x&sslmode=disable&options=%2Dc%20a%3Db"
    );
    for (text, key) in [
        ("postgres://db.example/x?sslrootcert=a", "backend.database_ca"),
        ("postgres://db.example/x?sslcert=a&sslkey=b", "backend.database_certificate"),
    ] {
        assert!(postgres(text, &[], &keys).unwrap_err().starts_with(key), "{text}");
    }
    for (keys, key) in [
        (TlsKeys { key: None, ..keys.clone() }, "backend.database_certificate"),
        (TlsKeys { certificate: None, ..keys.clone() }, "backend.database_key"),
    ] {
        assert!(postgres("postgres://db.example/x", &[], &keys).unwrap_err().starts_with(key));
    }
}

#[test]
fn a_socket_that_anybody_may_have_put_there_is_not_guessed() {
    // A port of its own, so that no server is in the way.
    let socket = std::path::Path::new("/tmp/.s.PGSQL.64999");
    std::fs::write(socket, "").unwrap();
    let read = postgres("postgres:///licensing?user=esa&port=64999", &[], &TlsKeys::default());
    std::fs::remove_file(socket).unwrap();
    assert_eq!(read.unwrap().to_string(), "localhost:64999/licensing");
}
