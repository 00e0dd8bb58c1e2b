//! The comparison must notice what it is for: each test changes one thing in a good answer.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::super::placeholders::{Captures, encode, signed};
use super::super::transcripts::{self, Response};
use super::{Answer, Difference, URL_SAFE_NO_PAD, compare_answer};
use base64::Engine;

const SECRET: &str = "a secret of this test";
const TOKEN: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const USER_ID: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_767_323_045_678).unwrap()
}

fn recorded_sign_up() -> Response {
    let case = transcripts::load("sign-up").cases.remove(0);
    case.steps.into_iter().next().unwrap().response.unwrap()
}

/// An answer to the first recorded sign-up, good in every respect.
fn good_body() -> Value {
    json!({
        "token": TOKEN,
        "user": {
            "name": "Ada", "email": "ada@example.com", "emailVerified": false, "image": null,
            "createdAt": "2026-01-02T03:04:05.678Z", "updatedAt": "2026-01-02T03:04:04.000Z",
            "twoFactorEnabled": false, "role": "user", "banned": false, "banReason": null,
            "banExpires": null, "accessTier": "public", "locale": null, "id": USER_ID,
        },
    })
}

fn good_cookie() -> String {
    let value = encode(&signed(SECRET, TOKEN));
    format!("better-auth.session_token={value}; Max-Age=604800; Path=/; HttpOnly; SameSite=Lax")
}

fn good_answer() -> Answer {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Answer {
        status: 200,
        headers: vec![
            header("content-type", "application/json"),
            header("set-auth-token", &signed(SECRET, TOKEN)),
            header("access-control-expose-headers", "Set-Auth-Token"),
            header("x-request-id", "not part of the contract"),
            header("set-cookie", &good_cookie()),
        ],
        body: good_body().to_string(),
    }
}

fn differences(answer: &Answer) -> Vec<Difference> {
    compare_answer(
        &mut Captures::new("http://auth.test", SECRET, now()),
        &recorded_sign_up(),
        answer,
    )
}

/// Where the good answer differs after `change`.
fn places_after(change: impl FnOnce(&mut Answer)) -> Vec<String> {
    let mut answer = good_answer();
    change(&mut answer);
    differences(&answer)
        .into_iter()
        .map(|difference| difference.at)
        .collect()
}

fn places_after_in_body(change: impl FnOnce(&mut Value)) -> Vec<String> {
    places_after(|answer| {
        let mut body = good_body();
        change(&mut body);
        answer.body = body.to_string();
    })
}

fn set_header(answer: &mut Answer, name: &str, value: &str) {
    answer
        .headers
        .iter_mut()
        .find(|(header, _)| header == name)
        .unwrap()
        .1 = value.to_owned();
}

#[test]
fn a_good_answer_has_no_difference() {
    assert_eq!(differences(&good_answer()), []);
}

#[test]
fn a_wrong_status_is_detected() {
    assert_eq!(places_after(|answer| answer.status = 201), ["status"]);
}

#[test]
fn a_missing_header_is_detected() {
    let places = places_after(|answer| answer.headers.retain(|(name, _)| name != "set-auth-token"));
    assert_eq!(places, ["header set-auth-token"]);
}

#[test]
fn a_contract_header_that_was_not_recorded_is_detected() {
    let places = places_after(|answer| answer.headers.push(("location".into(), "/".into())));
    assert_eq!(places, ["header location"]);
}

#[test]
fn another_list_of_exposed_headers_is_detected() {
    let places =
        places_after(|answer| set_header(answer, "access-control-expose-headers", "set-auth-jwt"));
    assert_eq!(places, ["header access-control-expose-headers"]);
}

#[test]
fn a_missing_and_an_extra_cookie_are_detected() {
    let places = places_after(|answer| answer.headers.retain(|(name, _)| name != "set-cookie"));
    assert_eq!(places, ["cookies"]);
    let places = places_after(|answer| {
        answer
            .headers
            .push(("set-cookie".into(), "x=1; Path=/".into()))
    });
    assert_eq!(places, ["cookies"]);
}

#[test]
fn cookie_attributes_in_another_order_are_detected() {
    let changed = good_cookie().replace("Path=/; HttpOnly", "HttpOnly; Path=/");
    let places = places_after(|answer| set_header(answer, "set-cookie", &changed));
    assert_eq!(places, ["cookie better-auth.session_token attributes"]);
}

