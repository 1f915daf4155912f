//! Text from elsewhere, made safe to show: what is not visible as itself is written as an escape.
//!
//! A terminal obeys control characters, a line feed forges a line of a log, and a bidirectional override shows a name
//! that is not there. Not here: which text is refused when it is taken (see `wire`).

use std::{borrow::Cow, fmt::Write as _};

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};

/// How much of a text from elsewhere is shown: enough for a sentence of another program, too little to bury others.
pub const LONGEST_TEXT: usize = 1000;

/// Whether a character is visible as itself, in its place: none of control, format and private-use characters, line and
/// paragraph separators, blanks other than the space, code points nobody assigned, and those Unicode lets a display
/// ignore.
#[must_use]
pub fn is_plain(character: char) -> bool {
    if character.is_ascii() {
        return matches!(character, ' '..='~');
    }
    let is_hidden = matches!(
        character.general_category(),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::Surrogate
            | GeneralCategory::PrivateUse
            | GeneralCategory::Unassigned
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
            | GeneralCategory::SpaceSeparator
    );
    !is_hidden && !is_blank_by_design(character)
}

/// Default_Ignorable_Code_Point (Unicode, DerivedCoreProperties) where the general category does not say so, and the
/// Braille pattern without a dot.
const fn is_blank_by_design(character: char) -> bool {
    matches!(
        character,
        '\u{34f}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{ffa0}'
            | '\u{e0100}'..='\u{e01ef}'
    )
}

/// Text on one line that nothing obeys: what is not plain is written as an escape, such as `\n` or `\u{1b}`.
#[must_use]
pub fn escape_control(text: &str) -> Cow<'_, str> {
    replaced(text, is_plain, |character, escaped| escaped.extend(escape(character)))
}

/// The same, of at most [`LONGEST_TEXT`] characters.
#[must_use]
pub fn escape_and_shorten(text: &str) -> String {
    shorten(&escape_control(text), LONGEST_TEXT)
}

/// The first `most` characters; an ellipsis is the last where there are more.
#[must_use]
pub fn shorten(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// A JSON text with the same values, of plain characters alone.
#[must_use]
pub fn escape_json(json: &str) -> Cow<'_, str> {
    // Outside of strings JSON has no other characters.
    let is_kept = |character| character == '\n' || is_plain(character);
    replaced(json, is_kept, |character, escaped| {
        for unit in character.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "\\u{unit:04x}");
        }
    })
}

/// Lines that were laid out here: line feeds, tabs and our own colors stay, everything else that is not plain is escaped.
/// Text from elsewhere has no lines of its own in them: it was escaped where it was put in.
#[must_use]
pub fn escape_layout(text: &str) -> Cow<'_, str> {
    let is_kept = |character| matches!(character, '\n' | '\t') || is_plain(character);
    if text.chars().all(is_kept) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let length = color(rest).unwrap_or(character.len_utf8());
        let (here, further) = rest.split_at(length);
        if length != character.len_utf8() || is_kept(character) {
            escaped.push_str(here);
        } else {
            escaped.extend(escape(character));
        }
        rest = further;
    }
    Cow::Owned(escaped)
}

/// What colors are set by here: none hides what is written, or shows it as what it is not.
const COLORS: [&str; 10] = ["0", "1", "31", "32", "33", "39", "38;5;9", "38;5;10", "38;5;11", "38;5;208"];

/// The length of the sequence that sets one of our colors, if `text` begins with one.
fn color(text: &str) -> Option<usize> {
    let (parameters, _) = text.strip_prefix("\u{1b}[")?.split_once('m')?;
    COLORS.contains(&parameters).then_some("\u{1b}[m".len() + parameters.len())
}

fn replaced(text: &str, is_kept: impl Fn(char) -> bool, replace: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if text.chars().all(&is_kept) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_kept(character) {
            escaped.push(character);
        } else {
            replace(character, &mut escaped);
        }
    }
    Cow::Owned(escaped)
}

fn escape(character: char) -> impl Iterator<Item = char> {
    let short = match character {
        '\n' => Some("\\n"),
        '\r' => Some("\\r"),
        '\t' => Some("\\t"),
        _ => None,
    };
    let long = short.is_none().then(|| character.escape_unicode());
    short.into_iter().flat_map(str::chars).chain(long.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_every_script_are_plain_and_what_cannot_be_seen_is_not() {
        for text in
            ["MAIL-01", "Ärzte & Söhne", "Кадры", "サーバー１", "مكتب", "한국어", "देवनागरी", "🔑 €100"]
        {
            assert_eq!(escape_control(text), text);
        }
        for hidden in [
            '\0',
            '\n',
            '\r',
            '\t',
            '\u{1b}',
            '\u{7f}',
            '\u{85}',
            '\u{9b}',
            '\u{a0}',
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{115f}',
            '\u{180e}',
            '\u{2003}',
            '\u{200b}',
            '\u{200d}',
            '\u{200e}',
            '\u{2028}',
            '\u{2029}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{2800}',
            '\u{3000}',
            '\u{3164}',
            '\u{e000}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{fff9}',
            '\u{fffe}',
            '\u{378}',
            '\u{e0041}',
            '\u{e0100}',
            '\u{10ffff}',
        ] {
            assert!(!is_plain(hidden), "{}", hidden.escape_unicode());
        }
    }

    #[test]
    fn what_is_escaped_is_one_line_and_tells_what_was_there() {
        assert_eq!(
            escape_control("a\u{1b}]0;owned\u{7}\r\nINFO fake\tb\u{202e}"),
            "a\\u{1b}]0;owned\\u{7}\\r\\nINFO fake\\tb\\u{202e}"
        );
        assert_eq!(escape_and_shorten(&"ä".repeat(2000)).chars().count(), LONGEST_TEXT);
        assert_eq!(shorten("abc", 3), "abc");
        assert_eq!(shorten("abcd", 3), "ab…");
    }

    #[test]
    fn json_keeps_its_values() {
        let value = serde_json::json!({"a": "\u{9b}2J \u{2028} \u{e0041} \u{7f} é\n"});
        let text = value.to_string();
        let escaped = escape_json(&text);
        assert!(escaped.chars().all(is_plain), "{escaped}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
    }

    #[test]
    fn of_what_was_laid_out_here_lines_and_colors_stay() {
        let text = "\u{1b}[1m\u{1b}[31mred\u{1b}[0m\t│\n";
        assert_eq!(escape_layout(text), text);
        for (text, escaped) in [
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("\u{1b}]0;x\u{7}", "\\u{1b}]0;x\\u{7}"),
            ("\u{1b}", "\\u{1b}"),
            ("\u{1b}[1", "\\u{1b}[1"),
            ("\u{1b}[?25l", "\\u{1b}[?25l"),
            // Nobody here hides, inverts or blackens anything.
            ("\u{1b}[8mhidden", "\\u{1b}[8mhidden"),
            ("\u{1b}[7m", "\\u{1b}[7m"),
            ("\u{1b}[30;40m", "\\u{1b}[30;40m"),
            ("\u{1b}[1;8m", "\\u{1b}[1;8m"),
            ("a\rb\u{9b}2J", "a\\rb\\u{9b}2J"),
        ] {
            assert_eq!(escape_layout(text), escaped);
        }
    }
}
