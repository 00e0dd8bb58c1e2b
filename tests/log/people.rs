//! People and their sessions, as commands make them.

use aggregates::session::{
    EndReason, FactorTimes, Session, SessionCommand, SessionError, SignInMethod,
};
use aggregates::user::{User, UserCommand, UserError};
use aggregates::{EmailAddress, Roles, SessionId, Tier, UserId};
use chrono::TimeDelta;
use mana_auth::app::App;
use mana_auth::crypto::tokens::{TokenHash, TokenKind, random_token};
use mana_auth::ids;
use mana_auth::store::{Actor, Client, Context, Done, RunError};

/// What came of a command on a user.
pub type UserOutcome = Result<Done<User>, RunError<UserError>>;
/// What came of a command on a session.
pub type SessionOutcome = Result<Done<Session>, RunError<SessionError>>;

/// Somebody who may sign up.
#[derive(Clone)]
pub struct Person {
    /// Id of the account, should there be one.
    pub id: UserId,
    /// Address in canonical form.
    pub email: String,
    /// Name.
    pub name: String,
}

/// A session and the token that its client holds.
pub struct SignedIn {
    /// Id of the session.
    pub id: SessionId,
    /// The clear token.
    pub token: String,
}

/// Somebody new with the address `NAME@people.example`.
pub fn person(name: &str) -> Person {
    Person {
        id: ids::user(),
        email: format!("{}@people.example", name.to_lowercase()),
        name: name.to_owned(),
    }
}

impl Person {
    /// The command that makes the account.
    pub fn register(&self, app: &App) -> UserCommand {
        UserCommand::Register {
            id: self.id.clone(),
            email: EmailAddress::parse(&self.email).unwrap(),
            name: self.name.clone(),
            image: None,
            locale: None,
            role: Roles::user(),
            password: true,
            email_verified: false,
            link: None,
            at: app.clock.now(),
        }
    }

    /// What goes with it: the first data key.
    pub fn with_key(&self, app: &App) -> Context {
        let key = app.store.custody().new_data_key(self.id.as_str());
        Context::of(Actor::Anonymous).with_new_data_key(self.id.as_str(), key)
    }

    /// Makes the account.
    pub async fn sign_up(&self, app: &App) -> UserOutcome {
        self.sign_up_with(app, self.with_key(app)).await
    }

    /// Makes the account, with all that is in the context.
    pub async fn sign_up_with(&self, app: &App, context: Context) -> UserOutcome {
        run(app, &self.id, self.register(app), context).await
    }

    /// Gives another tier.
    pub async fn change_tier(&self, app: &App, tier: Tier) -> UserOutcome {
        let at = app.clock.now();
        let command = UserCommand::ChangeTier { tier, at };
        run(app, &self.id, command, Context::of(Actor::Operator)).await
    }

    /// Gives another role.
    pub async fn change_role(&self, app: &App, role: Roles) -> UserOutcome {
        let at = app.clock.now();
        let command = UserCommand::ChangeRole { role, at };
        run(app, &self.id, command, Context::of(Actor::Operator)).await
    }

    /// Gives another name.
    pub async fn rename(&self, app: &App, name: &str) -> UserOutcome {
        self.rename_with(app, name, Context::of(Actor::User(self.id.to_string())))
            .await
    }

    /// Gives another name, with all that is in the context.
    pub async fn rename_with(&self, app: &App, name: &str, context: Context) -> UserOutcome {
        let command = UserCommand::ChangeProfile {
            name: Some(name.to_owned()),
            image: None,
            locale: None,
            at: app.clock.now(),
        };
        run(app, &self.id, command, context).await
    }

    /// Starts a session from the client `client`.
    pub async fn sign_in(&self, app: &App, client: Client) -> SignedIn {
        let (id, token) = (ids::session(), random_token(32));
        let command = SessionCommand::Start {
            user_id: self.id.clone(),
            token_hash: TokenHash::of(TokenKind::Session, &token).to_hex(),
            method: SignInMethod::Password,
            second_factor: false,
            impersonated_by: None,
            reason: None,
            carried: FactorTimes::default(),
            remembered: true,
            ip_address: client.ip_address.clone(),
            user_agent: client.user_agent.clone(),
            expires_at: app.clock.now() + TimeDelta::days(7),
            at: app.clock.now(),
        };
        let context = Context::of(Actor::User(self.id.to_string())).from(self.id.as_str(), client);
        let outcome = app
            .store
            .run::<Session>(id.as_str(), command, context)
            .await;
        outcome.unwrap();
        SignedIn { id, token }
    }
}

impl SignedIn {
    /// Ends the session.
    pub async fn end(&self, app: &App) -> SessionOutcome {
        let command = SessionCommand::End {
            reason: EndReason::SignedOut,
            at: app.clock.now(),
        };
        let context = Context::of(Actor::System);
        app.store
            .run::<Session>(self.id.as_str(), command, context)
            .await
    }

    /// Whether the token is good on this node.
    pub async fn is_live(&self, app: &App) -> bool {
        let found = app.sessions.find(&self.token, app.clock.now()).await;
        found.unwrap().is_some()
    }
}

async fn run(app: &App, id: &UserId, command: UserCommand, context: Context) -> UserOutcome {
    app.store.run::<User>(id.as_str(), command, context).await
}
