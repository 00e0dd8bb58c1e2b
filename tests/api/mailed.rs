//! The tokens that mails carry: each is good for what it was mailed for, once, in time, and while there is an account.

#![cfg(test)]

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use reqwest::RequestBuilder;
use serde_json::json;

use crate::account::{CHANGES, NEW, change, deletion_token, email_of, last_link, reset_token};
use crate::client::{Answer, ORIGIN, PASSWORD, Session, UNVERIFIED, answer, claims, link_token};
use crate::harness::TestApp;
use crate::limits::LIMITED;

/// Accounts are deleted by a mailed link. There are places at the hasher for 100 new passwords on two nodes.
pub const SETTINGS: [(&str, &str); 3] = [
    UNVERIFIED,
    ("MANA_AUTH_DELETE_USER_CONFIRM", "true"),
    ("MANA_AUTH_HASH_THREADS", "4"),
];

/// What a mailed token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Proves the account's address.
    Verification,
    /// Sets a new password.
    Reset,
    /// Deletes the account.
    Deletion,
    /// The old address agrees to a new one.
    Consent,
    /// Proves a new address.
    NewEmail,
    /// Takes a change of address back.
    WayBack,
    /// Ends all sessions.
    EndSessions,
}

/// All of them.
pub const KINDS: [Kind; 7] = [
    Kind::Verification,
    Kind::Reset,
    Kind::Deletion,
    Kind::Consent,
    Kind::NewEmail,
    Kind::WayBack,
    Kind::EndSessions,
];

/// A token as its receiver has it, and a live session of the account it is about.
pub struct Mailed {
    pub kind: Kind,
    pub token: String,
    pub session: Session,
    /// Until when it is good.
    pub until: DateTime<Utc>,
}

impl Kind {
    /// What follows from a redemption, as long as it is about the account; consent alone changes nothing.
    pub fn event(self) -> &'static str {
        match self {
            Self::Verification => "user.email_verified",
            Self::Reset => "user.password_set",
            Self::Deletion => "user.erasure_requested",
            Self::Consent | Self::NewEmail => "user.email_changed",
            Self::WayBack => "user.email_change_reverted",
            Self::EndSessions => "user.sessions_ended",
        }
    }

    /// Has a token mailed to `<name>@example.com`, who is nobody yet.
    pub async fn mail(self, app: &TestApp, name: &str) -> Mailed {
        let email = email_of(name);
        let new = format!("new-{email}");
        let ask = async |session: &Session| {
            let door = "/api/auth/change-email";
            let body = json!({"newEmail": new});
            let asked = app.post_as(door, &session.cookie, &body).await;
            assert_eq!(asked.status, 200);
        };
        let mut session = match self {
            Self::Consent => {
                app.verified(name).await;
                app.sign_in(name).await
            }
            _ => app.signed_in(name).await,
        };
        let token_of = |link: String| link_token(&link).to_owned();
        let days = |days| app.clock.now() + TimeDelta::days(days);
        let (token, until) = match self {
            Self::Verification => (token_of(last_link(app, "verify_email", &email).await), None),
            Self::Reset => {
                let door = "/api/auth/request-password-reset";
                let until = app.clock.now() + TimeDelta::hours(1);
                (reset_token(app, door, &email).await, Some(until))
            }
            Self::Deletion => (deletion_token(app, &session, &email).await, Some(days(1))),
            Self::Consent => {
                ask(&session).await;
                let link = last_link(app, "change_email_confirmation", &email).await;
                (token_of(link), None)
            }
            Self::NewEmail => {
                ask(&session).await;
                (token_of(last_link(app, "verify_email", &new).await), None)
            }
            Self::WayBack => {
                ask(&session).await;
                app.follow(&last_link(app, "verify_email", &new).await)
                    .await;
                session = app.sign_in(&format!("new-{name}")).await;
                let link = last_link(app, "email_changed", &email).await;
                (token_of(link), Some(days(7)))
            }
            Self::EndSessions => {
                change(app, CHANGES[0], &session, (PASSWORD, NEW)).await;
                let link = last_link(app, "password_changed", &email).await;
                (token_of(link), Some(days(7)))
            }
        };
        // Proofs say themselves until when they are good, in whole seconds.
        let until = until.unwrap_or_else(|| {
            let seconds = claims(&token)["exp"].as_i64().unwrap();
            DateTime::from_timestamp(seconds, 0).unwrap()
        });
        Mailed {
            kind: self,
            token,
            session,
            until,
        }
    }

    /// Fails unless the answer is the documented one to a token that is not good.
    pub fn assert_refused(self, answer: &Answer) {
        let (status, texts): (u16, &[&str]) = match self {
            Self::Verification | Self::Consent | Self::NewEmail => {
                (401, &["INVALID_TOKEN", "USER_NOT_FOUND", "TOKEN_EXPIRED"])
            }
            Self::Reset => (400, &["INVALID_TOKEN"]),
            // Without a session, nothing is said about the token.
            Self::Deletion => (404, &["INVALID_TOKEN", "FAILED_TO_GET_USER_INFO"]),
            Self::WayBack | Self::EndSessions => (400, &["Invalid link"]),
        };
        let says = texts.iter().any(|text| answer.text.contains(text));
        assert!(
            answer.status == status && says,
            "{self:?}: {} {}",
            answer.status,
            answer.text
        );
        assert_eq!(answer.session_cookie(), "", "{self:?}");
    }
}

