//! Texts of people and programs, as both ends take them.
//!
//! Not here: texts with a form of their own, such as IDs and instants (see the parent).

use super::Unreadable;
use crate::escape::is_plain;

/// A text of `least` to `most` characters, each of them visible as itself (semantics 7.48), and not blank.
pub fn text(field: &str, text: &str, least: usize, most: usize) -> Result<String, Unreadable> {
    let count = text.chars().count();
    if !(least..=most).contains(&count) {
        return Err(Unreadable::new(field, format!("{count} characters; it has {least} to {most}")));
    }
    if let Some(what) = hidden(text) {
        return Err(Unreadable::new(field, what));
    }
    if !text.is_empty() && text.trim().is_empty() {
        return Err(Unreadable::new(field, "it is blank; write something, or leave it out"));
    }
    Ok(text.to_owned())
}

/// What is wrong with a text that holds a character which is not visible as itself: two names would look the same, or one
/// would look like something else.
pub(super) fn hidden(text: &str) -> Option<String> {
    let hidden = text.chars().find(|character| !is_plain(*character))?;
    if hidden.is_control() {
        return Some("it holds control characters; leave them out".to_owned());
    }
    let number = u32::from(hidden);
    Some(if hidden.is_whitespace() {
        format!("it holds a blank that is not the space (U+{number:04X}); write a space in its place")
    } else {
        format!("it holds a character that is not seen as itself (U+{number:04X}); leave it out")
    })
}

/// The beginning of a text from outside, on one line: for logs and people.
#[must_use]
pub fn one_line(text: &str, most: usize) -> String {
    let plain = |character: char| if is_plain(character) { character } else { char::REPLACEMENT_CHARACTER };
    let mut characters = text.chars().map(plain);
    let mut line: String = characters.by_ref().take(most).collect();
    if characters.next().is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_whose_characters_are_all_seen_is_taken_whatever_the_script() {
        for name in ["MAIL-01", "Ärzte & Söhne", "サーバー １", "مكتب", "한국어", "a  b", "🔑"]
        {
            assert_eq!(text("name", name, 0, 255).as_deref(), Ok(name));
        }
        assert_eq!(text("name", "", 0, 255).as_deref(), Ok(""));
        for (name, what) in [
            ("a\tb", "control characters"),
            ("\u{202e}TXE", "U+202E"),
            ("a\u{200b}b", "U+200B"),
            ("a\u{2028}b", "U+2028"),
            ("a\u{e0041}b", "U+E0041"),
            ("a\u{a0}b", "a blank that is not the space (U+00A0)"),
            ("a\u{3000}b", "a blank that is not the space (U+3000)"),
            ("\u{3164}", "U+3164"),
            ("\u{2800}", "U+2800"),
            ("a\u{378}b", "U+0378"),
            ("a\u{fe0f}", "U+FE0F"),
            ("  ", "it is blank"),
        ] {
            let refused = text("name", name, 0, 255).unwrap_err();
            assert!(refused.what.contains(what), "{name:?}: {refused}");
        }
    }
}
