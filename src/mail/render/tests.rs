use super::*;

const HOSTILE: &str = r#"<img src=x onerror="a">'&"#;

fn rendered(kind: MailKind, locale: Locale, name: &str) -> Rendered {
    render(&Mail::sample(kind, locale, name)).unwrap()
}

/// Every kind in every language.
fn kinds_and_locales() -> impl Iterator<Item = (MailKind, Locale)> {
    let both = |kind| [(kind, Locale::De), (kind, Locale::En)];
    MailKind::ALL.into_iter().flat_map(both)
}

#[test]
fn verification_text_reads_as_written() {
    let german = rendered(MailKind::VerifyEmail, Locale::De, "Ada");
    let link = german.url.unwrap();
    assert_eq!(german.subject, "E-Mail bestätigen — Mana");
    assert_eq!(
        german.text,
        format!(
            "Hallo Ada,\n\nbitte bestätige deine E-Mail-Adresse für Mana. Öffne dazu diesen Link:\n\n{link}\n\n\
             Der Link gilt 1 Stunde.\n\n\
             Du hast dich nicht bei Mana registriert? Dann kannst du diese E-Mail ignorieren.\n"
        )
    );
    let english = rendered(MailKind::VerifyEmail, Locale::En, "");
    assert_eq!(english.subject, "Confirm your email — Mana");
    assert_eq!(
        english.text,
        format!(
            "Hello,\n\nPlease confirm your email address for Mana. Open this link to do so:\n\n{link}\n\n\
             The link is valid for 1 hour.\n\n\
             If you did not sign up for Mana, you can ignore this email.\n"
        )
    );
}

#[test]
fn new_device_text_reads_as_written() {
    let mut mail = Mail::sample(MailKind::NewDevice, Locale::De, "Ada");
    let german = render(&mail).unwrap();
    let link = german.url.unwrap();
    assert_eq!(
        german.text,
        format!(
            "Hallo Ada,\n\nbei deinem Mana-Konto hat sich jemand mit einem Gerät angemeldet, das wir noch nicht kannten:\n\n\
             Zeit: 1970-01-01 00:00 UTC\nGerät: Ada\nIP-Adresse: 192.0.2.7\n\n\
             Warst du das? Dann ist alles in Ordnung.\n\n\
             Warst du es nicht? Dann melde dich über diesen Link auf allen Geräten ab und setze danach dein Passwort zurück:\n\n\
             {link}\n"
        )
    );
    mail.device.as_mut().unwrap().ip_address.clear();
    mail.locale = Locale::En;
    let english = render(&mail).unwrap();
    let device = "\n\nTime: 1970-01-01 00:00 UTC\nDevice: Ada\n\nIf it was you";
    assert!(english.text.contains(device), "{}", english.text);
    assert!(
        english.html.contains("UTC<br>Device: Ada</p>"),
        "{}",
        english.html
    );
}

#[test]
fn subjects_that_clients_look_for_are_those_of_the_contract() {
    for (kind, german, english) in [
        (
            MailKind::ResetPassword,
            "Passwort zurücksetzen — Mana",
            "Reset your password — Mana",
        ),
        (
            MailKind::AccountDeleted,
            "Konto gelöscht — Mana",
            "Account deleted — Mana",
        ),
    ] {
        assert_eq!(rendered(kind, Locale::De, "Ada").subject, german);
        assert_eq!(rendered(kind, Locale::En, "Ada").subject, english);
    }
}

