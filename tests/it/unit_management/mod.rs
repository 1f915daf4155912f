//! The command line of Unit Management, the real command against a scripted licensing backend.

mod accounts;
mod hostile;
mod licenses;
mod looks;
mod units;

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use crate::scripted_backend::ScriptedBackend;

/// A user with a home of their own, who works with one backend.
struct Desk {
    backend: ScriptedBackend,
    home: tempfile::TempDir,
}

const TOKEN: &str = "esac_1_abc";

impl Desk {
    fn new() -> Self {
        Self { backend: ScriptedBackend::start(), home: tempfile::tempdir().unwrap() }
    }

    /// A command of somebody whose token stands in the environment.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.stranger(arguments);
        command.env("ESA_SIDECAR_TOKEN", TOKEN);
        command
    }

    /// A command of somebody without a token.
    fn stranger(&self, arguments: &[&str]) -> Command {
        // Another build can be tried with the same tests.
        let binary = std::env::var_os("ESA_SIDECAR_BIN").unwrap_or(env!("CARGO_BIN_EXE_esa-sidecar").into());
        let mut command = Command::new(binary);
        command.args(arguments).env_clear().stdin(Stdio::null()).current_dir(self.home.path());
        command.env("HOME", self.home.path()).env("ESA_SIDECAR_LICENSING", self.backend.address.to_string());
        command
    }

    fn run(&self, arguments: &[&str]) -> Shown {
        Shown::of(&self.command(arguments).output().unwrap())
    }

    fn run_as_stranger(&self, arguments: &[&str]) -> Shown {
        Shown::of(&self.stranger(arguments).output().unwrap())
    }

    fn run_with_input(&self, arguments: &[&str], input: &str) -> Shown {
        let mut command = self.command(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Shown::of(&child.wait_with_output().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o777
    }
}

/// What a command left behind.
#[derive(Debug)]
struct Shown {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Shown {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self {
            status: output.status.code().unwrap(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    fn all(&self) -> String {
        format!("exit status {}\n{}{}", self.status, self.stdout, self.stderr)
    }

    /// The last line of standard output, where what is told once stands.
    fn last_line(&self) -> &str {
        self.stdout.lines().last().unwrap()
    }
}
