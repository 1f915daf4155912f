//! How many calls of a listener there were, how they ended, and how long answers took.
//!
//! Not here: how many are open (see `rooms`), and who is shown this (see `metrics`).

use std::{
    collections::HashMap,
    sync::{LazyLock, OnceLock},
    time::{Duration, Instant},
};

use foldhash::fast::RandomState;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Code;

use crate::{
    proto,
    tally::{Tallies, Tally},
};

/// What became of the calls of a listener, by method.
#[derive(Debug)]
pub(super) struct Tallied {
    /// In the order of `KNOWN`; a method takes memory once it was called.
    methods: Vec<OnceLock<Box<OfMethod>>>,
    shed: Tally,
}

/// What became of the calls of a method.
#[derive(Debug, Default)]
pub(super) struct OfMethod {
    codes: Tallies<{ CODES.len() }>,
    /// How long answers took that are one message to one message.
    took: Tallies<{ BOUNDS.len() + 1 }>,
    nanoseconds: Tally,
}

/// A method that can be called.
#[derive(Debug)]
pub(super) struct Method {
    pub(super) service: String,
    pub(super) name: String,
    /// One message, answered by one.
    pub(super) is_unary: bool,
    /// Asked with many messages.
    is_streamed_to: bool,
}

/// A call that is not over.
#[derive(Debug)]
pub(super) struct Tallying {
    method: usize,
    began: Instant,
    /// How it ended; nothing while it is open. One that never ends was given up by its caller.
    code: Option<Code>,
}

/// How calls end, by the number of their code, in the names of the protocol.
pub(super) const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The bounds between which answers are counted. An answer from memory takes microseconds, one from a database
/// milliseconds, and a call may take as long as `limits.call_timeout`.
pub(super) const BOUNDS: [Duration; 17] = [
    Duration::from_micros(10),
    Duration::from_micros(25),
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
];

/// Every method, by the path it is called at. What is none of them is counted together: callers could make up names
/// without end.
static KNOWN: LazyLock<Known> = LazyLock::new(Known::read);

struct Known {
    methods: Vec<Method>,
    places: HashMap<String, usize, RandomState>,
}

impl Known {
    fn read() -> Self {
        let mut known = Self { methods: Vec::new(), places: HashMap::default() };
        let reflection = [
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        // They were written when this was built.
        let sets = reflection
            .into_iter()
            .chain([proto::DESCRIPTORS])
            .filter_map(|set| FileDescriptorSet::decode(set).ok());
        for file in sets.flat_map(|set| set.file) {
            for service in &file.service {
                let service_name = format!("{}.{}", file.package(), service.name());
                for method in &service.method {
                    let path = format!("/{service_name}/{}", method.name());
                    known.places.insert(path, known.methods.len());
                    known.methods.push(Method {
                        service: service_name.clone(),
                        name: method.name().to_owned(),
                        is_unary: !(method.client_streaming() || method.server_streaming()),
                        is_streamed_to: method.client_streaming(),
                    });
                }
            }
        }
        known.methods.push(Method {
            service: "unknown".to_owned(),
            name: "unknown".to_owned(),
            is_unary: false,
            is_streamed_to: false,
        });
        known
    }

    fn place(&self, path: &str) -> usize {
        self.places.get(path).copied().unwrap_or(self.methods.len().saturating_sub(1))
    }
}

impl Tallied {
    pub(super) fn new() -> Self {
        Self { methods: KNOWN.methods.iter().map(|_| OnceLock::new()).collect(), shed: Tally::default() }
    }

    /// Counts a call that found no place.
    pub(super) fn shed(&self, call: &Tallying) {
        self.shed.count();
        self.ended(call.method, Code::ResourceExhausted);
    }

    /// How many found no place.
    pub(super) fn times_shed(&self) -> u64 {
        self.shed.total()
    }

    /// Every method that was called.
    pub(super) fn methods(&self) -> impl Iterator<Item = (&'static Method, &OfMethod)> {
        let called = KNOWN.methods.iter().zip(&self.methods);
        called.filter_map(|(method, of_method)| Some((method, &**of_method.get()?)))
    }

