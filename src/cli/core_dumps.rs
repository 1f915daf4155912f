//! No core dumps: the memory of this process holds passwords, tokens and keys.
//!
//! Nor can another process of the same user attach to it and look (`prctl(2)`, PR_SET_DUMPABLE).

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// From now on none is written, whatever the system's settings are.
pub(super) fn refuse() {
    // A system that refuses this knows no core dumps, either.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}
