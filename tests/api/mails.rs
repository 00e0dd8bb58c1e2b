//! What people write about themselves stays text, in mails and on the mailbox page.

#![cfg(test)]

use serde_json::json;

use crate::client::{PASSWORD, answer};
use crate::harness::TestApp;

/// Names, and what of them must not stand in HTML as it is.
const NAMES: [(&str, &str); 9] = [
    ("<script>alert(1)</script>", "<script"),
    ("<img src=x onerror=alert(1)>", "<img"),
    ("\"><a href=//evil.example>", "<a href=//evil"),
    ("'><svg/onload=alert(1)>", "<svg"),
    ("</p></td><h5>Urgent", "<h5"),
    ("{{ url }}{% raw %}&lt;i&gt;", "&lt;i&gt;"),
    ("<!-- ", "<!-- "),
    ("&#x3c;iframe>", "&#x3c;"),
    ("\u{202e}gro.live\u{202c} <u>", "<u>"),
];

/// S-43
#[tokio::test]
async fn markup_in_a_name_stays_text_in_mails_and_on_the_mailbox_page_s43() {
    let app = TestApp::start(&[]).await;
    for (number, (name, markup)) in NAMES.into_iter().enumerate() {
        for locale in ["de", "en"] {
            let email = format!("ada{number}.{locale}@example.com");
            let body =
                json!({"name": name, "email": email, "password": PASSWORD, "locale": locale});
            for kind in ["verify_email", "account_exists"] {
                assert_eq!(app.post("/api/auth/sign-up/email", &body).await.status, 200);
                let mail = app
                    .wait_for_mail(&email, usize::from(kind == "account_exists"))
                    .await;
                assert_eq!(mail.kind, kind);
                assert!(
                    !mail.html.contains(markup),
                    "{name:?} in {kind}: {}",
                    mail.html
                );
                assert!(
                    mail.html.contains(&locale_words(locale)),
                    "the mail is in {locale}"
                );
                assert!(!mail.subject.contains(name));
            }
        }
    }
    let list = app.get("/dev/mail.json").await.json();
    let mails = list.as_array().unwrap();
    assert_eq!(mails.len(), NAMES.len() * 4);
    for mail in mails {
        let id = mail["id"].as_str().unwrap();
        for path in [
            "/dev/mail".to_owned(),
            format!("/dev/mail/{id}"),
            format!("/dev/mail/{id}/html"),
        ] {
            let page = app.get(&path).await;
            assert_eq!(page.status, 200, "{path}");
            for (_, markup) in NAMES {
                let of_template = markup == "&lt;i&gt;" || markup == "&#x3c;";
                // The page shows the text part, escaped once: there `<i>` does stand as `&lt;i&gt;`.
                assert!(
                    of_template || !page.text.contains(markup),
                    "{path}: {markup}"
                );
            }
            assert!(
                !page
                    .header("content-security-policy")
                    .contains("script-src"),
                "nothing runs there anyway"
            );
        }
    }
}

fn locale_words(locale: &str) -> String {
    format!("lang=\"{locale}\"")
}

/// S-43: an address is a line of a mail's head; nothing that could end that line is an address.
#[tokio::test]
async fn no_address_can_start_another_header_s43() {
    let app = TestApp::start(&[]).await;
    for address in [
        "ada@example.com\r\nBcc: eve@example.com",
        "ada@example.com\nBcc: eve@example.com",
        "ada@example.com%0aBcc:eve@example.com",
        "\"ada\r\n\"@example.com",
        "Ada <ada@example.com>",
        "ada@example.com, eve@example.com",
        "ada@example.com;eve@example.com",
        "ada@[127.0.0.1]",
        "ada@example.com>",
    ] {
        let body = json!({"name": "Ada", "email": address, "password": PASSWORD});
        for door in [
            "/api/auth/sign-up/email",
            "/api/v1/auth/register",
            "/api/auth/send-verification-email",
        ] {
            assert_eq!(
                app.post(door, &body).await.status,
                400,
                "{door} {address:?}"
            );
        }
    }
    assert_eq!(app.mails().len(), 0);
}

/// The mailbox holds links that sign in: it is for programs on this host, and not there in production.
#[tokio::test]
async fn the_mailbox_page_is_for_this_host_only() {
    let app = TestApp::start(&[]).await;
    assert_eq!(app.get("/dev/mail").await.status, 200);
    for (name, value) in [
        ("host", "evil.example"),
        ("x-forwarded-for", "127.0.0.1"),
        ("forwarded", "for=127.0.0.1"),
    ] {
        for path in ["/dev/mail", "/dev/mail.json"] {
            let refused = answer(app.request("GET", path).header(name, value)).await;
            assert_eq!(refused.status, 403, "{path} {name}");
        }
    }
}