impl Mailed {
    /// The request that redeems it, with its person's session where one is asked for.
    pub fn request(&self, app: &TestApp) -> RequestBuilder {
        let query = [("token", &self.token)];
        match self.kind {
            Kind::Verification | Kind::Consent | Kind::NewEmail => {
                app.request("GET", "/api/auth/verify-email").query(&query)
            }
            Kind::Reset => {
                let body = json!({"token": self.token, "newPassword": NEW});
                app.request("POST", "/api/auth/reset-password").json(&body)
            }
            Kind::Deletion => {
                let request = app.request("GET", "/api/auth/delete-user/callback");
                let request = request.header("cookie", &self.session.cookie);
                request.header("origin", ORIGIN).query(&query)
            }
            Kind::WayBack => app
                .request("POST", "/api/v1/auth/revert-email")
                .form(&query),
            Kind::EndSessions => app
                .request("POST", "/api/v1/auth/end-sessions")
                .form(&query),
        }
    }

    /// Redeems it; pages are asked for in English.
    pub async fn redeem(&self, app: &TestApp) -> Answer {
        answer(self.request(app).header("accept-language", "en")).await
    }

    /// How often it did what it is for.
    pub async fn done(&self, app: &TestApp) -> i64 {
        let (id, event) = (&self.session.user_id, self.kind.event());
        let of_kind = format!("events where aggregate_id = '{id}' and event_type = '{event}'");
        app.count(&of_kind).await
    }
}

/// S-29: a hundred at once on two nodes; one gets what the token is for, all others hear that it is not good.
#[tokio::test]
async fn of_100_redemptions_at_once_on_two_nodes_one_wins_s29() {
    let app = TestApp::start(&SETTINGS).await;
    let node = app.node(&SETTINGS).await;
    for (number, kind) in KINDS.into_iter().enumerate() {
        if [Kind::Verification, Kind::Consent].contains(&kind) {
            // Following them again changes nothing, and says so.
            continue;
        }
        let mailed = kind.mail(&app, &format!("p{number}")).await;
        let before = mailed.done(&app).await;
        let tries = (0..100).map(|number| mailed.redeem([&app, &node][number % 2]));
        let answers = join_all(tries).await;
        let won = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(won, 1, "{kind:?}");
        for lost in answers.iter().filter(|answer| answer.status != 200) {
            kind.assert_refused(lost);
        }
        assert_eq!(mailed.done(&app).await, before + 1, "{kind:?}");
        kind.assert_refused(&mailed.redeem(&node).await);
    }
}

/// S-29, S-21: the consent of the old address may be given again and again; that changes no address and bothers the
/// new one no more than anything else does.
#[tokio::test]
async fn of_100_consents_at_once_none_changes_the_address_s29() {
    let app = TestApp::start(&LIMITED).await;
    let node = app.node(&LIMITED).await;
    let mailed = Kind::Consent.mail(&app, "ada").await;
    let tries = (0..100).map(|number| mailed.redeem([&app, &node][number % 2]));
    for answer in join_all(tries).await {
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.session_cookie(), "");
    }
    assert_eq!(mailed.done(&app).await, 0);
    let mails = app.mails_of("verify_email", "new-ada@example.com").await;
    assert!((1..=3).contains(&mails), "{mails}");
}

/// S-32: good until the last millisecond, whether anything has cleaned up by then or not.
#[tokio::test]
async fn a_mailed_token_is_good_until_its_time_is_over_s32() {
    let app = TestApp::start(&SETTINGS).await;
    let node = app.node(&SETTINGS).await;
    for (number, kind) in KINDS.into_iter().enumerate() {
        let used = kind.mail(&app, &format!("used{number}")).await;
        let late = kind.mail(&app, &format!("late{number}")).await;
        assert_eq!(used.until, late.until, "{kind:?}");
        let left = used.until - app.clock.now();
        app.clock.advance(left - TimeDelta::milliseconds(1));
        let good = used.redeem(&node).await;
        assert_eq!(good.status, 200, "{kind:?}: {}", good.text);

        app.clock.advance(TimeDelta::milliseconds(1));
        let before = late.done(&app).await;
        for at in [&app, &node] {
            kind.assert_refused(&late.redeem(at).await);
        }
        assert_eq!(late.done(&app).await, before, "{kind:?}");
    }
}

/// No link outlives the account that it is about.
#[tokio::test]
async fn the_tokens_of_an_ended_account_are_refused() {
    let app = TestApp::start(&SETTINGS).await;
    let node = app.node(&SETTINGS).await;
    let bystander = app.signed_in("bystander").await;
    for (number, kind) in KINDS.into_iter().enumerate() {
        let name = format!("p{number}");
        let mut mailed = kind.mail(&app, &name).await;
        let email = if kind == Kind::WayBack {
            email_of(&format!("new-{name}"))
        } else {
            email_of(&name)
        };
        let end = Mailed {
            kind: Kind::Deletion,
            token: deletion_token(&app, &mailed.session, &email).await,
            session: mailed.session.clone(),
            until: mailed.until,
        };
        assert_eq!(end.redeem(&app).await.status, 200);
        let of_person = format!("tokens where user_id = '{}'", mailed.session.user_id);
        assert_eq!(app.count(&of_person).await, 0, "{kind:?}");
        let events = app.count("events").await;
        for at in [&app, &node] {
            kind.assert_refused(&mailed.redeem(at).await);
        }
        if kind == Kind::Deletion {
            mailed.session = bystander.clone();
            kind.assert_refused(&mailed.redeem(&app).await);
        }
        assert_eq!(app.count("events").await, events, "{kind:?}");
    }
    assert!(app.is_live(&bystander.cookie).await);
}
