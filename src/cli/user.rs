//! `user`: accounts, with the same commands and events as the API.

use std::io::BufRead as _;
use std::process::ExitCode;

use aggregates::session::EndReason;
use aggregates::user::{User, UserCommand};
use aggregates::{EmailAddress, Roles, Tier};
use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use projections::sessions::SessionRow;
use projections::users::UserRow;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::output;
use super::tools::Tools;
use crate::accounts::{self, NewAccount, Verification};
use crate::app::App;
use crate::config::Config;
use crate::crypto::password::{Password, rules};
use crate::guard;
use crate::http::limits;
use crate::store::{Actor, Context, RunError, StoreError};

/// Commands about accounts.
#[derive(Subcommand)]
#[command(after_help = "\
WHO is a mail address or the id of an account.

Examples:
  echo \"$PASSWORD\" | mana-auth user create ada@example.com --name Ada --password-stdin --verified
  mana-auth user set-role ada@example.com admin
  mana-auth user revoke-sessions ada@example.com")]
pub enum Command {
    /// Make an account; no mail is sent
    Create(Create),
    /// Mark the account's address as proven
    VerifyEmail(Who),
    /// Give an account another role
    SetRole {
        #[command(flatten)]
        who: Who,
        /// The new role: user, admin, auditor or service
        #[arg(value_parser = role)]
        role: Roles,
        /// Also if nobody would be an admin any more
        #[arg(long)]
        force: bool,
    },
    /// Give an account another tier
    SetTier {
        #[command(flatten)]
        who: Who,
        /// The new tier: guest, public, beta, alpha or founder
        #[arg(value_parser = tier)]
        tier: Tier,
    },
    /// Let somebody try again who was locked out by wrong passwords or rate limits
    #[command(long_about = "\
Let somebody try again who was locked out by wrong passwords or rate limits.

Wrong passwords are counted by account, and those of this account are forgotten. Requests are counted by client
address, so their counters are forgotten for everybody; they fill again with the next requests.")]
    Unlock(Who),
    /// List an account's sessions, newest first
    Sessions {
        #[command(flatten)]
        who: Who,
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// End all sessions of an account; tokens that are out already live for 15 minutes at most
    RevokeSessions(Who),
}

/// An account.
#[derive(Args)]
pub struct Who {
    /// Mail address or id of the account
    #[arg(value_name = "WHO")]
    who: String,
}

/// Arguments of `user create`.
#[derive(Args)]
pub struct Create {
    /// Mail address of the account
    #[arg(value_name = "EMAIL")]
    email: String,
    /// Name of the person
    #[arg(long, default_value = "")]
    name: String,
    /// Read the password from the first line of standard input, where no list of processes shows it
    #[arg(long, required = true)]
    password_stdin: bool,
    /// Mark the address as proven
    #[arg(long)]
    verified: bool,
}

fn role(text: &str) -> Result<Roles, String> {
    let known = Roles::KNOWN.contains(&text);
    known
        .then(|| Roles::parse(text))
        .flatten()
        .ok_or_else(|| one_of(Roles::KNOWN.iter().copied()))
}

fn tier(text: &str) -> Result<Tier, String> {
    Tier::parse(text).ok_or_else(|| one_of(Tier::ALL.iter().map(|tier| tier.as_str())))
}

fn one_of(values: impl Iterator<Item = &'static str>) -> String {
    format!("expected one of: {}", values.collect::<Vec<_>>().join(", "))
}

/// Does it.
///
/// # Errors
/// When the command is refused or the database fails.
pub async fn run(command: Command, config: Config) -> anyhow::Result<ExitCode> {
    let tools = Tools::open(config).await?;
    let outcome = carry_out(command, &tools.app).await;
    tools.close().await?;
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn carry_out(command: Command, app: &App) -> anyhow::Result<()> {
    match command {
        Command::Create(create) => register(app, create).await,
        Command::VerifyEmail(who) => {
            let user = find(app, &who).await?;
            verify_email(app, &user).await?;
            said(&user, "has a proven address")
        }
        Command::SetRole { who, role, force } => {
            let user = find(app, &who).await?;
            let text = role.as_str().to_owned();
            change_role(app, &user, role, force).await?;
            said(&user, &format!("has the role {text}"))
        }
        Command::SetTier { who, tier } => {
            let user = find(app, &who).await?;
            let at = app.clock.now();
            change(app, &user, UserCommand::ChangeTier { tier, at }).await?;
            said(&user, &format!("has the tier {}", tier.as_str()))
        }
        Command::Unlock(who) => {
            let user = find(app, &who).await?;
            guard::clear(app, &user).await?;
            let counters = limits::clear(&app.pool).await?;
            said(
                &user,
                &format!("may try again; {counters} counters forgotten"),
            )
        }
        Command::Sessions { who, json } => {
            let user = find(app, &who).await?;
            list_sessions(&live_sessions(app, &user).await?, json)
        }
        Command::RevokeSessions(who) => {
            let user = find(app, &who).await?;
            let ended = revoke_sessions(app, &user).await?;
            said(&user, &format!("is signed out; {ended} sessions ended"))
        }
    }
}

async fn register(app: &App, create: Create) -> anyhow::Result<()> {
    let email = EmailAddress::parse(&create.email)?;
    let password = read_password(app, &email, &create.name)?;
    let account = NewAccount {
        email,
        name: create.name,
        password: Some(password),
        email_verified: false,
        image: None,
        locale: None,
        link: None,
    };
    let context = Context::of(Actor::Operator);
    let user = accounts::register(app, account, context, Verification::NONE).await?;
    if create.verified {
        verify_email(app, &user).await?;
    }
    Ok(output::line(&user.id)?)
}

/// The first line of standard input, by the rules of sign-up.
fn read_password(app: &App, email: &EmailAddress, name: &str) -> anyhow::Result<Password> {
    let mut line = Zeroizing::new(String::new());
    let read = std::io::stdin().lock().read_line(&mut line);
    read.context("reading the password from standard input")?;
    let typed = line.trim_end_matches(['\r', '\n']).to_owned();
    let filter = app.breached.as_ref();
    Ok(rules::take_new(typed, email.as_str(), name, filter)?)
}

async fn find(app: &App, Who { who }: &Who) -> anyhow::Result<UserRow> {
    let user = look_up(app, who).await?;
    user.with_context(|| format!("there is no account {who}"))
}

/// An account by mail address or id, if there is one.
///
/// # Errors
/// If the address cannot be one, or the database does not answer.
pub async fn look_up(app: &App, who: &str) -> anyhow::Result<Option<UserRow>> {
    Ok(if who.contains('@') {
        accounts::find_by_email(app, &EmailAddress::parse(who)?).await?
    } else {
        projections::users::find(&app.pool, who).await?
    })
}

async fn verify_email(app: &App, user: &UserRow) -> anyhow::Result<()> {
    let email = EmailAddress::parse(&user.email)?;
    let at = app.clock.now();
    change(app, user, UserCommand::VerifyEmail { email, at }).await?;
    let proven = UserRow {
        email_verified: true,
        ..user.clone()
    };
    accounts::with_configured_role(app, proven).await?;
    Ok(())
}

/// S-65: somebody has to be an admin, unless whoever runs the service wants it otherwise.
async fn change_role(app: &App, user: &UserRow, role: Roles, force: bool) -> anyhow::Result<()> {
    let mut context = Context::of(Actor::Operator);
    if !force && !role.contains(Roles::admin().as_str()) {
        context = context.unless_last_admin(&user.id);
    }
    let at = app.clock.now();
    let command = UserCommand::ChangeRole { role, at };
    match app.store.run::<User>(&user.id, command, context).await {
        Err(RunError::Store(StoreError::LastAdmin)) => {
            bail!("nobody else is an admin; --force takes the role away all the same")
        }
        changed => {
            changed?;
            Ok(())
        }
    }
}

async fn change(app: &App, user: &UserRow, command: UserCommand) -> anyhow::Result<()> {
    let context = Context::of(Actor::Operator);
    app.store.run::<User>(&user.id, command, context).await?;
    Ok(())
}

async fn live_sessions(app: &App, user: &UserRow) -> anyhow::Result<Vec<SessionRow>> {
    Ok(projections::sessions::of_user(&app.pool, &user.id, app.clock.now()).await?)
}

fn list_sessions(sessions: &[SessionRow], json: bool) -> anyhow::Result<()> {
    if json {
        // Without the hash of the token: nobody needs it.
        let list: Vec<Value> = sessions
            .iter()
            .map(|s| {
                json!({"id": s.id, "remembered": s.remembered, "ip_address": s.ip_address, "user_agent": s.user_agent,
                       "created_at": s.created_at, "updated_at": s.updated_at, "expires_at": s.expires_at})
            })
            .collect();
        return output::json(&list);
    }
    if sessions.is_empty() {
        output::line("No sessions.")?;
    }
    for session in sessions {
        output::line(format!(
            "{}  since {}  until {}  {}  {}",
            session.id,
            session.created_at.format("%F %T UTC"),
            session.expires_at.format("%F %T UTC"),
            session.ip_address,
            // A client may send anything: control characters would reach the terminal.
            session.user_agent.escape_debug()
        ))?;
    }
    Ok(())
}

async fn revoke_sessions(app: &App, user: &UserRow) -> anyhow::Result<usize> {
    let sessions = live_sessions(app, user).await?;
    for session in &sessions {
        let context = Context::of(Actor::Operator);
        accounts::end_session(app, &session.id, EndReason::Revoked, context).await?;
    }
    Ok(sessions.len())
}

fn said(user: &UserRow, what: &str) -> anyhow::Result<()> {
    Ok(output::line(format!("User {} {what}.", user.id))?)
}
