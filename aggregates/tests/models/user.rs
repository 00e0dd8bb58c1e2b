//! An account is not there, open, or closed; while it is open it has an address, perhaps one that waits, and some
//! that it had lately.

use std::collections::BTreeSet;

use aggregates::reading::{ReadLog, Reading};
use aggregates::session::EndReason;
use aggregates::user::{ErasureReason, PasswordCause, User, UserCommand, UserError, UserEvent};
use aggregates::{ClaimChange, EmailAddress, Roles, SessionId, StoredEvent, Tier, UserId};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{LENGTH, Outcome, Seen, Stream, assert_agree, for_all, minute};

type Email = &'static str;

const EMAILS: [Email; 4] = [
    "a@example.com",
    "b@example.com",
    "c@example.com",
    "d@example.com",
];

/// What can be asked for. The n-th request of a sequence comes in minute n.
#[derive(Clone, Debug)]
enum Request {
    Register(Email),
    Verify(Email),
    Withdraw,
    ReadAudit,
    SetPassword(PasswordCause),
    AskForEmail(Email),
    ConfirmEmail(Email),
    ChangeEmail(Email),
    GoBack(Email),
    /// Because it was left in that minute.
    Release(Email, i64),
    EndSessions,
    LockOut,
    Close,
    Profile {
        name: Option<String>,
        image: Option<Option<String>>,
        locale: Option<Option<String>>,
    },
    Role(Roles),
    Tier(Tier),
    /// All of them, or none.
    Together(Vec<Request>),
}

#[derive(Clone, Debug, Default, PartialEq)]
enum Model {
    #[default]
    Nobody,
    Open(Open),
    Closed,
}

#[derive(Clone, Debug, PartialEq)]
struct Open {
    email: Email,
    verified: bool,
    waiting: Option<Email>,
    agreed: bool,
    /// Which were left in which minute, the latest last.
    formers: Vec<(Email, i64)>,
    name: String,
    image: Option<String>,
    locale: Option<String>,
    role: Roles,
    tier: Tier,
}

impl Model {
    fn expect(&mut self, request: &Request, now: i64) -> Outcome<UserError> {
        match (&mut *self, request) {
            (_, Request::Together(requests)) => {
                let mut after = self.clone();
                let events = requests.iter().map(|request| after.expect(request, now));
                let events = events.collect::<Result<Vec<_>, _>>()?;
                *self = after;
                Ok(events.concat())
            }
            (Self::Nobody, Request::Register(email)) => {
                *self = Self::Open(Open {
                    email,
                    verified: false,
                    waiting: None,
                    agreed: false,
                    formers: vec![],
                    name: "x".to_owned(),
                    image: None,
                    locale: Some("x".to_owned()),
                    role: Roles::user(),
                    tier: Tier::Public,
                });
                Ok(vec!["user.registered", "user.password_set"])
            }
            (_, Request::Register(_)) => Err(UserError::AlreadyRegistered),
            (Self::Open(_), Request::Close) => {
                *self = Self::Closed;
                Ok(vec!["user.erasure_requested"])
            }
            (Self::Closed, Request::Close) => Ok(vec![]),
            (Self::Open(open), _) => open.expect(request, now),
            (Self::Nobody | Self::Closed, _) => Err(UserError::NotRegistered),
        }
    }

    /// What nobody else may have as their address.
    fn reserved(&self) -> BTreeSet<String> {
        match self {
            Self::Nobody | Self::Closed => BTreeSet::new(),
            Self::Open(open) => [open.email]
                .into_iter()
                .chain(open.formers.iter().map(|(former, _)| *former))
                .map(str::to_owned)
                .collect(),
        }
    }

    fn waiting(&self) -> Option<Email> {
        match self {
            Self::Nobody | Self::Closed => None,
            Self::Open(open) => open.waiting,
        }
    }
}

