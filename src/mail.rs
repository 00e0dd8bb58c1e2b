//! Mails to people: what they say and how they leave.
//!
//! A [`Mail`] is what waits in the effects queue: who gets which message, with which link. [`render`] puts it into words,
//! a [`Mailer`] hands it to an SMTP server or, in development, keeps it in memory. When to try again is the queue's
//! decision; [`MailError`] tells it whether trying again can help.

mod device;
mod mailbox;
mod render;
mod smtp;

use std::fmt;

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox as Correspondent, MultiPart};
use lettre::{Address, Message};
use serde::{Deserialize, Serialize};

pub use device::Device;
pub use mailbox::{Mailbox, StoredMail};
pub use render::{Rendered, STYLE, render};
pub use smtp::{SmtpMailer, SmtpSettings, SmtpSettingsError, SmtpTls};

/// One mail to one person. Its `Debug` shows the kind only, because the rest is personal or secret.
///
/// Serialised it waits in the queue, so what was added later may be missing there.
#[derive(Clone, Serialize, Deserialize)]
pub struct Mail {
    /// Which message it is.
    pub kind: MailKind,
    /// The address it goes to.
    pub to: String,
    /// What the greeting calls the person who owns that address; may be empty.
    pub name: String,
    /// The language it is written in.
    pub locale: Locale,
    /// The link it carries, if its kind has one.
    pub url: Option<String>,
    /// The address that the account is to get, or now has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_email: Option<String>,
    /// The link that ends all sessions, where it is not `url` itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_sessions_url: Option<String>,
    /// What somebody signed in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
    /// Into what somebody is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invited: Option<Invited>,
    /// The code to type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What was changed about how somebody's data is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<VaultChange>,
}

/// Into which organization somebody is asked, and by whom.
#[derive(Clone, Serialize, Deserialize)]
pub struct Invited {
    /// The organization's name.
    pub organization: String,
    /// The address of whoever asks.
    pub inviter: String,
}

/// What was changed about the key of a vault (S-76).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VaultChange {
    /// A recovery code opens it as well.
    RecoverySet,
    /// Another recovery code does.
    RecoveryReplaced,
    /// No recovery code does any more.
    RecoveryEnded,
    /// A recovery code of before does again.
    RecoveryRestored,
    /// Nothing but the recovery code does.
    ZeroKnowledgeOn,
    /// The service does again.
    ZeroKnowledgeOff,
}

impl Mail {
    /// A mail of this kind to a person, without a link or anything else that its kind may need: those are set by field.
    /// `locale` is the language tag that is stored with the person.
    pub fn to(kind: MailKind, email: &str, name: &str, locale: Option<&str>) -> Self {
        Self {
            kind,
            to: email.to_owned(),
            name: name.to_owned(),
            locale: Locale::from_tag(locale),
            url: None,
            new_email: None,
            end_sessions_url: None,
            device: None,
            invited: None,
            code: None,
            vault: None,
        }
    }
}

impl fmt::Debug for Mail {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Mail")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// The messages we send. What a kind needs beside a person, no mail of it leaves without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailKind {
    /// Asks the person to follow a link that proves the address is theirs.
    VerifyEmail,
    /// Tells the owner of an account that somebody tried to sign up with its address (S-24). Carries no link.
    AccountExists,
    /// Its link leads to where a new password is chosen.
    ResetPassword,
    /// Asks at the old address whether the account may get `new_email`: the link says yes, `end_sessions_url` is the way
    /// out for whoever did not ask.
    ChangeEmailConfirmation,
    /// Tells that the password was changed. Its link ends all sessions.
    PasswordChanged,
    /// Tells the old address that the account now has `new_email`. Its link takes that back; carries `end_sessions_url`.
    EmailChanged,
    /// Tells of a sign-in from a `device` that we had not seen. Its link ends all sessions.
    NewDevice,
    /// Its link deletes the account; carries `end_sessions_url`.
    DeleteAccount,
    /// Its link signs in.
    MagicLink,
    /// Holds the `code` that is the second factor of a sign-in.
    SignInCode,
    /// Asks somebody into an organization; its link leads to the invitation. Carries `invited`.
    Invitation,
    /// Tells that the account is gone. Carries no link.
    AccountDeleted,
    /// Tells after a sign-in that the password is on lists of breached ones (S-06). Carries no link.
    BreachedPassword,
    /// Tells that no second factor is asked for any more (S-53). Its link ends all sessions.
    TwoFactorDisabled,
    /// Tells that a passkey opens the account no more (S-53). Its link ends all sessions.
    PasskeyRemoved,
    /// Tells that something about the key that encrypts their data was changed: `vault` says what (S-76). Its link ends
    /// all sessions.
    VaultChanged,
}

