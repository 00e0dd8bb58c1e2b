use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::*;
use crate::crypto::hex::decode;

/// Made with `openssl genrsa 2048`, and `openssl dgst -sha256 -sign` of the text `message`.
const RSA_MODULUS: &str = "d4a345c5e950d0f9f36798a4f7d7a8f2561b037deaa27459c25177ec2cdca405f03b697cd4cb617b295d6193f5e768a3\
    1701a64b8493c2042ccc1dbc6b42b04a0dcf1862950f4b0a3ce68adf6b5074b3e5eaff8f8a8a31ca59952c61f3be81e2\
    cf329f84315c2a297921cb174cf89d06426678f46c1bf0e91924808b6f1f29b73833951d3781959b5aa45804f8daa778\
    03fc30b11bc5c33c4d89ebcbbacd116dfdb067351620e2a4b257d988071e5ef74c44d7710f866eb13166ed5883121e22\
    c5294e5bc95822ca5e06e87bcef2e6a355c759ad313029b666b83a6ff84035ba99a70a3c04167d12cc41f2480b830be3\
    f4344ad80f75137666b1f24cd5a449fb";
const RSA_SIGNATURE: &str = "4826a750881416936fb49c7ec763105a33a2559ff14c788c6c4fa342f1d9765770aa804e91e213f84c9391816538f0a4\
    738076c4e55183f71923aabf08b9001c0b748fbf40205835bf57177d15f2777139dd5dd854f478f3b2057b1de21b9447\
    0fbf0e184dab5eb4bfdccae5d8e6be45ede2060094daddcb0212cbd1969adf4dceac5a158621217145f401cfc8106535\
    7dcb068c4af7d0f86c7d6070ca6a3f63d1ebfc74009727517ae9e8ab59e98d5754bd489e1192147290821bcc230305d6\
    2ec7874d01a5eda3ac1a2cac3857459feb8f1dc79980d688992bbd8cec95b278f0267983c72a111a4aa4052cc31bc0a4\
    ae8298ac753966ced53f066fbf7d152e";

/// The members of an RSA key but its modulus, as COSE has them (RFC 8230).
fn rsa_key(modulus: &[u8]) -> Vec<u8> {
    let length = u16::try_from(modulus.len()).unwrap().to_be_bytes();
    let head = [0xa4, 1, 3, 3, 0x39, 1, 0, 0x20, 0x59];
    [&head[..], &length, modulus, &[0x21, 0x43, 1, 0, 1]].concat()
}

/// The key of RFC 9052, appendix C.7.1: kid 11, ES256.
fn p256_key() -> Vec<u8> {
    let x =
        decode::<32>("bac5b11cad8f99f9c72b05cf4b9e26d244dc189f745228255a219a86d6a09eff").unwrap();
    let y =
        decode::<32>("20138bf82dc1b6d562be0fa54ab7804a3a64b6d72ccfed6b6fb6ed28bbfc117e").unwrap();
    let head = [0xa5, 1, 2, 3, 0x26, 0x20, 1];
    [&head[..], &[0x21, 0x58, 32], &x, &[0x22, 0x58, 32], &y].concat()
}

#[test]
fn an_rsa_signature_is_checked() {
    let modulus = decode::<256>(RSA_MODULUS).unwrap();
    let signature = decode::<256>(RSA_SIGNATURE).unwrap();
    let key = PublicKey::read(&rsa_key(&modulus)).unwrap();
    assert_eq!(key.verify(b"message", &signature), Ok(()));
    for (message, signature) in [
        (&b"another"[..], &signature[..]),
        (b"message", &signature[..255]),
        (b"message", b""),
    ] {
        assert_eq!(key.verify(message, signature), Err(Fault::Signature));
    }
    // 1,024 bits are too few.
    assert_eq!(PublicKey::read(&rsa_key(&modulus[..128])), Err(Fault::Key));
}

