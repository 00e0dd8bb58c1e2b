//! Cookies: names and attributes by configuration, and secrets that turn over under live sessions.

#![cfg(test)]

use serde_json::json;

use crate::client::{PASSWORD, UNVERIFIED};
use crate::harness::TestApp;

const SECRET_1: &str = "the-first-secret-of-this-test-0123456789";
const SECRET_2: &str = "the-second-secret-of-this-test-012345678";

const PRODUCTION: [(&str, &str); 6] = [
    ("NODE_ENV", "production"),
    ("BETTER_AUTH_SECRET", SECRET_1),
    (
        "MANA_AUTH_KEK",
        "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
    ),
    ("MANA_SERVICE_KEY", "0123456789abcdef"),
    // Nobody listens there: mails wait, and nothing waits for them.
    ("SMTP_HOST", "127.0.0.1"),
    ("SMTP_PORT", "1"),
];

/// S-33: the whole of every cookie, for every kind of deployment (contract section 2.4).
#[tokio::test]
async fn cookies_have_exactly_the_attributes_of_the_deployment_s33() {
    for (base, domain, production, name, attributes) in [
        (
            "http://localhost:3001",
            "",
            false,
            "mana",
            "Path=/; HttpOnly; SameSite=Lax",
        ),
        (
            "http://auth.mana.how",
            ".mana.how",
            false,
            "mana",
            "Domain=.mana.how; Path=/; HttpOnly; Secure; SameSite=None",
        ),
        (
            "http://auth.mana.how",
            "",
            true,
            "mana",
            "Path=/; HttpOnly; Secure; SameSite=Lax",
        ),
        (
            "http://auth.mana.how",
            ".mana.how",
            true,
            "mana",
            "Domain=.mana.how; Path=/; HttpOnly; Secure; SameSite=None",
        ),
        (
            "https://auth.mana.how",
            "",
            false,
            "__Secure-mana",
            "Path=/; HttpOnly; Secure; SameSite=Lax",
        ),
        (
            "https://auth.mana.how",
            ".mana.how",
            false,
            "__Secure-mana",
            "Domain=.mana.how; Path=/; HttpOnly; Secure; SameSite=None",
        ),
        (
            "https://auth.mana.how",
            "",
            true,
            "__Secure-mana",
            "Path=/; HttpOnly; Secure; SameSite=Lax",
        ),
        (
            "https://auth.mana.how",
            ".mana.how",
            true,
            "__Secure-mana",
            "Domain=.mana.how; Path=/; HttpOnly; Secure; SameSite=None",
        ),
    ] {
        let mut settings = vec![
            UNVERIFIED,
            ("BASE_URL", base),
            ("COOKIE_DOMAIN", domain),
            ("TRUSTED_ORIGINS", "http://localhost:5173"),
        ];
        if production {
            settings.extend(PRODUCTION);
        }
        let app = TestApp::start(&settings).await;
        let what = format!("{base} {domain} {production}");
        let value = |cookie: &str| {
            cookie
                .split_once('=')
                .unwrap()
                .1
                .split(';')
                .next()
                .unwrap()
                .to_owned()
        };

        let signed_up = app.sign_up("ada").await;
        let cookies = signed_up.cookies();
        let wanted = format!(
            "{name}.session_token={}; Max-Age=604800; {attributes}",
            value(cookies[0])
        );
        assert_eq!(cookies, [wanted], "{what}");
        let login = app
            .post(
                "/api/v1/auth/login",
                &json!({"email": "ada@example.com", "password": PASSWORD}),
            )
            .await;
        let wanted = format!(
            "{name}.session_token={}; Max-Age=604800; {attributes}",
            value(login.cookies()[0])
        );
        assert_eq!(login.cookies(), [wanted], "{what}");

        let body = json!({"email": "ada@example.com", "password": PASSWORD, "rememberMe": false});
        let brief = app.post("/api/auth/sign-in/email", &body).await;
        let wanted: Vec<_> = ["session_token", "dont_remember"]
            .iter()
            .zip(brief.cookies())
            .map(|(key, cookie)| format!("{name}.{key}={}; {attributes}", value(cookie)))
            .collect();
        assert_eq!(brief.cookies(), wanted, "{what}");

        for door in ["/api/auth/sign-out", "/api/v1/auth/logout"] {
            let session = app.sign_in("ada").await;
            let out = app.post_as(door, &session.cookie, &json!({})).await;
            let wanted = ["session_token", "session_data", "dont_remember"]
                .map(|key| format!("{name}.{key}=; Max-Age=0; {attributes}"));
            assert_eq!(out.cookies(), wanted, "{what} {door}");
        }
    }
}

