//! Pages behind the links in security mails. Programs that scan mails follow every link: so the link shows a page, and
//! only its button does anything (S-45).
//!
//! | method | path | |
//! |---|---|---|
//! | GET, POST | `/end-sessions` | end all sessions of the account |
//! | GET, POST | `/revert-email` | give the account its former address back |

use askama::Template;
use axum::http::{Method, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};

use super::doors::{Checks, Door};
use super::error::Problem;
use super::limits;
use super::request::{BodyTypes, Fields, read_body};
use super::web::Call;
use crate::accounts::AccountError;
use crate::crypto::tokens::TokenKind;
use crate::mail::Locale;
use crate::self_service;
use crate::store::forget_written;

const STYLE: &str = include_str!("link_page.css");

/// The doors.
pub fn doors() -> Vec<Door> {
    // Its page looks nothing up.
    let page_door = |path, handler| Door::open(Method::GET, path, handler).limited(limits::TOKEN);
    let button_door = |path, handler| {
        Door::open(Method::POST, path, handler)
            .limited(limits::TOKEN)
            .checking(Checks::MailedToken)
    };
    vec![
        page_door(
            "/end-sessions",
            get(async |call| ask(call, Action::EndSessions)),
        ),
        button_door(
            "/end-sessions",
            post(async |call| act(call, Action::EndSessions).await),
        ),
        page_door(
            "/revert-email",
            get(async |call| ask(call, Action::RevertEmail)),
        ),
        button_door(
            "/revert-email",
            post(async |call| act(call, Action::RevertEmail).await),
        ),
    ]
}

/// What a link is good for.
#[derive(Clone, Copy, PartialEq)]
enum Action {
    EndSessions,
    RevertEmail,
}

/// What a page says.
struct Words {
    title: &'static str,
    text: &'static str,
    button: Option<&'static str>,
}

impl Action {
    fn kind(self) -> TokenKind {
        match self {
            Self::EndSessions => TokenKind::EndSessions,
            Self::RevertEmail => TokenKind::RevertEmail,
        }
    }

    fn question(self, locale: Locale) -> Words {
        let (title, text, button) = match (self, locale) {
            (Self::EndSessions, Locale::De) => (
                "Überall abmelden",
                "Alle Geräte werden abgemeldet, auch dieses. Danach kannst du ein neues Passwort wählen.",
                "Überall abmelden",
            ),
            (Self::EndSessions, Locale::En) => (
                "Sign out everywhere",
                "All devices are signed out, this one included. Afterwards you can choose a new password.",
                "Sign out everywhere",
            ),
            (Self::RevertEmail, Locale::De) => (
                "Änderung zurücknehmen",
                "Dein Konto bekommt seine frühere E-Mail-Adresse zurück, und alle Geräte werden abgemeldet.",
                "Frühere Adresse wiederherstellen",
            ),
            (Self::RevertEmail, Locale::En) => (
                "Undo the change",
                "Your account gets its former email address back, and all devices are signed out.",
                "Restore the former address",
            ),
        };
        Words {
            title,
            text,
            button: Some(button),
        }
    }

    fn done(self, locale: Locale) -> Words {
        let (title, text) = match (self, locale) {
            (Self::EndSessions, Locale::De) => ("Erledigt", "Alle Geräte sind abgemeldet."),
            (Self::EndSessions, Locale::En) => ("Done", "All devices are signed out."),
            (Self::RevertEmail, Locale::De) => (
                "Erledigt",
                "Dein Konto hat wieder seine frühere E-Mail-Adresse. Wähle jetzt ein neues Passwort.",
            ),
            (Self::RevertEmail, Locale::En) => (
                "Done",
                "Your account has its former email address again. Choose a new password now.",
            ),
        };
        Words {
            title,
            text,
            button: None,
        }
    }
}

