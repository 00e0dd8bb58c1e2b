//! S-06: what is in the list is refused, hardly anything else is, and no broken file is believed.

use super::*;
use crate::crypto::hex;

/// What people choose, and put something behind when they have to.
const STEMS: [&str; 50] = [
    "password",
    "qwerty",
    "iloveyou",
    "princess",
    "monkey",
    "dragon",
    "sunshine",
    "football",
    "baseball",
    "superman",
    "batman",
    "master",
    "shadow",
    "michael",
    "jennifer",
    "jordan",
    "hunter",
    "soccer",
    "letmein",
    "welcome",
    "trustno",
    "starwars",
    "charlie",
    "ashley",
    "michelle",
    "jessica",
    "daniel",
    "anthony",
    "freedom",
    "whatever",
    "computer",
    "internet",
    "pokemon",
    "liverpool",
    "chelsea",
    "arsenal",
    "blink",
    "samsung",
    "passwort",
    "hallo",
    "schatz",
    "azerty",
    "soleil",
    "doudou",
    "zaq",
    "asdfgh",
    "qazwsx",
    "abc",
    "admin",
    "killer",
];
const ENDINGS: [&str; 20] = [
    "", "1", "12", "123", "1234", "12345", "123456", "!", "1!", "123!", "01", "007", "69", "99",
    "2000", "2010", "2020", "2024", "#1", "@123",
];

/// The file of `written`: magic; version, hashes, entries and words; words; checksum.
const GOLDEN: [&str; 4] = [
    "6d616e612d6175746820627265616368",
    "010000001e00000003000000000000000200000000000000",
    "91e14148ec38363a246ce3f7d7f9017c",
    "63685a86da46988341e89b9dbcdd3c16a0cd5dda2e51cea3b3446ade8f365e4b",
];

fn known() -> impl Iterator<Item = String> {
    let pairs = STEMS.iter().flat_map(|stem| ENDINGS.map(|end| (stem, end)));
    pairs.map(|(stem, end)| format!("{stem}{end}"))
}

fn filter_of(passwords: &[&str]) -> BreachFilter {
    let mut filter = BreachFilter::with_room_for(passwords.len());
    for password in passwords {
        filter.add(Key::of_password(password.as_bytes()));
    }
    filter
}

/// The bytes of a small filter's file, and a place for changed ones.
fn written() -> (Vec<u8>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("filter");
    let bytes = filter_of(&["password", "qwerty", "pässwörd"])
        .write(&path)
        .unwrap();
    let file = fs::read(path).unwrap();
    assert_eq!(file.len() as u64, bytes);
    (file, folder)
}

fn open(bytes: &[u8], folder: &tempfile::TempDir) -> Result<BreachFilter, BreachError> {
    let path = folder.path().join("changed");
    fs::write(&path, bytes).unwrap();
    BreachFilter::open(&path)
}

/// S-06: with nothing but the file.
#[test]
fn a_thousand_known_passwords_are_all_refused_s06() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("filter");
    let mut filter = BreachFilter::with_room_for(1000);
    for password in known() {
        filter.add(Key::of_password(password.as_bytes()));
    }
    filter.write(&path).unwrap();
    let filter = BreachFilter::open(&path).unwrap();
    assert_eq!(filter.entries(), 1000);
    assert_eq!(known().filter(|known| filter.contains(known)).count(), 1000);
    assert!(!filter.contains("correct horse ada battery"));
}

/// S-06: measured over two million passwords that are not in a full filter.
#[test]
fn at_most_one_stranger_in_a_hundred_thousand_is_refused_s06() {
    let members = 100_000;
    let mut filter = BreachFilter::with_room_for(members);
    for n in 0..members {
        filter.add(Key::of_password(format!("member {n}").as_bytes()));
    }
    let strangers = 2_000_000;
    let refused = (0..strangers)
        .filter(|n| filter.contains(&format!("stranger {n}")))
        .count();
    println!("{refused} of {strangers} strangers were refused");
    assert!(refused as f64 <= 1e-5 * f64::from(strangers), "{refused}");
    let bits = filter.bloom.num_bits() as f64 / members as f64;
    assert!((27.0..28.0).contains(&bits), "{bits} bits an entry");
}

/// S-06: what public lists hold is found by what people type.
#[test]
fn the_key_is_the_sha1_of_what_was_typed_s06() {
    let digest = hex::decode("5BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8").unwrap();
    let mut filter = BreachFilter::with_room_for(1);
    filter.add(Key::of_sha1(digest));
    assert!(filter.contains("password"));
    // These letters open an account whose password is "password".
    assert!(filter.contains("ｐａｓｓｗｏｒｄ"));
    for other in ["Password", "password ", " password", "password\n", ""] {
        assert!(!filter.contains(other), "{other:?}");
    }
    let decomposed = "pa\u{308}sswort";
    let filter = filter_of(&[decomposed]);
    assert!(filter.contains(decomposed) && !filter.contains("pässwort"));
}

