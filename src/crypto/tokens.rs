//! Random tokens and ids, and the hashes under which tokens are stored.
//!
//! A token is long and random, so a plain SHA-256 hides it; the kind is part of what is hashed, so a
//! token of one kind is never found among those of another (S-28).

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::hex;

const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Makes a random text of `len` characters of `[A-Za-z0-9]`, each with 5.95 bits of randomness.
pub fn random_token(len: usize) -> String {
    let mut token = String::with_capacity(len);
    while token.len() < len {
        let bytes = Zeroizing::new(super::random_bytes::<64>());
        let wanted = len - token.len();
        token.extend(bytes.iter().filter_map(letter).take(wanted));
    }
    token
}

/// Makes a random text of `len` characters of `[A-Za-z0-9_-]`, each with 6 bits of randomness.
pub fn random_url_text(len: usize) -> String {
    const REST: [char; 2] = ['_', '-'];
    let mut text = String::with_capacity(len);
    while text.len() < len {
        let bytes = Zeroizing::new(super::random_bytes::<64>());
        let wanted = len - text.len();
        let letters = bytes
            .iter()
            .map(|byte| letter(byte).unwrap_or(REST[usize::from(byte & 1)]));
        text.extend(letters.take(wanted));
    }
    text
}

/// Makes `N` random bytes, as lower-case hex.
pub fn random_hex<const N: usize>() -> String {
    hex::encode(Zeroizing::new(super::random_bytes::<N>()).as_slice())
}

/// Makes a code of six digits, each as likely as any other.
pub fn six_digits() -> String {
    // 4,294,000,000 is a multiple of a million: what lies above would make small codes more likely.
    const BELOW: u32 = 4_294_000_000;
    loop {
        let number = u32::from_le_bytes(super::random_bytes());
        if number < BELOW {
            return format!("{:06}", number % 1_000_000);
        }
    }
}

/// Picks a letter, or none for the two values in 64 that would make some letters more likely.
fn letter(byte: &u8) -> Option<char> {
    ALPHABET
        .get(usize::from(byte & 63))
        .copied()
        .map(char::from)
}

/// Makes an id of 32 characters of `[A-Za-z0-9]`, the form of all ids that clients know.
pub fn id32() -> String {
    random_token(32)
}

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// Proves a session: the cookie's value and the bearer token.
    Session,
    /// Allows to choose a new password.
    PasswordReset,
    /// Signs in from a mail.
    MagicLink,
    /// Holds the state of a sign-in that is waiting for its second factor.
    Challenge,
    /// A code that was mailed as a second factor, together with whom it was mailed for.
    MailedCode,
    /// Makes a device do without a second factor.
    TrustedDevice,
    /// Names the challenge that a new passkey has to sign.
    PasskeyRegistration,
    /// Names the challenge that a passkey signs to sign in.
    PasskeySignIn,
    /// Lets a program act for a person.
    ApiKey,
    /// Confirms that an account is to be deleted.
    DeleteAccount,
    /// Takes a change of address back.
    RevertEmail,
    /// Ends all sessions of a person.
    EndSessions,
    /// Leads back from another provider, to what is kept of the sign-in that began there.
    SocialState,
}

impl TokenKind {
    /// Part of every stored hash, and the kind's name in the database: changing one invalidates all tokens of
    /// that kind.
    pub fn label(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::PasswordReset => "password-reset",
            Self::MagicLink => "magic-link",
            Self::Challenge => "challenge",
            Self::MailedCode => "mailed-code",
            Self::TrustedDevice => "trusted-device",
            Self::PasskeyRegistration => "passkey-registration",
            Self::PasskeySignIn => "passkey-sign-in",
            Self::ApiKey => "api-key",
            Self::DeleteAccount => "delete-account",
            Self::RevertEmail => "revert-email",
            Self::EndSessions => "end-sessions",
            Self::SocialState => "social-state",
        }
    }
}

/// The SHA-256 of a token and its kind: what the database knows of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Hashes a token that was sent as one of `kind`.
    pub fn of(kind: TokenKind, token: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(kind.label());
        // No label holds a zero byte, so no two pairs of kind and token run together.
        hash.update([0]);
        hash.update(token);
        Self(hash.finalize().into())
    }

    /// Takes back the bytes of a `bytea` column; none if they are not 32.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes for a `bytea` column.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The hash as 64 lower-case hex digits.
    pub fn to_hex(&self) -> String {
        hex::encode(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    const KINDS: [TokenKind; 13] = [
        TokenKind::Session,
        TokenKind::PasswordReset,
        TokenKind::MagicLink,
        TokenKind::Challenge,
        TokenKind::MailedCode,
        TokenKind::TrustedDevice,
        TokenKind::PasskeyRegistration,
        TokenKind::PasskeySignIn,
        TokenKind::ApiKey,
        TokenKind::DeleteAccount,
        TokenKind::RevertEmail,
        TokenKind::EndSessions,
        TokenKind::SocialState,
    ];

    #[test]
    fn tokens_have_the_asked_length_and_alphabet() {
        for len in [0, 1, 24, 32, 63, 64, 65, 1000] {
            let token = random_token(len);
            assert_eq!(token.len(), len);
            assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        }
        assert_eq!(id32().len(), 32);
    }

    #[test]
    fn tokens_do_not_repeat() {
        let tokens: HashSet<String> = (0..1000).map(|_| random_token(16)).collect();
        assert_eq!(tokens.len(), 1000);
    }

    #[test]
    fn every_letter_comes_from_the_same_number_of_bytes() {
        let mut sources: HashMap<char, u32> = HashMap::new();
        for byte in 0..=255u8 {
            if let Some(letter) = letter(&byte) {
                *sources.entry(letter).or_default() += 1;
            }
        }
        assert_eq!(sources.len(), 62);
        assert!(sources.values().all(|&count| count == 4));
    }

    /// S-28.
    #[test]
    fn a_token_of_one_kind_is_not_one_of_another() {
        let hashes: HashSet<TokenHash> = KINDS.map(|kind| TokenHash::of(kind, "same")).into();
        assert_eq!(hashes.len(), KINDS.len());
    }

    /// S-28: a kind cannot be continued by letters of the token.
    #[test]
    fn kind_and_token_do_not_run_together() {
        for kind in KINDS {
            assert!(!kind.label().contains('\0'));
            let plain: [u8; 32] = Sha256::digest(format!("{}same", kind.label())).into();
            assert_ne!(TokenHash::of(kind, "same"), TokenHash(plain));
        }
    }

    #[test]
    fn hash_is_sha_256_of_kind_zero_and_token() {
        // printf 'session\0abc' | sha256sum
        let hash = TokenHash::of(TokenKind::Session, "abc");
        assert_eq!(
            hash.to_hex(),
            "cb61287a59987eb0d3b6357e5b48944abbdee296f4bf364b6fa78a6b5ee22e77"
        );
        assert_eq!(TokenHash::from_slice(hash.as_bytes()), Some(hash));
        assert_eq!(TokenHash::from_slice(&hash.as_bytes()[1..]), None);
    }
}
