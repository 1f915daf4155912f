//! Asks for a secret at the terminal, whose echo is back afterwards, whatever ends the command.
//!
//! Not here: secrets in files (see `secret`).

use std::{
    fs::File,
    io::{self, Write as _},
    process, thread,
};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};
use zeroize::Zeroizing;

use crate::cli::{CommandError, client};

/// What a shell says of a command that was ended by Ctrl-C.
const INTERRUPTED: u8 = 128 + 2;

/// Asks for it; while it is typed nothing is shown.
pub(super) fn ask(prompt: &str) -> Result<Zeroizing<String>, CommandError> {
    let terminal = File::options().read(true).write(true).open("/dev/tty")?;
    let before = tcgetattr(&terminal).map_err(io::Error::from)?;
    restore_at_end(terminal, before)?;
    match rpassword::prompt_password(format!("{prompt}: ")) {
        // Ctrl-C. The signal goes to the thread that restores the terminal, which ends the process.
        Err(error) if error.kind() == io::ErrorKind::Interrupted => loop {
            thread::park();
        },
        read => Ok(Zeroizing::new(read?)),
    }
}

/// From now on a signal that ends this process restores the terminal first.
fn restore_at_end(terminal: File, before: Termios) -> Result<(), CommandError> {
    let runtime = client::runtime()?;
    let signals = signals(&runtime)?;
    thread::spawn(move || runtime.block_on(first_of(signals, terminal, before)));
    Ok(())
}

fn signals(runtime: &Runtime) -> io::Result<[Signal; 4]> {
    let _within = runtime.enter();
    Ok([
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
        signal(SignalKind::quit())?,
    ])
}

async fn first_of(signals: [Signal; 4], mut terminal: File, before: Termios) {
    let [mut interrupt, mut terminate, mut hangup, mut quit] = signals;
    let status = tokio::select! {
        _ = interrupt.recv() => INTERRUPTED,
        _ = terminate.recv() => 128 + 15,
        _ = hangup.recv() => 128 + 1,
        _ = quit.recv() => 128 + 3,
    };
    // A terminal that is gone has no echo to restore.
    let _ = tcsetattr(&terminal, OptionalActions::Now, &before);
    let _ = writeln!(terminal);
    process::exit(status.into());
}
