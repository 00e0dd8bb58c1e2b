//! Who may name what: the import rules of the architecture, as searches over the sources.
//!
//! A rule says which words appear nowhere in some folders, except in the files listed with their reason. Each rule
//! shows with an example that it would catch a violation, and each exception that it is still needed.

#![cfg(test)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Words that are absent.
struct Rule {
    /// What holds.
    says: &'static str,
    /// Folders that are searched.
    within: &'static [&'static str],
    /// What does not appear there. An identifier at either end of a word is a whole one.
    absent: &'static [&'static str],
    /// Files, or folders with a slash at the end, where it does appear, and why.
    except: &'static [(&'static str, &'static str)],
    /// A line that breaks the rule.
    example: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        says: "aggregates do no I/O: no database, no HTTP, no files, no processes",
        within: &["aggregates/src"],
        absent: &[
            "sqlx",
            "postgres_es",
            "axum",
            "reqwest",
            "tokio",
            "std::fs",
            "std::net",
            "std::process",
            "std::thread",
        ],
        except: &[],
        example: "use sqlx::PgPool;",
    },
    Rule {
        says: "aggregates are pure: time, randomness and ids arrive inside commands (I-13)",
        within: &["aggregates/src"],
        absent: &[
            "Utc::now",
            "Local::now",
            "SystemTime",
            "Instant",
            "std::env",
            "rand",
            "getrandom",
            "RandomState",
            "Uuid",
            "static mut",
            "OnceLock",
            "LazyLock",
            "Mutex",
        ],
        except: &[],
        example: "let at = chrono::Utc::now();",
    },
    Rule {
        says: "projections are pure folds and queries: they read no clock, know no HTTP and no service",
        within: &["projections/src"],
        absent: &[
            "Utc::now",
            "SystemTime",
            "Instant",
            "std::env",
            "axum",
            "mana_auth",
            "rand",
            "std::fs",
        ],
        except: &[],
        example: "updated_at: Utc::now(),",
    },
    Rule {
        says: "projections never append events, call a command or write a table: the append and a rebuild do",
        within: &["projections/src"],
        absent: &[
            "append(",
            "EventSink",
            "EventStore",
            "UserCommand",
            "SessionCommand",
            "SigningKeysCommand",
            "LogCommand",
            "insert into",
            "delete from",
            "update read",
            "truncate",
            "execute(",
        ],
        except: &[],
        example: "sqlx::query(\"delete from read.users\")",
    },
    Rule {
        says: "only the store names the log",
        within: &["src", "projections/src", "aggregates/src"],
        absent: &[
            "from events",
            "into events",
            "join events",
            "update events",
            "table events",
            "on events",
            "from append(",
        ],
        except: &[
            ("src/store/", "this is the place"),
            (
                "src/database.rs",
                "gives the service's role its rights on the log",
            ),
        ],
        example: "sqlx::query(\"select position from events\")",
    },
    Rule {
        says: "what an auditor runs needs no database, no service and no clock",
        within: &["src/transparency"],
        absent: &[
            "sqlx",
            "PgPool",
            "crate::app",
            "crate::config",
            "crate::custody",
            "crate::http",
            "crate::store",
            "reqwest",
            "tokio",
            "Utc",
        ],
        except: &[
            ("src/transparency/tiles.rs", "stores the tree"),
            ("src/transparency/checkpoints.rs", "stores what was signed"),
            ("src/transparency/builder.rs", "follows the log"),
            ("src/transparency/proofs.rs", "reads the stored tree"),
            ("src/transparency/bundle.rs", "reads events for bundles"),
            ("src/transparency/whole.rs", "reads the whole log"),
        ],
        example: "use sqlx::PgPool;",
    },
    Rule {
        says: "only the HTTP layer knows status codes",
        within: &["src", "projections/src", "aggregates/src"],
        absent: &["StatusCode", "as_u16", "IntoResponse"],
        except: &[
            ("src/http/", "this is the place"),
            (
                "src/effects.rs",
                "tells the operator how another service answered",
            ),
        ],
        example: "return Err(StatusCode::CONFLICT);",
    },
    Rule {
        says: "only the HTTP layer knows axum",
        within: &["src", "projections/src"],
        absent: &["axum"],
        except: &[("src/http/", "this is the place")],
        example: "use axum::Router;",
    },
    Rule {
        says: "only the configuration reads the environment",
        within: &["src", "projections/src"],
        absent: &[
            "std::env",
            "env::var",
            "env::var_os",
            "env::vars",
            "env::vars_os",
        ],
        except: &[("src/config.rs", "this is the place")],
        example: "let home = std::env::var(\"HOME\");",
    },
    Rule {
        says: "only the clock tells the time of day, and only ids.rs makes ids of events",
        within: &["src", "projections/src"],
        absent: &[
            "Utc::now",
            "Local::now",
            "SystemTime::now",
            "now_v7",
            "now_v1",
            "new_v4",
        ],
        except: &[
            ("src/clock.rs", "this is the place"),
            ("src/ids.rs", "this is the place"),
        ],
        example: "let at = Utc::now();",
    },
    Rule {
        says: "only the crypto modules name the crates of ciphers, signatures, password hashes and randomness",
        within: &["src", "projections/src", "aggregates/src"],
        absent: &[
            "aes_gcm",
            "argon2",
            "ed25519_dalek",
            "getrandom",
            "hmac",
            "jsonwebtoken",
            "ring::signature",
            "scrypt",
            "sha1::",
            "signed_note",
            "subtle",
        ],
        except: &[("src/crypto/", "this is the place")],
        example: "use aes_gcm::Aes256Gcm;",
    },
    Rule {
        says: "only what holds an attempt of the guard compares passwords or looks mailed tokens up (S-10)",
        within: &["src", "projections/src"],
        absent: &["passwords.verify", "Verdict", "tokens::find"],
        except: &[
            ("src/crypto/", "this is the place"),
            ("src/sign_in.rs", "asks for the attempt in `check`"),
            ("src/self_service.rs", "asks for the attempt in `look_up`"),
            (
                "src/second_factor.rs",
                "admits tries in `Claimant::admit`; ids of challenges are signed",
            ),
            ("src/social.rs", "looks states up, which are never mailed"),
        ],
        example: "if app.passwords.verify(password, stored).await? == Verdict::Right {",
    },
    Rule {
        says: "only the crypto modules hold raw key bytes",
        within: &["src", "projections/src"],
        absent: &["Key32::from_bytes", "SigningKey32::from_bytes", ".expose()"],
        except: &[
            ("src/crypto/", "this is the place"),
            ("src/app.rs", "hashes under the root secret"),
            ("src/keks.rs", "hands the configured keys to the key ring"),
            (
                "src/keks/file.rs",
                "writes a new key into the operator's file",
            ),
            ("src/config/groups.rs", "refuses a key of zeros"),
            ("src/custody.rs", "wraps and unwraps secrets"),
            ("src/accounts.rs", "puts password hashes into custody"),
            ("src/self_service.rs", "puts password hashes into custody"),
            ("src/sign_in.rs", "puts current hashes into custody"),
            (
                "src/store/claims.rs",
                "keys the hashes of claims with the pepper",
            ),
            (
                "src/store/idempotency.rs",
                "keys the hashes of idempotency keys",
            ),
        ],
        example: "let key = Key32::from_bytes([7; 32]);",
    },
];

