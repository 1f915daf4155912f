//! How many files, and so connections, the process may have open.
//!
//! Not here: how many connections are taken (see `edge::bounds`).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// As many as the system lets us: the limit it starts with is for programs that cannot count beyond 1,024.
pub(super) fn raise(connections: usize) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        if let Err(error) = raised {
            tracing::warn!("the limit of open files stays at {}: {error}", shown(current));
        }
    }
    let Rlimit { current, .. } = getrlimit(Resource::Nofile);
    if current.is_some_and(|allowed| allowed < u64::try_from(connections).unwrap_or(u64::MAX)) {
        tracing::warn!(
            "`limits.connections` is {connections}, but the system lets this process have {} files open: raise that \
             (LimitNOFILE= in a systemd unit, or ulimit -n), or lower the key",
            shown(current)
        );
    }
}

fn shown(limit: Option<u64>) -> String {
    limit.map_or_else(|| "any number of".to_owned(), |limit| limit.to_string())
}
