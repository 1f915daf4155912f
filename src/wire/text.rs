//! Texts of people and programs, as both ends take them.
//!
//! Not here: texts with a form of their own, such as IDs and instants (see the parent).

use super::Unreadable;

/// A text of `least` to `most` characters, none of them a control character.
pub fn text(field: &str, text: &str, least: usize, most: usize) -> Result<String, Unreadable> {
    let count = text.chars().count();
    if !(least..=most).contains(&count) {
        return Err(Unreadable::new(field, format!("{count} characters; it has {least} to {most}")));
    }
    if text.chars().any(char::is_control) {
        return Err(Unreadable::new(field, "it holds control characters; leave them out"));
    }
    Ok(text.to_owned())
}

/// The beginning of a text from outside, on one line: for logs and people.
#[must_use]
pub fn one_line(text: &str, most: usize) -> String {
    let plain =
        |character: char| if character.is_control() { char::REPLACEMENT_CHARACTER } else { character };
    let mut characters = text.chars().map(plain);
    let mut line: String = characters.by_ref().take(most).collect();
    if characters.next().is_some() {
        line.push('…');
    }
    line
}
