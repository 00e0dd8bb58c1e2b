//! Second factors: codes of an authenticator app, mailed codes, backup codes, and devices that do without for a while.
//!
//! The app's secret and the hashes of the backup codes are in custody. A code is good once: an app's by the step that it
//! belongs to (S-50), a backup code by the list that it is taken from, a mailed one by its row. Every try is counted for
//! the challenge, or the mailed code, and for all of the person's second factors together (S-19).

use aggregates::session::SignInMethod;
use aggregates::user::{SecondFactorMethod, User, UserCommand, UserError};
use chrono::{DateTime, TimeDelta, Utc};
use projections::users::UserRow;
use serde::{Deserialize, Serialize};

use crate::accounts::{AccountError, Caller, Proof, mail_to};
use crate::app::App;
use crate::crypto::aead::is_equal;
use crate::crypto::tokens::{TokenKind, random_token, random_url_text, six_digits};
use crate::crypto::totp::TotpSecret;
use crate::custody::{ONLY, Secret, Seen, kind};
use crate::guard::{self, Attempt, Code, Refused};
use crate::http::limits;
use crate::links;
use crate::mail::{Mail, MailKind};
use crate::store::{Actor, Context, RunError, StoreError};
use crate::tokens::{self, Found, NewToken, TokenChange};
use crate::{effects, guard::Locked};

/// A sign-in waits this long for its second factor.
pub const CHALLENGE_FOR: TimeDelta = TimeDelta::minutes(10);
/// A mailed code is good for this long.
const MAILED_FOR: TimeDelta = TimeDelta::minutes(3);
/// A device does without for this long after it was last signed in on.
pub const TRUSTED_FOR: TimeDelta = TimeDelta::days(30);
/// Backup codes in a set.
const BACKUP_CODES: usize = 10;
/// Another code was used at the same time this often: something is wrong.
const RACES: usize = 8;

/// Why a second factor does not count, or cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SecondFactorError {
    /// Another code, or one that was used.
    #[error("the code is wrong")]
    WrongCode,
    /// No secret is shared with an app.
    #[error("no authenticator app is set up")]
    NoTotp,
    /// There are no backup codes.
    #[error("there are no backup codes")]
    NoBackupCodes,
    /// No code was mailed, or its time is over.
    #[error("no mailed code is good")]
    NoMailedCode,
    /// An app is in use already.
    #[error("an authenticator app is set up already")]
    TotpEnabled,
    /// Nothing to work on: no second factor is on.
    #[error("the second factor is off")]
    NotEnabled,
    /// The challenge or the mailed code has had as many wrong tries as it may have.
    #[error("no tries are left")]
    Spent,
    /// No second factor of the person is checked for a while.
    #[error("locked for {retry_after_secs} s")]
    Locked {
        /// Until then, in seconds.
        retry_after_secs: u64,
    },
    /// Another reason.
    #[error(transparent)]
    Account(AccountError),
}

impl<E: Into<AccountError>> From<E> for SecondFactorError {
    fn from(error: E) -> Self {
        Self::Account(error.into())
    }
}

fn refused(refused: Refused) -> SecondFactorError {
    match refused {
        Refused::Locked { retry_after_secs } => SecondFactorError::Locked { retry_after_secs },
        Refused::Spent => SecondFactorError::Spent,
        other => SecondFactorError::Account(other.into()),
    }
}

/// Who shows a second factor, and where.
pub struct Claimant<'a> {
    /// The person.
    pub user: &'a UserRow,
    /// The challenge or session; known to its client alone.
    pub holder: &'a str,
    /// The request.
    pub caller: &'a Caller,
}

