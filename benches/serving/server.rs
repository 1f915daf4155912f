//! A server in a process of its own, whose processor time the operating system counts.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{floors::Floor, load::ID};

/// A running server; it ends with this.
pub(crate) struct Server {
    process: Child,
    pub(crate) address: String,
}

impl Server {
    /// The sidecar as it ships, with facts from a file and these keys of its configuration (`ESA_SIDECAR__…`).
    pub(crate) fn sidecar(listen: &str, folder: &Path, keys: &[(&str, &str)]) -> Self {
        Self::put_facts(folder, 500);
        let mut command = Command::new(env!("CARGO_BIN_EXE_esa-sidecar"));
        command
            .args(["serve", "--probe-listen", "127.0.0.1:0", "--listen", listen, "--facts"])
            .arg(folder.join("facts.json"));
        command.arg("--data-dir").arg(folder.join("data")).env("ESA_SIDECAR__LOG__LEVEL", "warn");
        command.envs(keys.iter().map(|(key, value)| (format!("ESA_SIDECAR__{key}"), value)));
        let server = Self::start(command);
        // It answers from the first facts on, which are read as it starts.
        let ready = || {
            let mut asked = Command::new(env!("CARGO_BIN_EXE_esa-sidecar"));
            let asked =
                asked.args(["authorize", "enable_users", "--server", &server.address]).output().unwrap();
            asked.status.code() != Some(2)
        };
        while !ready() {}
        server
    }

    /// Puts facts in place at once, as a careful writer does.
    pub(crate) fn put_facts(folder: &Path, sms_credits: u32) {
        let told = format!(
            r#"{{"subscription_id": "{ID}", "activation": {{"state": "active"}}, "expires_at": "2099-06-30T12:00:00Z",
                "users": {{"active": 120, "licensed": 150}}, "all_users": {{"count": 900, "limit": 1000}},
                "components": {{"count": 10, "limit": 50}}, "sms_credits": {sms_credits}}}"#
        );
        let new = folder.join("facts.new");
        std::fs::write(&new, told).unwrap();
        std::fs::rename(new, folder.join("facts.json")).unwrap();
    }

    /// Memory it holds, in MiB.
    pub(crate) fn resident(&self) -> f64 {
        let told = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = told.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    pub(crate) fn floor(floor: Floor, listen: &str) -> Self {
        let name = clap::ValueEnum::to_possible_value(&floor).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--serve", name.get_name(), "--listen", listen]);
        Self::start(command)
    }

    fn start(mut command: Command) -> Self {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let address = line.split_whitespace().last().unwrap().to_owned();
        // What it prints later goes nowhere, and must not stop it.
        std::thread::spawn(move || output.lines().for_each(drop));
        Self { process, address }
    }

    /// What its threads have run for.
    pub(crate) fn processor_time(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let of = |task: std::io::Result<std::fs::DirEntry>| {
            let told = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            told.split_whitespace().next()?.parse::<u64>().ok()
        };
        Duration::from_nanos(tasks.filter_map(of).sum())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing to do for one that has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