#[test]
fn entries_are_different_passwords() {
    let mut filter = filter_of(&["a", "b", "a"]);
    assert_eq!(filter.entries(), 2);
    filter.add(Key::of_password(b"c"));
    assert_eq!(filter.entries(), 3);
}

/// Fails when the crate spreads keys otherwise: then `VERSION` has to change, since old files would find nothing.
#[test]
fn a_file_of_this_version_is_always_the_same() {
    let (file, folder) = written();
    assert_eq!(hex::encode(&file), GOLDEN.concat());
    let golden = open(&hex::decode_all(&GOLDEN.concat()).unwrap(), &folder).unwrap();
    assert_eq!(golden.entries(), 3);
    assert!(["password", "qwerty", "pässwörd"].map(|p| golden.contains(p)) == [true; 3]);
}

#[test]
fn writing_replaces_a_file_and_leaves_nothing_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("filter.v1");
    filter_of(&["old"]).write(&path).unwrap();
    filter_of(&["new"]).write(&path).unwrap();
    let filter = BreachFilter::open(&path).unwrap();
    assert!(filter.contains("new") && !filter.contains("old"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

    let taken = folder.path().join("folder");
    fs::create_dir_all(taken.join("full")).unwrap();
    assert!(filter.write(&taken).is_err());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn missing_and_foreign_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let missing = BreachFilter::open(&folder.path().join("missing")).err();
    assert!(matches!(missing, Some(BreachError::Unreadable(_))));
    let not_a_file = BreachFilter::open(folder.path()).err();
    assert!(matches!(not_a_file, Some(BreachError::Unreadable(_))));
    for foreign in [
        &b""[..],
        b"mana-auth",
        b"password\n123456\nqwerty\nletmein\n",
    ] {
        let refused = open(foreign, &folder).err();
        assert!(matches!(refused, Some(BreachError::NotAFilter)));
    }
}

#[test]
fn other_versions_are_refused_by_name() {
    let (mut file, folder) = written();
    file[16..20].copy_from_slice(&2_u32.to_le_bytes());
    let refused = open(&file, &folder).err().unwrap();
    assert!(matches!(refused, BreachError::OtherVersion(2)));
    assert!(refused.to_string().contains("version 2"), "{refused}");
}

/// Every length but the right one, and every byte.
#[test]
fn cut_grown_and_damaged_files_are_refused() {
    let (file, folder) = written();
    assert!(open(&file, &folder).is_ok());
    for length in 0..file.len() {
        let refused = open(&file[..length], &folder).err().unwrap();
        match refused {
            BreachError::NotAFilter => assert!(length < MAGIC.len()),
            BreachError::WrongLength { found, .. } => assert_eq!(found, length as u64),
            other => panic!("{length}: {other}"),
        }
    }
    let grown = open(&[&file[..], b"\n"].concat(), &folder).err();
    assert!(matches!(grown, Some(BreachError::WrongLength { .. })));
    for position in 0..file.len() {
        let mut damaged = file.clone();
        damaged[position] ^= 0x80;
        let refused = open(&damaged, &folder).err().unwrap();
        match position {
            0..16 => assert!(matches!(refused, BreachError::NotAFilter)),
            16..20 => assert!(matches!(refused, BreachError::OtherVersion(_))),
            32..40 => assert!(matches!(refused, BreachError::WrongLength { .. })),
            _ => assert!(matches!(refused, BreachError::Damaged), "{position}"),
        }
    }
}

/// A checksum can be right over nonsense.
#[test]
fn numbers_that_no_filter_has_are_refused() {
    let (file, folder) = written();
    let with = |hashes: u32, words: u64| {
        let mut made = file[..HEAD_BYTES + 8 * words as usize].to_vec();
        made[20..24].copy_from_slice(&hashes.to_le_bytes());
        made[32..40].copy_from_slice(&words.to_le_bytes());
        let sum = Sha256::digest(&made);
        open(&[&made[..], &sum].concat(), &folder)
    };
    assert!(with(19, 1).is_ok());
    for (hashes, words) in [(0, 1), (65, 1), (u32::MAX, 1), (19, 0)] {
        let refused = with(hashes, words).err();
        assert!(
            matches!(refused, Some(BreachError::Damaged)),
            "{hashes} {words}"
        );
    }
}