impl Claimant<'_> {
    fn context(&self) -> Context {
        let actor = Actor::User(self.user.id.clone());
        self.caller.context_about(actor, &self.user.id)
    }

    async fn run(
        &self,
        app: &App,
        command: UserCommand,
        context: Context,
    ) -> Result<(), SecondFactorError> {
        match app.store.run::<User>(&self.user.id, command, context).await {
            Ok(_) => Ok(()),
            Err(RunError::Refused(UserError::TotpEnabled)) => Err(SecondFactorError::TotpEnabled),
            Err(RunError::Refused(UserError::SecondFactorOff)) => {
                Err(SecondFactorError::NotEnabled)
            }
            Err(error) => Err(AccountError::from(error).into()),
        }
    }

    async fn admit(&self, app: &App, mailed: bool) -> Result<Attempt, SecondFactorError> {
        let code = Code {
            user_id: &self.user.id,
            holder: self.holder,
            mailed,
        };
        guard::admit_code(app, code).await.map_err(refused)
    }

    /// Settles a try; one that locks the person's second factor is an event.
    async fn settle<T>(
        &self,
        app: &App,
        attempt: Attempt,
        outcome: Result<T, SecondFactorError>,
    ) -> Result<T, SecondFactorError> {
        match &outcome {
            Ok(_) => attempt.succeeded(app).await?,
            Err(SecondFactorError::WrongCode) => {
                if let Some(Locked { until, .. }) = attempt.failed(app).await? {
                    let at = app.clock.now();
                    let command = UserCommand::LockSecondFactor { until, at };
                    self.run(app, command, self.context()).await?;
                }
            }
            Err(_) => attempt.withdrawn(app).await?,
        }
        outcome
    }
}

/// What is shared with an app that was not proven yet, for the one answer that shows it.
pub struct Prepared {
    /// For the app.
    pub uri: String,
    /// For paper.
    pub backup_codes: Vec<String>,
}

/// Makes a secret for an app, and backup codes; they count once a code has proven them.
///
/// # Errors
/// If an app is in use already, or it cannot be written.
pub async fn prepare(
    app: &App,
    who: &Claimant<'_>,
    issuer: &str,
) -> Result<Prepared, SecondFactorError> {
    let secret = TotpSecret::random();
    let codes = new_backup_codes();
    let custody = app.store.custody();
    let context = who
        .context()
        .with_secret(custody.put(kind::TOTP, &who.user.id, ONLY, secret.to_keep()))
        .with_secret(custody.put(
            kind::BACKUP_CODES,
            &who.user.id,
            ONLY,
            &hashed(app, who.user, &codes),
        ));
    let command = UserCommand::PrepareSecondFactor {
        at: app.clock.now(),
    };
    who.run(app, command, context).await?;
    Ok(Prepared {
        uri: secret.uri(issuer, &who.user.email),
        backup_codes: codes,
    })
}

/// Asks for a second factor from now on.
///
/// # Errors
/// If it is asked for already, or it cannot be written.
pub async fn enable(
    app: &App,
    who: &Claimant<'_>,
    method: SecondFactorMethod,
) -> Result<(), SecondFactorError> {
    let at = app.clock.now();
    let command = UserCommand::EnableSecondFactor { method, at };
    who.run(app, command, who.context()).await
}

/// Asks for no second factor any more, and mails that to the person (S-53); secret, codes and trusted devices are gone.
///
/// # Errors
/// When it cannot be written.
pub async fn disable(app: &App, who: &Claimant<'_>) -> Result<(), SecondFactorError> {
    let custody = app.store.custody();
    let mut context = who.context();
    for kind in [kind::TOTP, kind::BACKUP_CODES] {
        context = context.with_secret(custody.delete(kind, &who.user.id, ONLY));
    }
    for kind in [
        TokenKind::TrustedDevice,
        TokenKind::Challenge,
        TokenKind::MailedCode,
    ] {
        let user_id = who.user.id.clone();
        context = context.with_token(TokenChange::Withdraw { user_id, kind });
    }
    let command = UserCommand::DisableSecondFactor {
        at: app.clock.now(),
    };
    let context = links::tell(app, MailKind::TwoFactorDisabled, who.user, context);
    who.run(app, command, context).await
}

/// What an app reads, once more.
///
/// # Errors
/// If none was set up.
pub async fn totp_uri(
    app: &App,
    user: &UserRow,
    issuer: &str,
) -> Result<String, SecondFactorError> {
    let secret = totp_secret(app, user).await?;
    Ok(secret.uri(issuer, &user.email))
}

