//! Puts a [`Mail`] into words: a subject, a text part and an HTML part.
//!
//! Templates escape every value by themselves (S-43). The one exception is the link, which is checked instead.

use askama::Template;

use super::{Locale, Mail, MailError, MailKind, permanent};

/// The content of the one `<style>` element in the HTML parts, so that a page that shows them can allow just this.
pub const STYLE: &str = include_str!("style.css");

/// Characters of a name that the greeting keeps: enough for a name, too few to make our mails carry advertisements.
const NAME_CHARS: usize = 80;

/// A mail in words. It has no `Debug`, because the text names a person and holds the link.
#[derive(Clone)]
pub struct Rendered {
    /// The subject line.
    pub subject: String,
    /// The plain text part.
    pub text: String,
    /// The HTML part: a whole document that loads nothing from elsewhere.
    pub html: String,
    /// The link that both parts hold.
    pub url: Option<String>,
}

/// Puts `mail` into words.
///
/// # Errors
/// A mail whose link is missing or not a plain web address is refused for good.
pub fn render(mail: &Mail) -> Result<Rendered, MailError> {
    let subject = subject(mail.kind, mail.locale);
    let name = &greeting_name(&mail.name);
    let locale = mail.locale;
    let (text, html, url) = match mail.kind {
        MailKind::VerifyEmail => {
            let url = plain_url(mail.url.as_deref())?;
            (
                VerifyEmailText { locale, name, url }.render(),
                VerifyEmailHtml {
                    subject,
                    locale,
                    name,
                    url,
                }
                .render(),
                Some(url.to_owned()),
            )
        }
        MailKind::AccountExists => (
            AccountExistsText { locale, name }.render(),
            AccountExistsHtml {
                subject,
                locale,
                name,
            }
            .render(),
            None,
        ),
    };
    Ok(Rendered {
        subject: subject.to_owned(),
        text: text.expect("the templates only write strings, which cannot fail"),
        html: html.expect("the templates only write strings, which cannot fail"),
        url,
    })
}

#[derive(Template)]
#[template(path = "mail/verify_email.txt", config = "src/askama.toml")]
struct VerifyEmailText<'a> {
    locale: Locale,
    name: &'a str,
    url: &'a str,
}

#[derive(Template)]
#[template(path = "mail/verify_email.html", config = "src/askama.toml")]
struct VerifyEmailHtml<'a> {
    subject: &'a str,
    locale: Locale,
    name: &'a str,
    url: &'a str,
}

#[derive(Template)]
#[template(path = "mail/account_exists.txt", config = "src/askama.toml")]
struct AccountExistsText<'a> {
    locale: Locale,
    name: &'a str,
}

#[derive(Template)]
#[template(path = "mail/account_exists.html", config = "src/askama.toml")]
struct AccountExistsHtml<'a> {
    subject: &'a str,
    locale: Locale,
    name: &'a str,
}

/// The subject line. No value of a user is in it.
fn subject(kind: MailKind, locale: Locale) -> &'static str {
    match (kind, locale) {
        (MailKind::VerifyEmail, Locale::De) => "E-Mail bestätigen — Mana",
        (MailKind::VerifyEmail, Locale::En) => "Confirm your email — Mana",
        (MailKind::AccountExists, Locale::De) => "Du hast bereits ein Konto — Mana",
        (MailKind::AccountExists, Locale::En) => "You already have an account — Mana",
    }
}

/// The name on one line, without characters that hide text or turn its direction, and not longer than a name is.
fn greeting_name(name: &str) -> String {
    let visible: String = name
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|c| !c.is_control() && !turns_direction(*c))
        .take(NAME_CHARS)
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
mod tests {
    use super::*;

    const LINK: &str = "https://auth.mana.test/api/auth/verify-email?token=a.b.c&callbackURL=https%3A%2F%2Fmana.test%2F";

    fn mail(kind: MailKind, locale: Locale, name: &str) -> Mail {
        Mail {
            kind,
            to: "ada@example.org".to_owned(),
            name: name.to_owned(),
            locale,
            url: Some(LINK.to_owned()),
        }
    }

    fn rendered(kind: MailKind, locale: Locale, name: &str) -> Rendered {
        render(&mail(kind, locale, name)).unwrap()
    }

