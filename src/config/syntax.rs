//! What is wrong with a TOML file that does not read, and where.
//!
//! Neither the line nor a word of it is repeated: where quotes are missing or do not end, a password may be anywhere in
//! it. Not here: what is wrong with a value (see `reader`).

use figment::value::Dict;

/// What is wrong with `text` and where; nothing if it reads.
pub(super) fn fault(text: &str) -> Option<String> {
    let error = toml::from_str::<Dict>(text).err()?;
    let what = in_words(error.message());
    let before = error.span().and_then(|span| text.get(..span.start));
    let Some(before) = before else { return Some(what) };
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Some(format!("line {line}, column {column}: {what}"))
}

/// What the parser says, as far as it names nothing of the file.
fn in_words(message: &str) -> String {
    let words: Vec<&str> = message.lines().filter_map(words).collect();
    if words.is_empty() { "this is not TOML".to_owned() } else { words.join(", ") }
}

fn words(line: &str) -> Option<&str> {
    // Of a value that is of another type than was wanted, the value would be named.
    let names_a_value = ["invalid type", "invalid value", "invalid length"];
    let of_syntax = ["invalid ", "expected ", "value is out of range", "recursion limit exceeded"];
    if line.starts_with("duplicate key") {
        return Some("this key or table is there already");
    }
    if line.starts_with("dotted key") {
        return Some("this key goes on from one that is no table");
    }
    let is_of_syntax = of_syntax.iter().any(|beginning| line.starts_with(beginning));
    (is_of_syntax && !names_a_value.iter().any(|beginning| line.starts_with(beginning))).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::fault;

    #[test]
    fn the_place_and_what_is_wrong_are_told_and_nothing_of_the_line() {
        let canary = "canary";
        for (toml, told) in [
            ("database = postgres://u:canary@h/d", "line 1, column 12: invalid string"),
            ("a = 1\ndatabase = \"postgres://u:canary@h/d", "line 2, column "),
            ("a = 1\n  database = 'postgres://u:canary@h/d", "line 2, column "),
            ("database \"canary\"", "line 1, column 10: expected `.`, `=`"),
            ("postgres://u:canary@h/d", "line 1, column 9: expected `.`, `=`"),
            ("database = \"\"\"canary\n\nb = 1\n", "line 4, column "),
            ("canary = 1\ncanary = 2", "line 2, column 1: this key or table is there already"),
            ("[canary]\n[canary]", "line 2, column 1: "),
            ("canary = 1\ncanary.b = 2", "line 2, column 1: this key goes on from one that is no table"),
            ("a = 'x' 'canary'", "line 1, column 9: expected newline, `#`"),
            ("a = \"\\canary\"", "line 1, column "),
            ("a = 9canary", "line 1, column "),
            ("a = [\"canary\"", "line 1, column "),
            ("a = { b = \"canary\"", "line 1, column "),
            ("[canary", "line 1, column "),
            ("é = 1", "line 1, column 1: "),
        ] {
            let said = fault(toml).unwrap_or_else(|| panic!("{toml} reads"));
            assert!(said.starts_with(told), "{toml}: {said}");
            assert!(!said.contains(canary) && !said.contains('\n'), "{toml}: {said}");
        }
        assert_eq!(fault("a = 'canary'"), None);
    }
}
