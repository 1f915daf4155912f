//! Defaults, and which layer wins.

use super::*;

#[test]
fn the_defaults_are_those_that_are_documented() {
    let config = Config::read(None, Vec::new()).unwrap();
    assert_eq!(config.listen.enforcement.to_string(), "127.0.0.1:50051");
    assert_eq!(config.listen.probes.to_string(), "127.0.0.1:9464");
    assert_eq!(config.refresh.interval, Duration::from_mins(5));
    assert_eq!(config.staleness.stale_after, Duration::from_hours(24));
    assert_eq!(config.staleness.unavailable_after, None);
    assert_eq!(config.limits.batch_questions, 1_000);
}

#[test]
fn a_flag_wins_over_the_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        "data_dir = '/file'\n[listen]\nenforcement = '127.0.0.1:1'\nprobes = '127.0.0.1:2'",
    )
    .unwrap();
    let flag = Flag { flag: "--listen", key: "listen.enforcement", value: "127.0.0.1:3".to_owned() };
    let config = Config::read(Some(file.path().to_owned()), vec![flag]).unwrap();
    assert_eq!(config.listen.enforcement.to_string(), "127.0.0.1:3");
    assert_eq!(config.listen.probes.to_string(), "127.0.0.1:2");
    assert_eq!(config.data_dir, PathBuf::from("/file"));
}

#[test]
fn the_example_configuration_sets_every_key_to_its_default() {
    let example = std::fs::read_to_string("deploy/esa-sidecar.toml").unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &example).unwrap();
    assert_eq!(Config::read(Some(file.path().to_owned()), Vec::new()), Config::read(None, Vec::new()));

    // With the keys that have no default it still reads, and every key there is is in it.
    let example_of_backend = example.replace("#key path", "#path").replace("#key ", "");
    std::fs::write(file.path(), example_of_backend).unwrap();
    let config = Config::read(Some(file.path().to_owned()), Vec::new()).unwrap();
    assert_eq!(config.staleness.unavailable_after, Some(Duration::from_hours(30 * 24)));
    let reference = [
        include_str!("mod.rs"),
        include_str!("backend.rs"),
        include_str!("listen.rs"),
        include_str!("licensing.rs"),
        include_str!("limits.rs"),
        include_str!("tls.rs"),
    ];
    let reference = reference.concat();
    let documented =
        reference.lines().filter_map(|line| line.trim().strip_prefix("/// `")?.split('`').next());
    for key in documented.filter(|key| key.contains('.') && !key.contains('<')) {
        let name = key.rsplit('.').next().unwrap();
        assert!(example.contains(&format!("{name} = ")), "{key} is not in the example");
    }
}

#[test]
fn what_is_wrong_with_the_backend_is_said() {
    for (toml, what) in [
        ("[licensing]\nurls = ['http://10.0.0.1:1']", "licensing.plaintext = true"),
        ("[licensing]\nurls = ['nonsense']", "https://host:port"),
        ("[licensing]\nurls = ['http://localhost:1']\n[file]\npath = 'f'", "one source"),
        ("[licensing]\nsubscription = '1'", "public license ID"),
        ("[licensing]\nplaintext = 'perhaps'", "neither `true` nor `false`"),
        (
            "[licensing]\nurls = ['http://localhost:1']\n[staleness]\nunavailable_after = '1h'",
            "licensing.sync_interval",
        ),
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        let faults = Config::read(Some(file.path().to_owned()), Vec::new()).unwrap_err().to_string();
        assert!(faults.contains(what), "{toml}: {faults}");
    }
    for toml in ["urls = ['http://10.0.0.1:1']\nplaintext = true", "urls = ['https://10.0.0.1:1']"] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("[licensing]\n{toml}")).unwrap();
        assert!(Config::read(Some(file.path().to_owned()), Vec::new()).is_ok(), "{toml}");
    }
}