impl MailKind {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::VerifyEmail,
        Self::AccountExists,
        Self::ResetPassword,
        Self::ChangeEmailConfirmation,
        Self::PasswordChanged,
        Self::EmailChanged,
        Self::NewDevice,
        Self::DeleteAccount,
        Self::MagicLink,
        Self::SignInCode,
        Self::Invitation,
        Self::AccountDeleted,
        Self::BreachedPassword,
        Self::TwoFactorDisabled,
        Self::PasskeyRemoved,
        Self::VaultChanged,
    ];

    /// The name used in stored rows, metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::AccountExists => "account_exists",
            Self::ResetPassword => "reset_password",
            Self::ChangeEmailConfirmation => "change_email_confirmation",
            Self::PasswordChanged => "password_changed",
            Self::EmailChanged => "email_changed",
            Self::NewDevice => "new_device",
            Self::DeleteAccount => "delete_account",
            Self::MagicLink => "magic_link",
            Self::SignInCode => "sign_in_code",
            Self::Invitation => "invitation",
            Self::AccountDeleted => "account_deleted",
            Self::BreachedPassword => "breached_password",
            Self::TwoFactorDisabled => "two_factor_disabled",
            Self::PasskeyRemoved => "passkey_removed",
            Self::VaultChanged => "vault_changed",
        }
    }
}

/// A language we write in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Locale {
    /// German, the default of the wire contract.
    #[default]
    De,
    /// English.
    En,
}

impl Locale {
    /// Chooses by a language tag or an `Accept-Language` header, of which the first entry counts.
    pub fn from_tag(tag: Option<&str>) -> Self {
        let english = tag
            .and_then(|tag| tag.trim_start().get(..2))
            .is_some_and(|language| language.eq_ignore_ascii_case("en"));
        if english { Self::En } else { Self::De }
    }

    /// The language tag, as in the `lang` attribute of HTML.
    pub fn tag(self) -> &'static str {
        match self {
            Self::De => "de",
            Self::En => "en",
        }
    }
}

/// Why a mail did not leave. The reasons name no person and no address, so they may be logged and stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// Trying again later can help.
    #[error("mail not sent, worth another try: {0}")]
    Temporary(String),
    /// This mail will never be accepted.
    #[error("mail cannot be sent: {0}")]
    Permanent(String),
}

/// Where mails go. Clones share their connection settings or their mailbox.
#[derive(Clone)]
pub enum Mailer {
    /// To a real SMTP server.
    Smtp(SmtpMailer),
    /// Into memory, for development and tests.
    Mailbox(Mailbox),
}

impl Mailer {
    /// Sends one mail from the address `from` (`Name <address>` or a bare address).
    ///
    /// `message_id` is the id of the event that caused the mail: a repeat has the same `Message-ID`, so that receivers can
    /// drop it.
    ///
    /// # Errors
    /// Says whether trying again can help. A mail that cannot be put together is refused for good in both places alike.
    pub async fn send(&self, message_id: &str, from: &str, mail: &Mail) -> Result<(), MailError> {
        let rendered = render(mail)?;
        let message = compose(message_id, from, &mail.to, &rendered)?;
        match self {
            Self::Smtp(smtp) => smtp.deliver(&message).await,
            Self::Mailbox(mailbox) => {
                mailbox.keep(message_id, mail, rendered);
                Ok(())
            }
        }
    }
}

/// Puts headers and both bodies together.
fn compose(
    message_id: &str,
    from: &str,
    to: &str,
    rendered: &Rendered,
) -> Result<Message, MailError> {
    // The id becomes part of a header and, in the mailbox, of a path.
    let plain_id = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if message_id.is_empty() || !message_id.chars().all(plain_id) {
        return Err(permanent("the message id is not plain"));
    }
    // A line break in a header value would start a header of somebody else's choice.
    if [from, to, &rendered.subject]
        .iter()
        .any(|value| value.contains(char::is_control))
    {
        return Err(permanent("a header value has a control character"));
    }
    let from: Correspondent = from
        .parse()
        .map_err(|_| permanent("the sender is no mail address"))?;
    let to: Address = to
        .parse()
        .map_err(|_| permanent("the recipient is no mail address"))?;

    let message_id = format!("<{message_id}@{}>", from.email.domain());
    Message::builder()
        .message_id(Some(message_id))
        .from(from)
        .to(Correspondent::new(None, to))
        .subject(&rendered.subject)
        // Keeps out-of-office replies away (RFC 3834).
        .raw_header(HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        ))
        .multipart(MultiPart::alternative_plain_html(
            rendered.text.clone(),
            rendered.html.clone(),
        ))
        .map_err(|_| permanent("the message could not be put together"))
}

fn permanent(reason: &str) -> MailError {
    MailError::Permanent(reason.to_owned())
}

fn temporary(reason: &str) -> MailError {
    MailError::Temporary(reason.to_owned())
}

