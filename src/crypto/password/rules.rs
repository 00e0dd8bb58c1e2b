//! What a new password must be (S-06, S-08): of some length, and neither the person's own address or name nor one that
//! others know. Every way to choose one comes through [`take_new`].

use std::ops::RangeInclusive;

use thiserror::Error;
use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

use super::Password;
use super::breach::BreachFilter;

#[cfg(test)]
mod tests;

/// Passwords have so many UTF-16 units, as clients count them.
pub const UNITS: RangeInclusive<usize> = 8..=128;
/// Shortest part of an address or a name that counts by itself, in letters and digits.
const PART: usize = 4;
/// Shortest word that can be the main part of a password: shorter ones are in too many other words.
const MAIN: usize = 3;

/// Why a new password is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Weakness {
    /// It has less than 8 characters.
    #[error("a password has 8 to 128 characters")]
    TooShort,
    /// It has more than 128 characters.
    #[error("a password has 8 to 128 characters")]
    TooLong,
    /// It is the address or the name, or little more.
    #[error("the password is too similar to the address or the name")]
    SimilarToAccount,
    /// It is in the list of breached passwords.
    #[error("the password is known from a breach")]
    Breached,
}

/// Takes a new password, as typed, that is none of its account's own data and not in the list of breached passwords.
///
/// # Errors
/// The [`Weakness`].
pub fn take_new(
    password: String,
    email: &str,
    name: &str,
    breached: Option<&BreachFilter>,
) -> Result<Password, Weakness> {
    let units = password.encode_utf16().count();
    if units < *UNITS.start() {
        return Err(Weakness::TooShort);
    }
    if units > *UNITS.end() {
        return Err(Weakness::TooLong);
    }
    check_new(&password, email, name, breached)?;
    Password::new(password).map_err(|_| Weakness::TooLong)
}

/// What is left of it once the length is known to be fine, without which the work would grow with all three texts.
fn check_new(
    password: &str,
    email: &str,
    name: &str,
    breached: Option<&BreachFilter>,
) -> Result<(), Weakness> {
    if is_similar(password, &words(email, name)) {
        return Err(Weakness::SimilarToAccount);
    }
    if breached.is_some_and(|filter| filter.contains(password)) {
        return Err(Weakness::Breached);
    }
    Ok(())
}

/// Whether nothing is left of a password without the words but digits and signs, or less than the words take.
fn is_similar(password: &str, words: &[Vec<char>]) -> bool {
    let mut folded = Zeroizing::new(Vec::with_capacity(fold(password).count()));
    folded.extend(fold(password));
    let taken = taken(&folded, words, 1);
    let left = |letter: fn(char) -> bool, taken: &[bool]| {
        let left = folded.iter().zip(taken).filter(|(_, taken)| !**taken);
        left.filter(|(c, _)| letter(**c)).count()
    };
    if taken.contains(&true) && left(char::is_alphabetic, &taken) == 0 {
        return true;
    }
    let taken = self::taken(&folded, words, MAIN);
    taken.iter().filter(|taken| **taken).count() > left(char::is_alphanumeric, &taken)
}

/// Which characters of a folded password belong to a word of at least so many, forwards or backwards.
fn taken(password: &[char], words: &[Vec<char>], least: usize) -> Vec<bool> {
    let mut taken = vec![false; password.len()];
    for word in words.iter().filter(|word| word.len() >= least) {
        let backwards: Vec<char> = word.iter().rev().copied().collect();
        for (start, place) in password.windows(word.len()).enumerate() {
            if is_written(place, word) || is_written(place, &backwards) {
                taken[start..start + word.len()].fill(true);
            }
        }
    }
    taken
}

/// Whether a place reads as a word with digits and signs in place of letters. One letter has to be itself, or
/// `8080` would be a Bob.
fn is_written(place: &[char], word: &[char]) -> bool {
    let mut pairs = place.iter().zip(word);
    let same_letter = |(c, of_word): (&char, &char)| c == of_word && c.is_alphabetic();
    pairs
        .clone()
        .all(|(c, of_word)| letter(*c) == letter(*of_word))
        && (place == word || pairs.any(same_letter))
}

/// The letter that a digit or sign stands for.
fn letter(c: char) -> char {
    match c {
        '0' => 'o',
        '1' | '!' | 'l' => 'i',
        '2' => 'z',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '6' | '9' => 'g',
        '7' => 't',
        '8' => 'b',
        other => other,
    }
}

/// Lower case, without accents, without what stands between and around words.
fn fold(text: &str) -> impl Iterator<Item = char> {
    let lower = text.chars().flat_map(char::to_lowercase);
    lower
        .nfkd()
        .filter(|c| c.is_alphanumeric() || matches!(c, '@' | '$' | '!'))
}

/// What a password of this account must not be, folded: address and name, and their parts.
fn words(email: &str, name: &str) -> Vec<Vec<char>> {
    let (local, domain) = email.rsplit_once('@').unwrap_or((email, ""));
    let mailbox = local.split('+').next().unwrap_or(local);
    // The last label says nothing about anybody.
    let labels = domain.rsplit_once('.').map_or(domain, |(labels, _)| labels);
    // Composed, or accents would come between the letters of a word.
    let texts = [local, labels, name].map(|text| text.nfkc().collect::<String>());
    let parts = texts
        .iter()
        .flat_map(|text| text.split(|c: char| !c.is_alphanumeric()))
        .flat_map(|part| [part, part.trim_end_matches(|c: char| c.is_ascii_digit())])
        .map(|part| fold(part).collect::<Vec<char>>())
        .filter(|part| part.len() >= PART);
    [email, local, mailbox, domain, name]
        .into_iter()
        .map(|whole| fold(whole).collect::<Vec<char>>())
        .filter(|whole| !whole.is_empty())
        .chain(parts)
        .collect()
}
