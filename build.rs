//! Compiles the proto files to Rust without `protoc`, and keeps their descriptors for reflection.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const PROTOS: [&str; 7] = [
    "esa/enforcement/v1/enforcement_service.proto",
    "esa/licensing/v1/account_service.proto",
    "esa/licensing/v1/audit_service.proto",
    "esa/licensing/v1/license_service.proto",
    "esa/licensing/v1/sync_service.proto",
    "esa/licensing/v1/unit_service.proto",
    "grpc/health/v1/health.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.binpb"), descriptors.encode_to_vec())?;
    // Maps are written in one order, so that the same message is always the same bytes.
    tonic_prost_build::configure()
        .btree_map(".esa.licensing")
        .codec_path("crate::wire::codec::Codec")
        .compile_fds(descriptors)?;
    Ok(())
}
