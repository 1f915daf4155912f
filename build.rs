//! Compiles the proto files to Rust without `protoc`, keeps their descriptors for reflection, and lists the migrations of
//! both databases.

use std::{collections::BTreeMap, env, error::Error, fs, path::PathBuf};

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
    println!("cargo::rerun-if-changed=migrations");
    let (sqlite, postgres) = (migrations("sqlite")?, migrations("postgres")?);
    if !sqlite.keys().eq(postgres.keys()) {
        let (sqlite, postgres) = (sqlite.keys(), postgres.keys());
        return Err(format!("`migrations/` differs by database: {sqlite:?} and {postgres:?}").into());
    }
    let list = |name, files: &BTreeMap<_, _>| {
        let lines = files.values().map(|line| format!("    {line},\n")).collect::<String>();
        format!("const {name}: [(i64, &str, &str); {}] = [\n{lines}];\n", files.len())
    };
    fs::write(out.join("migrations.rs"), list("SQLITE", &sqlite) + &list("POSTGRES", &postgres))?;
    Ok(())
}

/// The migrations of a database by number and name, each as a line of Rust: number, name and text.
fn migrations(database: &str) -> Result<BTreeMap<(i64, String), String>, Box<dyn Error>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(format!("migrations/{database}"))? {
        let file = entry?.file_name().into_string().map_err(|name| format!("{name:?} is not UTF-8"))?;
        let unnamed = || format!("`migrations/{database}/{file}` is not named like `0001_what_it_does.sql`");
        let (number, name) =
            file.strip_suffix(".sql").and_then(|stem| stem.split_once('_')).ok_or_else(unnamed)?;
        let number: i64 = number.parse().map_err(|_| unnamed())?;
        if files.keys().any(|(other, _)| *other == number) {
            return Err(format!("`migrations/{database}` has two files with the number {number}").into());
        }
        let path = format!("/migrations/{database}/{file}");
        let text = format!("include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {path:?}))");
        files.insert((number, name.to_owned()), format!("({number}, {name:?}, {text})"));
    }
    Ok(files)
}
