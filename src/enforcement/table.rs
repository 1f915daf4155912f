//! The restriction table as data, and the hash that names it.
//!
//! Not here: the table itself (see `domain::matrix`).

use std::sync::LazyLock;

use crate::{
    domain::{Operation, Row, matrix},
    names::{Named as _, column_name},
    proto::enforcement as api,
    sha256,
};

/// The hash of the table in force, as the proto file defines it.
pub(super) fn sha256() -> &'static str {
    static HASH: LazyLock<String> = LazyLock::new(|| sha256::hex(canonical_text().as_bytes()));
    &HASH
}

/// The table as a message.
pub(super) fn response() -> api::GetRestrictionTableResponse {
    let columns = matrix::COLUMNS.iter().map(|(title, states, footnote)| api::RestrictionColumn {
        title: (*title).to_owned(),
        states: states.iter().map(|state| api::SubscriptionState::from(*state).into()).collect(),
        footnotes: footnote.iter().copied().collect(),
    });
    let rows = Row::ALL.iter().map(|row| api::RestrictionTableRow {
        row: api::RestrictionRow::from(*row).into(),
        title: row.title().to_owned(),
        operations: operations_of(*row).map(|operation| api::Operation::from(operation).into()).collect(),
        cells: cells(*row).map(|(_, access)| api::Access::from(access).into()).collect(),
        footnotes: row.footnote().into_iter().collect(),
    });
    let footnotes = matrix::FOOTNOTES
        .iter()
        .map(|(number, text)| api::Footnote { number: *number, text: (*text).to_owned() });
    api::GetRestrictionTableResponse {
        columns: columns.collect(),
        rows: rows.collect(),
        footnotes: footnotes.collect(),
        sha256: sha256().to_owned(),
    }
}

fn canonical_text() -> String {
    let mut text = String::new();
    for row in Row::ALL {
        for (column, access) in cells(row) {
            text += &format!("{}\t{}\t{}\n", row.name(), column_name(column), access.name());
        }
    }
    for operation in Operation::ALL {
        text += &format!("{}\t{}\n", operation.name(), operation.row().name());
    }
    text
}

fn operations_of(row: Row) -> impl Iterator<Item = Operation> {
    Operation::ALL.into_iter().filter(move |operation| operation.row() == row)
}

/// The cells of a row; the states of one column always agree, which a test holds them to.
fn cells(row: Row) -> impl Iterator<Item = (&'static matrix::Column, crate::domain::Access)> {
    matrix::COLUMNS.iter().filter_map(move |column| {
        let state = column.1.first()?;
        Some((column, matrix::cell(row, *state)))
    })
}
