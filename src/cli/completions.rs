//! `completions`: scripts for shells.

use std::process::ExitCode;

use clap::{Args, Command, CommandFactory as _};
use clap_complete::{Shell, generate};

use super::{Arguments, CommandResult, output};

/// Print a completion script for a shell
///
/// For bash: esa-sidecar completions bash > ~/.local/share/bash-completion/completions/esa-sidecar
#[derive(Args)]
pub(super) struct Completions {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

const NAME: &str = "esa-sidecar";
const HELP: &str = "help";

impl Completions {
    pub(super) fn run(self) -> CommandResult {
        let mut script = Vec::new();
        generate(self.shell, &mut whole(), NAME, &mut script);
        // For bash the generator writes the hyphen of our name in two ways (clap-rs/clap issue 6421), so that nothing
        // completes after the subcommand; written one way, it does.
        let script = String::from_utf8_lossy(&script).replace("esa__subcmd__sidecar", "esa__sidecar");
        output::print(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The command with all that is beneath it. `help` copies the names of commands before these are put together, which is
/// put off (see `Command`), and so knows of none beneath `help accounts`: they are added here.
fn whole() -> Command {
    let mut command = Arguments::command();
    command.set_bin_name(NAME);
    command.build();
    let beneath = copies(&command, &format!("{NAME} {HELP}"));
    command.mut_subcommand(HELP, |help| {
        help.mut_subcommands(|named| {
            let copy = beneath.iter().find(|copy| copy.get_name() == named.get_name());
            named.subcommands(copy.into_iter().flat_map(Command::get_subcommands).cloned())
        })
    })
}

/// The commands beneath `command` as `help` has them, by name and with what they are about; `path` leads to them.
fn copies(command: &Command, path: &str) -> Vec<Command> {
    let named = command.get_subcommands().filter(|command| command.get_name() != HELP);
    let copy = |command: &Command| {
        let path = format!("{path} {}", command.get_name());
        Command::new(command.get_name().to_owned())
            .about(command.get_about().cloned().unwrap_or_default())
            .subcommands(copies(command, &path))
            // Those of a command that was put together already are not given it.
            .bin_name(path)
            .disable_help_flag(true)
            .disable_version_flag(true)
            .disable_help_subcommand(true)
    };
    named.map(copy).collect()
}
