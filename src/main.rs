//! The command `esa-sidecar`: arguments in, exit status out.

use std::process::ExitCode;

fn main() -> ExitCode {
    esa_sidecar::cli::run()
}