#[test]
fn mails_say_what_they_are_about_and_how_long_links_are_valid() {
    use MailKind as K;
    for (kind, german, english) in [
        (K::ResetPassword, "gilt 1 Stunde", "valid for 1 hour"),
        (
            K::ChangeEmailConfirmation,
            "gilt 1 Stunde",
            "valid for 1 hour",
        ),
        (
            K::ChangeEmailConfirmation,
            "new.ada@example.org",
            "new.ada@example.org",
        ),
        (K::PasswordChanged, "Passwort zurück", "reset your password"),
        (K::EmailChanged, "gilt 7 Tage", "valid for 7 days"),
        (
            K::EmailChanged,
            "new.ada@example.org",
            "new.ada@example.org",
        ),
        (K::DeleteAccount, "gilt 24 Stunden", "valid for 24 hours"),
        (K::DeleteAccount, "nicht rückgängig", "cannot be undone"),
        (
            K::AccountDeleted,
            "Konto wurde gelöscht",
            "account was deleted",
        ),
        (
            K::BreachedPassword,
            "gestohlener Passwörter",
            "stolen passwords",
        ),
    ] {
        for (locale, words) in [(Locale::De, german), (Locale::En, english)] {
            let mail = rendered(kind, locale, "Ada");
            assert!(mail.text.contains(words), "{}", mail.text);
            assert!(mail.html.contains(words), "{}", mail.html);
        }
    }
}

/// Texts of one language are not those of the other, and paragraphs are one empty line apart.
#[test]
fn every_kind_reads_well_in_both_languages() {
    for (kind, locale) in kinds_and_locales() {
        let Rendered {
            subject,
            text,
            html,
            ..
        } = rendered(kind, locale, "Ada");
        let hello = match locale {
            Locale::De => "Hallo Ada,\n\n",
            Locale::En => "Hello Ada,\n\n",
        };
        assert!(text.starts_with(hello) && text.ends_with('\n'), "{text}");
        assert!(
            !text.ends_with("\n\n") && !text.contains("\n\n\n") && !text.contains(" \n"),
            "{text}"
        );
        assert!(subject.ends_with(" — Mana"), "{subject}");
        assert!(
            html.contains(&format!("<title>{subject}</title>")),
            "{html}"
        );
        assert_eq!(
            text.to_lowercase().contains("your "),
            locale == Locale::En,
            "{text}"
        );
    }
}

#[test]
fn links_are_raw_in_text_and_html() {
    for (kind, locale) in kinds_and_locales() {
        let mail = Mail::sample(kind, locale, "Ada");
        let (main, second) = links(&mail).unwrap();
        let rendered = render(&mail).unwrap();
        assert_eq!(rendered.url.as_deref().unwrap_or_default(), main);
        for link in [main, second].into_iter().filter(|link| !link.is_empty()) {
            assert!(rendered.text.contains(&format!("\n\n{link}\n")), "{link}");
            assert!(
                rendered.html.contains(&format!("href=\"{link}\"")),
                "{link}"
            );
            assert!(rendered.html.contains(&format!(">{link}<")), "{link}");
        }
        assert!(!rendered.html.contains("&amp;") && !rendered.html.contains("&#38;"));
        let buttons = rendered.html.matches("<table bgcolor=").count();
        assert_eq!(buttons, usize::from(!main.is_empty()));
        assert!(
            !rendered.html.contains("<b></b>"),
            "a button says something"
        );
    }
}

#[test]
fn second_link_ends_all_sessions() {
    for (kind, second) in [
        (MailKind::ChangeEmailConfirmation, true),
        (MailKind::EmailChanged, true),
        (MailKind::DeleteAccount, true),
        (MailKind::PasswordChanged, false),
        (MailKind::ResetPassword, false),
    ] {
        let mail = rendered(kind, Locale::De, "Ada");
        assert_eq!(
            mail.text.contains("/end-sessions?"),
            second,
            "{}",
            mail.text
        );
        assert!(mail.url.unwrap().contains("/follow?"));
    }
}

/// S-24.
#[test]
fn notices_about_the_account_itself_carry_no_link() {
    for kind in [
        MailKind::AccountExists,
        MailKind::AccountDeleted,
        MailKind::BreachedPassword,
        MailKind::SignInCode,
    ] {
        for locale in [Locale::De, Locale::En] {
            let notice = rendered(kind, locale, "Ada");
            assert_eq!(notice.url, None);
            for part in [&notice.subject, &notice.text, &notice.html] {
                assert!(!part.contains("http") && !part.contains("token"), "{part}");
            }
        }
    }
    let german = rendered(MailKind::AccountExists, Locale::De, "Ada").text;
    assert!(german.contains("Passwort vergessen"));
    let english = rendered(MailKind::AccountExists, Locale::En, "Ada").text;
    assert!(english.contains("Forgot password"));
}

