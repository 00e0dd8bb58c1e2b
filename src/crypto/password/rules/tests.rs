//! S-08 as a table, and which of two weaknesses is told.

use super::super::breach::Key;
use super::*;

const SIMILAR: bool = true;
const FINE: bool = false;

/// Password, address, name.
type Row = (bool, &'static str, &'static str, &'static str);

/// S-08.
const TABLE: &[Row] = &[
    // The address and its parts.
    (SIMILAR, "ada@example.com", "ada@example.com", "A. Lovelace"),
    (SIMILAR, "ADA@Example.COM", "ada@example.com", "A. Lovelace"),
    (
        SIMILAR,
        "ada@example.com1!",
        "ada@example.com",
        "A. Lovelace",
    ),
    (SIMILAR, "ada-example-com", "ada@example.com", "A. Lovelace"),
    (SIMILAR, "moc.elpmaxe@ada", "ada@example.com", "A. Lovelace"),
    (SIMILAR, "example.com", "ada@example.com", "A. Lovelace"),
    (SIMILAR, "Example1!", "ada@example.com", "A. Lovelace"),
    (SIMILAR, "3x4mp13!!", "ada@example.com", "A. Lovelace"),
    (SIMILAR, "mana-online", "u1@mana-online.co.uk", "u1"),
    (SIMILAR, "online2024", "u1@mana-online.co.uk", "u1"),
    (SIMILAR, "lovelace", "ada.lovelace@example.com", "A"),
    (SIMILAR, "ada_lovelace", "ada.lovelace@example.com", "A"),
    (SIMILAR, "AdaLovelace", "ada.lovelace+mana@example.com", "A"),
    (SIMILAR, "lovelace99", "lovelace1815@example.com", "A"),
    (SIMILAR, "ada12345", "ada@example.com", "A"),
    (SIMILAR, "ada20242025", "ada@example.com", "A"),
    (SIMILAR, "adaadaada", "ada@example.com", "A"),
    (SIMILAR, "u1u1u1u1", "u1@example.com", "u1"),
    (SIMILAR, "u1123456", "u1@example.com", "u1"),
    (SIMILAR, "4912345678!", "4912345678@example.com", "A"),
    // The name, its words, and what is done to them.
    (SIMILAR, "Ada Lovelace", "x@example.com", "Ada Lovelace"),
    (SIMILAR, "lovelace", "x@example.com", "Ada Lovelace"),
    (SIMILAR, "LOVELACE", "x@example.com", "Ada Lovelace"),
    (SIMILAR, "Lovelace2024!", "x@example.com", "Ada Lovelace"),
    (SIMILAR, "!!lovelace!!", "x@example.com", "Ada Lovelace"),
    (SIMILAR, "l0v3l4c3", "x@example.com", "Ada Lovelace"),
    (SIMILAR, "10ve1@ce1815", "x@example.com", "Ada Lovelace"),
    (SIMILAR, "ecalevol", "x@example.com", "Ada Lovelace"),
    (SIMILAR, "3calevol99", "x@example.com", "Ada Lovelace"),
    (SIMILAR, "l-o-v-e-l-a-c-e", "x@example.com", "Ada Lovelace"),
    (SIMILAR, "lovelacelovelace", "x@example.com", "Ada Lovelace"),
    (SIMILAR, "mylovelace1", "x@example.com", "Ada Lovelace"),
    (SIMILAR, "lovelaceada", "ada@example.com", "Ada Lovelace"),
    (SIMILAR, "ｌｏｖｅｌａｃｅ", "x@example.com", "Ada Lovelace"),
    (SIMILAR, "Ada123456", "x@example.com", "Ada"),
    (SIMILAR, "Zoë-1990", "x@example.com", "Zoe"),
    (SIMILAR, "francoise1", "x@example.com", "Françoise Dupont"),
    (
        SIMILAR,
        "francoise1",
        "x@example.com",
        "Franc\u{327}oise Dupont",
    ),
    (SIMILAR, "王小明王小明99", "x@example.com", "王小明"),
    (
        SIMILAR,
        "correct horse battery",
        "x@example.com",
        "Correct Horse Battery",
    ),
    // Passphrases that only hold such a word.
    (FINE, "correct horse ada battery", "ada@example.com", "Ada"),
    (
        FINE,
        "correct horse lovelace battery",
        "x@example.com",
        "Ada Lovelace",
    ),
    (
        FINE,
        "an example of a long sentence",
        "ada@example.com",
        "Ada",
    ),
    (
        FINE,
        "lovelace wrote programs",
        "ada.lovelace@example.com",
        "Ada Lovelace",
    ),
    (FINE, "ada-k8Xq2vpZ", "ada@example.com", "Ada"),
    (FINE, "Tr0ub4dor&3", "ada@example.com", "Ada Lovelace"),
    // Short words are in everything.
    (FINE, "password1234", "u1@example.com", "u1"),
    (FINE, "password1234", "a@example.com", "A"),
    (FINE, "password1234", "ada@example.com", "Ada"),
    (FINE, "password1234", "pa@example.com", "Pa"),
    (FINE, "banana panama", "an@example.com", "An"),
    (FINE, "12345678", "a5@example.com", "A"),
    (FINE, "80808080", "bob@example.com", "Bob"),
    (FINE, "com-com-com", "ada@example.com", "Ada"),
    // Nothing to compare with.
    (FINE, "!?!?!?!?!?", "ada@example.com", "Ada"),
    (FINE, "correct horse", "ada@example.com", ""),
    (FINE, "correct horse", "", ""),
    (FINE, "correct horse", "@", "..."),
];

/// S-08.
#[test]
fn passwords_like_the_address_or_the_name_are_refused_s08() {
    assert!(TABLE.len() >= 40);
    for (similar, password, email, name) in TABLE {
        let verdict = check_new(password, email, name, None);
        let wanted = match *similar {
            true => Err(Weakness::SimilarToAccount),
            false => Ok(()),
        };
        assert_eq!(verdict, wanted, "{password:?} of {name:?} <{email}>");
    }
}

/// S-06 and S-08: a list refuses what the account's own words do not, and only with a list.
#[test]
fn listed_passwords_are_refused_s06() {
    let mut filter = BreachFilter::with_room_for(2);
    for listed in ["trustno1", "lovelace"] {
        filter.add(Key::of_password(listed.as_bytes()));
    }
    let check = |password, filter| check_new(password, "ada@example.com", "Ada Lovelace", filter);
    assert_eq!(check("trustno1", Some(&filter)), Err(Weakness::Breached));
    assert_eq!(check("trustno1", None), Ok(()));
    assert_eq!(check("trustno2", Some(&filter)), Ok(()));
    let both = check("lovelace", Some(&filter));
    assert_eq!(both, Err(Weakness::SimilarToAccount));
}

/// S-04: the longest texts that the doors let through are looked at in no time.
#[test]
fn long_texts_are_little_work() {
    let password = "abcd".repeat(32);
    let name = "abce ".repeat(400);
    let email = format!("{}@example.com", "abcf.".repeat(40));
    let started = std::time::Instant::now();
    assert_eq!(check_new(&password, &email, &name, None), Ok(()));
    assert!(started.elapsed() < std::time::Duration::from_millis(500));
}
