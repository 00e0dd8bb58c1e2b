//! S-24 and claims: of many sign-ups with one address at the same moment, one makes an account.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::TestApp;
use crate::tables::{assert_dense, number};

const ADDRESS: &str = "ada@people.example";
const AT_ONCE: usize = 40;

/// Signs the same address up many times at once, in different spellings and at both nodes.
async fn race(settings: &[(&str, &str)]) -> (TestApp, Vec<(u16, Value)>) {
    let one = TestApp::start(settings).await;
    let two = one.node(settings).await;
    let racers = (0..AT_ONCE).map(|number| {
        let node = if number % 2 == 0 { &one } else { &two };
        let email = match number % 3 {
            0 => ADDRESS.to_owned(),
            1 => ADDRESS.to_uppercase(),
            _ => ADDRESS.replace("ada", "Ada"),
        };
        let body =
            json!({ "name": "Ada", "email": email, "password": format!("password-{number}") });
        let request = node
            .client
            .post(format!("{}/api/auth/sign-up/email", node.base))
            .json(&body);
        async move {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.json().await.unwrap())
        }
    });
    let answers = join_all(racers).await;
    (one, answers)
}

async fn assert_one_account(node: &TestApp) {
    for (what, count) in [
        ("select count(*) from read.users", 1),
        ("select count(*) from claims", 1),
        ("select count(*) from custody where kind = 'password'", 1),
        (
            "select count(*) from custody where kind = 'data_key' and owner not like 'service:%'",
            1,
        ),
        (
            "select count(*) from events where event_type = 'user.registered'",
            1,
        ),
    ] {
        assert_eq!(number(&node.admin, what).await, count, "{what}");
    }
    assert_dense(&node.admin).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_parallel_sign_ups_with_one_address_one_wins_and_the_others_are_told() {
    let (node, answers) = race(&[("MANA_AUTH_REQUIRE_EMAIL_VERIFICATION", "false")]).await;
    let mut statuses: Vec<u16> = answers.iter().map(|(status, _)| *status).collect();
    statuses.sort_unstable();
    let mut expected = vec![422; AT_ONCE];
    expected[0] = 200;
    assert_eq!(statuses, expected);
    for (status, body) in &answers {
        if *status == 422 {
            let code = &body["code"];
            assert_eq!(code, "USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL", "{body}");
        }
    }
    assert_one_account(&node).await;
    assert_eq!(
        number(&node.admin, "select count(*) from read.sessions").await,
        1
    );
}

/// S-24: where an address has to be proven first, nobody learns from the answer who was first.
#[tokio::test(flavor = "multi_thread")]
async fn with_verification_parallel_sign_ups_are_answered_alike_and_one_account_is_made() {
    let (node, answers) = race(&[("MANA_AUTH_REQUIRE_EMAIL_VERIFICATION", "true")]).await;
    let shape = |body: &Value| -> Vec<String> {
        let user = body["user"].as_object().unwrap();
        body.as_object()
            .unwrap()
            .keys()
            .chain(user.keys())
            .cloned()
            .collect()
    };
    for (status, body) in &answers {
        assert_eq!(*status, 200, "{body}");
        assert_eq!(shape(body), shape(&answers[0].1));
        assert_eq!(
            (&body["token"], &body["user"]["email"]),
            (&Value::Null, &json!(ADDRESS))
        );
    }
    assert_one_account(&node).await;
    assert_eq!(
        number(&node.admin, "select count(*) from read.sessions").await,
        0
    );
    node.effects_done().await;
    let mails = node.mails();
    assert_eq!(
        mails
            .iter()
            .filter(|mail| mail.kind == "verify_email")
            .count(),
        1
    );
    assert!(mails.iter().all(|mail| mail.to == ADDRESS));
}