/// Files outside of a model's own that name its table, and why.
const FOREIGN_TABLES: &[(&str, &str, &str)] = &[
    (
        "projections/src/sessions.rs",
        "read.users",
        "a session and its person in one round trip, the hottest read",
    ),
    (
        "projections/src/users.rs",
        "read.devices",
        "a person and their device in one round trip, at each sign-in",
    ),
    (
        "projections/src/invitations.rs",
        "read.organizations",
        "an invitation and what it is to, in one round trip",
    ),
    (
        "projections/src/members.rs",
        "read.users",
        "members are shown as the people they are, in one round trip",
    ),
    (
        "projections/src/organizations.rs",
        "read.members",
        "the organizations that a person belongs to, in one round trip",
    ),
    (
        "projections/src/teams.rs",
        "read.team_members",
        "teams and who belongs to them, in one round trip",
    ),
    (
        "src/erasure.rs",
        "read.vault_audit",
        "where somebody was goes before their key does",
    ),
    (
        "src/rebuild.rs",
        "read.erasures",
        "a comparison leaves out where people were who are just being erased",
    ),
];

/// The sources below a folder without comments and tests, by path.
fn sources(folder: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let relative = path.strip_prefix(root).unwrap().display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if relative.ends_with(".rs") && !relative.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.insert(relative, code_of(&text));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has sources");
    found
}