impl Open {
    fn expect(&mut self, request: &Request, now: i64) -> Outcome<UserError> {
        let once = |happens: bool, what| Ok(if happens { vec![what] } else { vec![] });
        match request {
            Request::Verify(email) if *email != self.email => Err(UserError::OtherEmail),
            Request::Verify(_) => {
                let was = std::mem::replace(&mut self.verified, true);
                once(!was, "user.email_verified")
            }
            Request::Withdraw => {
                let was = std::mem::replace(&mut self.verified, false);
                once(was, "user.email_verification_withdrawn")
            }
            Request::ReadAudit => Ok(vec!["user.audit_read"]),
            Request::SetPassword(_) => {
                self.waiting = None;
                Ok(vec!["user.password_set", "user.sessions_ended"])
            }
            Request::AskForEmail(email) => {
                if *email == self.email {
                    return Ok(vec![]);
                }
                self.waiting = Some(email);
                self.agreed = false;
                Ok(vec!["user.email_change_requested"])
            }
            Request::ConfirmEmail(email) | Request::ChangeEmail(email)
                if self.waiting != Some(email) =>
            {
                Err(UserError::NoSuchChange)
            }
            Request::ConfirmEmail(_) => {
                let was = std::mem::replace(&mut self.agreed, true);
                once(!was, "user.email_change_confirmed")
            }
            Request::ChangeEmail(_) if self.verified && !self.agreed => {
                Err(UserError::NoSuchChange)
            }
            Request::ChangeEmail(email) if self.left(email).is_some() => self.go_back(email),
            Request::ChangeEmail(email) => {
                self.formers.push((self.email, now));
                self.email = email;
                self.waiting = None;
                Ok(vec!["user.email_changed", "user.sessions_ended"])
            }
            Request::GoBack(email) => self.go_back(email),
            Request::Release(email, minute) => {
                let due = self.left(email).is_some_and(|left| left <= *minute);
                if due {
                    self.formers.retain(|(former, _)| former != email);
                }
                once(due, "user.former_email_released")
            }
            Request::EndSessions => Ok(vec!["user.sessions_ended"]),
            Request::LockOut => Ok(vec!["user.locked_out"]),
            Request::Profile {
                name,
                image,
                locale,
            } => {
                let before = (self.name.clone(), self.image.clone(), self.locale.clone());
                self.name = name.clone().unwrap_or(before.0.clone());
                self.image = image.clone().unwrap_or(before.1.clone());
                self.locale = locale.clone().unwrap_or(before.2.clone());
                let now = (&self.name, &self.image, &self.locale);
                once(
                    now != (&before.0, &before.1, &before.2),
                    "user.profile_changed",
                )
            }
            Request::Role(role) => {
                let was = std::mem::replace(&mut self.role, role.clone());
                once(was != *role, "user.role_changed")
            }
            Request::Tier(tier) => {
                let was = std::mem::replace(&mut self.tier, *tier);
                once(was != *tier, "user.tier_changed")
            }
            Request::Register(_) | Request::Close | Request::Together(_) => {
                unreachable!("these are for the model")
            }
        }
    }

    fn left(&self, email: Email) -> Option<i64> {
        let found = self.formers.iter().find(|(former, _)| *former == email);
        found.map(|(_, minute)| *minute)
    }

    /// Frees the address, and what was left after the one that comes back.
    fn go_back(&mut self, email: Email) -> Outcome<UserError> {
        let left = self.left(email).ok_or(UserError::NoSuchChange)?;
        let before = self.formers.len();
        self.formers.retain(|(_, minute)| *minute < left);
        let released = before - self.formers.len() - 1;
        self.email = email;
        self.waiting = None;
        let mut expected = vec!["user.email_change_reverted"];
        expected.extend(vec!["user.former_email_released"; released]);
        expected.push("user.sessions_ended");
        Ok(expected)
    }
}

