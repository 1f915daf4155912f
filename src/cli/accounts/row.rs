//! An account as it is shown.
//!
//! Not here: its credentials (see `credentials`).

use comfy_table::Cell;
use serde_json::{Map, Value, json};

use crate::{
    cli::{
        CommandResult,
        unit_management::{
            backend, day, instant, name,
            record::{self, Column, Record, object},
        },
    },
    domain::Instant,
    escape::escape_control,
    proto::licensing as api,
};

/// An account.
#[derive(Default)]
pub(super) struct AccountRow(pub(super) api::Account);

impl Record for AccountRow {
    const PLURAL: &'static str = "accounts";
    const COLUMNS: &'static [Column] = &[
        Column::Whole("account"),
        Column::Whole("role"),
        Column::Text("customer"),
        Column::Whole("made"),
        Column::Text("notes"),
    ];

    fn row(&self, _now: Instant) -> Vec<Cell> {
        let account = &self.0;
        let notes = [
            (account.may_issue, "may issue licenses"),
            (account.disabled, "disabled"),
            (account.password_change_required, "has to change the password"),
        ];
        let notes: Vec<&str> = notes.into_iter().filter(|(holds, _)| *holds).map(|(_, note)| note).collect();
        vec![
            Cell::new(escape_control(&account.name)),
            Cell::new(name::of::<api::AccountRole>(account.role).replace('_', " ")),
            Cell::new(escape_control(&account.customer)),
            Cell::new(day(account.created_at.as_ref())),
            Cell::new(notes.join(", ")),
        ]
    }

    fn json(&self) -> Map<String, Value> {
        let api::Account {
            account_id,
            name,
            customer,
            role,
            may_issue,
            disabled,
            password_change_required,
            created_at,
        } = &self.0;
        object(json!({
            "account_id": account_id,
            "name": name,
            "customer": customer,
            "role": name::of::<api::AccountRole>(*role),
            "may_issue": may_issue,
            "disabled": disabled,
            "password_change_required": password_change_required,
            "created_at": instant(created_at.as_ref()),
        }))
    }
}

/// One account by itself.
pub(super) fn show(account: Option<api::Account>, json: bool) -> CommandResult {
    record::show(AccountRow(backend::held(account, "an account")?).json(), json)
}
