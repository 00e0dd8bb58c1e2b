//! Second factors: which are on. Secrets, codes and how often somebody may try are not known here.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{SecondFactorMethod, UserError, UserEvent};

/// What a person shows after their first proof.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct SecondFactor {
    /// A TOTP secret waits to be proven.
    prepared: bool,
    totp: bool,
    otp: bool,
}

impl SecondFactor {
    pub(super) fn prepare(self, at: DateTime<Utc>) -> Result<Vec<UserEvent>, UserError> {
        if self.totp {
            return Err(UserError::TotpEnabled);
        }
        Ok(vec![UserEvent::SecondFactorPrepared { at }])
    }

    pub(super) fn enable(
        self,
        method: SecondFactorMethod,
        at: DateTime<Utc>,
    ) -> Result<Vec<UserEvent>, UserError> {
        let is_on = match method {
            SecondFactorMethod::Totp if !self.totp && !self.prepared => {
                return Err(UserError::SecondFactorOff);
            }
            SecondFactorMethod::Totp => self.totp,
            SecondFactorMethod::Otp => self.otp,
        };
        Ok(if is_on {
            vec![]
        } else {
            vec![UserEvent::SecondFactorEnabled { method, at }]
        })
    }

    pub(super) fn disable(self, at: DateTime<Utc>) -> Vec<UserEvent> {
        if self == Self::default() {
            return vec![];
        }
        vec![UserEvent::SecondFactorDisabled { at }]
    }

    /// `event`, if a second factor is on.
    pub(super) fn only_if_on(self, event: UserEvent) -> Result<Vec<UserEvent>, UserError> {
        if self.totp || self.otp {
            Ok(vec![event])
        } else {
            Err(UserError::SecondFactorOff)
        }
    }

    /// Codes are tried while a secret waits to be proven, too.
    pub(super) fn lock(
        self,
        until: DateTime<Utc>,
        at: DateTime<Utc>,
    ) -> Result<Vec<UserEvent>, UserError> {
        if self == Self::default() {
            return Err(UserError::SecondFactorOff);
        }
        Ok(vec![UserEvent::SecondFactorLocked { until, at }])
    }

    pub(super) fn has_totp(self) -> bool {
        self.totp
    }

    pub(super) fn prepared(&mut self) {
        self.prepared = true;
    }

    pub(super) fn enabled(&mut self, method: SecondFactorMethod) {
        match method {
            SecondFactorMethod::Totp => (self.prepared, self.totp) = (false, true),
            SecondFactorMethod::Otp => self.otp = true,
        }
    }
}
