//! Bans and second factors.

use chrono::TimeDelta;

use super::*;

fn ban(reason: Option<&str>, until: Option<DateTime<Utc>>) -> UserCommand {
    UserCommand::Ban {
        reason: reason.map(Into::into),
        until,
        at: at(),
    }
}

fn banned(reason: Option<&str>, until: Option<DateTime<Utc>>) -> UserEvent {
    UserEvent::Banned {
        reason: reason.map(|reason| Personal::about("u1", reason.into())),
        until,
        at: at(),
    }
}

const LIFT_BAN: UserCommand = UserCommand::LiftBan {
    at: DateTime::UNIX_EPOCH,
};
const BAN_LIFTED: UserEvent = UserEvent::BanLifted {
    at: DateTime::UNIX_EPOCH,
};
const PREPARE: UserCommand = UserCommand::PrepareSecondFactor {
    at: DateTime::UNIX_EPOCH,
};
const PREPARED: UserEvent = UserEvent::SecondFactorPrepared {
    at: DateTime::UNIX_EPOCH,
};
const DISABLE: UserCommand = UserCommand::DisableSecondFactor {
    at: DateTime::UNIX_EPOCH,
};
const DISABLED: UserEvent = UserEvent::SecondFactorDisabled {
    at: DateTime::UNIX_EPOCH,
};
const REPLACE_CODES: UserCommand = UserCommand::ReplaceBackupCodes {
    at: DateTime::UNIX_EPOCH,
};
const USE_CODE: UserCommand = UserCommand::UseBackupCode {
    at: DateTime::UNIX_EPOCH,
};

fn enable(method: SecondFactorMethod) -> UserCommand {
    UserCommand::EnableSecondFactor { method, at: at() }
}

fn enabled(method: SecondFactorMethod) -> UserEvent {
    UserEvent::SecondFactorEnabled { method, at: at() }
}

fn lock() -> UserCommand {
    UserCommand::LockSecondFactor {
        until: soon(),
        at: at(),
    }
}

fn soon() -> DateTime<Utc> {
    at() + TimeDelta::minutes(15)
}

pub fn every_command() -> Vec<UserCommand> {
    vec![
        ban(None, None),
        LIFT_BAN,
        PREPARE,
        enable(SecondFactorMethod::Otp),
        DISABLE,
        REPLACE_CODES,
        USE_CODE,
        lock(),
    ]
}

#[test]
fn a_ban_ends_all_sessions_and_is_repeated_only_if_it_differs() {
    let ended = || others_ended(None, EndReason::Banned);
    user()
        .given(vec![registered()])
        .when(ban(Some("spam"), None))
        .then_expect_events(vec![banned(Some("spam"), None), ended()]);
    user()
        .given(vec![registered(), banned(Some("spam"), None)])
        .when(ban(Some("spam"), None))
        .then_expect_events(vec![]);
    user()
        .given(vec![registered(), banned(Some("spam"), None)])
        .when(ban(Some("spam"), Some(soon())))
        .then_expect_events(vec![banned(Some("spam"), Some(soon())), ended()]);
    user()
        .given(vec![registered(), banned(None, None), BAN_LIFTED])
        .when(ban(None, None))
        .then_expect_events(vec![banned(None, None), ended()]);
}

#[test]
fn a_ban_is_lifted_once() {
    user()
        .given(vec![registered(), banned(None, None)])
        .when(LIFT_BAN)
        .then_expect_events(vec![BAN_LIFTED]);
    for given in [
        vec![registered()],
        vec![registered(), banned(None, None), BAN_LIFTED],
    ] {
        user()
            .given(given)
            .when(LIFT_BAN)
            .then_expect_events(vec![]);
    }
}

#[test]
fn totp_is_prepared_before_it_is_enabled() {
    let totp = SecondFactorMethod::Totp;
    user()
        .given(vec![registered()])
        .when(enable(totp))
        .then_expect_error(UserError::SecondFactorOff);
    user()
        .given(vec![registered(), PREPARED])
        .when(PREPARE)
        .then_expect_events(vec![PREPARED]);
    user()
        .given(vec![registered(), PREPARED])
        .when(enable(totp))
        .then_expect_events(vec![enabled(totp)]);
    user()
        .given(vec![registered(), PREPARED, enabled(totp)])
        .when(enable(totp))
        .then_expect_events(vec![]);
    user()
        .given(vec![registered(), PREPARED, enabled(totp)])
        .when(PREPARE)
        .then_expect_error(UserError::TotpEnabled);
}

#[test]
fn mailed_codes_need_no_preparation_and_go_with_totp() {
    let otp = SecondFactorMethod::Otp;
    user()
        .given(vec![registered()])
        .when(enable(otp))
        .then_expect_events(vec![enabled(otp)]);
    user()
        .given(vec![registered(), enabled(otp)])
        .when(enable(otp))
        .then_expect_events(vec![]);
    user()
        .given(vec![registered(), enabled(otp)])
        .when(PREPARE)
        .then_expect_events(vec![PREPARED]);
}

#[test]
fn what_was_disabled_has_to_be_prepared_again() {
    for given in [
        vec![PREPARED],
        vec![enabled(SecondFactorMethod::Otp)],
        vec![PREPARED, enabled(SecondFactorMethod::Totp)],
    ] {
        let mut events = vec![registered()];
        events.extend(given);
        user()
            .given(events.clone())
            .when(DISABLE)
            .then_expect_events(vec![DISABLED]);
        events.push(DISABLED);
        user()
            .given(events.clone())
            .when(DISABLE)
            .then_expect_events(vec![]);
        user()
            .given(events)
            .when(enable(SecondFactorMethod::Totp))
            .then_expect_error(UserError::SecondFactorOff);
    }
}

#[test]
fn backup_codes_count_while_a_second_factor_is_on() {
    for (command, event) in [
        (REPLACE_CODES, UserEvent::BackupCodesReplaced { at: at() }),
        (USE_CODE, UserEvent::BackupCodeUsed { at: at() }),
    ] {
        for given in [vec![registered()], vec![registered(), PREPARED]] {
            user()
                .given(given)
                .when(command.clone())
                .then_expect_error(UserError::SecondFactorOff);
        }
        user()
            .given(vec![registered(), enabled(SecondFactorMethod::Otp)])
            .when(command)
            .then_expect_events(vec![event]);
    }
}

#[test]
fn a_second_factor_is_locked_if_there_is_one_to_try() {
    user()
        .given(vec![registered()])
        .when(lock())
        .then_expect_error(UserError::SecondFactorOff);
    for event in [PREPARED, enabled(SecondFactorMethod::Otp)] {
        user()
            .given(vec![registered(), event])
            .when(lock())
            .then_expect_events(vec![UserEvent::SecondFactorLocked {
                until: soon(),
                at: at(),
            }]);
    }
}

#[test]
fn bans_and_second_factors_hold_nothing_that_must_be_unique() {
    for event in [banned(None, None), BAN_LIFTED, PREPARED, DISABLED] {
        assert_claims(&event, &[]);
    }
}
