//! Text files as editors save them: UTF-8, with or without a byte-order mark.
//!
//! Not here: what is in them.

use std::{io, path::Path};

const MARK: &[u8] = b"\xef\xbb\xbf";

/// The same without the byte-order mark some editors and spreadsheets begin UTF-8 with; what begins as UTF-16 does is
/// refused.
pub fn skip(contents: &[u8]) -> io::Result<&[u8]> {
    if [b"\xff\xfe", b"\xfe\xff"].iter().any(|mark| contents.starts_with(*mark)) {
        return Err(invalid("it is UTF-16 (\"Unicode\" in some editors); save it as UTF-8"));
    }
    Ok(contents.strip_prefix(MARK).unwrap_or(contents))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// The text in the file at `path`.
pub fn read_to_string(path: &Path) -> io::Result<String> {
    text(&std::fs::read(path)?)
}

/// The text these bytes are.
pub fn text(contents: &[u8]) -> io::Result<String> {
    let text = str::from_utf8(skip(contents)?).map_err(|_| invalid("it is not UTF-8; save it as UTF-8"))?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_at_the_beginning_is_no_part_of_the_text() {
        assert_eq!(text(b"\xef\xbb\xbfa\xef\xbb\xbf").unwrap(), "a\u{feff}");
        assert_eq!(text(b"").unwrap(), "");
        for (bytes, said) in
            [(&b"\xff\xfea\0"[..], "UTF-16"), (b"\xfe\xff\0a", "UTF-16"), (b"\xe9", "not UTF-8")]
        {
            assert!(text(bytes).unwrap_err().to_string().contains(said));
        }
    }
}