/// A file without its comments and without the tests at its end.
fn code_of(text: &str) -> String {
    let code = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or(text);
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Whether a word is in a text, not as a part of a longer identifier.
fn names(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back().is_some_and(is_part);
        let after = text[at + word.len()..].chars().next().is_some_and(is_part);
        !(before && word.starts_with(is_part) || after && word.ends_with(is_part))
    })
}

fn is_within(file: &str, place: &str) -> bool {
    file == place || place.ends_with('/') && file.starts_with(place)
}

/// Every place where a rule is broken, exceptions included.
fn found(rule: &Rule) -> Vec<(String, &'static str)> {
    let mut found = Vec::new();
    for folder in rule.within {
        for (file, code) in sources(folder) {
            let named = rule.absent.iter().filter(|word| names(&code, word));
            found.extend(named.map(|word| (file.clone(), *word)));
        }
    }
    found
}

#[test]
fn nobody_names_what_is_not_theirs() {
    let mut violations = Vec::new();
    for rule in RULES {
        for (file, word) in found(rule) {
            if !rule.except.iter().any(|(place, _)| is_within(&file, place)) {
                violations.push(format!("{file} names {word}: {}", rule.says));
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn every_exception_is_still_needed_and_has_a_reason() {
    for rule in RULES {
        let found = found(rule);
        for (place, reason) in rule.except {
            let needed = found.iter().any(|(file, _)| is_within(file, place));
            assert!(
                needed,
                "{place} may break a rule that it keeps: {}",
                rule.says
            );
            assert!(!reason.is_empty());
        }
    }
}

#[test]
fn every_rule_catches_its_example() {
    for rule in RULES {
        let caught = |text: &str| rule.absent.iter().any(|word| names(text, word));
        assert!(caught(rule.example), "{}", rule.says);
        assert!(!caught(&code_of(&format!("// {}", rule.example))));
    }
}

#[test]
fn a_word_is_found_whole() {
    assert!(names("use hmac::Hmac;", "hmac"));
    assert!(!names("aead::hmac_sha256(key)", "hmac"));
    assert!(names("key.expose()", ".expose()"));
    assert!(!names("operand", "rand"));
    assert!(!names(&code_of("a\n#[cfg(test)]\nmod tests {\n b }"), "b"));
}

/// The table of a read model is its own file's business.
#[test]
fn only_its_own_file_names_the_table_of_a_model() {
    let models: Vec<String> = projections::ALL
        .iter()
        .map(|model| model.name.to_owned())
        .collect();
    assert!(models.len() >= 3);
    let mut violations = Vec::new();
    let mut excused = 0;
    for folder in ["src", "projections/src", "aggregates/src"] {
        for (file, code) in sources(folder) {
            for model in &models {
                let table = format!("read.{model}");
                let own = format!("projections/src/{model}");
                let is_own = file == format!("{own}.rs") || file.starts_with(&format!("{own}/"));
                if !names(&code, &table) || is_own {
                    continue;
                }
                match FOREIGN_TABLES
                    .iter()
                    .any(|(f, t, _)| *f == file && *t == table)
                {
                    true => excused += 1,
                    false => violations.push(format!("{file} names {table}")),
                }
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    assert_eq!(excused, FOREIGN_TABLES.len(), "each exception is needed");
}

/// What the pure crates may use at all; a new line here is a decision.
#[test]
fn the_pure_crates_depend_on_nothing_else() {
    let dependencies = |manifest: &str| -> Vec<String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(manifest);
        let manifest: toml::Table = fs::read_to_string(path).unwrap().parse().unwrap();
        let dependencies = manifest["dependencies"].as_table().unwrap();
        dependencies.keys().cloned().collect()
    };
    assert_eq!(
        dependencies("aggregates/Cargo.toml"),
        ["chrono", "cqrs-es", "serde", "serde_json", "thiserror"]
    );
    assert_eq!(
        dependencies("projections/Cargo.toml"),
        [
            "aggregates",
            "chrono",
            "serde",
            "serde_json",
            "sha2",
            "sqlx"
        ]
    );
}