async fn totp_secret(app: &App, user: &UserRow) -> Result<TotpSecret, SecondFactorError> {
    let kept = app.store.custody().read(kind::TOTP, &user.id, ONLY).await?;
    let kept = kept.ok_or(SecondFactorError::NoTotp)?;
    TotpSecret::from_bytes(&kept.bytes).ok_or_else(|| {
        AccountError::Store(StoreError::Broken("a TOTP secret is no text".to_owned())).into()
    })
}

/// What a sign-in may show, in the order in which clients know it.
///
/// # Errors
/// When the log cannot be read.
pub async fn methods(app: &App, user: &UserRow) -> Result<Vec<&'static str>, AccountError> {
    let state: User = app.store.load(&user.id).await?;
    let mailed = app.config.two_factor_otp || !state.has_totp();
    Ok([("totp", state.has_totp()), ("otp", mailed)]
        .into_iter()
        .filter_map(|(name, offered)| offered.then_some(name))
        .collect())
}

/// Checks a code of an app. Its step counts once, whoever else shows it at the same moment (S-50).
///
/// # Errors
/// If it does not count.
pub async fn check_totp(
    app: &App,
    who: &Claimant<'_>,
    code: &str,
) -> Result<(), SecondFactorError> {
    let attempt = who.admit(app, false).await?;
    let outcome = take_step(app, who.user, code).await;
    who.settle(app, attempt, outcome).await
}

async fn take_step(app: &App, user: &UserRow, code: &str) -> Result<(), SecondFactorError> {
    let secret = totp_secret(app, user).await?;
    let now = u64::try_from(app.clock.now().timestamp()).unwrap_or_default();
    let step = secret
        .step_of(code, now)
        .ok_or(SecondFactorError::WrongCode)?;
    let taken = sqlx::query(
        "insert into totp_steps as t (user_id, step) values ($1, $2)
         on conflict (user_id) do update set step = excluded.step where t.step < excluded.step",
    )
    .bind(&user.id)
    .bind(i64::try_from(step).unwrap_or(i64::MAX))
    .execute(&app.pool)
    .await?;
    if taken.rows_affected() == 1 {
        Ok(())
    } else {
        Err(SecondFactorError::WrongCode)
    }
}

/// Checks a backup code and takes it from the list.
///
/// # Errors
/// If it does not count.
pub async fn check_backup_code(
    app: &App,
    who: &Claimant<'_>,
    code: &str,
) -> Result<(), SecondFactorError> {
    let attempt = who.admit(app, false).await?;
    let outcome = take_backup_code(app, who, code).await;
    who.settle(app, attempt, outcome).await
}

async fn take_backup_code(
    app: &App,
    who: &Claimant<'_>,
    code: &str,
) -> Result<(), SecondFactorError> {
    let custody = app.store.custody();
    let user_id = &who.user.id;
    let wanted = hash_of(app, who.user, code);
    for _ in 0..RACES {
        let kept = custody.read(kind::BACKUP_CODES, user_id, ONLY).await?;
        let Secret { version, bytes } = kept.ok_or(SecondFactorError::NoBackupCodes)?;
        let mut hashes: Vec<String> = serde_json::from_slice(&bytes)
            .map_err(|_| StoreError::Broken("backup codes are no list".to_owned()))?;
        let before = hashes.len();
        hashes.retain(|hash| !is_equal(hash.as_bytes(), wanted.as_bytes()));
        if hashes.len() == before {
            return Err(SecondFactorError::WrongCode);
        }
        let left = serde_json::to_vec(&hashes).expect("texts have a JSON form");
        let seen = Seen {
            kind: kind::BACKUP_CODES,
            owner: user_id.clone(),
            version,
        };
        let context = who.context().if_unchanged(seen).with_secret(custody.put(
            kind::BACKUP_CODES,
            user_id,
            ONLY,
            &left,
        ));
        let command = UserCommand::UseBackupCode {
            at: app.clock.now(),
        };
        match who.run(app, command, context).await {
            // Another code was used meanwhile, or this one.
            Err(SecondFactorError::Account(AccountError::Store(StoreError::CustodyChanged))) => {}
            done => return done,
        }
    }
    Err(AccountError::Store(StoreError::Conflict).into())
}

