//! The rules of password hashing: S-01 to S-05, S-09, S-23.

use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::runtime;

use super::hasher::Argon2Hash;
use super::*;
use crate::crypto::vectors;

const CHEAP: HashParams = HashParams {
    memory_kib: 64,
    iterations: 2,
    parallelism: 1,
};

fn password(text: &str) -> Password {
    Password::new(text.to_owned()).unwrap()
}

fn check(hasher: &mut Hasher, text: &str, stored: &str) -> Verdict {
    hasher.verify(&password(text), Some(&PasswordHash::new(stored.to_owned())))
}

/// Whether a fresh hasher has computed a hash: its last block is no longer empty.
fn computed(hasher: &Hasher) -> bool {
    let last = hasher.memory.last();
    last.is_some_and(|block| block.as_ref().iter().any(|&word| word != 0))
}

/// Runs the job that waits at the front of the queue.
fn serve(jobs: &Receiver<Job>, hasher: &mut Hasher) {
    let job = jobs.try_recv().unwrap();
    job(hasher);
}

fn block_on<F: Future>(future: F) -> F::Output {
    runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

/// Polls once: enough to queue the job.
fn start<F: Future>(future: std::pin::Pin<&mut F>) {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(future.poll(&mut context).is_pending());
}

/// S-01.
#[test]
fn new_hashes_are_argon2id_with_the_current_cost() {
    let passwords = Passwords::new(HashParams::FLOOR, 2, 8).unwrap();
    let (first, second, verdict, wrong) = block_on(async {
        let first = passwords.hash(password("correct horse")).await.unwrap();
        let second = passwords.hash(password("correct horse")).await.unwrap();
        let verdict = passwords
            .verify(password("correct horse"), Some(first.clone()))
            .await;
        let wrong = passwords
            .verify(password("correct horsf"), Some(first.clone()))
            .await;
        (first, second, verdict, wrong)
    });
    assert!(
        first
            .expose()
            .starts_with("$argon2id$v=19$m=19456,t=2,p=1$")
    );
    let parsed = Argon2Hash::parse(first.expose()).unwrap();
    assert_eq!((parsed.salt.len(), parsed.output.len()), (16, 32));
    assert_ne!(first.expose(), second.expose());
    assert_eq!((verdict, wrong), (Ok(Verdict::Right), Ok(Verdict::Wrong)));
}

/// S-01: the service does not start with less, nor with what no hash may cost.
#[test]
fn costs_outside_the_bounds_are_refused() {
    let floor = HashParams::FLOOR;
    for params in [
        HashParams {
            memory_kib: 19_455,
            ..floor
        },
        HashParams {
            iterations: 1,
            ..floor
        },
        HashParams {
            parallelism: 0,
            ..floor
        },
    ] {
        let refusal = Passwords::new(params, 1, 1).unwrap_err();
        assert_eq!(refusal, BadHashParams::BelowFloor, "{params:?}");
    }
    for params in [
        HashParams {
            memory_kib: 256 * 1024 + 1,
            ..floor
        },
        HashParams {
            iterations: 54,
            ..floor
        },
        HashParams {
            parallelism: 17,
            ..floor
        },
        HashParams {
            memory_kib: u32::MAX,
            iterations: u32::MAX,
            parallelism: u32::MAX,
        },
    ] {
        let refusal = Passwords::new(params, 1, 1).unwrap_err();
        assert_eq!(refusal, BadHashParams::AboveCeiling, "{params:?}");
    }
    assert!(
        Passwords::new(
            HashParams {
                parallelism: 4,
                ..floor
            },
            0,
            0
        )
        .is_ok()
    );
}

/// Made with the reference implementation (`argon2 somesalt -id …` and its test suite).
#[test]
fn hashes_of_the_reference_implementation_verify() {
    let mut hasher = Hasher::new(CHEAP);
    for stored in [
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
        "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8",
        "$argon2i$v=16$m=256,t=2,p=1$c29tZXNhbHQ$/U3YPXYsSb3q9XxHvc0MLxur+GP960kN9j7emXX8zwY",
        "$argon2i$m=256,t=2,p=1$c29tZXNhbHQ$/U3YPXYsSb3q9XxHvc0MLxur+GP960kN9j7emXX8zwY",
    ] {
        let right = check(&mut hasher, "password", stored);
        assert_eq!(right, Verdict::RightButOutdated, "{stored}");
        assert_eq!(
            check(&mut hasher, "passwore", stored),
            Verdict::Wrong,
            "{stored}"
        );
    }
}

/// S-02: whatever differs from today's format makes a good login rehash, and only a good one.
#[test]
fn right_passwords_of_old_hashes_are_outdated() {
    let today = HashParams {
        memory_kib: 128,
        iterations: 2,
        parallelism: 1,
    };
    let mut hasher = Hasher::new(today);
    let current = hasher.hash(&password("secret")).expose().to_owned();
    assert_eq!(check(&mut hasher, "secret", &current), Verdict::Right);
    for old in [
        HashParams {
            memory_kib: 64,
            ..today
        },
        HashParams {
            memory_kib: 4096,
            ..today
        },
        HashParams {
            iterations: 1,
            ..today
        },
        HashParams {
            iterations: 3,
            ..today
        },
        HashParams {
            parallelism: 2,
            ..today
        },
    ] {
        let stored = Hasher::new(old)
            .hash(&password("secret"))
            .expose()
            .to_owned();
        let right = check(&mut hasher, "secret", &stored);
        assert_eq!(right, Verdict::RightButOutdated, "{old:?}");
        assert_eq!(
            check(&mut hasher, "Secret", &stored),
            Verdict::Wrong,
            "{old:?}"
        );
    }
}

/// S-02, S-03.
#[test]
fn hashes_of_the_original_service_verify_and_are_outdated() {
    let mut hasher = Hasher::new(CHEAP);
    for vector in vectors()["passwordHash"].as_array().unwrap() {
        let (text, stored) = (&vector["password"], &vector["hash"]);
        let (text, stored) = (text.as_str().unwrap(), stored.as_str().unwrap());
        let right = check(&mut hasher, text, stored);
        assert_eq!(right, Verdict::RightButOutdated, "{text}");
        let wrong = check(&mut hasher, &format!("{text}x"), stored);
        assert_eq!(wrong, Verdict::Wrong, "{text}");
    }
}

/// S-03: in both formats a password is the same however its letters were composed.
#[test]
fn unicode_forms_of_one_password_are_one_password() {
    let mut hasher = Hasher::new(CHEAP);
    let stored = hasher
        .hash(&password("pässwörd-ﬁ-ＡＢＣ-👩‍🚀"))
        .expose()
        .to_owned();
    let decomposed = "pa\u{308}sswo\u{308}rd-fi-ABC-👩‍🚀";
    assert_eq!(check(&mut hasher, decomposed, &stored), Verdict::Right);
    assert_eq!(
        check(&mut hasher, "passwörd-fi-ABC-👩‍🚀", &stored),
        Verdict::Wrong
    );

    let old = vectors()["passwordHash"][1]["hash"]
        .as_str()
        .unwrap()
        .to_owned();
    let decomposed = "pa\u{308}sswo\u{308}rd-fi-ABC";
    assert_eq!(
        check(&mut hasher, decomposed, &old),
        Verdict::RightButOutdated
    );
}

/// S-04: there is no such thing as an over-long password that a thread could be given.
#[test]
fn overlong_passwords_are_refused_before_any_work() {
    assert!(Password::new("x".repeat(4096)).is_ok());
    assert_eq!(Password::new("x".repeat(4097)).err(), Some(PasswordTooLong));
    assert_eq!(Password::new("é".repeat(2049)).err(), Some(PasswordTooLong));
    assert_eq!(
        Password::new("x".repeat(1 << 20)).err(),
        Some(PasswordTooLong)
    );
    // The letter that grows most under NFKC.
    assert!(Hasher::new(CHEAP).verify(&password(&"\u{fdfa}".repeat(1365)), None) == Verdict::Wrong);
}

/// S-05: the caller behind the last place is told so at once, and the others are served.
#[test]
fn a_full_queue_refuses_at_once() {
    let (passwords, jobs) = Passwords::queue(2);
    let mut first = Box::pin(passwords.hash(password("a")));
    let mut second = Box::pin(passwords.verify(password("b"), None));
    start(first.as_mut());
    start(second.as_mut());
    assert_eq!(passwords.waiting(), 2);
    let refused = block_on(passwords.hash(password("c")));
    assert_eq!(
        refused.unwrap_err(),
        Overloaded {
            retry_after_secs: 2
        }
    );

    let mut hasher = Hasher::new(CHEAP);
    serve(&jobs, &mut hasher);
    assert_eq!(passwords.waiting(), 1);
    serve(&jobs, &mut hasher);
    assert!(block_on(first).is_ok());
    assert_eq!(block_on(second), Ok(Verdict::Wrong));
    assert_eq!(passwords.waiting(), 0);
}

/// S-05: clients that hang up leave no work behind.
#[test]
fn jobs_of_callers_that_went_away_are_skipped() {
    let (passwords, jobs) = Passwords::queue(2);
    let mut abandoned = Box::pin(passwords.hash(password("a")));
    start(abandoned.as_mut());
    drop(abandoned);
    let mut hasher = Hasher::new(CHEAP);
    serve(&jobs, &mut hasher);
    assert!(!computed(&hasher));
}

/// S-05: a thread keeps one block of memory, whatever it is asked to check.
#[test]
fn memory_is_taken_at_the_first_job_and_reused_for_ever() {
    let mut hasher = Hasher::new(CHEAP);
    assert_eq!(hasher.memory.capacity(), 0);
    hasher.hash(&password("first"));
    let place = (hasher.memory.as_ptr(), hasher.memory.capacity());
    assert_eq!(place.1, 64);
    let dearer = HashParams {
        memory_kib: 4096,
        ..CHEAP
    };
    let dearer = Hasher::new(dearer).hash(&password("x")).expose().to_owned();
    let cheaper = HashParams {
        memory_kib: 16,
        ..CHEAP
    };
    let cheaper = Hasher::new(cheaper)
        .hash(&password("x"))
        .expose()
        .to_owned();
    let old = vectors()["passwordHash"][0]["hash"]
        .as_str()
        .unwrap()
        .to_owned();
    for stored in [&dearer, &cheaper, &old, "unreadable"] {
        check(&mut hasher, "x", stored);
        assert_eq!(
            (hasher.memory.as_ptr(), hasher.memory.capacity()),
            place,
            "{stored}"
        );
    }
}

#[test]
fn a_stretched_secret_is_the_same_for_the_same_salt_and_cost_only() {
    let mut hasher = Hasher::new(CHEAP);
    let stretched = hasher.stretch([1; 32], [7; 32]);
    assert_eq!(stretched, hasher.stretch([1; 32], [7; 32]));
    assert_ne!(stretched, hasher.stretch([2; 32], [7; 32]));
    assert_ne!(stretched, hasher.stretch([1; 32], [8; 32]));
    let dearer = HashParams {
        memory_kib: 128,
        ..CHEAP
    };
    assert_ne!(stretched, Hasher::new(dearer).stretch([1; 32], [7; 32]));
    assert!(computed(&hasher));
}

#[test]
fn threads_end_with_the_last_handle() {
    let (passwords, jobs) = Passwords::queue(4);
    let threads = spawn(CHEAP, 3, jobs);
    assert_eq!(threads.len(), 3);
    let clone = passwords.clone();
    drop(passwords);
    assert_eq!(
        block_on(clone.verify(password("a"), None)),
        Ok(Verdict::Wrong)
    );
    drop(clone);
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_lost_answer_is_an_overload_and_no_panic() {
    let (passwords, jobs) = Passwords::queue(1);
    let mut hash = Box::pin(passwords.hash(password("a")));
    start(hash.as_mut());
    drop(jobs);
    assert!(block_on(hash).is_err());
    assert!(block_on(passwords.hash(password("b"))).is_err());
}

/// S-23: an unknown account runs one hash of the current cost.
#[test]
fn unknown_accounts_cost_a_hash() {
    let mut hasher = Hasher::new(CHEAP);
    assert_eq!(hasher.verify(&password("a"), None), Verdict::Wrong);
    assert!(computed(&hasher));
}

/// S-09 and S-23: no stored text panics, takes gigabytes or is quicker to refuse.
#[test]
fn unreadable_hashes_cost_a_hash_and_match_nothing() {
    let good = Hasher::new(CHEAP)
        .hash(&password("secret"))
        .expose()
        .to_owned();
    let (salt, output) = good[good.find("p=1$").unwrap() + 4..]
        .split_once('$')
        .unwrap();
    let argon2 = |params: &str| format!("$argon2id$v=19${params}${salt}${output}");
    let old = vectors()["passwordHash"][0]["hash"]
        .as_str()
        .unwrap()
        .to_owned();
    let unreadable = [
        String::new(),
        "secret".into(),
        "é".into(),
        "💥:💥".into(),
        ":".into(),
        "::".into(),
        "$".into(),
        "$$$$$".into(),
        "\0".into(),
        "$2b$12$ééééééééééééééééééééééééééééééééééééééééééééééééééééé".into(),
        "$2b$12$EixZaYVK1fsbw1ZfbX3OXePaWxn96p36WQoeG6Lruj3vjPGga31lW".into(),
        "$scrypt$ln=14,r=8,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA".into(),
        argon2("m=4294967295,t=1,p=1"),
        argon2("m=262145,t=1,p=1"),
        argon2("m=64,t=4294967295,p=1"),
        argon2("m=64,t=16385,p=1"),
        argon2("m=1024,t=1,p=17"),
        argon2("m=64,t=1,p=16777215"),
        argon2("m=8,t=1,p=2"),
        argon2("m=0,t=0,p=0"),
        argon2("m=64,t=0,p=1"),
        argon2("m=64,t=1,p=0"),
        argon2("m=99999999999999999999,t=2,p=1"),
        argon2("m=-64,t=2,p=1"),
        argon2("m=64,t=2"),
        argon2("t=2,m=64,p=1"),
        argon2("m=64,t=2,p=1,keyid=AAAA"),
        argon2("m=٦٤,t=2,p=1"),
        argon2(""),
        good.replace("argon2id", "argon2"),
        good.replace("argon2id", "ARGON2ID"),
        good.replace("v=19", "v=18"),
        good.replace("v=19", "19"),
        good.replace(salt, "c2FsdA"),
        good.replace(salt, "é"),
        good.replace(salt, &"A".repeat(100)),
        good.replace(output, ""),
        good.replace(output, "AAAA"),
        good.replace(output, &format!("{output}=")),
        good.replace(output, &"A".repeat(100_000)),
        format!("{good}$"),
        format!(" {good}"),
        old[..160].to_owned(),
        format!("{old}0"),
        old.replace(':', "é"),
        old.replace('4', "é"),
        old.replacen(':', "::", 1),
        format!("{}:{}", "é".repeat(16), "é".repeat(64)),
        format!("{}:{}", "0".repeat(128), "0".repeat(32)),
    ];
    for stored in unreadable {
        let mut hasher = Hasher::new(CHEAP);
        assert_eq!(
            check(&mut hasher, "secret", &stored),
            Verdict::Wrong,
            "{stored}"
        );
        assert!(computed(&hasher), "no hash was computed for {stored}");
    }
}

/// S-09: nor does any damaged form of a good hash.
#[test]
fn damaged_hashes_match_nothing() {
    let mut hasher = Hasher::new(CHEAP);
    let good = hasher.hash(&password("secret")).expose().to_owned();
    for position in 0..good.len() {
        assert_eq!(
            check(&mut hasher, "secret", &good[..position]),
            Verdict::Wrong
        );
        for other in ["", "\0", "$", "9", "A", "=", ",", "é", "💥"] {
            let mut damaged = good.clone();
            damaged.replace_range(position..=position, other);
            let verdict = check(&mut hasher, "secret", &damaged);
            assert!(damaged == good || verdict == Verdict::Wrong, "{damaged}");
        }
    }
}

#[test]
fn queue_waits_hashes_and_overflows_are_counted() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = || recorder.handle().render();
    metrics::with_local_recorder(&recorder, || {
        let (passwords, jobs) = Passwords::queue(1);
        let mut waiting = Box::pin(passwords.verify(password("a"), None));
        start(waiting.as_mut());
        assert!(block_on(passwords.hash(password("b"))).is_err());
        assert!(metrics().contains("hasher_queue_depth 1\n"));
        assert!(metrics().contains("hasher_overflow_total 1\n"));
        serve(&jobs, &mut Hasher::new(CHEAP));
        block_on(waiting).unwrap();
    });
    assert!(metrics().contains("hasher_queue_depth 0\n"));
    assert!(metrics().contains("hasher_wait_seconds_count 1\n"));
    assert!(metrics().contains("hasher_hash_seconds_count 1\n"));
}

#[test]
fn debug_texts_show_no_secret() {
    assert_eq!(format!("{:?}", password("secret")), "Password(***)");
    assert_eq!(
        format!("{:?}", PasswordHash::new("secret".into())),
        "PasswordHash(***)"
    );
    assert_eq!(format!("{:?}", Passwords::queue(1).0), "Passwords");
}
