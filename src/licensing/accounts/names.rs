//! What people sign in with: `name@customer`, or a name alone for the backend's own customer, in any case of letters
//! (semantics 7.33).
//!
//! Not here: which characters a name has (see `service::read`).

use unicode_normalization::UnicodeNormalization as _;

use super::FIRST_CUSTOMER;

/// A name somebody typed to find an account by.
#[derive(Clone, Debug)]
pub(in crate::licensing) struct SignInName {
    /// What may be kept of it, the likeliest first.
    keys: [String; 6],
    /// The same for all ways to write it.
    folded: String,
}

/// Longest name, and longest customer, in bytes, with what is between them.
pub(in crate::licensing) const LONGEST_BYTES: usize = 64 + 1 + 4 * 255;

impl SignInName {
    /// `typed`, by itself or with `@` and its customer; a name alone is one of `customer`.
    pub(in crate::licensing) fn within(typed: &str, customer: &str) -> Self {
        let exact: String = typed.nfc().collect();
        let plain: String = customer.nfc().collect();
        let whole = format!("{exact}@{plain}");
        let ways = |text: &str| [text.to_owned(), text.to_ascii_lowercase(), text.to_lowercase()];
        let ([one, two, three], [four, five, six]) = (ways(&exact), ways(&whole));
        let folded = exact.to_lowercase();
        let own = format!("@{}", plain.to_lowercase());
        let folded = folded.strip_suffix(&own).map(str::to_owned).unwrap_or(folded);
        Self { keys: [one, two, three, four, five, six], folded }
    }

    /// What a stranger typed to sign in.
    pub(in crate::licensing) fn typed(typed: &str) -> Self {
        Self::within(typed, FIRST_CUSTOMER)
    }

    pub(in crate::licensing) fn keys(&self) -> &[String; 6] {
        &self.keys
    }

    /// How likely it means the account kept under `key`: the less the likelier.
    pub(super) fn place(&self, key: &str) -> Option<usize> {
        self.keys.iter().position(|own| own == key)
    }

    /// One text for all ways to write the same name, whether anybody has it or not.
    pub(in crate::licensing) fn folded(&self) -> &str {
        &self.folded
    }
}

/// What is kept of a name to sign in with.
pub(super) fn key(name: &str, customer: &str) -> String {
    folded(&format!("{name}@{customer}"))
}

/// One text for all ways to write the same name.
pub(super) fn folded(text: &str) -> String {
    text.nfc().collect::<String>().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_however_it_is_written_and_a_name_alone_is_the_backend_s_own() {
        for (name, customer, typed) in [
            ("owner", "default", "owner"),
            ("owner", "default", "OWNER@Default"),
            ("Alice", "default", "alice"),
            ("anna", "\u{160}koda & s. r. o.", "Anna@S\u{30c}koda & S. R. O."),
            ("anna@acme.example", "default", "anna@acme.example"),
            ("anna@acme.example", "acme", "anna@acme.example@acme"),
            ("anna", "a@b", "anna@a@b"),
        ] {
            assert!(SignInName::typed(typed).place(&key(name, customer)).is_some(), "{typed}");
        }
        for (name, customer, typed) in [("anna", "acme", "anna"), ("anna", "default", "anna@acme")] {
            assert!(SignInName::typed(typed).place(&key(name, customer)).is_none(), "{typed}");
        }
        let folded = |typed| SignInName::typed(typed).folded().to_owned();
        assert_eq!(folded("Owner@DEFAULT"), folded("owner"));
        assert_ne!(folded("owner@acme"), folded("owner"));
    }
}