/// A cookie counts under its own name only: one without `__Secure-` can be set by anybody on the way.
#[tokio::test]
async fn a_cookie_of_another_name_is_none() {
    let app = TestApp::start(&[UNVERIFIED, ("BASE_URL", "https://auth.mana.how")]).await;
    let session = app.signed_in("ada").await;
    assert!(app.is_live(&session.cookie).await);
    assert!(
        !app.is_live(session.cookie.strip_prefix("__Secure-").unwrap())
            .await
    );
    assert!(
        !app.is_live(&session.cookie.replace("__Secure-", "__Host-"))
            .await
    );
}

/// S-87: a new secret signs, the old one is still believed, and without it what it signed is over.
#[tokio::test]
async fn cookie_secrets_turn_over_without_a_logout_s87() {
    let old = TestApp::start(&[
        UNVERIFIED,
        ("BETTER_AUTH_SECRETS", &format!("1:{SECRET_1}")),
    ])
    .await;
    old.sign_up("ada").await;
    let mut cookies = Vec::new();
    for _ in 0..5 {
        cookies.push(old.sign_in("ada").await.cookie);
    }
    let both = old
        .node(&[
            UNVERIFIED,
            ("BETTER_AUTH_SECRETS", &format!("2:{SECRET_2},1:{SECRET_1}")),
        ])
        .await;
    for cookie in &cookies {
        assert!(both.is_live(cookie).await, "nobody is logged out");
    }
    let fresh = both.sign_in("ada").await;
    assert!(
        !old.is_live(&fresh.cookie).await,
        "it is signed with the new one"
    );

    // A node in the middle of the change believes both and still signs with the old one.
    let middle = old
        .node(&[
            UNVERIFIED,
            ("BETTER_AUTH_SECRETS", &format!("1:{SECRET_1},2:{SECRET_2}")),
        ])
        .await;
    let of_middle = middle.sign_in("ada").await;
    for (node, cookie) in [
        (&middle, &fresh.cookie),
        (&middle, &cookies[0]),
        (&old, &of_middle.cookie),
        (&both, &of_middle.cookie),
    ] {
        assert!(node.is_live(cookie).await);
    }

    let new = old
        .node(&[
            UNVERIFIED,
            ("BETTER_AUTH_SECRETS", &format!("2:{SECRET_2}")),
        ])
        .await;
    for cookie in &cookies {
        assert!(!new.is_live(cookie).await, "the old one is gone");
    }
    assert!(new.is_live(&fresh.cookie).await);
}

/// S-87 for the links in mails: they are signed with the same secrets.
#[tokio::test]
async fn links_outlive_the_secret_that_signed_them_s87() {
    let old = TestApp::start(&[("BETTER_AUTH_SECRETS", &format!("1:{SECRET_1}"))]).await;
    for name in ["ada", "bob"] {
        old.sign_up(name).await;
    }
    let link = async |name: &str| {
        old.wait_for_mail(&format!("{name}@example.com"), 0)
            .await
            .url
            .unwrap()
    };
    let new = old
        .node(&[("BETTER_AUTH_SECRETS", &format!("2:{SECRET_2}"))])
        .await;
    assert!(
        new.follow(&link("bob").await)
            .await
            .header("location")
            .ends_with("error=INVALID_TOKEN")
    );
    let both = old
        .node(&[("BETTER_AUTH_SECRETS", &format!("2:{SECRET_2},1:{SECRET_1}"))])
        .await;
    let followed = both.follow(&link("ada").await).await;
    assert!(both.is_live(&followed.session_cookie()).await);
}
