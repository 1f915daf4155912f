//! As whom a command calls: a token from a file, the environment, or the session that was signed in to.
//!
//! Never an argument: what stands on a command line is read by everybody on the machine. Not here: how a session is
//! kept (see `session`).

use std::{env, path::PathBuf};

use clap::Args;
use zeroize::Zeroizing;

use super::{
    backend::{Backend, Licensing},
    secret,
    session::Sessions,
};
use crate::cli::CommandError;

/// Which licensing backend to call, and as whom.
#[derive(Args)]
pub(in crate::cli) struct Caller {
    /// File with the token to call with, `-` for standard input; otherwise it is taken from the environment variable
    /// ESA_SIDECAR_TOKEN, or is that of the last `accounts sign-in`
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) licensing: Licensing,
}

/// A token and whether it is the one kept as session.
pub(in crate::cli) struct Token {
    pub(in crate::cli) text: Zeroizing<String>,
    pub(in crate::cli) is_session: bool,
}

impl Caller {
    /// Connects as this caller.
    pub(in crate::cli) async fn connect(&self) -> Result<Backend, CommandError> {
        let token = self.token()?;
        self.licensing.connect().await?.with_token(&token.text)
    }

    /// The token to call with.
    pub(in crate::cli) fn token(&self) -> Result<Token, CommandError> {
        if let Some(path) = &self.token_file {
            return secret::read(path).map(|text| Token { text, is_session: false });
        }
        token_of(&self.licensing.address.to_string())
    }
}

/// The token of the environment, or of the session with the backend at `address`.
pub(in crate::cli) fn token_of(address: &str) -> Result<Token, CommandError> {
    let told = env::var("ESA_SIDECAR_TOKEN").ok().map(Zeroizing::new);
    let told = told.map(|text| Zeroizing::new(text.trim().to_owned()));
    if let Some(text) = told.filter(|text| !text.is_empty()) {
        return Ok(Token { text, is_session: false });
    }
    // Without a home there is no session, and a token can be given all the same.
    let session = Sessions::open().ok().map(|sessions| sessions.of(address)).transpose()?.flatten();
    let session = session.ok_or_else(|| {
        CommandError::new(format!(
            "nobody is signed in to the licensing backend at {address}; sign in with \
             `esa-sidecar accounts sign-in NAME`, or give a token with --token-file or ESA_SIDECAR_TOKEN"
        ))
    })?;
    Ok(Token { text: session.into_token(), is_session: true })
}