/// Nine in ten begin with an account: without one there is little to see.
fn requests() -> impl Strategy<Value = Vec<Request>> {
    let registered = prop::bool::weighted(0.9);
    (registered, vec(step(), LENGTH)).prop_map(|(registered, steps)| {
        let first = registered.then_some(Request::Register(EMAILS[0]));
        first.into_iter().chain(steps.concat()).collect()
    })
}

/// One request; several that are granted or refused as one; or some that belong to each other, for random ones seldom
/// meet.
fn step() -> impl Strategy<Value = Vec<Request>> {
    let changes = email().prop_map(|to| {
        vec![
            Request::AskForEmail(to),
            Request::ConfirmEmail(to),
            Request::ChangeEmail(to),
        ]
    });
    let together = vec(request(), 0..4).prop_map(|requests| vec![Request::Together(requests)]);
    let alone = request().prop_map(|request| vec![request]);
    prop_oneof![1 => changes, 1 => together, 4 => alone]
}

fn request() -> impl Strategy<Value = Request> {
    let text = || prop::sample::select(vec!["x".to_owned(), "y".to_owned()]);
    let field = || prop::option::of(prop::option::of(text()));
    let cause = prop::sample::select(vec![PasswordCause::Change, PasswordCause::Reset]);
    prop_oneof![
        3 => email().prop_map(Request::Register),
        8 => email().prop_map(Request::Verify),
        3 => Just(Request::Withdraw),
        1 => Just(Request::ReadAudit),
        5 => cause.prop_map(Request::SetPassword),
        10 => email().prop_map(Request::AskForEmail),
        5 => email().prop_map(Request::ConfirmEmail),
        10 => email().prop_map(Request::ChangeEmail),
        15 => email().prop_map(Request::GoBack),
        20 => (email(), 0..40i64).prop_map(|(email, left)| Request::Release(email, left)),
        2 => Just(Request::EndSessions),
        2 => Just(Request::LockOut),
        2 => Just(Request::Close),
        5 => (prop::option::of(text()), field(), field())
            .prop_map(|(name, image, locale)| Request::Profile { name, image, locale }),
        3 => prop::sample::select(vec!["user", "admin", "user,admin"])
            .prop_map(|text| Request::Role(Roles::parse(text).unwrap())),
        3 => prop::sample::select(Tier::ALL.to_vec()).prop_map(Request::Tier),
    ]
}

fn email() -> impl Strategy<Value = Email> {
    prop::sample::select(EMAILS.to_vec())
}

fn command(request: &Request, now: i64) -> UserCommand {
    let at = minute(now);
    let email = |text: &str| EmailAddress::parse(text).unwrap();
    let keep = (now % 2 == 0).then(|| SessionId::new("s1"));
    match request.clone() {
        Request::Register(text) => UserCommand::Register {
            id: UserId::new("u1"),
            email: email(text),
            name: "x".to_owned(),
            image: None,
            locale: Some("x".to_owned()),
            role: Roles::user(),
            password: true,
            email_verified: false,
            link: None,
            at,
        },
        Request::Verify(text) => UserCommand::VerifyEmail {
            email: email(text),
            at,
        },
        Request::Withdraw => UserCommand::WithdrawEmailVerification { at },
        Request::ReadAudit => UserCommand::ReadAudit {
            reading: Reading {
                of: ReadLog::Vault {
                    owner: UserId::new("u2"),
                },
                filters: vec![],
            },
            at,
        },
        Request::SetPassword(cause) => UserCommand::SetPassword { cause, keep, at },
        Request::AskForEmail(to) => UserCommand::RequestEmailChange { to: email(to), at },
        Request::ConfirmEmail(to) => UserCommand::ConfirmEmailChange { to: email(to), at },
        Request::ChangeEmail(to) => UserCommand::ChangeEmail {
            to: email(to),
            needs_consent: true,
            keep,
            at,
        },
        Request::GoBack(to) => UserCommand::RevertEmail { to: email(to), at },
        Request::Release(text, left) => UserCommand::ReleaseFormerEmail {
            email: email(text),
            left_at: minute(left),
            at,
        },
        Request::EndSessions => UserCommand::EndSessions {
            keep,
            reason: EndReason::Revoked,
            at,
        },
        Request::LockOut => UserCommand::LockOut {
            until: minute(now + 15),
            at,
        },
        Request::Close => UserCommand::RequestErasure {
            reason: ErasureReason::OwnRequest,
            at,
        },
        Request::Profile {
            name,
            image,
            locale,
        } => UserCommand::ChangeProfile {
            name,
            image,
            locale,
            at,
        },
        Request::Role(role) => UserCommand::ChangeRole { role, at },
        Request::Tier(tier) => UserCommand::ChangeTier { tier, at },
        Request::Together(requests) => {
            UserCommand::All(requests.iter().map(|one| command(one, now)).collect())
        }
    }
}

