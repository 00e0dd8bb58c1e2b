//! What the store asks of a user's events: their stored types, and what only one account may hold.

use cqrs_es::DomainEvent;

use super::UserEvent;
use crate::claims::external_identity;
use crate::{ClaimChange, ClaimScope, EmailAddress, Personal, StoredEvent};

impl DomainEvent for UserEvent {
    fn event_type(&self) -> String {
        match self {
            Self::Registered { .. } => "user.registered",
            Self::EmailVerified { .. } => "user.email_verified",
            Self::EmailVerificationWithdrawn { .. } => "user.email_verification_withdrawn",
            Self::PasswordSet { .. } => "user.password_set",
            Self::EmailChangeRequested { .. } => "user.email_change_requested",
            Self::EmailChangeConfirmed { .. } => "user.email_change_confirmed",
            Self::EmailChanged { .. } => "user.email_changed",
            Self::EmailChangeReverted { .. } => "user.email_change_reverted",
            Self::FormerEmailReleased { .. } => "user.former_email_released",
            Self::SessionsEnded { .. } => "user.sessions_ended",
            Self::LockedOut { .. } => "user.locked_out",
            Self::ErasureRequested { .. } => "user.erasure_requested",
            Self::ProfileChanged { .. } => "user.profile_changed",
            Self::RoleChanged { .. } => "user.role_changed",
            Self::TierChanged { .. } => "user.tier_changed",
            Self::PasswordRemoved { .. } => "user.password_removed",
            Self::Banned { .. } => "user.banned",
            Self::BanLifted { .. } => "user.ban_lifted",
            Self::SecondFactorPrepared { .. } => "user.second_factor_prepared",
            Self::SecondFactorEnabled { .. } => "user.second_factor_enabled",
            Self::SecondFactorDisabled { .. } => "user.second_factor_disabled",
            Self::BackupCodesReplaced { .. } => "user.backup_codes_replaced",
            Self::BackupCodeUsed { .. } => "user.backup_code_used",
            Self::SecondFactorLocked { .. } => "user.second_factor_locked",
            Self::PasskeyAdded { .. } => "user.passkey_added",
            Self::PasskeyRenamed { .. } => "user.passkey_renamed",
            Self::PasskeyRemoved { .. } => "user.passkey_removed",
            Self::PasskeyCounterWentBack { .. } => "user.passkey_counter_went_back",
            Self::AccountLinked { .. } => "user.account_linked",
            Self::AccountUnlinked { .. } => "user.account_unlinked",
            Self::AccountScopesChanged { .. } => "user.account_scopes_changed",
            Self::ApiKeyCreated { .. } => "user.api_key_created",
            Self::ApiKeyRevoked { .. } => "user.api_key_revoked",
            Self::AuditRead { .. } => "user.audit_read",
        }
        .to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl StoredEvent for UserEvent {
    fn claims(&self) -> Vec<ClaimChange> {
        // An erased value holds and frees nothing: erasure has released whatever there was.
        let email = |email: &Personal<EmailAddress>| email.get().map(|e| e.as_str().to_owned());
        let (change, scope, value): (fn(_, _) -> _, _, _) = match self {
            Self::Registered { email: to, .. } | Self::EmailChanged { to, .. } => {
                (ClaimChange::Take, ClaimScope::Email, email(to))
            }
            Self::EmailChangeReverted { from, .. }
            | Self::FormerEmailReleased { email: from, .. } => {
                (ClaimChange::Release, ClaimScope::Email, email(from))
            }
            Self::PasskeyAdded { credential_id, .. } => (
                ClaimChange::Take,
                ClaimScope::Passkey,
                credential_id.get().cloned(),
            ),
            Self::PasskeyRemoved { credential_id, .. } => (
                ClaimChange::Release,
                ClaimScope::Passkey,
                credential_id.get().cloned(),
            ),
            Self::AccountLinked {
                provider, subject, ..
            } => {
                let identity = subject.get().map(|s| external_identity(provider, s));
                (ClaimChange::Take, ClaimScope::ExternalIdentity, identity)
            }
            Self::AccountUnlinked {
                provider, subject, ..
            } => {
                let identity = subject.get().map(|s| external_identity(provider, s));
                (ClaimChange::Release, ClaimScope::ExternalIdentity, identity)
            }
            Self::ErasureRequested { .. } => return vec![ClaimChange::ReleaseAll],
            Self::EmailChangeRequested { .. }
            | Self::EmailChangeConfirmed { .. }
            | Self::SessionsEnded { .. }
            | Self::LockedOut { .. }
            | Self::EmailVerified { .. }
            | Self::EmailVerificationWithdrawn { .. }
            | Self::PasswordSet { .. }
            | Self::PasswordRemoved { .. }
            | Self::ProfileChanged { .. }
            | Self::RoleChanged { .. }
            | Self::TierChanged { .. }
            | Self::Banned { .. }
            | Self::BanLifted { .. }
            | Self::SecondFactorPrepared { .. }
            | Self::SecondFactorEnabled { .. }
            | Self::SecondFactorDisabled { .. }
            | Self::BackupCodesReplaced { .. }
            | Self::BackupCodeUsed { .. }
            | Self::SecondFactorLocked { .. }
            | Self::PasskeyRenamed { .. }
            | Self::PasskeyCounterWentBack { .. }
            | Self::AccountScopesChanged { .. }
            | Self::ApiKeyCreated { .. }
            | Self::ApiKeyRevoked { .. }
            | Self::AuditRead { .. } => return Vec::new(),
        };
        value
            .map(|value| change(scope, value))
            .into_iter()
            .collect()
    }
}
