//! Puts a [`Mail`] into words: a subject, a text part and an HTML part.
//!
//! The words are those of the text part; the HTML part is made of its paragraphs, so both say the same. The template of the
//! HTML part escapes every value by itself (S-43). The links are the one exception: they are checked instead.

use askama::Template;

use super::{Device, Invited, Locale, Mail, MailError, MailKind, VaultChange, permanent};

/// The content of the one `<style>` element in the HTML parts, so that a page that shows them can allow just this.
pub const STYLE: &str = include_str!("style.css");

/// Characters of a name that the greeting keeps: enough for a name, too few to make our mails carry advertisements.
const NAME_CHARS: usize = 80;
/// Characters of a mail address: as many as one may have.
const ADDRESS_CHARS: usize = 254;

/// A mail in words. It has no `Debug`, because the text names a person and holds the link.
#[derive(Clone)]
pub struct Rendered {
    /// The subject line.
    pub subject: String,
    /// The plain text part.
    pub text: String,
    /// The HTML part: a whole document that loads nothing from elsewhere.
    pub html: String,
    /// The main link that both parts hold.
    pub url: Option<String>,
}

/// Puts `mail` into words.
///
/// # Errors
/// A mail that lacks what its kind needs, or whose link is not a plain web address, is refused for good.
pub fn render(mail: &Mail) -> Result<Rendered, MailError> {
    let Mail { kind, locale, .. } = *mail;
    let (url, end_sessions_url) = links(mail)?;
    let incomplete = match kind {
        MailKind::ChangeEmailConfirmation | MailKind::EmailChanged => mail.new_email.is_none(),
        MailKind::NewDevice => mail.device.is_none(),
        MailKind::SignInCode => mail.code.is_none(),
        MailKind::Invitation => mail.invited.is_none(),
        MailKind::VaultChanged => mail.vault.is_none(),
        _ => false,
    };
    if incomplete {
        return Err(permanent("the mail lacks what it is about"));
    }
    let (subject, button) = subject_and_button(kind, locale);
    let invited = |of: fn(&Invited) -> &String| mail.invited.as_ref().map_or("", |i| of(i));
    let text = Text {
        kind,
        locale,
        name: one_line(&mail.name, NAME_CHARS),
        url,
        end_sessions_url,
        new_email: one_line(mail.new_email.as_deref().unwrap_or_default(), ADDRESS_CHARS),
        device: mail.device.as_ref(),
        code: mail.code.as_deref().unwrap_or_default(),
        organization: one_line(invited(|invited| &invited.organization), NAME_CHARS),
        inviter: one_line(invited(|invited| &invited.inviter), ADDRESS_CHARS),
        vault: mail.vault,
    };
    let text = words(&text);
    let html = words(&Html {
        locale,
        subject,
        button,
        url,
        end_sessions_url,
        text: &text,
    });
    Ok(Rendered {
        subject: subject.to_owned(),
        text,
        html,
        url: (!url.is_empty()).then(|| url.to_owned()),
    })
}

/// Fills a template.
fn words(template: &impl Template) -> String {
    template
        .render()
        .expect("the templates only write strings, which cannot fail")
}

#[derive(Template)]
#[template(path = "mail/message.txt", config = "src/askama.toml")]
struct Text<'a> {
    kind: MailKind,
    locale: Locale,
    name: String,
    url: &'a str,
    end_sessions_url: &'a str,
    new_email: String,
    device: Option<&'a Device>,
    code: &'a str,
    organization: String,
    inviter: String,
    vault: Option<VaultChange>,
}

#[derive(Template)]
#[template(path = "mail/message.html", config = "src/askama.toml")]
struct Html<'a> {
    locale: Locale,
    subject: &'a str,
    button: &'a str,
    url: &'a str,
    end_sessions_url: &'a str,
    text: &'a str,
}

/// The main link and the link that ends all sessions; empty where this kind of mail has none.
fn links(mail: &Mail) -> Result<(&str, &str), MailError> {
    let url = || plain_url(mail.url.as_deref());
    let end_sessions_url = || plain_url(mail.end_sessions_url.as_deref());
    Ok(match mail.kind {
        MailKind::AccountExists
        | MailKind::AccountDeleted
        | MailKind::SignInCode
        | MailKind::BreachedPassword => ("", ""),
        MailKind::VerifyEmail
        | MailKind::ResetPassword
        | MailKind::MagicLink
        | MailKind::Invitation => (url()?, ""),
        MailKind::PasswordChanged
        | MailKind::NewDevice
        | MailKind::TwoFactorDisabled
        | MailKind::PasskeyRemoved
        | MailKind::VaultChanged => (url()?, url()?),
        MailKind::ChangeEmailConfirmation | MailKind::EmailChanged | MailKind::DeleteAccount => {
            (url()?, end_sessions_url()?)
        }
    })
}