/// Makes a new set of backup codes; the old ones are worth nothing.
///
/// # Errors
/// If no second factor is on, or it cannot be written.
pub async fn replace_backup_codes(
    app: &App,
    who: &Claimant<'_>,
) -> Result<Vec<String>, SecondFactorError> {
    let codes = new_backup_codes();
    let hashes = hashed(app, who.user, &codes);
    let put = app
        .store
        .custody()
        .put(kind::BACKUP_CODES, &who.user.id, ONLY, &hashes);
    let command = UserCommand::ReplaceBackupCodes {
        at: app.clock.now(),
    };
    who.run(app, command, who.context().with_secret(put))
        .await?;
    Ok(codes)
}

fn new_backup_codes() -> Vec<String> {
    let code = || format!("{}-{}", random_token(5), random_token(5));
    std::iter::repeat_with(code).take(BACKUP_CODES).collect()
}

fn hashed(app: &App, user: &UserRow, codes: &[String]) -> Vec<u8> {
    let hashes: Vec<String> = codes.iter().map(|code| hash_of(app, user, code)).collect();
    serde_json::to_vec(&hashes).expect("texts have a JSON form")
}

fn hash_of(app: &App, user: &UserRow, code: &str) -> String {
    crate::crypto::hex::encode(&app.keyed_hash(&["backup code", &user.id, code]))
}

/// Mails a code that is good for this challenge or session; an earlier one is worth nothing.
///
/// # Errors
/// If the person has had as many mails as may be, or it cannot be written.
pub async fn send_code(app: &App, who: &Claimant<'_>) -> Result<(), SecondFactorError> {
    let user = who.user;
    if !limits::CODE_MAIL.allows(app, &user.id).await? {
        return Err(AccountError::TooMany {
            retry_after_secs: limits::CODE_MAIL.window_secs(),
        }
        .into());
    }
    let code = six_digits();
    tokens::forget(&app.pool, TokenKind::MailedCode, &user.id).await?;
    guard::new_code(app, who.holder).await?;
    let until = app.clock.now() + MAILED_FOR;
    NewToken::of(
        TokenKind::MailedCode,
        &mailed(who, &code),
        &user.id,
        None,
        until,
    )
    .keep(&app.pool, app.store.custody())
    .await?;
    let mail = Mail {
        code: Some(code),
        ..mail_to(MailKind::SignInCode, user)
    };
    effects::enqueue(app, &effects::mail(&user.id, &mail)).await?;
    Ok(())
}

/// Checks a mailed code and uses it up. One that has had its tries is worth nothing.
///
/// # Errors
/// If it does not count.
pub async fn check_mailed_code(
    app: &App,
    who: &Claimant<'_>,
    code: &str,
) -> Result<(), SecondFactorError> {
    let now = app.clock.now();
    if !tokens::exists(&app.pool, TokenKind::MailedCode, &who.user.id, now).await? {
        return Err(SecondFactorError::NoMailedCode);
    }
    let attempt = match who.admit(app, true).await {
        Err(SecondFactorError::Spent) => {
            tokens::forget(&app.pool, TokenKind::MailedCode, &who.user.id).await?;
            return Err(SecondFactorError::Spent);
        }
        admitted => admitted?,
    };
    let outcome = take_mailed_code(app, who, code, now).await;
    who.settle(app, attempt, outcome).await
}

async fn take_mailed_code(
    app: &App,
    who: &Claimant<'_>,
    code: &str,
    now: DateTime<Utc>,
) -> Result<(), SecondFactorError> {
    let (pool, custody) = (&app.pool, app.store.custody());
    let found = tokens::find(
        pool,
        custody,
        TokenKind::MailedCode,
        &mailed(who, code),
        now,
    )
    .await?;
    match found {
        Some(found) if tokens::spend(pool, &found).await? => Ok(()),
        Some(_) | None => Err(SecondFactorError::WrongCode),
    }
}

