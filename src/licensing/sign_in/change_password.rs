//! Changing one's own password, within a session.
//!
//! Not here: which passwords may be chosen (see `passwords`), and passwords that an owner resets (see `accounts`).

use super::{
    throttle::{Guess, Look},
    too_soon,
};
use crate::{
    licensing::{
        Backend,
        accounts::{self, Account},
        caller::Caller,
        change::Change,
        passwords,
        refusal::Refusal,
        store::StoreError,
        turns::{Spender, Whose},
    },
    proto::licensing as api,
};

const CHANGE_PASSWORD: &str = "account.change_password";

impl Backend {
    /// Changes the password of the caller, which has to be a session; its other sessions end.
    pub(in crate::licensing) async fn change_password(
        &self,
        caller: &Caller,
        request_id: &str,
        old: &str,
        new: &str,
    ) -> Result<(), Refusal> {
        let session = caller.must_be_session()?;
        if passwords::LONGEST_BYTES < old.len() {
            return Err(self.wrong(caller, "nobody has so long a password").await);
        }
        let reading = self.turn_of(caller).await?;
        let before = accounts::by_id(self.store.reads(), &caller.account_id).await?;
        drop(reading);
        let before = before.ok_or(Refusal::WrongPassword)?;
        if old == new {
            return Err(Refusal::unreadable("new_password", "the same as before; choose another"));
        }
        passwords::check_new(new, &before.name, &before.customer)?;
        self.turns.spend(Spender::Sessions(&caller.account_id), 0)?;
        let attempt = self.sign_in_key().await?.of_session(session);
        let guess = self.throttle.begin(attempt, self.clock.now());
        if let Look::WhereKnown(wait, _) | Look::Not(wait) = guess.look() {
            return Err(too_soon(wait));
        }
        let lane = || caller.lane();
        // A repetition may come when the old password is another already; so it is asked for first.
        if self.is_repeated(caller, request_id).await? {
            let hash = Some(before.password_hash.clone());
            if self.passwords.verify(lane(), new, hash).await? {
                return Ok(());
            }
            guess.wrong(self.clock.now());
            return Err(Refusal::RequestIdReused(request_id.to_owned()));
        }
        if !self.passwords.verify(lane(), old, Some(before.password_hash.clone())).await? {
            return Err(self.guessed_wrong(guess, caller).await);
        }
        let hash = self.passwords.hash(lane(), new).await?;
        let turn = self.turns.wait(Whose::Sessions(&caller.account_id)).await?;
        let mut change = Change::begin(self).await?;
        let account = accounts::held_by(&mut change, caller).await?;
        if account.password_hash != before.password_hash {
            // Somebody else of this account was faster, or the same call was sent twice at once.
            drop((change, guess, turn));
            return Box::pin(self.change_password(caller, request_id, old, new)).await;
        }
        if !request_id.is_empty() {
            let _: Option<api::ChangePasswordResponse> =
                change.answered(caller.key(), request_id, &without_passwords(request_id)).await?;
        }
        choose(&mut change, caller, &account, hash).await?;
        self.told(change.answer(&api::ChangePasswordResponse {}).await?);
        Ok(())
    }

    /// Whether the same was answered before.
    async fn is_repeated(&self, caller: &Caller, request_id: &str) -> Result<bool, Refusal> {
        if request_id.is_empty() {
            return Ok(false);
        }
        let _turn = self.turns.wait(Whose::Sessions(&caller.account_id)).await?;
        let mut change = Change::begin(self).await?;
        let before: Option<api::ChangePasswordResponse> =
            change.answered(caller.key(), request_id, &without_passwords(request_id)).await?;
        Ok(before.is_some())
    }

    async fn guessed_wrong(&self, guess: Guess, caller: &Caller) -> Refusal {
        guess.wrong(self.clock.now());
        self.wrong(caller, "wrong password").await
    }

    async fn wrong(&self, caller: &Caller, why: &str) -> Refusal {
        self.attempted(caller.failed(&caller.customer_id, CHANGE_PASSWORD, &caller.name, why)).await;
        Refusal::WrongPassword
    }
}

/// What a repetition is known by: nothing is kept from which passwords could be guessed faster than from their hashes.
fn without_passwords(request_id: &str) -> api::ChangePasswordRequest {
    api::ChangePasswordRequest { request_id: request_id.to_owned(), ..Default::default() }
}

/// Keeps the password that the caller has chosen.
async fn choose(
    change: &mut Change,
    caller: &Caller,
    account: &Account,
    hash: String,
) -> Result<(), StoreError> {
    let update =
        sqlx::query("UPDATE accounts SET password_hash = $2, must_change_password = 0 WHERE account_id = $1");
    update.bind(&account.account_id).bind(hash).execute(&mut *change.tx).await?;
    let sessions = sqlx::query("DELETE FROM sessions WHERE account_id = $1 AND token_sha256 <> $2");
    let own = caller.session.clone().unwrap_or_default();
    sessions.bind(&account.account_id).bind(own).execute(&mut *change.tx).await?;
    change.audit(caller.did(&account.customer_id, CHANGE_PASSWORD, &account.name, ""));
    Ok(())
}
