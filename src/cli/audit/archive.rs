//! `audit archive`: entries go into a file, and then out of the log.
//!
//! Nothing is deleted before all of it is on disk, and the backend deletes nothing but what it finds to be the same.
//! Not here: any other way to delete an entry; there is none.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;

use super::EntryRow;
use crate::{
    cli::{
        CommandError, CommandResult, instant, output,
        unit_management::{
            backend::{self, Backend},
            caller::Caller,
            listing::LARGEST_PAGE,
            sheet::{ExportFormat, Sheet},
        },
        whole_file::{Readers, WholeFile},
    },
    domain::Instant,
    proto::licensing as api,
};

/// Move old entries into a file: they are written there, and once they are on disk deleted from the log
///
/// Only an owner who signed in may. The archive itself is an entry, which stays. Should it end early, nothing is lost: what
/// was not deleted is in the log still, and the next archive has it.
#[derive(Args)]
pub(super) struct Archive {
    /// Entries from before this instant, at least 24 hours ago, such as `2027-06-30T12:00:00Z`
    #[arg(long, value_name = "INSTANT", value_parser = instant::parse)]
    before: Instant,
    /// The file, which must not exist yet; its owner alone may read it
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// How it is written
    #[arg(long, value_enum, default_value = "csv")]
    format: ExportFormat,
    #[command(flatten)]
    caller: Caller,
}

/// Entries that are deleted in one call.
#[derive(Clone, Debug, Default)]
struct Batch {
    last_entry_id: String,
    entries: u32,
}

/// Pages of entries in one batch.
const PAGES: usize = 10;

/// What entries about archives are about: they stay in the log.
const STAYS: &str = "audit.archive";

impl Archive {
    pub(super) async fn run(self) -> CommandResult {
        let place = self.output.display();
        if self.output.symlink_metadata().is_ok() {
            return Err(CommandError::new(format!("`{place}` exists already; choose another file")));
        }
        let backend = self.caller.connect().await?;
        let batches = self.export(&backend).await?;
        let deleted: u64 = batches.iter().map(|batch| u64::from(batch.entries)).sum();
        for Batch { last_entry_id, entries } in batches {
            let request = api::ArchiveAuditEntriesRequest {
                request_id: backend::request_id(),
                before: Some(backend::timestamp(self.before)?),
                last_entry_id,
                entries,
            };
            let asked =
                backend.ask(request, async |request| backend.audit().archive_audit_entries(request).await);
            asked.await.map_err(|mut error| {
                let note =
                    format!("; `{place}` has all of them, and what was not deleted is in the log still");
                error.what.iter_mut().for_each(|what| *what += &note);
                error
            })?;
        }
        output::note(&format!("{deleted} entries are in `{place}` and were deleted from the log"));
        Ok(ExitCode::SUCCESS)
    }

    /// Writes everything to the file, and syncs it.
    async fn export(&self, backend: &Backend) -> Result<Vec<Batch>, CommandError> {
        let now = backend::now();
        let mut question = api::ListAuditEntriesRequest {
            page_size: LARGEST_PAGE,
            until: Some(backend::timestamp(self.before)?),
            ..Default::default()
        };
        let mut file = WholeFile::begin(&self.output, Readers::Owner)?;
        let mut sheet = Sheet::of_everything(self.format);
        let mut batches = Vec::new();
        let mut batch = Batch::default();
        file.write_all(sheet.beginning::<EntryRow>().as_bytes())?;
        for pages in 1.. {
            let asked = question.clone();
            let answer =
                backend.ask(asked, async |request| backend.audit().list_audit_entries(request).await);
            let api::ListAuditEntriesResponse { entries, next_page_token } = answer.await?;
            for entry in &entries {
                batch.last_entry_id.clone_from(&entry.entry_id);
                let stays = entry.action == STAYS && entry.outcome() == api::AuditOutcome::Done;
                batch.entries += u32::from(!stays);
            }
            let rows: Vec<_> = entries.into_iter().map(EntryRow).collect();
            file.write_all(sheet.rows(&rows, now).as_bytes())?;
            let is_last = next_page_token.is_empty() || next_page_token == question.page_token;
            if 0 < batch.entries && (is_last || pages % PAGES == 0) {
                batches.push(std::mem::take(&mut batch));
            }
            if is_last {
                break;
            }
            question.page_token = next_page_token;
        }
        file.write_all(sheet.end::<EntryRow>("").0.as_bytes())?;
        file.finish()?;
        sync_folder(&self.output)?;
        Ok(batches)
    }
}

/// A file survives a power cut once its folder does, too.
fn sync_folder(file: &Path) -> Result<(), CommandError> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| {
        drop(fs::remove_file(file));
        CommandError::new(format!("`{}`: {error}", folder.display()))
    })
}
