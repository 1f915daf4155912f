//! Secrets on their way in, from files and prompts, and out, told once.
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

/// The secret in a file, `-` for standard input, without the line's end.
pub(in crate::cli) fn read(path: &Path) -> Result<String, CommandError> {
    let mut bytes = Zeroizing::new(Vec::new());
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
    Ok(secret.to_owned())
}

/// The secret in a file, or typed by somebody at a terminal; `flag` names the file.
pub(in crate::cli) fn read_or_prompt(
    path: Option<&Path>,
    prompt: &str,
    flag: &str,
) -> Result<String, CommandError> {
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
                Ok(output::print(&format!("{}\n", secret.trim_end()))?)
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
pub(in crate::cli) fn told(secret: &str, otherwise: &str) -> Result<String, CommandError> {
    if secret.is_empty() {
        return Err(CommandError::new(format!(
            "it was done, but the answer with the secret was lost on the way; {otherwise}"
        )));
    }
    Ok(escape_control(secret).into_owned())
}