#[test]
fn who_may_ask_is_read_with_every_fault_in_it() {
    let read = |toml: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        Config::read(Some(file.path().to_owned()), Vec::new())
    };
    let row = |rest: &str| format!("[[callers]]\nname = 'it'\n{rest}\n");
    for (toml, what) in [
        ("callers = 1".to_owned(), "[[callers]]"),
        (row("user = 1"), "`role` is missing"),
        (row("user = 1\nrole = 'admin'"), "callers[0].role"),
        (row("role = 'probe'"), "say how it is known"),
        (row("role = 'probe'\nuser = 1\nloopback = true"), "in one way"),
        (row("role = 'probe'\nuser = -1"), "callers[0].user"),
        (row("role = 'probe'\nuser = 1\nuserr = 2"), "userr"),
        (row("role = 'probe'\nuser = 1\noperations = ['fly']"), "`fly` is no operation"),
        (row("role = 'probe'\nuser = 1\nsubscriptions = ['1']"), "`1` is no public license ID"),
        (row("role = 'probe'\nuser = 1\nquestions_per_second = 0"), "callers[0].questions_per_second"),
        (row("role = 'probe'\nuser = 1\nburst = 5"), "goes with `questions_per_second`"),
        (row("role = 'probe'\nuser = 1").repeat(2), "`callers[1]`"),
        (row("role = 'probe'\nuser = 1") + &row("role = 'probe'\nuser = 2"), "another row is called `it`"),
        ("[[callers]]\nname = 'unknown'\nrole = 'probe'\nuser = 1".to_owned(), "choose another"),
        ("[[callers]]\nname = ''\nrole = 'probe'\nuser = 1".to_owned(), "it is empty; write a name"),
        ("[[callers]]\nname = ' '\nrole = 'probe'\nuser = 1".to_owned(), "it is empty; write a name"),
        (
            "[[callers]]\nname = '\u{200b}'\nrole = 'probe'\nuser = 1".to_owned(),
            "not seen as itself (U+200B)",
        ),
        (
            "[[callers]]\nname = ' unknown'\nrole = 'probe'\nuser = 1".to_owned(),
            "begins or ends with a blank",
        ),
        // A name of a certificate is of one kind.
        (row("role = 'probe'\ncertificate = 'a.example.org'"), "call this one `certificate_dns`"),
        (row("role = 'probe'\ncertificate = 'spiffe://e.org/a'"), "call this one `certificate_uri`"),
        (row("role = 'probe'\ncertificate_dns = '*.example.org'"), "add a row for each"),
        (row("role = 'probe'\ncertificate_dns = 'spiffe://e.org/a'"), "callers[0].certificate_dns"),
        (row("role = 'probe'\ncertificate_dns = '10.0.0.1'"), "is not a DNS name"),
        (row("role = 'probe'\ncertificate_dns = ''"), "it is empty; write a name"),
        (row("role = 'probe'\ncertificate_dns = ' '"), "it is empty; write a name"),
        (row("role = 'probe'\ncertificate_uri = ' '"), "it is empty; write a name"),
        (row("role = 'probe'\ncertificate_uri = 'a.example.org'"), "is not a URI"),
        (row("role = 'probe'\ncertificate_uri = ''"), "it is empty; write a name"),
        (row("role = 'probe'\ncertificate_uri = 'spiffe://e.org/a'\nuser = 1"), "in one way"),
        (
            row("role = 'probe'\ncertificate_dns = 'a.example.org'")
                + &row("role = 'probe'\ncertificate_dns = 'A.EXAMPLE.ORG.'"),
            "known the same way as `it`",
        ),
        ("[tls]\ncertificate = 'c'".to_owned(), "goes with `tls.key`"),
        ("[tls]\nkey = 'k'".to_owned(), "goes with `tls.certificate`"),
        ("[tls]\nclient_ca = 'k'".to_owned(), "goes with `tls.certificate`"),
        ("[tls]\nrevocations = 'k'".to_owned(), "go with `tls.client_ca`"),
        ("[tls]\nrevocations = 'k'\nrequire_revocations = true".to_owned(), "go with `tls.client_ca`"),
        (
            "[tls]\ncertificate = 'c'\nkey = 'k'\nclient_ca = 'a'\nrequire_revocations = true".to_owned(),
            "`tls.require_revocations`",
        ),
        ("[tls]\nrequire_revocations = true".to_owned(), "it goes with `tls.revocations`"),
        ("[tls]\nrequire_revocations = 'perhaps'".to_owned(), "neither `true` nor `false`"),
        ("[tls]\nminimum_version = '1.1'".to_owned(), "neither `1.3` nor `1.2`"),
        ("[listen]\nenforcement = '0.0.0.0:1'".to_owned(), "tls.client_ca"),
        (
            "[listen]\nenforcement = '0.0.0.0:1'\n[tls]\ncertificate = 'c'\nkey = 'k'".to_owned(),
            "tls.client_ca",
        ),
        ("[listen]\nlicensing = '[::]:1'".to_owned(), "in the clear"),
        ("[listen]\nsocket_mode = '999'".to_owned(), "in octal"),
        ("[listen]\nsocket_mode = '+660'".to_owned(), "in octal"),
        ("[listen]\nsocket_mode = ''".to_owned(), "in octal"),
        ("[listen]\nsocket_mode = 0o660".to_owned(), "in quotes"),
        ("[listen]\nsocket_mode = 660".to_owned(), "in quotes"),
        ("data_dir = 0x10".to_owned(), "in quotes"),
        ("data_dir = true".to_owned(), "in quotes"),
        ("[log]\nqueue = 1.5".to_owned(), "`1.5` is not a whole number"),
        ("[refresh]\ninterval = '1M'".to_owned(), "a minute or a month"),
        ("[refresh]\ninterval = '1h 2M'".to_owned(), "a minute or a month"),
        ("[refresh]\ninterval = 1.5".to_owned(), "not a length of time"),
        ("[tls]\ncertificate = ''".to_owned(), "it is empty"),
        ("[listen]\nsocket_owner = 'esa'".to_owned(), "USER:GROUP"),
        ("[listen]\nthreads = 0".to_owned(), "from 1 to 1024"),
        ("[listen]\nmetrics = true".to_owned(), "neither `none`, `totals` nor `all`"),
    ] {
        let faults = read(&toml).unwrap_err().to_string();
        assert!(faults.contains(what), "{toml}: {faults}");
    }
    // Several at once, each in its place.
    let faults = read(&(row("role = 'probe'") + &row("role = 'fool'\nuser = 1"))).unwrap_err();
    assert_eq!(faults.0.len(), 2, "{faults}");
    // Health is nobody's secret (the page of metrics is closed there), and a network may be trusted on its operator's word.
    assert!(read("[listen]\nprobes = '0.0.0.0:1'").is_ok());
    assert!(
        read("[listen]\nenforcement = '0.0.0.0:1'\nlicensing = '0.0.0.0:2'\ntrust_network = true").is_ok()
    );
    let table = row("role = 'provisioning_server'\nuser = 1\nsubscriptions = ['3a8-wn7-7td']");
    let caller = read(&table).unwrap().callers.unwrap().remove(0);
    assert_eq!(caller.operations.into_iter().collect::<Vec<_>>(), ["provision_users"]);
    assert_eq!(caller.identity, Identity::User(1));
    assert!(!caller.vouches_for_administrators);
}

