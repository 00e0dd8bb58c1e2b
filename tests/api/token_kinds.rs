//! Every kind of token at every place that takes one (S-28): what it was made for works, everything else is refused in
//! the door's own words, changes nothing, and leaves the token as good as it was.
//!
//! A new kind is a line in `kinds`, a new place a line in `consumers`.

#![cfg(test)]

mod consumers;
mod kinds;

use std::collections::{BTreeMap, BTreeSet};

use mana_auth::crypto::tokens::TokenKind;
use mana_auth::http::doors::{Checks, areas};

use crate::client::{Answer, Session, UNVERIFIED, answer};
use crate::harness::TestApp;
use crate::stage::Stage;
use consumers::{CONSUMERS, Consumer};
use kinds::{Held, KINDS};

/// Accounts are deleted by a mailed link, and a device may have several sessions.
const SETTINGS: [(&str, &str); 4] = [
    UNVERIFIED,
    ("MANA_AUTH_DELETE_USER_CONFIRM", "true"),
    ("MANA_AUTH_MULTI_SESSION", "true"),
    ("MANA_AUTH_ADMIN_EMAILS", "root@example.com"),
];

/// A service, a provider that people sign in by, and an admin.
pub struct World {
    stage: Stage,
    root: Session,
}

impl World {
    async fn new() -> World {
        let stage = Stage::set(&SETTINGS).await;
        let root = stage.app.signed_in("root").await;
        World { stage, root }
    }

    fn app(&self) -> &TestApp {
        &self.stage.app
    }

    /// What a cookie of ours holds.
    fn value_of(&self, cookie: &str) -> String {
        let (_, signed) = cookie.split_once('=').unwrap();
        self.app().app.cookies.verify(signed).unwrap()
    }

    /// Everything but the books of the doors: that somebody tried is what they are for.
    async fn state(&self) -> BTreeMap<String, String> {
        self.app().effects_done().await;
        let mut state = self.app().state().await;
        let books = ["public.attempts", "public.door_events"];
        state.retain(|table, _| !books.contains(&table.as_str()));
        state
    }
}

impl Consumer {
    async fn shown(&self, world: &World, held: &Held) -> Answer {
        answer((self.send)(world, held).header("accept-language", "en")).await
    }

    /// What follows from a token of a kind, if the kind is good here.
    fn event(&self, kind: &str) -> Option<&'static str> {
        let mut takes = self.takes.iter();
        takes
            .find(|(taken, _)| *taken == kind)
            .map(|(_, event)| *event)
    }

    fn is_refusal(&self, answer: &Answer) -> bool {
        let said = format!("{} {}", answer.text, answer.header("location"));
        let says = |text: &str| match text {
            // Fields of a session are null as well.
            "null" => answer.text == text,
            _ => said.contains(text),
        };
        let mut refused = self.refused.iter();
        refused.any(|(status, text)| answer.status == *status && says(text))
    }

    async fn refuses(&self, world: &World, held: &Held, kind: &str) {
        let refused = self.shown(world, held).await;
        let (name, told) = (self.name, format!("{} {}", refused.status, refused.text));
        assert!(self.is_refusal(&refused), "{kind} at {name}: {told}");
        assert_eq!(refused.session_cookie(), "", "{kind} at {name}");
    }

    async fn takes(&self, world: &World, held: &Held, kind: &str, event: &str) {
        let app = world.app();
        let these = match event {
            "" => "events".to_owned(),
            event => format!("events where event_type = '{event}'"),
        };
        let before = app.count(&these).await;
        let taken = self.shown(world, held).await;
        let told = format!(
            "{} {} {}",
            taken.status,
            taken.text,
            taken.header("location")
        );
        let what = format!("{kind} at {}: {told}", self.name);
        assert!(
            [200, 302].contains(&taken.status) && !told.contains("error="),
            "{what}"
        );
        let done = app.count(&these).await - before;
        // Where nothing follows, the answer says that it was good.
        assert_eq!(done, i64::from(!event.is_empty()), "{what}");
        assert!(done == 1 || !self.is_refusal(&taken), "{what}");
    }
}

