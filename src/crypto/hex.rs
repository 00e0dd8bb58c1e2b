//! Lower-case hex, the text form of hashes.

/// Writes `bytes` as lower-case hex.
pub fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

/// Reads exactly `N` bytes from hex of either case.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

/// Reads hex of either case, however long.
pub fn decode_all(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs
        .iter()
        .map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?))
        .collect()
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_hex() {
        let all: [u8; 256] = std::array::from_fn(|index| index as u8);
        assert_eq!(decode(&encode(&all)), Some(all));
        assert_eq!(decode_all(&encode(&all)), Some(all.to_vec()));
        assert_eq!(encode(&[0x00, 0x9f, 0xff]), "009fff");
        assert_eq!(decode("ABcd"), Some([0xab, 0xcd]));
    }

    #[test]
    fn other_lengths_and_characters_are_not_hex() {
        for text in [
            "", "a", "abc", "abcdef", "0g12", "+123", " 123", "é12", "€1",
        ] {
            assert_eq!(decode::<2>(text), None, "{text}");
        }
        for text in ["a", "abc", "0g12", "+123", " 123", "é1"] {
            assert_eq!(decode_all(text), None, "{text}");
        }
    }
}