#[test]
fn the_page_of_metrics_tells_names_only_where_everybody_may_know_them_or_the_operator_says_so() {
    use MetricsTold::{All, Nothing, Totals};
    for (set, is_on_this_machine, tells_callers_apart, told) in [
        (None, true, false, All),
        (None, true, true, Totals),
        (None, false, false, Nothing),
        (None, false, true, Nothing),
        (Some(All), false, true, All),
        (Some(Totals), true, false, Totals),
        (Some(Nothing), true, false, Nothing),
    ] {
        assert_eq!(Listen::metrics_told(set, is_on_this_machine, tells_callers_apart), told);
    }
}

#[test]
fn what_toml_has_as_a_number_and_the_environment_as_a_text_reads_the_same() {
    let read = |toml: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        Config::read(Some(file.path().to_owned()), Vec::new()).unwrap()
    };
    for mode in ["'660'", "'0660'", "'0o660'"] {
        assert_eq!(read(&format!("[listen]\nsocket_mode = {mode}")).listen.socket_mode, 0o660, "{mode}");
    }
    let files = "certificate = 'c'\nkey = 'k'\n";
    for (version, allow_tls12) in [("1.2", true), ("'1.2'", true), ("1.3", false)] {
        let config = read(&format!("[tls]\n{files}minimum_version = {version}"));
        assert_eq!(config.tls.files.unwrap().allow_tls12, allow_tls12, "{version}");
    }
    assert_eq!(read("[log]\nqueue = 0x10").log.queue, 16);
    assert_eq!(read("[log]\nqueue = '16'").log.queue, 16);
    assert_eq!(read("[refresh]\ninterval = '1m'").refresh.interval, Duration::from_mins(1));
}

#[test]
fn what_is_set_under_a_name_in_quotes_is_told_to_be_no_key() {
    for (toml, what) in [
        ("\"staleness.unavailable_after\" = '1h'", "write `staleness.unavailable_after`"),
        ("\"tls.client_ca\" = 'k'", "write `tls.client_ca`"),
        ("[limits]\n\"calls.x\" = 5", "write `limits.calls.x`"),
        ("[\"log.format\"]\nx = 1", "write `log.format.x`"),
        (
            "[staleness]\n\"operations.provision_users\" = '1h'",
            "write `staleness.operations.provision_users`",
        ),
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        let faults = Config::read(Some(file.path().to_owned()), Vec::new()).unwrap_err().to_string();
        assert!(faults.contains(what) && faults.contains("in quotes"), "{toml}: {faults}");
    }
}

#[test]
fn limits_that_leave_no_room_for_one_call_are_told_of() {
    for (toml, key) in [
        ("ahead_bytes = 1048576\nstream_window_bytes = 16777216", "limits.ahead_bytes"),
        ("ahead_bytes = 1048576\ncaller_percent = 1", "limits.ahead_bytes"),
        ("held_bytes = 1048576\nrequest_bytes = 1048576", "limits.held_bytes"),
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("[limits]\n{toml}")).unwrap();
        let faults = Config::read(Some(file.path().to_owned()), Vec::new()).unwrap_err();
        assert!(faults.0.iter().any(|fault| fault.key == key), "{toml}: {faults}");
    }
}
