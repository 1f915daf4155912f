//! Errors that libraries make where a call does not come as far as its service: each gets the code that gRPC has for it
//! and a reason, as every error has.
//!
//! Not here: errors of the services (see their `refusal`).

use std::collections::HashMap;

use hyper::HeaderMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Why a message was not read, where a library says it in these words.
const UNDECODABLE: &str = "failed to decode Protobuf message";
const COMPRESSED: &str = "Content is compressed with";

/// Bytes of what a library says at the most: it may repeat what it was asked, which is written three times into the answer
/// and held until that is read.
const LONGEST: usize = 512;

/// The beginning of `said`, if it is long.
fn shortened(said: &str) -> &str {
    said.get(..said.floor_char_boundary(LONGEST)).unwrap_or_default()
}

/// The same error with its code, a reason of `domain`, and what to do. One that has details is as it should be.
pub(super) fn explained(status: Status, domain: &str) -> Status {
    if !status.details().is_empty() || status.code() == Code::Ok {
        return status;
    }
    let said = shortened(status.message());
    let (code, reason, message) = match status.code() {
        Code::Unimplemented if said.starts_with(COMPRESSED) || said.starts_with("compressed") => (
            Code::Unimplemented,
            "COMPRESSION_NOT_SUPPORTED",
            "compressed messages are not taken; send them as they are".to_owned(),
        ),
        Code::Unimplemented => (
            Code::Unimplemented,
            "METHOD_UNKNOWN",
            if said.is_empty() {
                "there is no such call here; check its name, and that this is the right port".to_owned()
            } else {
                said.to_owned()
            },
        ),
        Code::OutOfRange => (Code::ResourceExhausted, "MESSAGE_TOO_LONG", said.to_owned()),
        Code::Internal if said.starts_with(UNDECODABLE) => {
            (Code::InvalidArgument, "MESSAGE_INVALID", said.to_owned())
        }
        Code::InvalidArgument => (Code::InvalidArgument, "MESSAGE_INVALID", said.to_owned()),
        Code::Internal => (Code::Internal, "FRAMING_INVALID", said.to_owned()),
        Code::DeadlineExceeded => (Code::DeadlineExceeded, "CALL_TIMEOUT", said.to_owned()),
        Code::Cancelled => (Code::Cancelled, "CALL_BROKEN_OFF", said.to_owned()),
        Code::NotFound => (Code::NotFound, "SERVICE_UNKNOWN", said.to_owned()),
        code @ (Code::Unavailable | Code::DataLoss | Code::Unknown | Code::Ok) => {
            (code, "CALL_FAILED", said.to_owned())
        }
        code @ (Code::ResourceExhausted
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unauthenticated) => (code, "CALL_REFUSED", said.to_owned()),
    };
    let details = ErrorDetails::with_error_info(reason, domain, HashMap::new());
    Status::with_error_details(code, message, details)
}

/// The error that headers, or trailers, tell of, if it has to be explained.
pub(super) fn unexplained(headers: &HeaderMap) -> Option<Status> {
    let status = Status::from_header_map(headers)?;
    (status.code() != Code::Ok && status.details().is_empty()).then_some(status)
}

/// Whether an error is of a message that could not be read at all.
pub(super) fn is_of_message(status: &Status) -> bool {
    let code = status.code();
    code == Code::OutOfRange || (code == Code::Internal && status.message().starts_with(UNDECODABLE))
}

/// Writes `status` over the one that headers tell of; what else they say stays.
pub(super) fn write(status: &Status, headers: &mut HeaderMap) {
    // A status of ours can always be written.
    let _ = status.add_header(headers);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_library_says_has_the_code_of_grpc_and_a_reason() {
        for (status, code, reason) in [
            (Status::unimplemented(""), Code::Unimplemented, "METHOD_UNKNOWN"),
            (
                Status::unimplemented("Content is compressed with `gzip` which isn't supported"),
                Code::Unimplemented,
                "COMPRESSION_NOT_SUPPORTED",
            ),
            (Status::out_of_range("too large"), Code::ResourceExhausted, "MESSAGE_TOO_LONG"),
            (
                Status::internal("failed to decode Protobuf message: x"),
                Code::InvalidArgument,
                "MESSAGE_INVALID",
            ),
            (Status::internal("Unexpected EOF decoding stream."), Code::Internal, "FRAMING_INVALID"),
            (Status::deadline_exceeded("late"), Code::DeadlineExceeded, "CALL_TIMEOUT"),
        ] {
            let explained = explained(status, "a-domain");
            let details = explained.get_error_details();
            let info = details.error_info().unwrap();
            assert_eq!((explained.code(), &*info.reason, &*info.domain), (code, reason, "a-domain"));
            assert!(!explained.message().is_empty());
        }
    }

    #[test]
    fn what_was_asked_is_not_told_back_whole() {
        let repeated = Status::not_found(format!("symbol '{}' not found", "é".repeat(1 << 20)));
        let explained = explained(repeated, "a-domain");
        assert!(explained.message().starts_with("symbol 'é") && explained.message().len() <= LONGEST);
        assert!(explained.details().len() < 2 * LONGEST);
    }

    #[test]
    fn an_error_that_says_why_stays_as_it_is() {
        let details = ErrorDetails::with_error_info("OURS", "a-domain", HashMap::new());
        let ours = Status::with_error_details(Code::OutOfRange, "ours", details);
        let (code, details) = (ours.code(), ours.details().to_vec());
        let explained = explained(ours, "another");
        assert_eq!((explained.code(), explained.details()), (code, &*details));
    }
}
