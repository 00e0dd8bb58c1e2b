//! Checking a password, at every door that takes one: what is known of the account, whether the try may be looked
//! at, what follows from its outcome.

use std::time::Duration;

use aggregates::session::SignInMethod;
use aggregates::user::{User, UserCommand};
use aggregates::{ClaimScope, EmailAddress};
use projections::devices;
use projections::users::{self, UserRow};
use sqlx::Row as _;

use crate::accounts::{AccountError, Caller, Proof};
use crate::app::App;
use crate::crypto::password::{Password, PasswordHash, Verdict};
use crate::custody::{ONLY, Secret, Seen, kind};
use crate::door_log::{self, Tried};
use crate::guard::{self, Attempt, Locked, Target};
use crate::links;
use crate::store::{Actor, StoreError};

/// The try that locks an account is answered after this time at the earliest, whatever there was to write.
const LOCK_ANSWER: Duration = Duration::from_millis(50);

/// What is known of somebody's devices.
#[derive(Default)]
struct Known {
    /// They signed in from this one lately.
    this_one: bool,
    /// They have signed in from any.
    any: bool,
}

/// What is known of whoever tries a password, before it is looked at.
struct Candidate {
    email: EmailAddress,
    user: Option<UserRow>,
    /// The hash of their password, if they have one.
    secret: Option<Secret>,
    device: Option<String>,
    known: Known,
}

impl Candidate {
    /// Asks the same about an address without an account as about one with it (S-23), in one round trip.
    async fn find(app: &App, email: &EmailAddress, caller: &Caller) -> Result<Self, AccountError> {
        let scope = ClaimScope::Email;
        let key_hash = app.store.claims().hash(scope, email.as_str());
        let claim = (scope.as_str(), &key_hash[..]);
        let since = app.clock.now() - guard::KNOWN_FOR;
        let found = users::at_the_door(&app.pool, claim, (kind::PASSWORD, ONLY), since).await?;
        let mut candidate = Self {
            email: email.clone(),
            user: None,
            secret: None,
            device: None,
            known: Known::default(),
        };
        let Some((user, row)) = found else {
            return Ok(candidate);
        };
        // A former address that is still reserved belongs to nobody.
        if user.email != email.as_str() {
            return Ok(candidate);
        }
        let known: Vec<String> = row.try_get("known_devices")?;
        candidate.secret = app.store.custody().in_row(kind::PASSWORD, &user.id, &row)?;
        candidate.device = devices::id(&user.id, &caller.client);
        candidate.known = Known {
            this_one: candidate
                .device
                .as_ref()
                .is_some_and(|device| known.contains(device)),
            any: row.try_get("any_device")?,
        };
        candidate.user = Some(user);
        Ok(candidate)
    }

    fn target<'a>(&'a self, caller: &'a Caller) -> Target<'a> {
        Target {
            email: Some(self.email.as_str()),
            known_device: self.device.as_deref().filter(|_| self.known.this_one),
            network: &caller.network,
        }
    }

    fn user_id(&self) -> Option<&str> {
        self.user.as_ref().map(|user| user.id.as_str())
    }
}

/// Signs in with a password: the person, and the proof that a session may start with. `mail_again_to` mails the
/// verification link again where verification is missing.
///
/// # Errors
/// `WrongCredentials` whatever the reason; `Locked` before anything is checked; `EmailNotVerified` only if the
/// password was right. An outage never looks like one of these.
pub async fn with_password(
    app: &App,
    email: &EmailAddress,
    password: Password,
    mail_again_to: Option<&str>,
    caller: &Caller,
) -> Result<(UserRow, Proof), AccountError> {
    let mut candidate = Candidate::find(app, email, caller).await?;
    let attempt = guard::admit(app, candidate.target(caller)).await?;
    let breached = app.breached.as_ref();
    let is_breached = breached.is_some_and(|filter| password.is_breached(filter));
    let (user, seen) = match check(app, &attempt, &mut candidate, password).await {
        Ok(found) => found,
        Err(AccountError::WrongCredentials) => {
            failed(app, attempt, &candidate, Tried::LoginFailure, caller).await?;
            return Err(AccountError::WrongCredentials);
        }
        Err(error) => return Err(not_checked(app, attempt, error).await),
    };
    if app.config.require_email_verification && !user.email_verified {
        attempt.withdrawn(app).await?;
        let (tried, code) = (Tried::LoginFailure, "EMAIL_NOT_VERIFIED");
        door_log::write(app, tried, email.as_str(), Some(&user.id), code, caller).await?;
        if let Some(callback) = mail_again_to {
            links::send_verification(app, &user, callback).await?;
        }
        return Err(AccountError::EmailNotVerified);
    }
    attempt.succeeded(app).await?;
    if is_breached {
        links::tell_of_breached_password(app, &user).await?;
    }
    let new_device = candidate.device.is_some() && candidate.known.any && !candidate.known.this_one;
    let proof = Proof {
        password: Some(seen),
        new_device,
        ..Proof::by(SignInMethod::Password)
    };
    Ok((user, proof))
}

