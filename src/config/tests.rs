//! Defaults, and which layer wins.

use super::*;

#[test]
fn the_defaults_are_those_that_are_documented() {
    let config = Config::read(None, Vec::new()).unwrap();
    assert_eq!(config.listen.enforcement.to_string(), "127.0.0.1:50051");
    assert_eq!(config.listen.probes.to_string(), "127.0.0.1:9090");
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
    let reference = concat!(include_str!("mod.rs"), include_str!("licensing.rs"));
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
        ("[licensing]\nurls = ['https://localhost:1']", "TLS"),
        ("[licensing]\nurls = ['nonsense']", "http://host:50052"),
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
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[licensing]\nurls = ['http://10.0.0.1:1']\nplaintext = true").unwrap();
    assert!(Config::read(Some(file.path().to_owned()), Vec::new()).is_ok());
}
