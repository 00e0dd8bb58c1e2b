//! Answers of browsers and authenticators that are wrong in one way each.

#![cfg(test)]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::authenticator::{
    Authenticator, BACKED_UP, BACKUP_ELIGIBLE, CREDENTIAL, EXTENSIONS, PRESENT, VERIFIED,
    attestation,
};

type Case = (
    &'static str,
    Box<dyn Fn(&Authenticator, &Value) -> Value + Send + Sync>,
);

fn case(
    what: &'static str,
    make: impl Fn(&Authenticator, &Value) -> Value + Send + Sync + 'static,
) -> Case {
    (what, Box::new(make))
}

/// What is wrong, and how it is made so.
type Change = (&'static str, fn(&mut Value));

/// What the client data say instead.
fn client_data() -> Vec<Change> {
    vec![
        ("another ceremony", |data| {
            data["type"] = json!("payment.get");
        }),
        ("another challenge", |data| {
            data["challenge"] = json!("A".repeat(43));
        }),
        ("a part of the challenge", |data| {
            let challenge = data["challenge"].as_str().unwrap();
            data["challenge"] = json!(challenge[..42]);
        }),
        ("an empty challenge", |data| data["challenge"] = json!("")),
        ("no challenge", |data| {
            data.as_object_mut().unwrap().remove("challenge");
        }),
        ("a foreign origin", |data| {
            data["origin"] = json!("http://evil.example:5173");
        }),
        ("an origin that ends like ours", |data| {
            data["origin"] = json!("http://badlocalhost:5173");
        }),
        ("an origin below ours", |data| {
            data["origin"] = json!("http://evil.localhost:5173");
        }),
        ("our origin at another port", |data| {
            data["origin"] = json!("http://localhost:5174");
        }),
        ("our origin by another scheme", |data| {
            data["origin"] = json!("https://localhost:5173");
        }),
        ("our origin with a path", |data| {
            data["origin"] = json!("http://localhost:5173/");
        }),
        ("no origin", |data| {
            data.as_object_mut().unwrap().remove("origin");
        }),
        ("a foreign frame", |data| data["crossOrigin"] = json!(true)),
        ("a list", |data| *data = json!([data.clone()])),
    ]
}

/// Fields of the browser's answer instead of the right ones.
fn answers() -> Vec<Change> {
    vec![
        ("another type", |answer| answer["type"] = json!("password")),
        ("two ids", |answer| answer["rawId"] = json!("AAAA")),
        ("no rawId", |answer| {
            answer.as_object_mut().unwrap().remove("rawId");
        }),
        ("no response", |answer| answer["response"] = json!(null)),
        ("client data that are no base64url", |answer| {
            answer["response"]["clientDataJSON"] = json!("a+b=");
        }),
        ("client data that are no JSON", |answer| {
            answer["response"]["clientDataJSON"] = json!("AAAA");
        }),
        ("numbers", |answer| {
            answer["response"]["clientDataJSON"] = json!(1);
        }),
    ]
}

fn encode(bytes: &[u8]) -> Value {
    json!(URL_SAFE_NO_PAD.encode(bytes))
}

pub fn assertions() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (what, change) in client_data() {
        cases.push(case(what, move |key, options| {
            let mut data = key.client_data("webauthn.get", options);
            change(&mut data);
            key.assert(data.to_string().as_bytes(), &key.data(key.flags))
        }));
    }
    for (what, change) in answers() {
        cases.push(case(what, move |key, options| {
            let mut answer = key.get(options);
            change(&mut answer);
            answer
        }));
    }
    cases.push(case("the other ceremony's client data", |key, options| {
        let data = key.client_data("webauthn.create", options).to_string();
        key.assert(data.as_bytes(), &key.data(key.flags))
    }));
    cases.push(case(
        "a challenge that stands there twice",
        |key, options| {
            let data = key.client_data("webauthn.get", options).to_string();
            let twice = data.replacen('{', r#"{"challenge":"x","#, 1);
            key.assert(twice.as_bytes(), &key.data(key.flags))
        },
    ));
    type Bytes = fn(&mut Vec<u8>);
    let data: [(&'static str, Bytes); 9] = [
        ("another relying party", |data| data[0] ^= 1),
        ("nobody present", |data| data[32] &= !PRESENT),
        ("backed up, but not to be", |data| data[32] |= BACKED_UP),
        ("a credential that is not there", |data| {
            data[32] |= CREDENTIAL;
        }),
        ("extensions that are not there", |data| {
            data[32] |= EXTENSIONS;
        }),
        ("extensions that are no map", |data| {
            data[32] |= EXTENSIONS;
            data.push(0x80);
        }),
        ("something left over", |data| data.push(0)),
        ("cut off", |data| data.truncate(36)),
        ("nothing", Vec::clear),
    ];
    for (what, change) in data {
        cases.push(case(what, move |key, options| {
            let client_data = key.client_data("webauthn.get", options).to_string();
            let mut data = key.data(key.flags);
            change(&mut data);
            key.assert(client_data.as_bytes(), &data)
        }));
    }
    let signatures: [(&'static str, Bytes); 4] = [
        ("a changed signature", |signature| {
            *signature.last_mut().unwrap() ^= 1;
        }),
        ("a cut off signature", |signature| {
            signature.pop();
        }),
        ("a longer signature", |signature| signature.push(0)),
        ("no signature", Vec::clear),
    ];
    for (what, change) in signatures {
        cases.push(case(what, move |key, options| {
            let mut answer = key.get(options);
            let text = answer["response"]["signature"].as_str().unwrap();
            let mut signature = URL_SAFE_NO_PAD.decode(text).unwrap();
            change(&mut signature);
            answer["response"]["signature"] = encode(&signature);
            answer
        }));
    }
    cases.push(case("another key's signature", |key, options| {
        let mut other = Authenticator::new();
        other.id.clone_from(&key.id);
        other.get(options)
    }));
    cases.push(case(
        "signed before its flags were changed",
        |key, options| {
            let mut answer = key.get(options);
            answer["response"]["authenticatorData"] =
                encode(&key.data(PRESENT | VERIFIED | BACKUP_ELIGIBLE));
            answer
        },
    ));
    cases.push(case("an attestation", |key, options| key.create(options)));
    cases
}

pub fn attestations() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (what, change) in client_data() {
        cases.push(case(what, move |key, options| {
            let mut data = key.client_data("webauthn.create", options);
            change(&mut data);
            let object = attestation(&key.data_with_credential());
            key.attest(data.to_string().as_bytes(), &object)
        }));
    }
    for (what, change) in answers() {
        cases.push(case(what, move |key, options| {
            let mut answer = key.create(options);
            change(&mut answer);
            answer
        }));
    }
    type Bytes = fn(&mut Vec<u8>);
    let data: [(&'static str, Bytes); 8] = [
        ("another relying party", |data| data[0] ^= 1),
        ("nobody present", |data| data[32] &= !PRESENT),
        ("no credential", |data| {
            data[32] &= !CREDENTIAL;
            data.truncate(37);
        }),
        ("another algorithm", |data| {
            // ES384, which was not asked for.
            let at = data.len() - 77 + 4;
            data.splice(at..=at, [0x38, 34]);
        }),
        ("an id that is too long", |data| data[53] = 0xff),
        ("an id of no length", |data| data[54] = 0),
        ("something left over", |data| data.push(0)),
        ("cut off", |data| data.truncate(80)),
    ];
    for (what, change) in data {
        cases.push(case(what, move |key, options| {
            let client_data = key.client_data("webauthn.create", options).to_string();
            let mut data = key.data_with_credential();
            change(&mut data);
            key.attest(client_data.as_bytes(), &attestation(&data))
        }));
    }
    let objects: [(&'static str, Bytes); 4] = [
        ("no map", |object| object[0] = 0x83),
        ("a map without a length", |object| {
            object[0] = 0xbf;
            object.push(0xff);
        }),
        ("bytes behind it", |object| object.push(0)),
        ("no bytes", Vec::clear),
    ];
    for (what, change) in objects {
        cases.push(case(what, move |key, options| {
            let client_data = key.client_data("webauthn.create", options).to_string();
            let mut object = attestation(&key.data_with_credential());
            change(&mut object);
            key.attest(client_data.as_bytes(), &object)
        }));
    }
    cases
}