/// Checks the password of somebody who is signed in already.
///
/// # Errors
/// `NoPassword` if there is none; else as at a sign-in.
pub async fn confirm_password(
    app: &App,
    user: &UserRow,
    password: Password,
    caller: &Caller,
) -> Result<Seen, AccountError> {
    let email = EmailAddress::parse(&user.email).map_err(|_| AccountError::NoAccount)?;
    let mut candidate = Candidate::find(app, &email, caller).await?;
    if candidate.user_id() != Some(&user.id) {
        return Err(AccountError::NoAccount);
    }
    if candidate.secret.is_none() {
        return Err(AccountError::NoPassword);
    }
    let attempt = guard::admit(app, candidate.target(caller)).await?;
    match check(app, &attempt, &mut candidate, password).await {
        Ok((_, seen)) => {
            attempt.succeeded(app).await?;
            Ok(seen)
        }
        Err(AccountError::WrongCredentials) => {
            failed(
                app,
                attempt,
                &candidate,
                Tried::PasswordChangeFailed,
                caller,
            )
            .await?;
            Err(AccountError::WrongCredentials)
        }
        Err(error) => Err(not_checked(app, attempt, error).await),
    }
}

/// Hashes and compares. Unknown addresses and accounts without a password cost the same time as wrong ones. An old
/// hash is replaced by a current one after a good check, never after a failed one (S-02). The attempt is what
/// gives the right to do so.
async fn check(
    app: &App,
    _: &Attempt,
    candidate: &mut Candidate,
    password: Password,
) -> Result<(UserRow, Seen), AccountError> {
    // Once more if another request has replaced the hash meanwhile, by a current one or another password's.
    for _ in 0..2 {
        if let Some(found) = check_once(app, candidate, password.clone()).await? {
            return Ok(found);
        }
        let user_id = candidate.user_id().unwrap_or_default();
        let custody = app.store.custody();
        candidate.secret = custody.read(kind::PASSWORD, user_id, ONLY).await?;
    }
    Err(StoreError::CustodyChanged.into())
}

/// `None` if the hash was replaced by somebody else.
async fn check_once(
    app: &App,
    candidate: &Candidate,
    password: Password,
) -> Result<Option<(UserRow, Seen)>, AccountError> {
    let secret = candidate.secret.as_ref();
    let stored =
        secret.map(|secret| PasswordHash::new(String::from_utf8_lossy(&secret.bytes).into_owned()));
    let verdict = app.passwords.verify(password.clone(), stored).await?;
    let (Some(user), Some(secret), Verdict::Right | Verdict::RightButOutdated) =
        (&candidate.user, secret, verdict)
    else {
        return Err(AccountError::WrongCredentials);
    };
    let mut version = secret.version;
    if verdict == Verdict::RightButOutdated {
        let fresh = app.passwords.hash(password).await?;
        let bytes = fresh.expose().as_bytes();
        let custody = app.store.custody();
        if !custody
            .replace(kind::PASSWORD, &user.id, ONLY, version, bytes)
            .await?
        {
            return Ok(None);
        }
        version += 1;
    }
    let seen = Seen {
        kind: kind::PASSWORD,
        owner: user.id.clone(),
        version,
    };
    Ok(Some((user.clone(), seen)))
}

/// Counts a failed try and writes it down before anybody is answered.
async fn failed(
    app: &App,
    attempt: Attempt,
    candidate: &Candidate,
    tried: Tried,
    caller: &Caller,
) -> Result<(), AccountError> {
    let locked = attempt.failed(app).await?;
    let (email, user_id) = (candidate.email.as_str(), candidate.user_id());
    door_log::write(app, tried, email, user_id, "INVALID_CREDENTIALS", caller).await?;
    if let Some(locked) = locked {
        // An event takes longer to write than a line, and only an account has events (S-20, S-23).
        let (written, ()) = tokio::join!(
            write_lock(app, candidate, locked, caller),
            tokio::time::sleep(LOCK_ANSWER)
        );
        written?;
    }
    // Whether an address has an account is not to be seen by what was written (S-20).
    crate::store::forget_written();
    Ok(())
}

/// Writes down that an account, an address without one, or a device was locked.
async fn write_lock(
    app: &App,
    candidate: &Candidate,
    locked: Locked,
    caller: &Caller,
) -> Result<(), AccountError> {
    let user_id = candidate.user_id();
    let Some(user_id) = user_id.filter(|_| locked.account) else {
        let (tried, email) = (Tried::AccountLocked, candidate.email.as_str());
        door_log::write(app, tried, email, user_id, "ACCOUNT_LOCKED", caller).await?;
        return Ok(());
    };
    let command = UserCommand::LockOut {
        until: locked.until,
        at: app.clock.now(),
    };
    let context = caller.context_about(Actor::System, user_id);
    app.store.run::<User>(user_id, command, context).await?;
    Ok(())
}

/// A try that could not be checked never was; that it cannot be given back either changes nothing.
async fn not_checked(app: &App, attempt: Attempt, error: AccountError) -> AccountError {
    if let Err(error) = attempt.withdrawn(app).await {
        tracing::warn!(error = %error, "a try cannot be given back; it counts for a minute");
    }
    error
}
