//! Passwords that are guessed first: those many people have, those made of one's own name, and keys in a row.
//!
//! The words are those of the list of frequent passwords of zxcvbn (MIT, Copyright 2012-2016 Dan Wheeler and Dropbox,
//! Inc.), without their digits and signs. Not here: how long a password has to be.

/// One word a line, in order.
const WORDS: &str = include_str!("common.txt");

/// What fingers walk along, and counting.
const ROWS: [&str; 7] = [
    "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz",
    "012345678901234567890123456789",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
    "azertyuiopqsdfghjklmwxcvbn",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
    "1q2w3e4r5t6y7u8i9o0p",
];

/// Keys in a row that are a run.
const SHORTEST: usize = 4;

/// Whether `password` is guessed first, for somebody with these names.
pub(super) fn is_common(password: &str, names: &[&str]) -> bool {
    let plain: String =
        password.to_lowercase().chars().filter(|character| character.is_alphanumeric()).collect();
    let own: Vec<String> = names.iter().flat_map(|name| own_words(name)).collect();
    is_few_characters(&plain) || is_in_a_row(&plain) || is_word(&plain, &own) || {
        [without_digits(password), leet(password)].iter().any(|letters| is_made_of_words(letters, &own))
    }
}

fn own_words(name: &str) -> Vec<String> {
    let lower = name.to_lowercase();
    let parts = lower.split(|character: char| !character.is_alphanumeric()).map(str::to_owned);
    let whole = lower.chars().filter(|character| character.is_alphabetic()).collect();
    parts.chain([whole]).filter(|word| 3 <= word.chars().count()).collect()
}

fn is_few_characters(plain: &str) -> bool {
    let mut characters: Vec<char> = plain.chars().collect();
    characters.sort_unstable();
    characters.dedup();
    characters.len() < 5
}

/// Runs of at least four keys beside each other, forward or back, and nothing else.
fn is_in_a_row(plain: &str) -> bool {
    let mut left = plain;
    while !left.is_empty() {
        let longest = (1..=left.len()).rev().filter_map(|end| left.split_at_checked(end)).find(|(run, _)| {
            let back: String = run.chars().rev().collect();
            ROWS.iter().any(|row| row.contains(run) || row.contains(&back))
        });
        match longest {
            Some((run, rest)) if SHORTEST <= run.len() || rest.is_empty() && run.len() < plain.len() => {
                left = rest;
            }
            Some(_) | None => return false,
        }
    }
    true
}

fn without_digits(password: &str) -> String {
    password.to_lowercase().chars().filter(|character| character.is_alphabetic()).collect()
}

/// Signs and digits that stand for letters, as those letters.
fn leet(password: &str) -> String {
    let letter = |character| match character {
        '0' => 'o',
        '1' | '!' => 'i',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        other => other,
    };
    // A year behind a word is one.
    let word = password.trim_matches(|character: char| !character.is_alphabetic());
    without_digits(&word.chars().map(letter).collect::<String>())
}

fn is_word(text: &str, own: &[String]) -> bool {
    own.iter().any(|word| word == text) || {
        // The list is in order, and so are the beginnings of its lines.
        let (mut from, mut to) = (0, WORDS.len());
        while from < to {
            let middle = from.midpoint(to);
            let begins = WORDS.get(..middle).and_then(|before| before.rfind('\n')).map_or(0, |line| line + 1);
            let word = WORDS.get(begins..).and_then(|rest| rest.lines().next()).unwrap_or_default();
            match text.cmp(word) {
                std::cmp::Ordering::Equal => return true,
                std::cmp::Ordering::Less => to = begins,
                std::cmp::Ordering::Greater => from = begins + word.len() + 1,
            }
        }
        false
    }
}

/// Whether it is one or two words, each as often as somebody likes.
fn is_made_of_words(letters: &str, own: &[String]) -> bool {
    let beginnings = |text: &str| -> Vec<String> {
        let ends = text.char_indices().map(|(at, character)| at + character.len_utf8());
        ends.filter_map(|end| text.get(..end)).filter(|word| is_word(word, own)).map(str::to_owned).collect()
    };
    beginnings(letters).iter().any(|one| {
        let rest = without(letters, &[one]);
        rest.is_empty() || beginnings(rest).iter().any(|two| without(rest, &[one, two]).is_empty())
    })
}

/// What is left of `text` once `words` are taken from its beginning as long as there are any.
fn without<'a>(text: &'a str, words: &[&String]) -> &'a str {
    let mut left = text;
    while let Some(rest) = words.iter().find_map(|word| left.strip_prefix(word.as_str())) {
        left = rest;
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_guessed_first_is_common_and_what_nobody_expects_is_not() {
        for common in [
            "password1234",
            "Password!2024!",
            "P@ssw0rd2024",
            "passwordpassword",
            "password-dragon",
            "owner-owner-owner",
            "alice.2024.alice",
            "Acme2024!Acme",
            "alice-password",
            "123456789012",
            "098765432109",
            "abcdefghijkl",
            "qwertyuiop[]",
            "qwertyuiopas",
            "1qaz2wsx3edc",
            "aaaaaaaaaaaa",
            "abababababab",
            "qwerty123456",
            "administrator",
            "changeme-changeme",
            "Welcome-12345",
        ] {
            assert!(is_common(common, &["alice", "acme gmbh"]), "{common}");
        }
        for fine in [
            "correct horse battery staple",
            "correct horse battery",
            "another password",
            "sample-company",
            "alice likes tall mountains",
            "j7Kq-x2Lp-9vRt",
            "7418529630ab7391",
            "žluťoučký kůň pěl",
        ] {
            assert!(!is_common(fine, &["alice", "acme gmbh"]), "{fine}");
        }
    }

    #[test]
    fn every_word_of_the_list_is_found() {
        assert!(WORDS.lines().is_sorted());
        for word in WORDS.lines() {
            assert!(is_word(word, &[]), "{word}");
        }
        for other in ["", "a", "zzzzzzzzzzzzzzzz", "passwor dx"] {
            assert!(!is_word(other, &[]), "{other}");
        }
    }

    #[test]
    fn the_longest_password_is_looked_at_in_no_time() {
        let longest = "password".repeat(31) + "zqjvkwpb";
        let began = std::time::Instant::now();
        assert!(!is_common(&longest, &["alice", "acme"]));
        assert!(began.elapsed() < std::time::Duration::from_secs(1));
    }
}
