//! Usage on disk: a file that lines are put at the end of, each on the disk before anybody is told so.
//!
//! A crash may tear the last line, which nobody was told of; it is left out. Lines that are not needed any more go when
//! the file is written anew, under another name first. Not here: what lines mean (see `state`).

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use tracing::{error, warn};

use crate::{folder, sha256};

/// The file.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    /// The end of the file, unless it has to be written anew before anything else: it is not there, or the disk refused
    /// and nobody knows how much of the last line it took.
    open: Option<File>,
    length: u64,
    rewrite_at: u64,
}

/// Lines read back.
#[derive(Debug)]
pub(super) struct Read<Line> {
    pub(super) lines: Vec<Line>,
    /// A line cut short by a crash, or changed by somebody: not the whole file can be gone on with as it is.
    pub(super) damaged: usize,
}

const NAME: &str = "usage.journal";
const FORMAT: &str = "esa-sidecar usage 1";
/// Digits of the SHA-256 of a line before it.
const CHECK_DIGITS: usize = 16;
/// A smaller file is not worth writing anew.
const SMALL: u64 = 1 << 20;

impl Journal {
    /// The journal of the data folder `folder`, and what is in it.
    pub(super) fn open<Line: DeserializeOwned>(folder: &Path) -> io::Result<(Self, Read<Line>)> {
        let path = folder.join(NAME);
        let mut journal = Self { folder: folder.to_owned(), open: None, length: 0, rewrite_at: SMALL };
        let Some(mut file) = folder::open(&path)? else {
            return Ok((journal, Read { lines: Vec::new(), damaged: 0 }));
        };
        let mut contents = Vec::new();
        file.read_to_end(&mut contents)?;
        let read = parse(&contents);
        if read.damaged == 0 && contents.ends_with(b"\n") {
            journal.length = contents.len() as u64;
            journal.open = folder::append(&path).ok();
        } else {
            journal.tell_of_damage(&contents, read.damaged);
        }
        Ok((journal, read))
    }

    /// Puts `lines` at the end; they are on the disk when this returns. `all` is every line there is without them, for
    /// when the file has to be written anew.
    pub(super) fn append<Line: Serialize>(
        &mut self,
        lines: &[Line],
        all: impl FnOnce() -> Vec<Line>,
    ) -> io::Result<()> {
        let text = render(lines)?;
        match self.open.take().filter(|file| self.length < self.rewrite_at && self.is_there(file)) {
            Some(mut file) => {
                file.write_all(&text)?;
                file.sync_data()?;
                self.length += text.len() as u64;
                self.open = Some(file);
                Ok(())
            }
            None => self.write(&render(&all())?, &text),
        }
    }

    /// Writes the file anew with `all` lines there are.
    pub(super) fn rewrite<Line: Serialize>(&mut self, all: &[Line]) -> io::Result<()> {
        self.write(&render(all)?, &[])
    }

    fn write(&mut self, before: &[u8], text: &[u8]) -> io::Result<()> {
        let contents = [format!("{FORMAT}\n").as_bytes(), before, text].concat();
        // Somebody may have tidied up while we ran.
        folder::make(&self.folder)?;
        folder::replace(&self.folder, NAME, &contents)?;
        self.length = contents.len() as u64;
        self.rewrite_at = SMALL.max(self.length.saturating_mul(4));
        self.open = Some(folder::append(&self.folder.join(NAME))?);
        Ok(())
    }

    /// Whether the file under its name is the one that is open.
    fn is_there(&self, file: &File) -> bool {
        let marks = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        match (fs::metadata(self.folder.join(NAME)), file.metadata()) {
            (Ok(named), Ok(open)) => marks(named) == marks(open),
            (Err(_), _) | (_, Err(_)) => false,
        }
    }

    /// It is written anew before anything else; what was in it is kept beside when more than its end is missing.
    fn tell_of_damage(&self, contents: &[u8], damaged: usize) {
        let path = self.folder.join(NAME);
        let only_the_end = damaged <= 1 && !contents.ends_with(b"\n");
        if only_the_end {
            warn!(
                "`{}`: the last line was cut short, as by a crash; nobody was told it was taken",
                path.display()
            );
            return;
        }
        let name = format!("{NAME}.damaged");
        let aside = self.folder.join(&name);
        let kept = if aside.exists() { Ok(()) } else { folder::replace(&self.folder, &name, contents) };
        error!(
            "`{}`: {damaged} lines are damaged and left out, the others are used; the file as it was {}",
            path.display(),
            match kept {
                Ok(()) => format!("is `{}`", aside.display()),
                Err(error) => format!("cannot be kept: {error}"),
            }
        );
    }
}

