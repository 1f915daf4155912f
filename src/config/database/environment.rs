//! The variables of libpq that count where a URL leaves something out.
//!
//! Not here: `PGUSER`, `PGPASSWORD`, `PGPASSFILE` and `PGDATABASE`, which the driver reads itself.

use std::{collections::HashMap, env, fmt};

/// The variables, as they were at one time. An empty one is not set, as for libpq.
#[derive(Clone, Default)]
pub(super) struct Environment(HashMap<String, String>);

const READ: [&str; 9] = [
    "PGHOST",
    "PGHOSTADDR",
    "PGPORT",
    "PGDATABASE",
    "PGSSLMODE",
    "PGSSLROOTCERT",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGAPPNAME",
];

impl Environment {
    /// Those of this process.
    #[must_use]
    pub(super) fn of_process() -> Self {
        Self::of(READ.into_iter().filter_map(|name| Some((name, env::var(name).ok()?))))
    }

    /// These.
    pub(super) fn of<'a>(variables: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let set = variables.into_iter().filter(|(_, value)| !value.is_empty());
        Self(set.map(|(name, value)| (name.to_owned(), value)).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}
