//! `accounts list` and `accounts whoami`.
//!
//! Not here: how an account looks (see `row`).

use clap::Args;

use super::row::{self, AccountRow};
use crate::{
    cli::{
        CommandError, CommandResult, client,
        unit_management::{
            backend::Backend,
            caller::Caller,
            listing::{Listing, Page, Paging},
        },
    },
    proto::licensing as api,
};

/// List the accounts of the own customer, by name
///
/// With --format json it is one document, `{"accounts": [...], "next_page_token": ...}`; each account has account_id,
/// name, customer, role, may_issue, disabled, password_change_required and created_at. CSV has the same as columns.
#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    caller: Caller,
}

/// Show the own account
#[derive(Args)]
pub(super) struct Whoami {
    /// Print JSON, with the names of `accounts list`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    caller: Caller,
}

struct AccountsListed(Backend);

impl List {
    pub(super) fn run(self) -> CommandResult {
        client::runtime()?.block_on(async {
            let backend = self.caller.connect().await?;
            self.paging.show(AccountsListed(backend)).await
        })
    }
}

impl Whoami {
    pub(super) fn run(self) -> CommandResult {
        let answer = client::runtime()?.block_on(async {
            let backend = self.caller.connect().await?;
            let request = api::GetCallerRequest {};
            backend.ask(request, async |request| backend.accounts().get_caller(request).await).await
        })?;
        row::show(answer.account, self.json)
    }
}

impl Listing for AccountsListed {
    type Record = AccountRow;

    async fn page(&mut self, page_token: String, page_size: i32) -> Result<Page<AccountRow>, CommandError> {
        let question = api::ListAccountsRequest { page_size, page_token };
        let backend = &self.0;
        let answer = backend.ask(question, async |request| backend.accounts().list_accounts(request).await);
        let api::ListAccountsResponse { accounts, next_page_token } = answer.await?;
        Ok(Page { records: accounts.into_iter().map(AccountRow).collect(), next_page_token })
    }
}