#[test]
fn a_cookie_that_is_not_percent_encoded_is_detected() {
    let changed = good_cookie().replace("%3D", "=");
    let places = places_after(|answer| set_header(answer, "set-cookie", &changed));
    assert_eq!(places, ["cookie better-auth.session_token encoding"]);
}

#[test]
fn a_cookie_signed_with_another_secret_is_detected() {
    let other = encode(&signed("another secret", TOKEN));
    let changed = good_cookie().replace(&encode(&signed(SECRET, TOKEN)), &other);
    let places = places_after(|answer| set_header(answer, "set-cookie", &changed));
    assert_eq!(places, ["cookie better-auth.session_token"]);
}

#[test]
fn one_placeholder_with_two_values_is_detected() {
    let places = places_after_in_body(|body| body["token"] = json!("c".repeat(32)));
    assert_eq!(places, ["body.token"]);
}

#[test]
fn two_placeholders_with_one_value_are_detected() {
    let places = places_after_in_body(|body| body["user"]["id"] = json!(TOKEN));
    assert_eq!(places, ["body.user.id"]);
}

#[test]
fn a_placeholder_of_the_wrong_type_is_detected() {
    for wrong in [
        json!("b".repeat(31)),
        json!("-".repeat(32)),
        json!(32),
        json!(null),
    ] {
        assert_eq!(
            places_after_in_body(|body| body["user"]["id"] = wrong),
            ["body.user.id"]
        );
    }
}

#[test]
fn a_time_of_another_moment_or_form_is_detected() {
    for wrong in [
        "2026-01-02T03:04:08.000Z",
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05.678+00:00",
        "now",
    ] {
        let places = places_after_in_body(|body| body["user"]["createdAt"] = json!(wrong));
        assert_eq!(places, ["body.user.createdAt"], "{wrong}");
    }
}

#[test]
fn extra_and_missing_keys_are_detected() {
    assert_eq!(
        places_after_in_body(|body| body["user"]["password"] = json!("x")),
        ["body.user.password"]
    );
    let places = places_after_in_body(|body| {
        body["user"].as_object_mut().unwrap().remove("role");
    });
    assert_eq!(places, ["body.user.role"]);
}

#[test]
fn a_body_that_is_not_json_is_detected() {
    assert_eq!(places_after(|answer| answer.body.clear()), ["body"]);
}

#[test]
fn a_jwt_with_other_claims_lifetime_or_age_is_detected() {
    let case = transcripts::load("jwt").cases.remove(1);
    let expected = case.steps.into_iter().next().unwrap().response.unwrap();
    let base = "http://auth.test";
    let places = |change: fn(&mut Value)| {
        let mut payload = json!({
            "iat": now().timestamp(), "exp": now().timestamp() + 900, "iss": base, "aud": "mana",
            "sub": USER_ID, "sid": TOKEN, "email": "j1@example.com", "role": "user",
        });
        change(&mut payload);
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"alg": "EdDSA", "kid": "k".repeat(32)});
        let jwt = format!("{}.{}.AAAA", part(&header), part(&payload));
        let answer = Answer {
            status: 200,
            headers: vec![("content-type".into(), "application/json".into())],
            body: json!({ "token": jwt }).to_string(),
        };
        let differences =
            compare_answer(&mut Captures::new(base, SECRET, now()), &expected, &answer);
        differences
            .into_iter()
            .map(|difference| difference.at)
            .collect::<Vec<_>>()
    };
    assert_eq!(places(|_| {}), [""; 0]);
    assert_eq!(
        places(|payload| payload["tier"] = json!("public")),
        ["jwt <jwt#1>.payload.tier"]
    );
    assert_eq!(
        places(|payload| payload["role"] = json!("admin")),
        ["jwt <jwt#1>.payload.role"]
    );
    assert_eq!(
        places(|payload| payload["exp"] = json!(now().timestamp() + 901)),
        ["jwt <jwt#1> lifetime"]
    );
    assert_eq!(
        places(|payload| {
            payload["iat"] = json!(now().timestamp() - 60);
            payload["exp"] = json!(now().timestamp() + 840);
        }),
        ["jwt <jwt#1> iat"]
    );
}