    #[test]
    fn verification_text_reads_as_written() {
        let german = rendered(MailKind::VerifyEmail, Locale::De, "Ada");
        assert_eq!(german.subject, "E-Mail bestätigen — Mana");
        assert_eq!(
            german.text,
            format!(
                "Hallo Ada,\n\nbitte bestätige deine E-Mail-Adresse für Mana. Öffne dazu diesen Link:\n\n{LINK}\n\n\
                 Der Link gilt 1 Stunde.\n\n\
                 Du hast dich nicht bei Mana registriert? Dann kannst du diese E-Mail ignorieren.\n"
            )
        );
        let english = rendered(MailKind::VerifyEmail, Locale::En, "");
        assert_eq!(english.subject, "Confirm your email — Mana");
        assert_eq!(
            english.text,
            format!(
                "Hello,\n\nPlease confirm your email address for Mana. Open this link to do so:\n\n{LINK}\n\n\
                 The link is valid for 1 hour.\n\n\
                 If you did not sign up for Mana, you can ignore this email.\n"
            )
        );
    }

    #[test]
    fn verification_link_is_raw_in_text_and_html() {
        for locale in [Locale::De, Locale::En] {
            let mail = rendered(MailKind::VerifyEmail, locale, "Ada");
            assert!(mail.text.contains(LINK));
            assert!(mail.html.contains(&format!("href=\"{LINK}\"")));
            assert!(mail.html.contains(&format!(">{LINK}<")));
            assert!(!mail.html.contains("&amp;") && !mail.html.contains("&#38;"));
        }
    }

    /// S-24.
    #[test]
    fn notice_of_an_existing_account_carries_no_link() {
        for locale in [Locale::De, Locale::En] {
            let notice = rendered(MailKind::AccountExists, locale, "Ada");
            assert_eq!(notice.url, None);
            for part in [&notice.subject, &notice.text, &notice.html] {
                assert!(!part.contains("http") && !part.contains("token"), "{part}");
            }
        }
        let german = rendered(MailKind::AccountExists, Locale::De, "Ada").text;
        assert!(german.starts_with("Hallo Ada,\n\n") && german.contains("Passwort vergessen"));
        let english = rendered(MailKind::AccountExists, Locale::En, "Ada").text;
        assert!(english.starts_with("Hello Ada,\n\n") && english.contains("Forgot password"));
    }

    #[test]
    fn greeting_without_a_name_has_no_dangling_space() {
        for kind in [MailKind::VerifyEmail, MailKind::AccountExists] {
            for name in ["", "  ", "\u{202E}\r\n"] {
                let mail = rendered(kind, Locale::De, name);
                assert!(mail.text.starts_with("Hallo,\n"), "{}", mail.text);
                assert!(mail.html.contains(">Hallo,<"), "{}", mail.html);
            }
        }
    }

    /// S-43.
    #[test]
    fn markup_and_quotes_in_names_are_escaped_in_html() {
        for kind in [MailKind::VerifyEmail, MailKind::AccountExists] {
            let hostile = r#"<img src=x onerror="a">'&"#;
            let html = rendered(kind, Locale::De, hostile).html;
            assert!(!html.contains("<img") && !html.contains(r#"onerror=""#));
            assert!(
                html.contains("Hallo &#60;img src=x onerror=&#34;a&#34;&#62;&#39;&#38;,"),
                "{html}"
            );
        }
    }

    /// S-43.
    #[test]
    fn line_breaks_and_direction_marks_in_names_do_not_reach_the_mail() {
        let hostile = "Ada\r\nBcc: eve@example.org\u{202E}\u{2066}\u{200F}\0\u{2028}L";
        let mail = rendered(MailKind::VerifyEmail, Locale::De, hostile);
        let greeting = mail.text.lines().next().unwrap();
        assert_eq!(greeting, "Hallo Ada Bcc: eve@example.org L,");
        assert!(mail.html.contains(&format!(">{greeting}<")));
        assert_eq!(mail.subject, "E-Mail bestätigen — Mana");
    }

    #[test]
    fn greeting_is_too_short_for_an_advertisement() {
        let mail = rendered(MailKind::VerifyEmail, Locale::De, &"x".repeat(10_000));
        assert!(
            mail.text
                .starts_with(&format!("Hallo {},", "x".repeat(NAME_CHARS)))
        );
    }

    /// S-43.
    #[test]
    fn links_that_could_leave_their_attribute_are_refused() {
        let refused = [
            "javascript:alert(1)",
            "//mana.test/",
            "ftp://mana.test/",
            "https://mana.test/\" onclick=\"x",
            "https://mana.test/'",
            "https://mana.test/<b>",
            "https://mana.test/a b",
            "https://mana.test/\r\nx",
            "https://mana.test/\u{202E}x",
            "https:\\\\mana.test",
            "",
        ];
        let mut mail = mail(MailKind::VerifyEmail, Locale::De, "Ada");
        for url in refused {
            mail.url = Some(url.to_owned());
            assert!(
                matches!(render(&mail), Err(MailError::Permanent(_))),
                "{url}"
            );
        }
        mail.url = None;
        assert!(render(&mail).is_err());
    }
}
