use cqrs_es::test::TestFramework;

use super::*;
use crate::ReadLog;

fn at() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH
}

fn log() -> TestFramework<Log> {
    TestFramework::with(())
}

fn activated(id: &str) -> LogEvent {
    LogEvent::KekActivated {
        kek_id: id.into(),
        at: at(),
    }
}

fn retired(id: &str) -> LogEvent {
    LogEvent::KekRetired {
        kek_id: id.into(),
        at: at(),
    }
}

fn activate(id: &str) -> LogCommand {
    LogCommand::ActivateKek {
        kek_id: id.into(),
        at: at(),
    }
}

fn retire(id: &str) -> LogCommand {
    LogCommand::RetireKek {
        kek_id: id.into(),
        at: at(),
    }
}

fn rewrap(secrets: u64, vaults: u64, failed: u64) -> LogCommand {
    LogCommand::NoteRewrap {
        kek_id: "k2".into(),
        secrets,
        vaults,
        failed,
        at: at(),
    }
}

#[test]
fn a_restore_is_noted_each_time() {
    let (epoch, lost_from, lost_to, at) = ("e2".to_owned(), 5, 9, at());
    let restored = LogEvent::LogRestored {
        epoch: epoch.clone(),
        lost_from,
        lost_to,
        at,
    };
    let accept = LogCommand::AcceptRestore {
        epoch,
        lost_from,
        lost_to,
        at,
    };
    log()
        .given(vec![restored.clone()])
        .when(accept)
        .then_expect_events(vec![restored]);
}

#[test]
fn a_key_becomes_active_once_and_may_again_after_another() {
    log()
        .given(vec![activated("k1")])
        .when(activate("k2"))
        .then_expect_events(vec![activated("k2")]);
    log()
        .given(vec![activated("k1"), activated("k2")])
        .when(activate("k2"))
        .then_expect_events(vec![]);
    log()
        .given(vec![activated("k1"), activated("k2")])
        .when(activate("k1"))
        .then_expect_events(vec![activated("k1")]);
}

#[test]
fn a_key_is_retired_once() {
    log()
        .given(vec![activated("k2")])
        .when(retire("k1"))
        .then_expect_events(vec![retired("k1")]);
    log()
        .given(vec![retired("k1")])
        .when(retire("k1"))
        .then_expect_events(vec![]);
    log()
        .given(vec![retired("k1")])
        .when(retire("k2"))
        .then_expect_events(vec![retired("k2")]);
}

#[test]
fn a_rewrap_is_noted_unless_there_was_nothing_to_do() {
    for (secrets, vaults, failed) in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
        let rewrapped = LogEvent::KekRewrapped {
            kek_id: "k2".into(),
            secrets,
            vaults,
            failed,
            at: at(),
        };
        log()
            .given_no_previous_events()
            .when(rewrap(secrets, vaults, failed))
            .then_expect_events(vec![rewrapped]);
    }
    log()
        .given_no_previous_events()
        .when(rewrap(0, 0, 0))
        .then_expect_events(vec![]);
}

#[test]
fn an_operator_who_reads_is_a_fact() {
    let reading = || Reading {
        of: ReadLog::Vaults,
        filters: vec![],
    };
    let command = LogCommand::ReadAudit {
        reading: reading(),
        at: at(),
    };
    let event = LogEvent::AuditRead {
        reading: reading(),
        at: at(),
    };
    log()
        .given_no_previous_events()
        .when(command)
        .then_expect_events(vec![event]);
}
