//! Other providers that people sign in by. Each endpoint is named: none is looked up where a provider says it is.

use std::collections::BTreeMap;

use secrecy::SecretString;
use url::Url;

use super::reader::Reader;
use super::values;

/// What is asked for when nobody says (OpenID Connect Core 1.0 section 5.4).
const SCOPES: [&str; 3] = ["openid", "email", "profile"];

/// A provider that people may sign in by. It gives ID tokens, or tells who somebody is where it is asked, or both.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Its name in requests and in the address that it leads back to: letters and digits.
    pub id: String,
    /// What it calls us.
    pub client_id: String,
    /// What it knows us by, if it wants anything.
    pub client_secret: Option<SecretString>,
    /// What it calls itself in ID tokens and answers.
    pub issuer: Option<String>,
    /// Where people are sent.
    pub authorize_url: Url,
    /// Where codes and refresh tokens become access tokens.
    pub token_url: Url,
    /// Where it says who somebody is.
    pub userinfo_url: Option<Url>,
    /// The keys that its ID tokens are signed with. Without them it gives none that count.
    pub jwks_url: Option<Url>,
    /// What is asked for at each sign-in.
    pub scopes: Vec<String>,
    /// Whether it makes accounts only for whoever asks for one (`requestSignUp`).
    pub disable_implicit_sign_up: bool,
    /// Whether it says who it is whenever it leads back (RFC 9207), so that silence is another one's.
    pub require_issuer: bool,
}

/// Reads all providers, by their ids.
pub fn read(reader: &mut Reader, allow_private: bool) -> BTreeMap<String, Provider> {
    let mut providers = BTreeMap::new();
    for id in reader.providers() {
        if let Some(provider) = read_one(reader, &id, allow_private) {
            providers.insert(id, provider);
        }
    }
    let ids: Vec<&str> = providers.keys().map(String::as_str).collect();
    reader.show_providers(&ids);
    providers
}

fn read_one(reader: &mut Reader, id: &str, allow_private: bool) -> Option<Provider> {
    let endpoint = |text: &str| {
        let url = values::service_url(text)?;
        if url.scheme() != "https" && !allow_private {
            return Err("must be an https URL".to_owned());
        }
        Ok(url)
    };
    let client_id = reader.required_of_provider(id, "CLIENT_ID", values::any);
    let client_secret = reader.secret_of_provider(id);
    let issuer = reader.of_provider(id, "ISSUER", values::any);
    let authorize_url = reader.required_of_provider(id, "AUTHORIZE_URL", endpoint);
    let token_url = reader.required_of_provider(id, "TOKEN_URL", endpoint);
    let userinfo_url = reader.of_provider(id, "USERINFO_URL", endpoint);
    let jwks_url = reader.of_provider(id, "JWKS_URL", endpoint);
    let scopes = reader.of_provider(id, "SCOPES", |text| values::entries(text, values::any));
    let disable_implicit_sign_up = reader.switch_of_provider(id, "DISABLE_IMPLICIT_SIGN_UP");
    let require_issuer = reader.switch_of_provider(id, "REQUIRE_ISSUER");
    if require_issuer && issuer.is_none() && jwks_url.is_none() {
        reader.provider_problem(id, "ISSUER", "is required beside REQUIRE_ISSUER");
    }
    if jwks_url.is_some() && issuer.is_none() {
        reader.provider_problem(id, "ISSUER", "is required beside JWKS_URL");
    }
    if jwks_url.is_none() && userinfo_url.is_none() {
        let problem = "is required, or JWKS_URL: nothing else says who somebody is";
        reader.provider_problem(id, "USERINFO_URL", problem);
    }
    Some(Provider {
        id: id.to_owned(),
        client_id: client_id?,
        client_secret,
        issuer,
        authorize_url: authorize_url?,
        token_url: token_url?,
        userinfo_url,
        jwks_url,
        scopes: scopes.unwrap_or_else(|| SCOPES.map(str::to_owned).into()),
        disable_implicit_sign_up,
        require_issuer,
    })
}
