//! Secrets on their way in, from files and prompts, and out, told once; what is held of one here is zeroed after use.
//!
//! Not here: where a session is kept (see `session`).

use std::{
    fs,
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::prompt;
use crate::{
    byte_order_mark,
    cli::{
        CommandError, output,
        whole_file::{Readers, WholeFile},
    },
    escape::escape_control,
};

/// Bytes in a file with a secret, and more than that.
const USUAL_BYTES: usize = 4096;

/// The secret in a file, `-` for standard input, without the line's end.
pub(in crate::cli) fn read(path: &Path) -> Result<Zeroizing<String>, CommandError> {
    // A secret does not outgrow it, and so leaves nothing where it was before.
    let mut bytes = Zeroizing::new(Vec::with_capacity(USUAL_BYTES));
    let read = if path == Path::new("-") {
        io::stdin().read_to_end(&mut bytes)
    } else {
        fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes))
    };
    let text = read.and_then(|_| byte_order_mark::text(&bytes));
    let text =
        Zeroizing::new(text.map_err(|error| CommandError::new(format!("`{}`: {error}", path.display())))?);
    let secret =
        text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if secret.is_empty() {
        return Err(CommandError::new(format!("`{}` is empty", path.display())));
    }
    Ok(Zeroizing::new(secret.to_owned()))
}

/// The secret in a file, or typed by somebody at a terminal; `flag` names the file.
pub(in crate::cli) fn read_or_prompt(
    path: Option<&Path>,
    prompt: &str,
    flag: &str,
) -> Result<Zeroizing<String>, CommandError> {
    match path {
        Some(path) => read(path),
        None if io::stdin().is_terminal() => prompt::ask(prompt),
        None => {
            Err(CommandError::new(format!("there is no terminal to ask at: give the {prompt} with {flag}")))
        }
    }
}

/// Where a secret that is told once goes: to a file that is begun before the secret is asked for, so that it cannot be
/// lost for want of a place, or to standard output.
pub(in crate::cli) struct Place(Option<(PathBuf, WholeFile)>);

impl Place {
    /// Makes ready, `-` for standard output; a file that is there already stays, for it may hold the only copy of another
    /// secret.
    pub(in crate::cli) fn begin(path: Option<&Path>) -> Result<Self, CommandError> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else { return Ok(Self(None)) };
        if WholeFile::is_there(path) {
            let what = format!("`{}` is there already; name a new file for the secret", path.display());
            return Err(CommandError::new(what));
        }
        Ok(Self(Some((path.to_owned(), WholeFile::begin(path, Readers::Owner)?))))
    }

    /// Puts the secret there. On standard output it has its line, or lines, for itself; what is said about it goes to
    /// standard error.
    pub(in crate::cli) fn put(self, name: &str, secret: &str) -> Result<(), CommandError> {
        match self.0 {
            None => {
                output::note(&format!("{name}, told this once:"));
                Ok(output::print(&Zeroizing::new(format!("{}\n", secret.trim_end())))?)
            }
            Some((path, mut file)) => {
                writeln!(file, "{}", secret.trim_end())?;
                file.finish()?;
                output::note(&format!("{name}, told this once, is in `{}`", path.display()));
                Ok(())
            }
        }
    }
}

/// A secret the backend told; it tells none when it answered the same request before and the answer was lost.
pub(in crate::cli) fn told(secret: String, otherwise: &str) -> Result<Zeroizing<String>, CommandError> {
    let secret = Zeroizing::new(secret);
    if secret.is_empty() {
        return Err(CommandError::new(format!(
            "it was done, but the answer with the secret was lost on the way; {otherwise}"
        )));
    }
    Ok(Zeroizing::new(escape_control(&secret).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_as_it_was_saved_and_zeroed_after_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        for saved in ["correct horse", "correct horse\n", "correct horse\r\n", "\u{feff}correct horse\r\n"] {
            fs::write(&path, saved).unwrap();
            let secret: Zeroizing<String> = read(&path).unwrap();
            assert_eq!(secret.as_str(), "correct horse", "{saved:?}");
        }
        let secret: Zeroizing<String> = told("once\u{7}".to_owned(), "").unwrap();
        assert_eq!(secret.as_str(), "once\\u{7}");
    }
}