fn render<Line: Serialize>(lines: &[Line]) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    for line in lines {
        let json = serde_json::to_vec(line)?;
        text.extend_from_slice(check(&json).as_bytes());
        text.push(b' ');
        text.extend_from_slice(&json);
        text.push(b'\n');
    }
    Ok(text)
}

/// Every line that is whole, whatever stands before and after it.
fn parse<Line: DeserializeOwned>(contents: &[u8]) -> Read<Line> {
    let mut lines = contents.split_inclusive(|byte| *byte == b'\n');
    let is_ours = lines.next() == Some(format!("{FORMAT}\n").as_bytes());
    let mut read = Read { lines: Vec::new(), damaged: usize::from(!is_ours) };
    for line in lines {
        match parse_line(line) {
            Some(line) => read.lines.push(line),
            None => read.damaged += 1,
        }
    }
    read
}

fn parse_line<Line: DeserializeOwned>(line: &[u8]) -> Option<Line> {
    let (digits, rest) = line.strip_suffix(b"\n")?.split_at_checked(CHECK_DIGITS)?;
    let json = rest.strip_prefix(b" ")?;
    if check(json).as_bytes() != digits {
        return None;
    }
    serde_json::from_slice(json).ok()
}

fn check(json: &[u8]) -> String {
    let mut digits = sha256::hex(json);
    digits.truncate(CHECK_DIGITS);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(folder: &Path) -> Vec<u32> {
        Journal::open(folder).unwrap().1.lines
    }

    #[test]
    fn a_last_line_cut_short_anywhere_is_left_out_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let (mut journal, _): (_, Read<u32>) = Journal::open(folder.path()).unwrap();
        journal.append(&[1, 2], Vec::new).unwrap();
        let before = fs::read(&path).unwrap().len();
        journal.append(&[3], Vec::new).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in before..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let (mut journal, read): (_, Read<u32>) = Journal::open(folder.path()).unwrap();
            assert_eq!(read.lines, [1, 2], "cut to {length} bytes");
            // What comes next does not hang on the torn end.
            journal.append(&[4], || read.lines.clone()).unwrap();
            assert_eq!(lines(folder.path()), [1, 2, 4]);
        }
        assert!(!folder.path().join("usage.journal.damaged").exists());
    }

    #[test]
    fn a_damaged_line_is_left_out_the_others_are_used_and_the_file_is_kept_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let (mut journal, _): (_, Read<u32>) = Journal::open(folder.path()).unwrap();
        journal.append(&[11, 22, 33], Vec::new).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace(" 22", " 23")).unwrap();
        assert_eq!(lines(folder.path()), [11, 33]);
        assert!(folder.path().join("usage.journal.damaged").exists());
    }

    #[test]
    fn a_file_that_was_tidied_away_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _): (_, Read<u32>) = Journal::open(folder.path()).unwrap();
        journal.append(&[1], Vec::new).unwrap();
        fs::remove_dir_all(folder.path()).unwrap();
        journal.append(&[2], || vec![1]).unwrap();
        assert_eq!(lines(folder.path()), [1, 2]);
    }

    #[test]
    fn a_file_that_grew_is_written_anew_without_what_is_not_needed() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _): (_, Read<String>) = Journal::open(folder.path()).unwrap();
        let long = "x".repeat(1 << 18);
        for _ in 0..20 {
            journal.append(std::slice::from_ref(&long), || vec!["kept".to_owned()]).unwrap();
        }
        assert!(fs::metadata(folder.path().join(NAME)).unwrap().len() < 3 << 20);
        let (_, read): (_, Read<String>) = Journal::open(folder.path()).unwrap();
        assert_eq!(read.lines.first().map(String::as_str), Some("kept"));
    }

    #[test]
    fn what_the_disk_refused_does_not_spoil_what_it_takes_later() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _): (_, Read<u32>) = Journal::open(folder.path()).unwrap();
        journal.append(&[1], Vec::new).unwrap();
        // A handle that refuses to be written to stands for a disk that does.
        journal.open = Some(File::open(folder.path().join(NAME)).unwrap());
        assert!(journal.append(&[2], || vec![1]).is_err());
        journal.append(&[3], || vec![1]).unwrap();
        assert_eq!(lines(folder.path()), [1, 3]);
    }
}
