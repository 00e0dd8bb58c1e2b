//! Random requests, and the commands that they are.

use aggregates::user::{ErasureReason, PasswordCause, SecondFactorMethod, UserCommand};
use aggregates::{EmailAddress, Roles, UserId};
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::{LENGTH, minute};
use super::{EMAIL, IDS, Request};

/// Nearly all begin with an account: without one there is little to see.
pub fn requests() -> impl Strategy<Value = Vec<Request>> {
    let first = prop::option::weighted(0.95, registration());
    (first, vec(request(), LENGTH))
        .prop_map(|(first, requests)| first.into_iter().chain(requests).collect())
}

fn registration() -> impl Strategy<Value = Request> {
    (any::<bool>(), prop::bool::weighted(0.2))
        .prop_map(|(password, verified)| Request::Register(password, verified))
}

fn request() -> impl Strategy<Value = Request> {
    let id = || prop::sample::select(IDS.to_vec());
    let text = || prop::sample::select(vec!["x", "y"]);
    let method = prop::sample::select(vec![SecondFactorMethod::Totp, SecondFactorMethod::Otp]);
    prop_oneof![
        2 => registration(),
        1 => Just(Request::Verify),
        3 => Just(Request::Prove),
        3 => Just(Request::SetPassword),
        6 => Just(Request::RemovePassword),
        4 => prop::option::of(text()).prop_map(Request::Ban),
        3 => Just(Request::LiftBan),
        6 => Just(Request::Prepare),
        8 => method.prop_map(Request::Enable),
        3 => Just(Request::Disable),
        2 => Just(Request::ReplaceCodes),
        2 => Just(Request::UseCode),
        2 => Just(Request::Lock),
        8 => id().prop_map(Request::AddPasskey),
        4 => (id(), text()).prop_map(|(id, name)| Request::RenamePasskey(id, name)),
        3 => id().prop_map(Request::RemovePasskey),
        2 => id().prop_map(Request::ReportPasskey),
        8 => id().prop_map(Request::Link),
        6 => id().prop_map(Request::Unlink),
        4 => (id(), text()).prop_map(|(id, scope)| Request::ChangeScopes(id, scope)),
        5 => Just(Request::CreateKey),
        5 => (0..4usize).prop_map(Request::RevokeKey),
        1 => Just(Request::Close),
    ]
}

/// What a request is to the aggregate; `made` is how many API keys there are.
pub fn command(request: Request, now: i64, made: usize) -> UserCommand {
    let at = minute(now);
    let email = EmailAddress::parse(EMAIL).unwrap();
    match request {
        Request::Register(password, email_verified) => UserCommand::Register {
            id: UserId::new("u1"),
            email,
            name: "x".to_owned(),
            image: None,
            locale: None,
            role: Roles::user(),
            password,
            email_verified,
            link: None,
            at,
        },
        Request::Verify => UserCommand::VerifyEmail { email, at },
        Request::Prove => UserCommand::ProveByLink { email, at },
        Request::SetPassword => UserCommand::SetPassword {
            cause: PasswordCause::Reset,
            keep: None,
            at,
        },
        Request::RemovePassword => UserCommand::RemovePassword { at },
        Request::Ban(reason) => UserCommand::Ban {
            reason: reason.map(str::to_owned),
            until: None,
            at,
        },
        Request::LiftBan => UserCommand::LiftBan { at },
        Request::Prepare => UserCommand::PrepareSecondFactor { at },
        Request::Enable(method) => UserCommand::EnableSecondFactor { method, at },
        Request::Disable => UserCommand::DisableSecondFactor { at },
        Request::ReplaceCodes => UserCommand::ReplaceBackupCodes { at },
        Request::UseCode => UserCommand::UseBackupCode { at },
        Request::Lock => UserCommand::LockSecondFactor {
            until: minute(now + 15),
            at,
        },
        Request::AddPasskey(id) => UserCommand::AddPasskey {
            passkey_id: id.to_owned(),
            credential_id: id.to_owned(),
            credential: "public".to_owned(),
            name: None,
            at,
        },
        Request::RenamePasskey(id, name) => UserCommand::RenamePasskey {
            passkey_id: id.to_owned(),
            name: name.to_owned(),
            at,
        },
        Request::RemovePasskey(id) => UserCommand::RemovePasskey {
            passkey_id: id.to_owned(),
            at,
        },
        Request::ReportPasskey(id) => UserCommand::ReportPasskeyCounter {
            passkey_id: id.to_owned(),
            known: 2,
            shown: 1,
            at,
        },
        Request::Link(id) => UserCommand::LinkAccount {
            link_id: id.to_owned(),
            provider: "acme".to_owned(),
            subject: id.to_owned(),
            scopes: vec!["x".to_owned()],
            at,
        },
        Request::Unlink(id) => UserCommand::UnlinkAccount {
            link_id: id.to_owned(),
            at,
        },
        Request::ChangeScopes(id, scope) => UserCommand::ChangeAccountScopes {
            link_id: id.to_owned(),
            scopes: vec![scope.to_owned()],
            at,
        },
        Request::CreateKey => UserCommand::CreateApiKey {
            key_id: made.to_string(),
            name: "x".to_owned(),
            prefix: "0123abcd".to_owned(),
            key_hash: "00ff".to_owned(),
            scopes: vec![],
            expires_at: None,
            at,
        },
        Request::RevokeKey(number) => UserCommand::RevokeApiKey {
            key_id: number.to_string(),
            at,
        },
        Request::Close => UserCommand::RequestErasure {
            reason: ErasureReason::OwnRequest,
            at,
        },
    }
}
