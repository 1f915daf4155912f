//! The generated protocol code, and the descriptors it was generated from.
//!
//! Not here: anything written by hand (see `enforcement::convert`).

pub use self::esa::{enforcement::v1 as enforcement, licensing::v1 as licensing};

/// Modules nested as packages are: that is how generated code of one finds the other.
mod esa {
    pub(super) mod enforcement {
        /// `esa.enforcement.v1`
        #[expect(
            unused_qualifications,
            clippy::all,
            clippy::allow_attributes,
            clippy::allow_attributes_without_reason,
            reason = "generated from the proto files, which carry the documentation"
        )]
        pub mod v1 {
            tonic::include_proto!("esa.enforcement.v1");
        }
    }

    pub(super) mod licensing {
        /// `esa.licensing.v1`
        #[expect(
            unused_qualifications,
            clippy::all,
            clippy::allow_attributes,
            clippy::allow_attributes_without_reason,
            reason = "generated from the proto files, which carry the documentation"
        )]
        pub mod v1 {
            tonic::include_proto!("esa.licensing.v1");
        }
    }
}

/// `grpc.health.v1`. Ours rather than the one of `tonic-health`, which has no `List` and ends a `Watch` of an
/// unknown service.
#[expect(
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated from the proto files, which carry the documentation"
)]
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}

/// Descriptors of everything above, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.binpb"));