/// Six digits alone are guessed from their hash at once; the holder is long and random.
fn mailed(who: &Claimant<'_>, code: &str) -> String {
    format!("{}!{code}", who.holder)
}

/// What a challenge remembers of the sign-in that waits.
#[derive(Serialize, Deserialize)]
struct Waiting {
    remembered: bool,
    method: SignInMethod,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_version: Option<i64>,
    new_device: bool,
}

/// A sign-in that waits for its second factor.
pub struct Challenge {
    found: Found,
    /// Whose.
    pub user: UserRow,
    /// Whether the session outlives the browser.
    pub remembered: bool,
    /// What was shown already, and that a second factor was.
    pub proof: Proof,
}

impl Challenge {
    /// Ends the challenge; says whether it was still there. Of many that have shown a code, one goes on.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn spend(&self, app: &App) -> Result<bool, sqlx::Error> {
        tokens::spend(&app.pool, &self.found).await
    }
}

/// Lets a sign-in wait for its second factor; gives the challenge's id for the cookie.
///
/// # Errors
/// When it cannot be written.
pub async fn challenge(
    app: &App,
    user: &UserRow,
    remembered: bool,
    proof: &Proof,
) -> Result<String, AccountError> {
    let waiting = Waiting {
        remembered,
        method: proof.method,
        password_version: proof.password.as_ref().map(|seen| seen.version),
        new_device: proof.new_device,
    };
    let about = serde_json::to_string(&waiting).expect("it is plain JSON");
    let id = format!("2fa-{}", random_url_text(20));
    let until = app.clock.now() + CHALLENGE_FOR;
    NewToken::of(TokenKind::Challenge, &id, &user.id, Some(&about), until)
        .keep(&app.pool, app.store.custody())
        .await?;
    Ok(id)
}

/// The challenge with this id, if it still waits. An id comes from a signed cookie: nobody can try ids.
///
/// # Errors
/// When the database does not answer.
pub async fn find_challenge(app: &App, id: &str) -> Result<Option<Challenge>, AccountError> {
    let (pool, custody, now) = (&app.pool, app.store.custody(), app.clock.now());
    let Some(found) = tokens::find(pool, custody, TokenKind::Challenge, id, now).await? else {
        return Ok(None);
    };
    let about = found.about.as_ref();
    let Some(waiting) = about.and_then(|about| serde_json::from_str::<Waiting>(about).ok()) else {
        return Ok(None);
    };
    let Some(user) = projections::users::find(&app.pool, &found.user_id).await? else {
        return Ok(None);
    };
    let password = waiting.password_version.map(|version| Seen {
        kind: kind::PASSWORD,
        owner: user.id.clone(),
        version,
    });
    let proof = Proof {
        password,
        new_device: waiting.new_device,
        second_factor: true,
        ..Proof::by(waiting.method)
    };
    let remembered = waiting.remembered;
    Ok(Some(Challenge {
        found,
        user,
        remembered,
        proof,
    }))
}

/// Lets a device do without a second factor for a while; gives its id for the cookie.
///
/// # Errors
/// When it cannot be written.
pub async fn trust_device(app: &App, user_id: &str) -> Result<String, AccountError> {
    let (id, new) = new_device(app, user_id);
    new.keep(&app.pool, app.store.custody()).await?;
    Ok(id)
}

/// The new id of a device that a person has trusted, if it still is; the old one is worth nothing then.
///
/// # Errors
/// When it cannot be written.
pub async fn renew_trust(
    app: &App,
    user_id: &str,
    id: &str,
) -> Result<Option<String>, AccountError> {
    let (new_id, new) = new_device(app, user_id);
    let renewed = new.replace(&app.pool, id, app.clock.now()).await?;
    Ok(renewed.then_some(new_id))
}

fn new_device(app: &App, user_id: &str) -> (String, NewToken) {
    let id = format!("trust-device-{}", random_token(32));
    let until = app.clock.now() + TRUSTED_FOR;
    let new = NewToken::of(TokenKind::TrustedDevice, &id, user_id, None, until);
    (id, new)
}
