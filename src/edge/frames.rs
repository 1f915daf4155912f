//! Frames of HTTP/2, by their heads, as bytes pass by.
//!
//! Not here: what is in them.

/// Bytes before what is in a frame: its length, its kind, its flags, its stream (RFC 9113, 4.1).
pub(super) const HEAD: usize = 9;

/// The most that a frame of DATA or HEADERS has beside what it is for: padding and its length.
const MOST_PADDING: usize = 256;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const PADDED: u8 = 8;

/// The bit of a stream's number that means nothing.
const RESERVED: u32 = 1 << 31;

/// Where one frame ends and the next begins.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// What has come of the head of the next one.
    head: [u8; HEAD],
    has: usize,
    /// What is to come of the last one.
    rest: usize,
}

/// A frame, by its head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    /// As it is written.
    stream: [u8; 4],
}

impl Frames {
    /// The next frame that begins in `bytes`, all of which are used up when there is none.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Option<Frame> {
        let rest = bytes.len().min(self.rest);
        self.rest -= rest;
        *bytes = bytes.get(rest..).unwrap_or_default();
        let [a, b, c, kind, flags, stream @ ..] = self.next_head(bytes)?;
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
        self.rest = length;
        Some(Frame { length, kind, flags, stream })
    }

    /// Takes the head of the next frame off `bytes`, once all of it has come.
    fn next_head(&mut self, bytes: &mut &[u8]) -> Option<[u8; HEAD]> {
        if self.has == 0
            && let Some((head, after)) = bytes.split_first_chunk()
        {
            *bytes = after;
            return Some(*head);
        }
        let (part, after) = bytes.split_at(bytes.len().min(HEAD - self.has));
        self.head.iter_mut().skip(self.has).zip(part).for_each(|(to, byte)| *to = *byte);
        self.has += part.len();
        *bytes = after;
        (self.has == HEAD).then(|| {
            self.has = 0;
            self.head
        })
    }
}

impl Frame {
    /// The number of its stream.
    pub(super) const fn stream(self) -> u32 {
        u32::from_be_bytes(self.stream) & !RESERVED
    }

    /// How much of what is in it is beside calls.
    pub(super) fn overhead(self) -> usize {
        match self.kind {
            DATA | HEADERS if self.flags & PADDED != 0 => self.length.min(MOST_PADDING),
            DATA | HEADERS | CONTINUATION => 0,
            _ => self.length,
        }
    }

    /// Whether it is a part of an answer.
    pub(super) const fn is_of_an_answer(self) -> bool {
        self.kind == HEADERS || (self.kind == DATA && 0 < self.length)
    }

    /// Whether it is of what a call or an answer says.
    pub(super) const fn is_of_data(self) -> bool {
        self.kind == DATA
    }

    /// Whether it may begin a stream.
    pub(super) const fn is_of_headers(self) -> bool {
        self.kind == HEADERS
    }

    /// Whether each stream that is open is looked at because of it.
    pub(super) const fn is_of_all_streams(self) -> bool {
        self.kind == SETTINGS && self.flags & ACK == 0
    }

    /// Whether nothing follows on its stream from whoever sends it.
    pub(super) const fn ends_stream(self) -> bool {
        self.kind == RST_STREAM
            || (self.flags & END_STREAM != 0 && (self.kind == HEADERS || self.kind == DATA))
    }

    /// Whether its stream is given up.
    pub(super) const fn resets_stream(self) -> bool {
        self.kind == RST_STREAM
    }
}

#[cfg(test)]
impl Frame {
    /// One of this kind with these flags.
    pub(super) const fn of(kind: u8, flags: u8, stream: u32) -> Self {
        Self { length: 1, kind, flags, stream: stream.to_be_bytes() }
    }
}
