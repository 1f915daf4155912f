//! How many files, and so connections, the process may have open.
//!
//! Not here: what becomes of connections beyond that (see `edge::gate`).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::edge::bounds::Bounds;

/// Files that are no connections of callers: facts, reports and keys, the database, those to a backend.
const RESERVE: usize = 256;

/// Lets the process have as many files open as the system lets us: the limit it starts with is for programs that cannot
/// count beyond 1,024. Where that is too little for `bounds`, fewer connections are taken: files for usage and facts are
/// left, and one peer does not have them all.
pub(super) fn raise(bounds: &mut Bounds) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        if let Err(error) = raised {
            tracing::warn!("the limit of open files stays at {}: {error}", shown(current));
        }
    }
    let Rlimit { current, .. } = getrlimit(Resource::Nofile);
    let asked = bounds.connections;
    if let Some(allowed) = current
        && lower(bounds, usize::try_from(allowed).unwrap_or(usize::MAX))
    {
        tracing::warn!(
            "`limits.connections` is {asked}, but the system lets this process have {allowed} files open: {} are taken, \
             {} of one peer; raise that (LimitNOFILE= in a systemd unit, or ulimit -n), or lower the key",
            bounds.connections,
            bounds.connections_per_peer
        );
    }
}

/// Takes no more connections than `files` leave; whether that is fewer than before.
fn lower(bounds: &mut Bounds, files: usize) -> bool {
    let most = files.saturating_sub(RESERVE.min(files / 2)).max(1);
    if bounds.connections <= most {
        return false;
    }
    bounds.connections = most;
    bounds.connections_per_peer = bounds.connections_per_peer.min(most / 2).max(1);
    true
}

fn shown(limit: Option<u64>) -> String {
    limit.map_or_else(|| "any number of".to_owned(), |limit| limit.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn files_are_left_for_usage_and_facts_and_no_peer_has_them_all() {
        let bounds = Config::read(None, Vec::new()).unwrap().limits.bounds;
        for (files, taken, of_one_peer) in
            [(1_000_000, 20_000, 10_000), (20_256, 20_000, 10_000), (20_255, 19_999, 9_999), (512, 256, 128)]
        {
            let mut lowered = bounds.clone();
            assert_eq!(lower(&mut lowered, files), taken < 20_000, "{files}");
            assert_eq!((lowered.connections, lowered.connections_per_peer), (taken, of_one_peer), "{files}");
        }
        // However little there is, half of it is left, and somebody gets in.
        let mut lowered = bounds;
        lower(&mut lowered, 64);
        assert_eq!((lowered.connections, lowered.connections_per_peer), (32, 16));
        lower(&mut lowered, 1);
        assert_eq!((lowered.connections, lowered.connections_per_peer), (1, 1));
    }
}
