//! Files that decide whom this server believes and what it answers, where others than its user may change them.
//!
//! They are warned of and used: an operator may mean it so, as for a facts file another program writes. Not here: files of
//! the data folder, which are refused (see `folder`).

use std::{
    collections::BTreeSet,
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::{config::Config, edge::tls::Files, folder};

/// Everybody may go through a folder.
const ALL_PASS: u32 = 0o001;
/// Everybody may read it. A group may: that of those who are meant to.
const ALL_READ: u32 = 0o004;
/// Others cannot replace what is not theirs in it.
const STICKY: u32 = 0o1000;

/// What is to be said of the files of a configuration, which is itself in `file`.
pub(super) fn faults(file: Option<&Path>, config: &Config) -> Vec<String> {
    let facts = config.file.path.as_deref();
    let believed = config.licensing.trust.ca.as_deref();
    let mut faults = Vec::new();
    let named = [("the configuration", file), ("`file.path`", facts), ("`licensing.ca`", believed)];
    for (what, path) in named {
        faults.extend(path.and_then(|path| of_file(what, path)));
    }
    if let Some(Files { certificate, key, client_ca, revocations, .. }) = &config.tls.files {
        let optional = [("`tls.client_ca`", client_ca), ("`tls.revocations`", revocations)];
        let optional = optional.into_iter().filter_map(|(what, path)| Some((what, path.as_deref()?)));
        let all = [("`tls.certificate`", certificate.as_path()), ("`tls.key`", key.as_path())];
        faults.extend(all.into_iter().chain(optional).filter_map(|(what, path)| of_file(what, path)));
        faults.extend(of_readers("`tls.key`", key));
    }
    faults
}

/// Who else may change it, if somebody may. What cannot be looked at is said where it is read.
fn of_file(what: &str, path: &Path) -> Option<String> {
    let metadata = fs::metadata(path).ok().filter(Metadata::is_file)?;
    let mut why = Vec::new();
    if is_of_another(&metadata) {
        why.push(format!("it belongs to the user {}", metadata.uid()));
    }
    if metadata.mode() & folder::OTHERS_WRITE != 0 {
        why.push(format!("its mode is {:04o}", metadata.mode() & 0o7777));
    }
    why.extend(folders(path).iter().filter_map(|folder| of_folder(folder)));
    (!why.is_empty()).then(|| {
        format!(
            "{what} is `{}`, which others may change ({}), and so what this server believes: close it (chown, chmod go-w)",
            path.display(),
            why.join("; ")
        )
    })
}

/// Where its name is, and where it is itself if that is a link.
fn folders(path: &Path) -> BTreeSet<PathBuf> {
    let real = fs::canonicalize(path).ok();
    let named =
        path.parent().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    let named = named.and_then(|folder| fs::canonicalize(folder).ok());
    named.into_iter().chain(real.as_deref().and_then(Path::parent).map(Path::to_owned)).collect()
}

/// Whoever writes to the folder puts another file under the name.
fn of_folder(folder: &Path) -> Option<String> {
    let metadata = fs::metadata(folder).ok()?;
    let is_open = metadata.mode() & folder::OTHERS_WRITE != 0 && metadata.mode() & STICKY == 0;
    let shown = folder.display();
    if is_of_another(&metadata) {
        return Some(format!("its folder `{shown}` belongs to the user {}", metadata.uid()));
    }
    is_open.then(|| format!("the mode of its folder `{shown}` is {:04o}", metadata.mode() & 0o7777))
}

fn of_readers(what: &str, path: &Path) -> Option<String> {
    let metadata = fs::metadata(path).ok().filter(|metadata| metadata.mode() & ALL_READ != 0)?;
    let real = fs::canonicalize(path).ok()?;
    let mut folders = real.ancestors().skip(1).filter_map(|folder| fs::metadata(folder).ok());
    (metadata.is_file() && folders.all(|folder| folder.mode() & ALL_PASS != 0)).then(|| {
        format!(
            "{what} is `{0}`, which everybody may read (mode {1:04o}), and whoever does can pass for this server: close it \
             with chmod 600 '{0}'",
            path.display(),
            metadata.mode() & 0o7777
        )
    })
}

/// Root may change everything anyway.
fn is_of_another(metadata: &Metadata) -> bool {
    ![0, folder::user()].contains(&metadata.uid())
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

    use super::*;

    /// A configuration with each such file, in folders of this user.
    fn configured(at: &Path) -> (PathBuf, Config) {
        let names = ["cert", "key", "ca", "crl", "facts"];
        names.iter().for_each(|name| fs::write(at.join(name), "").unwrap());
        let [cert, key, ca, crl, facts] = names.map(|name| at.join(name).display().to_string());
        let file = at.join("config");
        let toml = format!(
            "[file]\npath = '{facts}'\n[tls]\ncertificate = '{cert}'\nkey = '{key}'\nclient_ca = '{ca}'\nrevocations = '{crl}'"
        );
        fs::write(&file, toml).unwrap();
        for name in names.into_iter().chain(["config"]) {
            mode(&at.join(name), 0o600);
        }
        let config = Config::read(Some(file.clone()), Vec::new()).unwrap();
        (file, config)
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn each_file_that_others_may_change_is_told_of_and_a_key_that_all_may_read() {
        let folder = tempfile::tempdir().unwrap();
        mode(folder.path(), 0o700);
        let (file, config) = configured(folder.path());
        let told = || faults(Some(&file), &config);
        assert_eq!(told(), Vec::<String>::new());
        for (name, what) in [
            ("config", "the configuration is"),
            ("facts", "`file.path` is"),
            ("cert", "`tls.certificate` is"),
            ("key", "`tls.key` is"),
            ("ca", "`tls.client_ca` is"),
            ("crl", "`tls.revocations` is"),
        ] {
            let path = folder.path().join(name);
            for open in [0o620, 0o602] {
                mode(&path, open);
                let told = told();
                assert!(told.len() == 1 && told[0].starts_with(what), "{name} {open:o}: {told:?}");
                assert!(told[0].contains(&format!("its mode is {open:04o}")), "{told:?}");
            }
            mode(&path, 0o600);
            if folder::user() == 0 {
                std::os::unix::fs::chown(&path, Some(1234), None).unwrap();
                let told = told();
                assert!(told.len() == 1 && told[0].contains("belongs to the user 1234"), "{name}: {told:?}");
                std::os::unix::fs::chown(&path, Some(0), None).unwrap();
            }
        }
        mode(&folder.path().join("key"), 0o644);
        assert_eq!(told(), Vec::<String>::new(), "nobody else comes through its folder");
        mode(folder.path(), 0o755);
        let readable = told();
        assert!(readable.len() == 1 && readable[0].contains("everybody may read"), "{readable:?}");
        mode(&folder.path().join("key"), 0o640);
        mode(&folder.path().join("ca"), 0o644);
        assert_eq!(told(), Vec::<String>::new(), "a group may read a key, and anybody an authority");
        mode(folder.path(), 0o777);
        assert_eq!(told().len(), 6, "whoever writes to a folder changes what is in it");
        mode(folder.path(), 0o1777);
        assert_eq!(told(), Vec::<String>::new(), "but not where each file is its owner's");
        mode(folder.path(), 0o700);
    }
}