#[test]
fn greeting_without_a_name_has_no_dangling_space() {
    for kind in MailKind::ALL {
        for name in ["", "  ", "\u{202E}\r\n"] {
            let mail = rendered(kind, Locale::De, name);
            assert!(mail.text.starts_with("Hallo,\n"), "{}", mail.text);
            assert!(mail.html.contains(">Hallo,<"), "{}", mail.html);
        }
    }
}

/// S-43: in names, in the new address and in what the device says of itself.
#[test]
fn markup_and_quotes_in_values_are_escaped_in_html() {
    let escaped = "&#60;img src=x onerror=&#34;a&#34;&#62;&#39;&#38;";
    for (kind, locale) in kinds_and_locales() {
        let mail = rendered(kind, locale, HOSTILE);
        assert!(!mail.html.contains("<img") && !mail.html.contains(r#"onerror=""#));
        let values = 1
            + usize::from(mail.text.contains("Device: "))
            + usize::from(mail.text.contains("Gerät: "))
            + usize::from(mail.text.contains("new.ada@"))
            + usize::from(kind == MailKind::Invitation);
        assert_eq!(mail.html.matches(escaped).count(), values, "{}", mail.html);
        assert!(!mail.subject.contains("img"));
    }
}

/// S-43: nothing adds a line, let alone a paragraph.
#[test]
fn line_breaks_and_direction_marks_in_values_do_not_reach_the_mail() {
    let hostile =
        "A\r\n\r\nhttps://evil.example\r\n\u{202E}\u{2066}\u{200F}\u{61C}\0\u{85}\u{2028}L";
    let clean = "A https://evil.example L";
    for (kind, locale) in kinds_and_locales() {
        let (dirty, plain) = (
            rendered(kind, locale, hostile),
            rendered(kind, locale, clean),
        );
        assert!(dirty.text.contains(clean));
        assert_eq!(dirty.text, plain.text);
        assert_eq!(dirty.html, plain.html);
        assert_eq!(dirty.subject, plain.subject);
        assert!(!dirty.html.contains("href=\"https://evil"));
    }
}

#[test]
fn values_are_too_short_for_an_advertisement() {
    let long = "x".repeat(10_000);
    for (kind, most) in [
        (MailKind::VerifyEmail, NAME_CHARS),
        (MailKind::EmailChanged, NAME_CHARS + ADDRESS_CHARS),
        (MailKind::NewDevice, NAME_CHARS + 120),
    ] {
        let long = rendered(kind, Locale::De, &long).text.len();
        let short = rendered(kind, Locale::De, "").text.len();
        assert!((short..=short + most + 1).contains(&long), "{kind:?}");
    }
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
    let urls = refused.into_iter().map(str::to_owned).map(Some);
    for url in urls.chain([None]) {
        for kind in MailKind::ALL {
            let good = Mail::sample(kind, Locale::De, "Ada");
            let (main, second) = links(&good).unwrap();
            let bad_main = Mail {
                url: url.clone(),
                ..good.clone()
            };
            assert_eq!(
                render(&bad_main).is_err(),
                !main.is_empty(),
                "{kind:?} {url:?}"
            );
            let bad_second = Mail {
                end_sessions_url: url.clone(),
                ..good.clone()
            };
            let needed = !second.is_empty() && second != main;
            assert_eq!(render(&bad_second).is_err(), needed, "{kind:?} {url:?}");
        }
    }
}

#[test]
fn mail_without_what_it_is_about_is_refused_for_good() {
    for kind in MailKind::ALL {
        let bare = Mail {
            new_email: None,
            device: None,
            code: None,
            invited: None,
            ..Mail::sample(kind, Locale::De, "Ada")
        };
        let about_something = [
            MailKind::ChangeEmailConfirmation,
            MailKind::EmailChanged,
            MailKind::NewDevice,
            MailKind::SignInCode,
            MailKind::Invitation,
        ];
        let refused = matches!(render(&bare), Err(MailError::Permanent(_)));
        assert_eq!(refused, about_something.contains(&kind), "{kind:?}");
    }
}
