//! What browsers and authenticators say in the two ceremonies of WebAuthn (Level 2, sections 7.1 and 7.2): read strictly and
//! checked against what the service expects.
//!
//! No attestation is asked for, so a statement would prove nothing: its format is free and it is not read.

mod cose;
#[cfg(test)]
mod tests;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

pub use cose::PublicKey;

/// Longest id of a credential, in bytes (WebAuthn section 5.8.5).
const CREDENTIAL_ID_MAX: usize = 1023;

/// Which check failed, for the log: clients are never told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The client's data are not JSON of the right form.
    #[error("the client data cannot be read")]
    ClientData,
    /// It answers the other ceremony.
    #[error("it is for another ceremony")]
    Ceremony,
    /// It answers another challenge.
    #[error("it is for another challenge")]
    Challenge,
    /// It comes from another page.
    #[error("it is from another origin")]
    Origin,
    /// The page was framed by one of another origin.
    #[error("it is from a frame of another origin")]
    Framed,
    /// The attestation object or the authenticator's data have another form.
    #[error("the authenticator's data cannot be read")]
    AuthenticatorData,
    /// It is for another relying party.
    #[error("it is for another relying party")]
    RelyingParty,
    /// Nobody was there.
    #[error("nobody was present")]
    NotPresent,
    /// The person was not verified, though they must be.
    #[error("the person was not verified")]
    NotVerified,
    /// The flags contradict each other.
    #[error("the flags contradict each other")]
    Flags,
    /// The key is none that was asked for, or broken.
    #[error("the key is of no use")]
    Key,
    /// The signature is not the key's.
    #[error("the signature is wrong")]
    Signature,
}

/// What the service expects of an answer.
pub struct Expected<'a> {
    /// As it was given out, base64url.
    pub challenge: &'a str,
    /// The domain that passkeys belong to.
    pub rp_id: &'a str,
    /// The pages that may use them: compared as a whole, never by their end.
    pub origins: &'a [String],
    /// Whether the person must have been verified by the authenticator.
    pub user_verification: bool,
}

/// What an authenticator says in either ceremony.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags {
    /// It has verified the person: by their finger, face or PIN.
    pub user_verified: bool,
    /// The passkey may be copied to other devices.
    pub backup_eligible: bool,
    /// It has been.
    pub backed_up: bool,
}

/// A new passkey.
#[derive(Debug, PartialEq)]
pub struct Registered {
    /// Its own id.
    pub credential_id: Vec<u8>,
    /// Its public key as COSE has it.
    pub public_key: Vec<u8>,
    /// What kind of authenticator it is in; zeros if it does not say.
    pub aaguid: [u8; 16],
    /// How often it was used.
    pub counter: u32,
    /// Flags.
    pub flags: Flags,
}

/// A passkey that has signed the challenge.
#[derive(Debug, PartialEq)]
#[must_use]
pub struct Asserted {
    /// How often it was used; always 0 where the authenticator does not count.
    pub counter: u32,
    /// Flags.
    pub flags: Flags,
}

