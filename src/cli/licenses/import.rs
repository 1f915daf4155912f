//! `licenses import`.
//!
//! Not here: how a file is read (see `import_file`).

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use zeroize::Zeroizing;

use super::import_file::{self, FileFormat};
use crate::{
    byte_order_mark,
    cli::{
        CommandError, CommandResult, client, output,
        unit_management::{
            backend,
            caller::Caller,
            record::object,
            secret::{self, Place},
            sheet::{ExportFormat, csv_header, csv_line},
        },
    },
    proto::licensing as api,
};

/// Issue many licenses: all, or none when one is wrong
///
/// CSV with a header, or a JSON array of objects, at most 1,000 licenses. Columns: seats and expires_at are needed;
/// license_id, customer, product, name, type, seat_kind, all_users_limit, components_limit and sms_credits may be left
/// out or empty; attribute.KEY is a further attribute (in JSON: `"attributes": {...}`). Everything that is wrong is
/// told at once, and nothing is sent then. The license keys are told once: license_id, name and license_key of each,
/// on standard output or in --key-output.
#[derive(Args)]
pub(super) struct Import {
    /// The file
    file: PathBuf,
    /// How it is written [default: what the name ends with, .csv or .json]
    #[arg(long, value_enum, value_name = "FORMAT")]
    from: Option<FileFormat>,
    /// How the license keys are written
    #[arg(long, value_enum, default_value = "csv")]
    format: ExportFormat,
    /// Write the license keys to this new file, for its owner alone
    #[arg(long, value_name = "FILE")]
    key_output: Option<PathBuf>,
    #[command(flatten)]
    caller: Caller,
}

impl Import {
    pub(super) fn run(self) -> CommandResult {
        let licenses = read(&self.file, self.from)?;
        let place = Place::begin(self.key_output.as_deref())?;
        let request = api::ImportLicensesRequest { request_id: backend::request_id(), licenses };
        let answer = client::runtime()?.block_on(async {
            let backend = self.caller.connect().await?;
            backend.ask(request, async |request| backend.licenses().import_licenses(request).await).await
        })?;
        let issued = &answer.licenses;
        secret::told(
            issued
                .iter()
                .map(|issued| issued.license_key.clone())
                .find(|key| !key.is_empty())
                .unwrap_or_default(),
            "find the licenses with `esa-sidecar licenses list`, and make new keys with `licenses rotate-key`",
        )?;
        place.put(
            &format!("the keys of {} licenses", issued.len()),
            &Zeroizing::new(keys(issued, self.format)),
        )?;
        Ok(std::process::ExitCode::SUCCESS)
    }
}

fn read(path: &Path, format: Option<FileFormat>) -> Result<Vec<api::NewLicense>, CommandError> {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_lowercase();
    let format = match (format, ending.as_str()) {
        (Some(format), _) => format,
        (None, "csv") => FileFormat::Csv,
        (None, "json") => FileFormat::Json,
        (None, _) => {
            let what =
                format!("`{}` ends neither with .csv nor with .json; say which with --from", path.display());
            return Err(CommandError::new(what));
        }
    };
    let text = byte_order_mark::read_to_string(path)
        .map_err(|error| CommandError::new(format!("`{}`: {error}", path.display())))?;
    import_file::licenses(&text, format).map_err(|faults| {
        let named = |fault| format!("`{}`, {fault}", path.display());
        CommandError { what: faults.into_iter().map(named).collect(), ..CommandError::new("") }
    })
}

fn keys(issued: &[api::CreateLicenseResponse], format: ExportFormat) -> String {
    let record = |issued: &api::CreateLicenseResponse| {
        let license = issued.license.clone().unwrap_or_default();
        json!({"license_id": license.license_id, "name": license.name, "license_key": issued.license_key})
    };
    let records = issued.iter().map(record);
    match format {
        ExportFormat::Csv => {
            let lines = records.map(|record| csv_line(object(record).values()));
            csv_header(["license_id", "name", "license_key"]) + &lines.collect::<String>()
        }
        ExportFormat::Json => {
            let lines = records.map(|record| output::json_line(&record).trim_end().to_owned());
            format!("[\n{}\n]\n", lines.collect::<Vec<_>>().join(",\n"))
        }
    }
}