fn no_longer_good(locale: Locale) -> Words {
    let (title, text) = match locale {
        Locale::De => (
            "Link ungültig",
            "Dieser Link wurde schon benutzt oder ist abgelaufen.",
        ),
        Locale::En => (
            "Invalid link",
            "This link was used already, or its time is over.",
        ),
    };
    Words {
        title,
        text,
        button: None,
    }
}

/// Shows the button; looks nothing up, so that it says nothing of the token.
fn ask(call: Call, action: Action) -> Result<Response, Problem> {
    let mut fields = Fields::of_query(call.query.as_deref());
    let token = fields.text("token");
    fields.done()?;
    let locale = locale(&call);
    Ok(page(
        StatusCode::OK,
        locale,
        action.question(locale),
        &token,
    ))
}

async fn act(call: Call, action: Action) -> Result<Response, Problem> {
    let body = read_body(&call.headers, &call.bytes, BodyTypes::JsonOrForm)?;
    let mut fields = Fields::of_body(body, true, false);
    let token = fields.text("token");
    fields.done()?;
    let locale = locale(&call);
    let app = call.app();
    let done = async {
        let found = self_service::find_token(app, action.kind(), &token, &call.caller).await?;
        match action {
            Action::EndSessions => {
                self_service::end_sessions_by_link(app, &found, &call.caller).await
            }
            Action::RevertEmail => self_service::revert_email(app, &found, &call.caller).await,
        }
    };
    let (status, words) = match done.await {
        Ok(()) => (StatusCode::OK, action.done(locale)),
        Err(AccountError::InvalidToken | AccountError::NoAccount) => {
            (StatusCode::BAD_REQUEST, no_longer_good(locale))
        }
        Err(error) => return Err(error.into()),
    };
    forget_written();
    Ok(page(status, locale, words, ""))
}

fn locale(call: &Call) -> Locale {
    let wanted = call.headers.get(header::ACCEPT_LANGUAGE);
    Locale::from_tag(wanted.and_then(|value| value.to_str().ok()))
}

/// A page whose button goes on to `url` with these fields as its query. It looks nothing up, and neither who follows its
/// links nor who runs its scripts goes on from it: it has none (S-45).
pub fn going_on(call: &Call, url: &str, fields: &[(&str, &str)]) -> Response {
    let locale = locale(call);
    let (title, button) = match locale {
        Locale::De => ("Anmelden", "Weiter"),
        Locale::En => ("Sign in", "Continue"),
    };
    let page = GoingOn {
        locale,
        title,
        url,
        fields,
        button,
    };
    // The policy holds for the redirects that follow as well, and those may lead to an app elsewhere.
    html(StatusCode::OK, &page, "*")
}

#[derive(Template)]
#[template(path = "http/going_on.html", config = "src/askama.toml")]
struct GoingOn<'a> {
    locale: Locale,
    title: &'a str,
    url: &'a str,
    fields: &'a [(&'a str, &'a str)],
    button: &'a str,
}

#[derive(Template)]
#[template(path = "http/link_page.html", config = "src/askama.toml")]
struct Page<'a> {
    locale: Locale,
    title: &'a str,
    text: &'a str,
    button: Option<&'a str>,
    token: &'a str,
}

fn page(status: StatusCode, locale: Locale, words: Words, token: &str) -> Response {
    let page = Page {
        locale,
        title: words.title,
        text: words.text,
        button: words.button,
        token,
    };
    html(status, &page, "'self'")
}

/// A page that loads nothing and runs nothing; `forms` says where its forms may lead.
fn html(status: StatusCode, page: &impl Template, forms: &str) -> Response {
    let html = page
        .render()
        .expect("the template only writes strings, which cannot fail");
    let style = allowed(STYLE);
    let policy = format!(
        "default-src 'none'; style-src {style}; form-action {forms}; base-uri 'none'; frame-ancestors 'none'"
    );
    let headers = [(header::CONTENT_SECURITY_POLICY, policy)];
    (status, headers, Html(html)).into_response()
}

/// An inline text, as a policy names it.
fn allowed(text: &str) -> String {
    format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)))
}