#[cfg(test)]
impl Mail {
    /// A mail that has all that its kind needs, and `name` wherever people choose the words.
    pub(crate) fn sample(kind: MailKind, locale: Locale, name: &str) -> Self {
        let link = |path: &str| {
            Some(format!(
                "https://auth.mana.test/{path}?token=a.b.c&to=x%2Fy"
            ))
        };
        Self {
            url: link("follow"),
            new_email: Some(format!("new.ada@example.org {name}")),
            end_sessions_url: link("end-sessions"),
            invited: Some(Invited {
                organization: name.to_owned(),
                inviter: "bo@example.org".to_owned(),
            }),
            device: Some(Device {
                ip_address: "192.0.2.7".to_owned(),
                user_agent: name.to_owned(),
                at: chrono::DateTime::UNIX_EPOCH,
            }),
            code: Some("123456".to_owned()),
            vault: Some(VaultChange::RecoveryReplaced),
            ..Self::to(kind, "ada@example.org", name, Some(locale.tag()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(subject: &str) -> Rendered {
        Rendered {
            subject: subject.to_owned(),
            text: "text".to_owned(),
            html: "<p>html</p>".to_owned(),
            url: None,
        }
    }

    fn compose_for(from: &str, to: &str, subject: &str) -> Result<String, MailError> {
        compose("0190-event", from, to, &rendered(subject))
            .map(|message| String::from_utf8(message.formatted()).unwrap())
    }

    #[test]
    fn headers_are_those_of_an_automatic_mail_with_the_event_id() {
        let message = compose_for(
            "Mana <noreply@mana.test>",
            "ada@example.org",
            "Hallo — Mana",
        )
        .unwrap();
        let headers = message.split("\r\n\r\n").next().unwrap();
        assert!(headers.contains("Message-ID: <0190-event@mana.test>"));
        assert!(headers.contains("Auto-Submitted: auto-generated"));
        assert!(headers.contains("To: ada@example.org"));
        assert!(headers.contains("multipart/alternative"));
        assert!(message.contains("text/plain") && message.contains("text/html"));
    }

    /// S-43.
    #[test]
    fn line_breaks_in_headers_are_refused() {
        let control = Err(permanent("a header value has a control character"));
        let bcc = "\r\nBcc: eve@example.org";
        let address = "ada@example.org";
        assert_eq!(
            compose_for(address, &format!("{address}{bcc}"), "Hi"),
            control
        );
        assert_eq!(
            compose_for(address, "\"a\r\nb\"@example.org", "Hi"),
            control
        );
        assert_eq!(
            compose_for(&format!("{address}{bcc}"), address, "Hi"),
            control
        );
        assert_eq!(compose_for(address, address, &format!("Hi{bcc}")), control);
        assert_eq!(compose_for(address, address, "Hi\nthere"), control);
    }

    #[test]
    fn several_recipients_in_one_address_are_refused() {
        let refused = compose_for("a@mana.test", "ada@example.org, eve@example.org", "Hi");
        assert_eq!(refused, Err(permanent("the recipient is no mail address")));
    }

    #[test]
    fn message_id_may_not_leave_its_place() {
        for id in ["", "a>b", "a b", "a\r\nb", "../x"] {
            let refused = compose(id, "a@mana.test", "b@mana.test", &rendered("Hi"));
            assert!(refused.is_err(), "{id:?}");
        }
    }

    #[test]
    fn language_is_german_unless_english_is_asked_for() {
        for tag in ["en", "en-US", "EN_gb", " en;q=0.9, de"] {
            assert_eq!(Locale::from_tag(Some(tag)), Locale::En, "{tag}");
        }
        for tag in ["", "e", "de", "de-CH, en", "fr", "é", "*"] {
            assert_eq!(Locale::from_tag(Some(tag)), Locale::De, "{tag}");
        }
        assert_eq!(Locale::from_tag(None), Locale::De);
    }

    /// S-37.
    #[test]
    fn debug_of_a_mail_shows_the_kind_only() {
        let mail = Mail::sample(MailKind::NewDevice, Locale::De, "Ada");
        assert_eq!(format!("{mail:?}"), "Mail { kind: NewDevice, .. }");
        assert_eq!(format!("{:?}", mail.device.unwrap()), "Device { .. }");
    }

    #[test]
    fn stored_name_of_a_kind_is_its_json_name() {
        for (number, kind) in MailKind::ALL.into_iter().enumerate() {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
            assert_eq!(kind as usize, number, "each is listed once");
        }
    }

    /// What older versions left in the queue is still sent.
    #[test]
    fn mail_that_was_queued_before_the_newer_fields_is_still_read() {
        let stored = r#"{"kind":"verify_email","to":"ada@example.org","name":"Ada","locale":"en","url":"https://mana.test/"}"#;
        let mail: Mail = serde_json::from_str(stored).unwrap();
        assert_eq!(
            render(&mail).unwrap().url.as_deref(),
            Some("https://mana.test/")
        );
        assert_eq!(serde_json::to_string(&mail).unwrap(), stored);
    }

    #[test]
    fn mail_of_every_kind_survives_the_queue() {
        for kind in MailKind::ALL {
            let mail = Mail::sample(kind, Locale::En, "Ada");
            let stored = serde_json::to_string(&mail).unwrap();
            let read: Mail = serde_json::from_str(&stored).unwrap();
            assert_eq!(render(&read).unwrap().html, render(&mail).unwrap().html);
        }
    }
}
