//! How a person gets in: by a password, accounts at other providers and passkeys; whether a second factor is asked for;
//! and what ends it all.

mod requests;

use std::collections::{BTreeMap, BTreeSet};

use aggregates::user::{SecondFactorMethod, User, UserError};
use aggregates::{ClaimChange, StoredEvent};
use requests::{command, requests};

use super::{Outcome, Seen, Stream, assert_agree, for_all};

/// Ids of passkeys, links and keys; a passkey and an account at the provider are named by the same text.
type Id = &'static str;

const IDS: [Id; 3] = ["i1", "i2", "i3"];

const EMAIL: &str = "a@example.com";

/// What can be asked for. The n-th request of a sequence comes in minute n.
#[derive(Clone, Copy, Debug)]
enum Request {
    /// With a password or not, with a proven address or not.
    Register(bool, bool),
    Verify,
    Prove,
    SetPassword,
    RemovePassword,
    Ban(Option<&'static str>),
    LiftBan,
    Prepare,
    Enable(SecondFactorMethod),
    Disable,
    ReplaceCodes,
    UseCode,
    Lock,
    AddPasskey(Id),
    RenamePasskey(Id, &'static str),
    RemovePasskey(Id),
    ReportPasskey(Id),
    Link(Id),
    Unlink(Id),
    ChangeScopes(Id, &'static str),
    CreateKey,
    RevokeKey(usize),
    Close,
}

/// What is known without events.
#[derive(Debug, Default)]
struct Model {
    exists: bool,
    is_closed: bool,
    verified: bool,
    password: bool,
    ban: Option<Option<&'static str>>,
    prepared: bool,
    totp: bool,
    otp: bool,
    /// Their names.
    passkeys: BTreeMap<Id, Option<&'static str>>,
    /// Their scope.
    links: BTreeMap<Id, &'static str>,
    /// In the order in which they were made: whether they are revoked.
    keys: Vec<bool>,
}

impl Model {
    fn expect(&mut self, request: Request) -> Outcome<UserError> {
        if let Request::Register(password, verified) = request {
            if self.exists || self.is_closed {
                return Err(UserError::AlreadyRegistered);
            }
            (self.exists, self.password, self.verified) = (true, password, verified);
            let mut expected = vec!["user.registered"];
            expected.extend(password.then_some("user.password_set"));
            expected.extend(verified.then_some("user.email_verified"));
            return Ok(expected);
        }
        if let (Request::Close, true) = (request, self.is_closed) {
            return Ok(vec![]);
        }
        if !self.exists {
            return Err(UserError::NotRegistered);
        }
        self.expect_of_account(request)
    }

    fn expect_of_account(&mut self, request: Request) -> Outcome<UserError> {
        let once = |happens: bool, what| Ok(if happens { vec![what] } else { vec![] });
        let is_on = self.totp || self.otp;
        let only_if = |is_on: bool, what| match is_on {
            true => Ok(vec![what]),
            false => Err(UserError::SecondFactorOff),
        };
        match request {
            Request::Register(..) => unreachable!("this is for everybody"),
            Request::Close => {
                *self = Self {
                    is_closed: true,
                    ..Self::default()
                };
                Ok(vec!["user.erasure_requested"])
            }
            Request::Verify => once(
                !std::mem::replace(&mut self.verified, true),
                "user.email_verified",
            ),
            Request::Prove => Ok(self.prove()),
            Request::SetPassword => {
                self.password = true;
                Ok(vec!["user.password_set", "user.sessions_ended"])
            }
            Request::RemovePassword if !self.password => Err(UserError::NoSuchAccount),
            Request::RemovePassword if self.links.is_empty() && self.passkeys.is_empty() => {
                Err(UserError::LastWayIn)
            }
            Request::RemovePassword => {
                self.password = false;
                Ok(vec!["user.password_removed"])
            }
            Request::Ban(reason) if self.ban == Some(reason) => Ok(vec![]),
            Request::Ban(reason) => {
                self.ban = Some(reason);
                Ok(vec!["user.banned", "user.sessions_ended"])
            }
            Request::LiftBan => once(self.ban.take().is_some(), "user.ban_lifted"),
            Request::Prepare if self.totp => Err(UserError::TotpEnabled),
            Request::Prepare => {
                self.prepared = true;
                Ok(vec!["user.second_factor_prepared"])
            }
            Request::Enable(SecondFactorMethod::Otp) => {
                let was = std::mem::replace(&mut self.otp, true);
                once(!was, "user.second_factor_enabled")
            }
            Request::Enable(SecondFactorMethod::Totp) if self.totp => Ok(vec![]),
            Request::Enable(SecondFactorMethod::Totp) => {
                self.totp = self.prepared;
                only_if(self.prepared, "user.second_factor_enabled")
            }
            Request::Disable => once(self.forget_factors(), "user.second_factor_disabled"),
            Request::ReplaceCodes => only_if(is_on, "user.backup_codes_replaced"),
            Request::UseCode => only_if(is_on, "user.backup_code_used"),
            Request::Lock => only_if(is_on || self.prepared, "user.second_factor_locked"),
            Request::AddPasskey(id) if self.passkeys.contains_key(id) => {
                Err(UserError::PasskeyKnown)
            }
            Request::AddPasskey(id) => {
                self.passkeys.insert(id, None);
                Ok(vec!["user.passkey_added"])
            }
            Request::RenamePasskey(id, name) => {
                let known = self.passkeys.get_mut(id).ok_or(UserError::NoSuchPasskey)?;
                once(known.replace(name) != Some(name), "user.passkey_renamed")
            }
            Request::RemovePasskey(id) => {
                let removed = self.passkeys.remove(id).ok_or(UserError::NoSuchPasskey);
                removed.map(|_| vec!["user.passkey_removed"])
            }
            Request::ReportPasskey(id) => {
                let known = self.passkeys.get(id).ok_or(UserError::NoSuchPasskey);
                known.map(|_| vec!["user.passkey_counter_went_back"])
            }
            Request::Link(id) if self.links.contains_key(id) => Err(UserError::LinkedAlready),
            Request::Link(id) => {
                self.links.insert(id, "x");
                Ok(vec!["user.account_linked"])
            }
            Request::Unlink(id) if !self.links.contains_key(id) => Err(UserError::NoSuchAccount),
            Request::Unlink(_) if self.links.len() + usize::from(self.password) == 1 => {
                Err(UserError::LastWayIn)
            }
            Request::Unlink(id) => {
                self.links.remove(id);
                Ok(vec!["user.account_unlinked"])
            }
            Request::ChangeScopes(id, scope) => {
                let known = self.links.get_mut(id).ok_or(UserError::NoSuchAccount)?;
                let was = std::mem::replace(known, scope);
                once(was != scope, "user.account_scopes_changed")
            }
            Request::CreateKey => {
                self.keys.push(false);
                Ok(vec!["user.api_key_created"])
            }
            Request::RevokeKey(number) => {
                let key = self.keys.get_mut(number).ok_or(UserError::NoSuchApiKey)?;
                let was = std::mem::replace(key, true);
                once(!was, "user.api_key_revoked")
            }
        }
    }

    /// All that was set up before the address was proven is gone.
    fn prove(&mut self) -> Vec<&'static str> {
        if std::mem::replace(&mut self.verified, true) {
            return vec![];
        }
        let mut expected = vec![];
        expected.extend(std::mem::take(&mut self.password).then_some("user.password_removed"));
        let links = std::mem::take(&mut self.links);
        expected.extend(links.iter().map(|_| "user.account_unlinked"));
        let passkeys = std::mem::take(&mut self.passkeys);
        expected.extend(passkeys.iter().map(|_| "user.passkey_removed"));
        expected.extend(
            self.forget_factors()
                .then_some("user.second_factor_disabled"),
        );
        for key in &mut self.keys {
            let was = std::mem::replace(key, true);
            expected.extend((!was).then_some("user.api_key_revoked"));
        }
        expected.extend(["user.sessions_ended", "user.email_verified"]);
        expected
    }

    /// Says whether there was any.
    fn forget_factors(&mut self) -> bool {
        let any = self.prepared || self.totp || self.otp;
        (self.prepared, self.totp, self.otp) = (false, false, false);
        any
    }

    /// What nobody else may have.
    fn reserved(&self) -> BTreeSet<String> {
        let email = self.exists.then(|| EMAIL.to_owned());
        let passkeys = self.passkeys.keys().map(ToString::to_string);
        let links = self.links.keys().map(|id| format!("acme\n{id}"));
        email.into_iter().chain(passkeys).chain(links).collect()
    }
}

/// Whether to ask again for what was just granted changes nothing.
fn is_idempotent(request: Request) -> bool {
    match request {
        Request::Verify
        | Request::Prove
        | Request::Ban(_)
        | Request::LiftBan
        | Request::Enable(_)
        | Request::Disable
        | Request::RenamePasskey(..)
        | Request::ChangeScopes(..)
        | Request::RevokeKey(_)
        | Request::Close => true,
        Request::Register(..)
        | Request::SetPassword
        | Request::RemovePassword
        | Request::Prepare
        | Request::ReplaceCodes
        | Request::UseCode
        | Request::Lock
        | Request::AddPasskey(_)
        | Request::RemovePasskey(_)
        | Request::ReportPasskey(_)
        | Request::Link(_)
        | Request::Unlink(_)
        | Request::CreateKey => false,
    }
}

#[test]
fn ways_in_are_what_their_model_says() {
    let seen = Seen::default();
    for_all(requests(), |requests| {
        let (mut model, mut stream) = (Model::default(), Stream::<User>::new());
        let mut held = BTreeSet::new();
        for (now, request) in (0..).zip(requests) {
            let asked = command(request, now, model.keys.len());
            let expected = model.expect(request);
            seen.note(&expected);

            let decided = stream.running.decide(asked.clone());
            assert_agree(&decided, &expected, &request);
            let granted = decided.is_ok();
            let events = decided.unwrap_or_default();
            stream.append(&events);
            for event in &events {
                for change in event.claims() {
                    match change {
                        ClaimChange::Take(_, value) => assert!(held.insert(value), "{event:?}"),
                        ClaimChange::Release(_, value) => assert!(held.remove(&value), "{event:?}"),
                        ClaimChange::ReleaseAll => held.clear(),
                    }
                }
            }
            assert_eq!(held, model.reserved(), "what is held");
            if granted && is_idempotent(request) {
                assert_eq!(stream.running.decide(asked), Ok(vec![]));
            }
        }
    });
    seen.assert_often(&[
        "user.registered",
        "user.password_set",
        "user.password_removed",
        "user.email_verified",
        "user.sessions_ended",
        "user.banned",
        "user.ban_lifted",
        "user.second_factor_prepared",
        "user.second_factor_enabled",
        "user.second_factor_disabled",
        "user.backup_codes_replaced",
        "user.backup_code_used",
        "user.second_factor_locked",
        "user.passkey_added",
        "user.passkey_renamed",
        "user.passkey_removed",
        "user.passkey_counter_went_back",
        "user.account_linked",
        "user.account_unlinked",
        "user.account_scopes_changed",
        "user.api_key_created",
        "user.api_key_revoked",
        "user.erasure_requested",
        "nothing",
        "AlreadyRegistered",
        "NotRegistered",
        "TotpEnabled",
        "SecondFactorOff",
        "NoSuchPasskey",
        "PasskeyKnown",
        "NoSuchAccount",
        "LinkedAlready",
        "LastWayIn",
        "NoSuchApiKey",
    ]);
}