/// Sends a token of a kind to every place, and then uses it; for each place where it is good somebody has a new one.
async fn at_every_place(world: &World, (kind, hold): &kinds::Kind) {
    let name =
        |number: usize| format!("{}-{number}", kind.to_lowercase().replace([' ', '\''], "-"));
    let held = hold(world, &name(0)).await;
    let others = || CONSUMERS.iter().filter(|place| place.event(kind).is_none());
    let before = world.state().await;
    for place in others().filter(|place| !place.writes) {
        let events = world.app().count("events").await;
        place.refuses(world, &held, kind).await;
        let now = world.app().count("events").await;
        assert_eq!(now, events, "{kind} at {}", place.name);
    }
    assert_eq!(world.state().await, before, "{kind}");
    for place in others().filter(|place| place.writes) {
        place.refuses(world, &held, kind).await;
    }
    let mut held = Some(held);
    for (number, place) in CONSUMERS.iter().enumerate() {
        if let Some(event) = place.event(kind) {
            let held = match held.take() {
                Some(held) => held,
                None => hold(world, &name(number + 1)).await,
            };
            place.takes(world, &held, kind, event).await;
        }
    }
}

#[tokio::test]
async fn no_token_is_taken_for_one_of_another_kind_s28() {
    let world = World::new().await;
    for kind in KINDS {
        at_every_place(&world, kind).await;
    }
}

/// The rows name no kind that there is none of, and all but a few kinds are good somewhere.
#[test]
fn every_kind_is_a_column_and_every_door_that_checks_one_a_row_s28() {
    let columns: BTreeSet<&str> = KINDS.iter().map(|(name, _)| *name).collect();
    let taken: BTreeSet<&str> = CONSUMERS
        .iter()
        .flat_map(|place| place.takes.iter().map(|(kind, _)| *kind))
        .collect();
    let nowhere: Vec<_> = columns.difference(&taken).collect();
    // These are no secrets, or prove nothing by themselves.
    let wanted = [
        "challenge of a passkey",
        "id of a signing key",
        "id of an API key",
    ];
    assert_eq!(nowhere, wanted.iter().collect::<Vec<_>>());
    assert!(taken.is_subset(&columns));
    for kind in STORED {
        assert!(columns.contains(column(kind)), "{kind:?}");
    }

    for (prefix, doors) in areas() {
        let checking = doors
            .iter()
            .filter(|door| !matches!(door.checks, Checks::Nothing | Checks::Password));
        for door in checking {
            let name = format!("{} {prefix}{}", door.method, door.path);
            assert!(CONSUMERS.iter().any(|place| place.name == name), "{name}");
        }
    }
}

/// Every kind that is stored.
const STORED: [TokenKind; 13] = [
    TokenKind::Session,
    TokenKind::PasswordReset,
    TokenKind::MagicLink,
    TokenKind::Challenge,
    TokenKind::MailedCode,
    TokenKind::TrustedDevice,
    TokenKind::PasskeyRegistration,
    TokenKind::PasskeySignIn,
    TokenKind::ApiKey,
    TokenKind::DeleteAccount,
    TokenKind::RevertEmail,
    TokenKind::EndSessions,
    TokenKind::SocialState,
];

/// The column of a stored kind: whoever adds one has to say which it is.
fn column(kind: TokenKind) -> &'static str {
    match kind {
        TokenKind::Session => "session token",
        TokenKind::PasswordReset => "reset",
        TokenKind::MagicLink => "magic link",
        TokenKind::Challenge => "challenge",
        TokenKind::MailedCode => "mailed code",
        TokenKind::TrustedDevice => "trusted device",
        TokenKind::PasskeyRegistration => "new passkey",
        TokenKind::PasskeySignIn => "passkey sign-in",
        TokenKind::ApiKey => "API key",
        TokenKind::DeleteAccount => "deletion",
        TokenKind::RevertEmail => "old address",
        TokenKind::EndSessions => "end of sessions",
        TokenKind::SocialState => "state",
    }
}