/// A key that was not asked for, or whose members do not fit together, is none.
#[test]
fn keys_are_read_strictly() {
    assert!(PublicKey::read(&p256_key()).is_ok());
    let changed = |at: usize, byte: u8| {
        let mut key = p256_key();
        key[at] = byte;
        key
    };
    let with = |more: &[u8]| {
        let mut key = [&p256_key(), more].concat();
        key[0] += 1;
        key
    };
    let broken = [
        vec![],
        vec![0xa0],
        // Ed25519's kind, EdDSA, and another curve.
        changed(2, 1),
        changed(4, 0x27),
        changed(6, 2),
        // A coordinate is a byte shorter, or the map has no length.
        changed(9, 31),
        changed(0, 0xbf),
        // The map announces more, or less, than there is.
        changed(0, 0xa6),
        changed(0, 0xa4),
        p256_key()[..76].to_vec(),
        [&p256_key()[..], &[0]].concat(),
        // The kind stands there twice.
        with(&[1, 2]),
        // A label that is no number.
        with(&[0x61, b'x', 0]),
    ];
    for key in broken {
        assert_eq!(PublicKey::read(&key), Err(Fault::Key), "{key:02x?}");
    }
    // What nobody knows is passed over: key_ops, here.
    assert_eq!(
        PublicKey::read(&with(&[4, 0x81, 2])),
        PublicKey::read(&p256_key())
    );
}

const ORIGIN: &str = "https://auth.mana.how";

fn expected(user_verification: bool, origins: &[String]) -> Expected<'_> {
    Expected {
        challenge: "challenge",
        rp_id: "mana.how",
        origins,
        user_verification,
    }
}

fn client_data(ceremony: &str) -> Vec<u8> {
    format!(r#"{{"type":"{ceremony}","challenge":"challenge","origin":"{ORIGIN}"}}"#).into_bytes()
}

fn data(flags: u8, counter: u32) -> Vec<u8> {
    [
        &Sha256::digest("mana.how")[..],
        &[flags],
        &counter.to_be_bytes(),
    ]
    .concat()
}

/// Extensions, whatever they say, are passed over; the count and the flags are told.
#[test]
fn an_assertion_with_extensions_is_read() {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    let head = [0xa4, 1, 1, 3, 0x27, 0x20, 6, 0x21, 0x58, 32];
    let key = [&head[..], pair.public_key().as_ref()].concat();
    let client_data = client_data("webauthn.get");
    let extensions = b"\xa1\x6bcredProtect\x02";
    let data = [&data(0x9d, 7)[..], extensions].concat();
    let signed = [&data[..], &Sha256::digest(&client_data)].concat();
    let signature = pair.sign(&signed);
    let origins = [ORIGIN.to_owned()];
    let asserted = expected(true, &origins).asserted(&key, &client_data, &data, signature.as_ref());
    let flags = Flags {
        user_verified: true,
        backup_eligible: true,
        backed_up: true,
    };
    assert_eq!(asserted, Ok(Asserted { counter: 7, flags }));
}

/// S-54: an origin is compared as a whole: none that ends like ours, and none of the same domain.
#[test]
fn origins_are_compared_as_a_whole_s54() {
    let object = {
        let credential = [&[0; 16][..], &[0, 3], b"abc", &p256_key()].concat();
        let data = [data(0x41, 0), credential].concat();
        let length = u16::try_from(data.len()).unwrap().to_be_bytes();
        let head = &b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x59"[..];
        [head, &length, &data].concat()
    };
    let with = |origins: &[&str]| {
        let origins: Vec<String> = origins.iter().map(ToString::to_string).collect();
        expected(false, &origins).registered(&client_data("webauthn.create"), &object)
    };
    assert_eq!(with(&[ORIGIN]).unwrap().credential_id, b"abc");
    for origin in [
        "https://mana.how",
        "https://auth.mana.how:8443",
        "http://auth.mana.how",
        "https://auth.mana.how/",
        "https://auth.mana.ho",
        "",
    ] {
        assert_eq!(with(&[origin]), Err(Fault::Origin), "{origin}");
    }
    assert_eq!(with(&[]), Err(Fault::Origin));
    let origins = [ORIGIN.to_owned()];
    let strict = expected(true, &origins).registered(&client_data("webauthn.create"), &object);
    assert_eq!(strict, Err(Fault::NotVerified));
}
