//! Lists a page at a time, so that memory does not grow with their length.
//!
//! Not here: how a page looks (see `sheet`).

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;

use super::{
    backend,
    record::Record,
    sheet::{ExportFormat, Format, Sheet},
};
use crate::cli::{
    CommandError, CommandResult, output,
    whole_file::{Readers, WholeFile},
};

/// Something the backend tells a page at a time.
pub(in crate::cli) trait Listing {
    /// What it lists.
    type Record: Record;

    /// The page after `page_token`, which is empty for the first.
    async fn page(&mut self, page_token: String, page_size: i32) -> Result<Page<Self::Record>, CommandError>;
}

/// Some records.
pub(in crate::cli) struct Page<R> {
    pub(in crate::cli) records: Vec<R>,
    /// Empty after the last page.
    pub(in crate::cli) next_page_token: String,
}

/// Which page to show, and how.
#[derive(Args)]
pub(in crate::cli) struct Paging {
    /// How many at a time, 1 to 1000 [default: 50; with --all 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=1000))]
    page_size: Option<i32>,
    /// Go on where the page before ended, with what it told
    #[arg(long, value_name = "TOKEN", default_value = "", hide_default_value = true)]
    page_token: String,
    /// Show every page
    #[arg(long)]
    all: bool,
    /// How it looks
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// How everything is written, and where to.
#[derive(Args)]
pub(in crate::cli) struct Writing {
    /// How it is written
    #[arg(long, value_enum, default_value = "csv")]
    format: ExportFormat,
    /// Write to this file, which is there whole or not at all; without it, or as `-`, to standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Where an export goes.
enum Sink {
    Stdout,
    File(WholeFile),
}

/// The most the backend tells at a time.
pub(in crate::cli) const LARGEST_PAGE: i32 = 1000;

impl Paging {
    /// Shows a page, or all of them.
    pub(in crate::cli) async fn show<L: Listing>(&self, mut listing: L) -> CommandResult {
        let now = backend::now();
        let size = self.page_size.unwrap_or(if self.all { LARGEST_PAGE } else { 0 });
        let mut sheet = Sheet::of_pages(self.format);
        output::print(&sheet.beginning::<L::Record>())?;
        let mut token = self.page_token.clone();
        loop {
            let page = next(&mut listing, &token, size).await?;
            if !output::is_read(&sheet.rows(&page.records, now))? {
                return Ok(ExitCode::SUCCESS);
            }
            token = page.next_page_token;
            // A page that found nothing among what it looked at is none to show.
            let is_shown = !page.records.is_empty() && !self.all;
            if token.is_empty() || is_shown {
                break;
            }
        }
        let (end, note) = sheet.end::<L::Record>(&token);
        output::print(&end)?;
        if let Some(note) = note {
            output::note(&note);
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Writing {
    /// Writes every page.
    pub(in crate::cli) async fn write<L: Listing>(&self, mut listing: L) -> CommandResult {
        let now = backend::now();
        let mut sink = Sink::open(self.output.as_deref())?;
        let mut sheet = Sheet::of_everything(self.format);
        sink.write(&sheet.beginning::<L::Record>())?;
        let mut token = String::new();
        loop {
            let page = next(&mut listing, &token, LARGEST_PAGE).await?;
            if !sink.write(&sheet.rows(&page.records, now))? {
                return Ok(ExitCode::SUCCESS);
            }
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        sink.write(&sheet.end::<L::Record>("").0)?;
        sink.finish()
    }
}

/// Asks for a page; a backend that leads in a circle is not followed for ever.
async fn next<L: Listing>(listing: &mut L, token: &str, size: i32) -> Result<Page<L::Record>, CommandError> {
    let page = listing.page(token.to_owned(), size).await?;
    if !token.is_empty() && page.next_page_token == token {
        return Err(CommandError::new("the licensing backend told the same page again"));
    }
    Ok(page)
}

impl Sink {
    fn open(path: Option<&Path>) -> Result<Self, CommandError> {
        match path.filter(|path| *path != Path::new("-")) {
            Some(path) => WholeFile::begin(path, Readers::Anybody).map(Self::File),
            None => Ok(Self::Stdout),
        }
    }

    /// Writes, and tells whether somebody still reads.
    fn write(&mut self, text: &str) -> Result<bool, CommandError> {
        Ok(match self {
            Self::Stdout => output::is_read(text)?,
            Self::File(file) => file.write_all(text.as_bytes()).map(|()| true)?,
        })
    }

    fn finish(self) -> CommandResult {
        if let Self::File(file) = self {
            file.finish()?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