/// Whether to ask again for what was just granted changes nothing.
fn is_idempotent(request: &Request) -> bool {
    match request {
        Request::Verify(_)
        | Request::Withdraw
        | Request::ConfirmEmail(_)
        | Request::Release(..)
        | Request::Close
        | Request::Profile { .. }
        | Request::Role(_)
        | Request::Tier(_) => true,
        Request::Register(_)
        | Request::ReadAudit
        | Request::SetPassword(_)
        | Request::AskForEmail(_)
        | Request::ChangeEmail(_)
        | Request::GoBack(_)
        | Request::EndSessions
        | Request::LockOut
        | Request::Together(_) => false,
    }
}

/// Keeps the book that the database keeps; what is taken twice, or released without being held, is a fault.
fn book(held: &mut BTreeSet<String>, event: &UserEvent) {
    for change in event.claims() {
        match change {
            ClaimChange::Take(_, value) => assert!(held.insert(value), "taken twice: {event:?}"),
            ClaimChange::Release(_, value) => assert!(held.remove(&value), "not held: {event:?}"),
            ClaimChange::ReleaseAll => held.clear(),
        }
    }
}

#[test]
fn a_user_does_what_its_model_says() {
    let seen = Seen::default();
    for_all(requests(), |requests| {
        let (mut model, mut stream) = (Model::default(), Stream::<User>::new());
        let mut held = BTreeSet::new();
        for (now, request) in (0..).zip(&requests) {
            let was_closed = model == Model::Closed;
            let expected = model.expect(request, now);
            seen.note(&expected);

            let decided = stream.running.decide(command(request, now));
            assert_agree(&decided, &expected, request);
            let granted = decided.is_ok();
            let events = decided.unwrap_or_default();
            assert!(!was_closed || events.is_empty(), "nothing follows closing");
            stream.append(&events);
            events.iter().for_each(|event| book(&mut held, event));

            assert_eq!(held, model.reserved(), "what is held");
            let waiting = stream.running.pending_email().map(EmailAddress::as_str);
            assert_eq!(waiting, model.waiting(), "what waits");
            assert_eq!(stream.running == User::Closed, model == Model::Closed);
            if granted && is_idempotent(request) {
                assert_eq!(stream.running.decide(command(request, now)), Ok(vec![]));
            }
        }
    });
    seen.assert_often(&[
        "user.registered",
        "user.email_verified",
        "user.email_verification_withdrawn",
        "user.audit_read",
        "user.password_set",
        "user.email_change_requested",
        "user.email_change_confirmed",
        "user.email_changed",
        "user.email_change_reverted",
        "user.former_email_released",
        "user.sessions_ended",
        "user.locked_out",
        "user.erasure_requested",
        "user.profile_changed",
        "user.role_changed",
        "user.tier_changed",
        "nothing",
        "AlreadyRegistered",
        "NotRegistered",
        "OtherEmail",
        "NoSuchChange",
    ]);
}
