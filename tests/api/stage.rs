//! A service and a provider that people sign in by.

#![cfg(test)]

use serde_json::{Value, json};

use crate::client::Answer;
use crate::harness::TestApp;
use crate::provider::FakeProvider;

/// A service that knows one provider twice: as `oidc` by its ID tokens, as `plain` by asking it.
pub struct Stage {
    pub app: TestApp,
    pub provider: FakeProvider,
    settings: Vec<(String, String)>,
}

/// A sign-in that somebody has begun in a browser.
pub struct Begun {
    pub url: String,
    pub state: String,
    /// A `Cookie` header.
    pub cookie: String,
}

impl Stage {
    pub async fn set(settings: &[(&str, &str)]) -> Stage {
        let provider = FakeProvider::start().await;
        let of_provider = [
            provider.settings("oidc", true),
            provider.settings("plain", false),
        ]
        .concat();
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let settings = settings.iter().map(owned);
        let settings = of_provider.into_iter().chain(settings).collect();
        Stage::with(provider, settings).await
    }

    /// With these settings alone.
    pub async fn with(provider: FakeProvider, settings: Vec<(String, String)>) -> Stage {
        Stage {
            app: TestApp::start(&borrowed(&settings)).await,
            provider,
            settings,
        }
    }

    /// Another node of the service.
    pub async fn node(&self) -> TestApp {
        self.app.node(&borrowed(&self.settings)).await
    }

    pub async fn begin(&self, id: &str) -> Begun {
        let body = json!({"provider": id, "callbackURL": "/in", "newUserCallbackURL": "/new", "errorCallbackURL": "/oops"});
        begun(&self.app.post("/api/auth/sign-in/social", &body).await)
    }

    /// What the provider sends somebody back with who is `claims` there.
    pub fn agree(&self, begun: &Begun, claims: Value) -> String {
        self.provider
            .consent(&begun.url, claims, self.app.clock.now())
    }

    pub async fn come_back(&self, id: &str, begun: &Begun, query: &str) -> Answer {
        come_back(&self.app, id, begun, query).await
    }

    /// The whole way of somebody who is `claims` at the provider.
    pub async fn sign_in(&self, id: &str, claims: Value) -> Answer {
        let begun = self.begin(id).await;
        let code = self.agree(&begun, claims);
        self.come_back(id, &begun, &format!("code={code}")).await
    }

    pub async fn expect(&self, id: &str, claims: Value, location: &str) {
        let came_back = self.sign_in(id, claims).await;
        assert_eq!(
            (came_back.status, came_back.header("location")),
            (302, location)
        );
        let in_now = ["/in", "/new"].contains(&location);
        assert_eq!(!came_back.session_cookie().is_empty(), in_now, "{location}");
    }

    pub async fn people(&self) -> i64 {
        self.app.count("read.users").await
    }
}

/// Somebody is led back to a node.
pub async fn come_back(at: &TestApp, id: &str, begun: &Begun, query: &str) -> Answer {
    let path = format!("/api/auth/callback/{id}?state={}&{query}", begun.state);
    at.get_as(&path, &begun.cookie).await
}

fn borrowed(settings: &[(String, String)]) -> Vec<(&str, &str)> {
    let settings = settings.iter();
    settings
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

/// What an answer sends somebody to a provider with.
pub fn begun(answer: &Answer) -> Begun {
    assert_eq!(answer.status, 200, "{}", answer.text);
    let cookies = answer.cookies();
    let cookie = cookies
        .iter()
        .find(|line| line.contains(".state="))
        .unwrap();
    let url = answer.json()["url"].as_str().unwrap().to_owned();
    let state = url
        .split_once("&state=")
        .unwrap()
        .1
        .split('&')
        .next()
        .unwrap()
        .to_owned();
    Begun {
        state,
        cookie: cookie.split(';').next().unwrap().to_owned(),
        url,
    }
}
