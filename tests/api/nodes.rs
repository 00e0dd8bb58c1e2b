//! Two nodes on one database behave as one: every flow in turns (I-12).

#![cfg(test)]

use chrono::TimeDelta;
use futures_util::future::join_all;
use serde_json::json;

use crate::client::{PASSWORD, UNVERIFIED, link_token};
use crate::harness::{TestApp, wait_until};

#[tokio::test]
async fn every_step_may_be_taken_on_another_node() {
    let one = TestApp::start(&[]).await;
    let two = one.node(&[]).await;
    assert_eq!(one.sign_up("ada").await.status, 200);
    assert_eq!(two.try_sign_in("ada", PASSWORD).await.status, 403);
    let taken = json!({"email": "ada@example.com", "password": PASSWORD});
    assert_eq!(two.post("/api/v1/auth/register", &taken).await.status, 409);
    assert_eq!(
        two.post(
            "/api/auth/send-verification-email",
            &json!({"email": "ada@example.com"})
        )
        .await
        .status,
        200
    );
    let links = [
        one.wait_for_mail("ada@example.com", 0).await,
        two.wait_for_mail("ada@example.com", 1).await,
    ];
    let followed = two.follow(links[0].url.as_ref().unwrap()).await;
    assert!(one.is_live(&followed.session_cookie()).await);
    assert!(
        one.follow(links[1].url.as_ref().unwrap())
            .await
            .cookies()
            .is_empty(),
        "it is proven"
    );
    assert_eq!(
        link_token(links[1].url.as_ref().unwrap())
            .split('.')
            .count(),
        3
    );

    // Each node signs in, shows, verifies and ends what the other began.
    for (here, there) in [(&one, &two), (&two, &one)] {
        let session = here.sign_in("ada").await;
        assert!(
            there.is_live(&session.cookie).await,
            "at once: it is not remembered anywhere"
        );
        assert!(here.is_live(&session.cookie).await);
        let token = here.jwt(&session.cookie).await;
        assert_eq!(
            there
                .post("/api/v1/auth/validate", &json!({"token": token}))
                .await
                .status,
            200
        );
        assert_eq!(
            here.get("/api/auth/jwks").await.text,
            there.get("/api/auth/jwks").await.text
        );

        here.clock.advance(TimeDelta::hours(25));
        let slid = there.get_as("/api/auth/get-session", &session.cookie).await;
        assert_eq!(slid.cookies().len(), 1);
        let slid = slid.json();
        wait_until("the other node has heard of it", async || {
            let answer = here
                .get_as("/api/auth/get-session?disableRefresh=true", &session.cookie)
                .await;
            answer.json()["session"]["expiresAt"] == slid["session"]["expiresAt"]
        })
        .await;

        assert_eq!(
            there
                .post_as("/api/auth/sign-out", &session.cookie, &json!({}))
                .await
                .status,
            200
        );
        assert!(
            !there.is_live(&session.cookie).await,
            "at once where it was ended"
        );
        wait_until("it is over on the other node", async || {
            !here.is_live(&session.cookie).await
        })
        .await;
    }
}

/// Forty people sign up, in and out on two nodes at once; nothing is lost, mixed up or done twice.
#[tokio::test]
async fn many_people_on_two_nodes_do_not_get_mixed_up() {
    let one = TestApp::start(&[UNVERIFIED]).await;
    let two = one.node(&[UNVERIFIED]).await;
    let whole_day = async |number: usize| {
        let (here, there) = if number.is_multiple_of(2) {
            (&one, &two)
        } else {
            (&two, &one)
        };
        let name = format!("p{number}");
        let session = here.signed_in(&name).await;
        let second = there.sign_in(&name).await;
        for (node, session) in [(here, &second), (there, &session)] {
            let shown = node
                .get_as("/api/auth/get-session", &session.cookie)
                .await
                .json();
            assert_eq!(shown["user"]["email"], format!("{name}@example.com"));
            assert_eq!(shown["user"]["id"], json!(session.user_id));
        }
        there
            .post_as("/api/auth/sign-out", &session.cookie, &json!({}))
            .await;
        assert!(here.is_live(&second.cookie).await);
    };
    // The hashers of both nodes have places for so many at once.
    join_all((0..40).map(whole_day)).await;
    assert_eq!(
        (
            one.count("read.users").await,
            one.count("read.sessions").await
        ),
        (40, 40)
    );
    let (head, rows): (i64, i64) = sqlx::query_as("select max(position), count(*) from events")
        .fetch_one(&one.admin)
        .await
        .unwrap();
    assert_eq!(head, rows, "positions are dense");
}