impl Expected<'_> {
    /// Checks the answer to a request to make a passkey.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn registered(
        &self,
        client_data: &[u8],
        attestation_object: &[u8],
    ) -> Result<Registered, Fault> {
        self.check_client("webauthn.create", client_data)?;
        let data = cose::authenticator_data_of(attestation_object)?;
        let data = AuthenticatorData::read(data)?;
        let flags = self.check_authenticator(&data)?;
        let credential = data.credential.ok_or(Fault::AuthenticatorData)?;
        PublicKey::read(credential.public_key)?;
        Ok(Registered {
            credential_id: credential.id.to_vec(),
            public_key: credential.public_key.to_vec(),
            aaguid: credential.aaguid,
            counter: data.counter,
            flags,
        })
    }

    /// Checks the answer to a request to sign with a passkey whose key is known.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn asserted(
        &self,
        public_key: &[u8],
        client_data: &[u8],
        authenticator_data: &[u8],
        signature: &[u8],
    ) -> Result<Asserted, Fault> {
        self.check_client("webauthn.get", client_data)?;
        let data = AuthenticatorData::read(authenticator_data)?;
        let flags = self.check_authenticator(&data)?;
        let signed = [authenticator_data, &Sha256::digest(client_data)].concat();
        PublicKey::read(public_key)?.verify(&signed, signature)?;
        Ok(Asserted {
            counter: data.counter,
            flags,
        })
    }

    fn check_client(&self, ceremony: &str, client_data: &[u8]) -> Result<(), Fault> {
        let client: ClientData =
            serde_json::from_slice(client_data).map_err(|_| Fault::ClientData)?;
        let same = client.challenge.as_bytes().ct_eq(self.challenge.as_bytes());
        match () {
            () if client.ceremony != ceremony => Err(Fault::Ceremony),
            () if !bool::from(same) => Err(Fault::Challenge),
            () if !self.origins.contains(&client.origin) => Err(Fault::Origin),
            () if client.cross_origin => Err(Fault::Framed),
            () => Ok(()),
        }
    }

    fn check_authenticator(&self, data: &AuthenticatorData<'_>) -> Result<Flags, Fault> {
        let flags = Flags {
            user_verified: data.flags & flag::USER_VERIFIED != 0,
            backup_eligible: data.flags & flag::BACKUP_ELIGIBLE != 0,
            backed_up: data.flags & flag::BACKED_UP != 0,
        };
        match () {
            () if data.rp_id_hash != *Sha256::digest(self.rp_id) => Err(Fault::RelyingParty),
            () if data.flags & flag::USER_PRESENT == 0 => Err(Fault::NotPresent),
            () if self.user_verification && !flags.user_verified => Err(Fault::NotVerified),
            () if flags.backed_up && !flags.backup_eligible => Err(Fault::Flags),
            () => Ok(flags),
        }
    }
}

/// What the browser says (section 5.8.1). serde refuses a field that stands there twice.
#[derive(Deserialize)]
struct ClientData {
    #[serde(rename = "type")]
    ceremony: String,
    challenge: String,
    origin: String,
    #[serde(default, rename = "crossOrigin")]
    cross_origin: bool,
}

/// Bits of the authenticator's data (section 6.1).
mod flag {
    pub const USER_PRESENT: u8 = 1;
    pub const USER_VERIFIED: u8 = 1 << 2;
    pub const BACKUP_ELIGIBLE: u8 = 1 << 3;
    pub const BACKED_UP: u8 = 1 << 4;
    pub const CREDENTIAL: u8 = 1 << 6;
    pub const EXTENSIONS: u8 = 1 << 7;
}

/// What the authenticator says (section 6.1).
struct AuthenticatorData<'a> {
    rp_id_hash: [u8; 32],
    flags: u8,
    counter: u32,
    credential: Option<Credential<'a>>,
}

/// A new credential in it (section 6.5.1).
struct Credential<'a> {
    aaguid: [u8; 16],
    id: &'a [u8],
    public_key: &'a [u8],
}

impl<'a> AuthenticatorData<'a> {
    /// Reads all of it; what is left over is a fault.
    fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        let mut rest = bytes;
        let rp_id_hash = *take(&mut rest)?;
        let [flags] = *take(&mut rest)?;
        let counter = u32::from_be_bytes(*take(&mut rest)?);
        let mut credential = None;
        if flags & flag::CREDENTIAL != 0 {
            let aaguid = *take(&mut rest)?;
            let length = usize::from(u16::from_be_bytes(*take(&mut rest)?));
            if length == 0 || length > CREDENTIAL_ID_MAX {
                return Err(Fault::AuthenticatorData);
            }
            let (id, after) = rest
                .split_at_checked(length)
                .ok_or(Fault::AuthenticatorData)?;
            let (public_key, after) = cose::split_map(after)?;
            rest = after;
            credential = Some(Credential {
                aaguid,
                id,
                public_key,
            });
        }
        if flags & flag::EXTENSIONS != 0 {
            (_, rest) = cose::split_map(rest)?;
        }
        if !rest.is_empty() {
            return Err(Fault::AuthenticatorData);
        }
        Ok(Self {
            rp_id_hash,
            flags,
            counter,
            credential,
        })
    }
}

/// Takes a fixed number of bytes off the front.
fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], Fault> {
    let (taken, after) = rest.split_first_chunk().ok_or(Fault::AuthenticatorData)?;
    *rest = after;
    Ok(taken)
}