/// The subject line and what the button over the main link says. No value of a user is in them.
fn subject_and_button(kind: MailKind, locale: Locale) -> (&'static str, &'static str) {
    let (german, english) = match kind {
        MailKind::VerifyEmail => (
            ("E-Mail bestätigen — Mana", "E-Mail bestätigen"),
            ("Confirm your email — Mana", "Confirm your email"),
        ),
        MailKind::AccountExists => (
            ("Du hast bereits ein Konto — Mana", ""),
            ("You already have an account — Mana", ""),
        ),
        MailKind::ResetPassword => (
            ("Passwort zurücksetzen — Mana", "Neues Passwort wählen"),
            ("Reset your password — Mana", "Choose a new password"),
        ),
        MailKind::ChangeEmailConfirmation => (
            ("E-Mail-Adresse ändern — Mana", "Änderung bestätigen"),
            ("Change your email address — Mana", "Confirm the change"),
        ),
        MailKind::PasswordChanged => (
            ("Dein Passwort wurde geändert — Mana", "Überall abmelden"),
            ("Your password was changed — Mana", "Sign out everywhere"),
        ),
        MailKind::EmailChanged => (
            (
                "Deine E-Mail-Adresse wurde geändert — Mana",
                "Änderung rückgängig machen",
            ),
            (
                "Your email address was changed — Mana",
                "Take the change back",
            ),
        ),
        MailKind::NewDevice => (
            ("Anmeldung mit einem neuen Gerät — Mana", "Überall abmelden"),
            ("Sign-in with a new device — Mana", "Sign out everywhere"),
        ),
        MailKind::DeleteAccount => (
            ("Konto löschen — Mana", "Konto endgültig löschen"),
            ("Delete your account — Mana", "Delete the account for good"),
        ),
        MailKind::MagicLink => (
            ("Dein Anmeldelink — Mana", "Anmelden"),
            ("Your sign-in link — Mana", "Sign in"),
        ),
        MailKind::SignInCode => (
            ("Dein Anmeldecode — Mana", ""),
            ("Your sign-in code — Mana", ""),
        ),
        MailKind::Invitation => (
            ("Einladung — Mana", "Einladung ansehen"),
            ("Invitation — Mana", "Look at the invitation"),
        ),
        MailKind::BreachedPassword => (
            ("Dein Passwort ist nicht mehr sicher — Mana", ""),
            ("Your password is no longer safe — Mana", ""),
        ),
        MailKind::TwoFactorDisabled => (
            (
                "Die Zwei-Faktor-Anmeldung wurde ausgeschaltet — Mana",
                "Überall abmelden",
            ),
            (
                "Two-factor sign-in was turned off — Mana",
                "Sign out everywhere",
            ),
        ),
        MailKind::PasskeyRemoved => (
            ("Ein Passkey wurde entfernt — Mana", "Überall abmelden"),
            ("A passkey was removed — Mana", "Sign out everywhere"),
        ),
        MailKind::VaultChanged => (
            (
                "Die Verschlüsselung deiner Daten wurde geändert — Mana",
                "Überall abmelden",
            ),
            (
                "The encryption of your data was changed — Mana",
                "Sign out everywhere",
            ),
        ),
        MailKind::AccountDeleted => (
            ("Konto gelöscht — Mana", ""),
            ("Account deleted — Mana", ""),
        ),
    };
    match locale {
        Locale::De => german,
        Locale::En => english,
    }
}

/// A value on one line, without characters that hide text or turn its direction, cut to `max_chars`.
pub(super) fn one_line(value: &str, max_chars: usize) -> String {
    let visible: String = value
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|c| !c.is_control() && !turns_direction(*c))
        .take(max_chars)
        .collect();
    visible.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Tells the invisible marks, embeddings, overrides and isolates of the Unicode bidirectional algorithm (UAX #9).
fn turns_direction(c: char) -> bool {
    matches!(
        c,
        '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
    )
}

/// Checks that a link may stand in HTML as it is.
///
/// Clients of the wire find it by a search in the raw mail and do not decode `&amp;`, so it cannot be escaped. Without
/// quotes, spaces and angle brackets it cannot leave its attribute or start a tag either.
fn plain_url(url: Option<&str>) -> Result<&str, MailError> {
    url.filter(|url| url.starts_with("https://") || url.starts_with("http://"))
        .filter(|url| {
            url.chars()
                .all(|c| c.is_ascii_graphic() && !"\"'`<>\\".contains(c))
        })
        .ok_or_else(|| permanent("the link is not a plain web address"))
}

#[cfg(test)]
mod tests;
