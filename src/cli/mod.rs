//! The command line, one file for each command.
//!
//! Not here: anything a command asks of the server, which runs without this folder.

mod accounts;
mod activate;
mod audit;
mod authorize;
mod check_config;
mod client;
mod completions;
mod confirm_unit;
mod core_dumps;
mod demo;
mod explain;
mod exposed;
mod healthcheck;
mod instant;
mod keys;
mod licenses;
mod licensing;
mod matrix;
mod open_files;
mod output;
mod report_usage;
mod reread;
mod run_server;
mod serve;
mod status;
mod systemd;
mod unit_management;
mod units;
mod whole_file;

use std::{fmt, process::ExitCode, sync::Arc};

use clap::{
    Parser, Subcommand,
    error::{ContextKind, ContextValue},
};

use crate::{
    clock::WallClock,
    config::Faults,
    edge::tls::{Files, Tls, TlsError},
};

/// Tells an authentication server what its ESET Secure Authentication subscription allows.
#[derive(Parser)]
#[command(
    name = "esa-sidecar",
    version,
    arg_required_else_help = true,
    after_help = "Start with `esa-sidecar demo`, then ask it something from another terminal:\n  \
                  esa-sidecar authorize enable_users --subscription ACM-EOK-001"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What `--help` lists; each command says the same of itself, and more. What one takes is put together only if it is the
/// one that runs: for all of them together that is half a mebibyte of program that each start would go through.
#[derive(Subcommand)]
#[command(defer = true)]
enum Command {
    /// Run everything on this machine with a sample company, and say what to try
    Demo(demo::Demo),
    /// Run the sidecar
    Serve(serve::Serve),
    /// Run the licensing backend alone, for a fleet of sidecars
    Licensing(licensing::Licensing),
    /// Activate this server with a license
    Activate(activate::Activate),
    /// Ask a running sidecar whether an operation may go ahead
    Authorize(authorize::Authorize),
    /// Report to a running sidecar what was counted: users, components, SMS sent
    ReportUsage(report_usage::ReportUsage),
    /// Show what a running sidecar holds about a subscription
    Status(status::Status),
    /// Print the restriction table; with facts, what it means for them
    Matrix(matrix::Matrix),
    /// Answer questions without a server: JSON Lines in, JSON Lines out
    Explain(explain::Explain),
    /// Ask a running sidecar for its health: exit status 0 serving, 1 not
    Healthcheck(healthcheck::Healthcheck),
    /// Say all that is wrong with a configuration, without starting
    CheckConfig(check_config::CheckConfig),
    /// Show and change the keys facts are signed with, and those that are trusted
    Keys(keys::Keys),
    /// List, activate and deactivate units
    Units(units::Units),
    /// Issue, change and delegate licenses
    Licenses(licenses::Licenses),
    /// Sign in, and manage accounts and API credentials
    Accounts(accounts::Accounts),
    /// Read the audit log: who changed what, when, and what came of it
    Audit(audit::Audit),
    /// Print a completion script for a shell
    Completions(completions::Completions),
}

/// Why a command could not do what was asked, for people.
#[derive(Debug)]
struct CommandError {
    /// Each fault by itself.
    what: Vec<String>,
    status: u8,
}

type CommandResult = Result<ExitCode, CommandError>;

/// Exit status of a server that could not start, and of anything else that went wrong.
const FAILED: u8 = 2;

/// Exit status for bad configuration, as `sysexits.h` numbers wrong usage.
const BAD_CONFIGURATION: u8 = 64;

/// Runs the command of this process.
#[must_use]
pub fn run() -> ExitCode {
    core_dumps::refuse();
    let arguments = Arguments::try_parse().unwrap_or_else(|error| without_password(error).exit());
    let result = match arguments.command {
        Command::Demo(command) => command.run(),
        Command::Serve(command) => command.run(),
        Command::Licensing(command) => command.run(),
        Command::Activate(command) => command.run(),
        Command::Authorize(command) => command.run(),
        Command::ReportUsage(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Matrix(command) => command.run(),
        Command::Explain(command) => command.run(),
        Command::Healthcheck(command) => command.run(),
        Command::CheckConfig(command) => command.run(),
        Command::Keys(command) => command.run(),
        Command::Units(command) => command.run(),
        Command::Licenses(command) => command.run(),
        Command::Accounts(command) => command.run(),
        Command::Audit(command) => command.run(),
        Command::Completions(command) => command.run(),
    };
    result.unwrap_or_else(|error| {
        error.what.iter().for_each(|what| output::error(what));
        ExitCode::from(error.status)
    })
}

/// The same error without a value that may have a password in it, as a URL with a user has: it may be from the environment,
/// and ends up in logs.
fn without_password(mut error: clap::Error) -> clap::Error {
    let value = error.get(ContextKind::InvalidValue);
    if matches!(value, Some(ContextValue::String(value)) if value.contains('@')) {
        error.insert(ContextKind::InvalidValue, ContextValue::String("…".to_owned()));
    }
    error
}

/// TLS of a listener, judged by the wall clock, by which authorities date what they sign.
fn read_tls(files: Option<Files>) -> Result<Option<Arc<Tls>>, TlsError> {
    files.map(|files| Tls::read(files, Arc::new(WallClock))).transpose()
}

impl CommandError {
    fn new(what: impl fmt::Display) -> Self {
        Self { what: vec![what.to_string()], status: FAILED }
    }

    fn configuration(what: impl fmt::Display) -> Self {
        Self { what: vec![what.to_string()], status: BAD_CONFIGURATION }
    }

    fn faults(Faults(faults): Faults) -> Self {
        Self { what: faults.iter().map(ToString::to_string).collect(), status: BAD_CONFIGURATION }
    }
}

impl<E: std::error::Error> From<E> for CommandError {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn each_command_says_of_itself_what_is_listed_of_it() {
        let listed = Arguments::command();
        let mut built = Arguments::command();
        built.build();
        for command in listed.get_subcommands() {
            let itself = built.find_subcommand(command.get_name()).unwrap();
            assert_eq!(
                command.get_about().map(ToString::to_string),
                itself.get_about().map(ToString::to_string)
            );
            assert!(itself.get_arguments().next().is_some());
        }
        assert!(16 < listed.get_subcommands().count());
    }
}