    fn ended(&self, method: usize, code: Code) -> Option<&OfMethod> {
        let of_method = self.methods.get(method)?.get_or_init(Box::default);
        of_method.codes.add(code as usize, 1);
        Some(of_method)
    }
}

impl OfMethod {
    /// How many calls ended with each code, where any did.
    pub(super) fn codes(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let codes = CODES.iter().enumerate().map(|(number, code)| (*code, self.codes.sum(number)));
        codes.filter(|(_, calls)| 0 < *calls)
    }

    /// How many answers took at most as long as each of `BOUNDS` and longer than the one before, then how many took
    /// longer than all.
    pub(super) fn took(&self) -> [u64; BOUNDS.len() + 1] {
        std::array::from_fn(|bucket| self.took.sum(bucket))
    }

    /// How long all of them took together.
    pub(super) fn took_in_all(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.total())
    }

    fn took_so_long(&self, took: Duration) {
        self.took.add(BOUNDS.iter().take_while(|bound| **bound < took).count(), 1);
        self.nanoseconds.add(0, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }
}

impl Tallying {
    /// A call at `path` begins.
    pub(super) fn of(path: &str) -> Self {
        Self { method: KNOWN.place(path), began: Instant::now(), code: None }
    }

    /// Whether its caller says all in one message.
    pub(super) fn is_of_one_message(&self) -> bool {
        KNOWN.methods.get(self.method).is_none_or(|method| !method.is_streamed_to)
    }

    /// Whether its messages or its answers are a stream.
    pub(super) fn is_stream(&self) -> bool {
        KNOWN.methods.get(self.method).is_some_and(|method| !method.is_unary)
    }

    /// The call ended so.
    pub(super) fn ended(&mut self, code: Code) {
        self.code = Some(code);
    }

    /// It is over: `tallied` counts it.
    pub(super) fn over(&self, tallied: &Tallied) {
        let Self { method, began, code } = *self;
        let of_method = tallied.ended(method, code.unwrap_or(Code::Cancelled));
        let is_unary = KNOWN.methods.get(method).is_some_and(|method| method.is_unary);
        if let Some(of_method) = of_method.filter(|_| is_unary && code.is_some()) {
            of_method.took_so_long(began.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_counts_for_its_method_and_a_name_nobody_knows_makes_no_place_of_its_own() {
        let tallied = Tallied::new();
        for (path, code) in [
            ("/esa.enforcement.v1.EnforcementService/Authorize", Some(Code::Ok)),
            ("/esa.enforcement.v1.EnforcementService/Authorize", None),
            ("/made.up/Call", Some(Code::Unimplemented)),
            ("/made.up/AnotherCall", Some(Code::Unimplemented)),
            ("", Some(Code::Unimplemented)),
        ] {
            let mut call = Tallying::of(path);
            code.into_iter().for_each(|code| call.ended(code));
            call.over(&tallied);
        }
        tallied.shed(&Tallying::of("/grpc.health.v1.Health/Check"));
        let counted: Vec<_> = tallied
            .methods()
            .flat_map(|(method, calls)| {
                calls.codes().map(|(code, calls)| (method.name.as_str(), code, calls))
            })
            .collect();
        let expected = [
            ("Authorize", "OK", 1),
            ("Authorize", "CANCELLED", 1),
            ("Check", "RESOURCE_EXHAUSTED", 1),
            ("unknown", "UNIMPLEMENTED", 3),
        ];
        assert!(expected.iter().all(|row| counted.contains(row)) && counted.len() == 4, "{counted:?}");
        assert_eq!(tallied.times_shed(), 1);
    }

    #[test]
    fn what_takes_as_long_as_a_bound_is_within_it() {
        let calls = OfMethod::default();
        for took in [0, 10_000, 10_001, 25_000, 30_000_000_000, 30_000_000_001] {
            calls.took_so_long(Duration::from_nanos(took));
        }
        let took = calls.took();
        assert_eq!((took[0], took[1], took[16], took[17]), (2, 2, 1, 1));
        assert_eq!(calls.took_in_all(), Duration::from_nanos(60_000_045_002));
    }
}
