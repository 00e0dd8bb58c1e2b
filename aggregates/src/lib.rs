//! What may happen: the aggregates of mana-auth.
//!
//! An aggregate is read in this order: `commands.rs` (what can be asked), `events.rs` (what can have
//! happened), `mod.rs` (which events follow from a command). Nothing here does I/O, reads a clock or
//! draws a random number: times, ids and hashes arrive inside commands.

pub mod claims;
pub mod ids;
pub mod log;
pub mod organization;
pub mod personal;
pub mod reading;
pub mod session;
pub mod signing_keys;
pub mod user;
pub mod values;
pub mod vault;

pub use claims::{ClaimChange, ClaimScope, external_identity};
pub use ids::{OrganizationId, SessionId, UserId};
pub use personal::Personal;
pub use reading::{ReadLog, Reading};
pub use values::{EmailAddress, Roles, Tier};

/// An event as the store wants it: what cqrs-es asks for, and the claims that it takes and releases.
pub trait StoredEvent: cqrs_es::DomainEvent {
    /// What only this stream may hold because of this event, or no longer holds.
    fn claims(&self) -> Vec<ClaimChange> {
        Vec::new()
    }
}
