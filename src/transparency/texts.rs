//! What the log signs: checkpoints, and how many events a stream has. No text of one kind reads as the other.

use tlog_tiles::{Checkpoint, Hash};

/// First line of a statement about a stream. The second line of a checkpoint is a number, that of a statement an origin.
const STATEMENT: &str = "mana-auth stream statement 1";

/// The text of a checkpoint (C2SP tlog-checkpoint).
pub fn checkpoint(origin: &str, size: u64, root: Hash) -> String {
    format!("{origin}\n{size}\n{root}\n")
}

/// Reads the text of a checkpoint. One with more lines is none of ours.
pub fn read_checkpoint(text: &str) -> Option<Checkpoint> {
    let read = Checkpoint::from_bytes(text.as_bytes()).ok()?;
    (checkpoint(read.origin(), read.size(), *read.hash()) == text).then_some(read)
}

/// How many events a stream has in a tree.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// Of the log.
    pub origin: String,
    /// Type of the stream.
    pub stream_type: String,
    /// Id of the stream.
    pub stream_id: String,
    /// How many events it has.
    pub events: u64,
    /// Size of the tree.
    pub size: u64,
    /// Root of the tree.
    pub root: Hash,
}

impl Statement {
    /// The text to be signed; `None` where a name has a line break, which would read as another text.
    pub fn text(&self) -> Option<String> {
        let names = [&self.origin, &self.stream_type, &self.stream_id];
        if names.iter().any(|name| name.contains(char::is_control)) {
            return None;
        }
        let Self {
            origin,
            stream_type,
            stream_id,
            events,
            size,
            root,
        } = self;
        Some(format!(
            "{STATEMENT}\n{origin}\n{stream_type}\n{stream_id}\n{events}\n{size}\n{root}\n"
        ))
    }
}

#[cfg(test)]
mod tests {
    use tlog_tiles::record_hash;

    use super::*;

    fn statement() -> Statement {
        Statement {
            origin: "auth.example.com/log/1".to_owned(),
            stream_type: "user".to_owned(),
            stream_id: "ada".to_owned(),
            events: 3,
            size: 10,
            root: record_hash(b""),
        }
    }

    #[test]
    fn no_text_reads_as_one_of_the_other_kind() {
        let text = statement().text().unwrap();
        assert_eq!(
            text,
            "mana-auth stream statement 1\nauth.example.com/log/1\nuser\nada\n3\n10\nbjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=\n"
        );
        assert!(read_checkpoint(&text).is_none());
        let broken = Statement {
            stream_id: "ada\n4".to_owned(),
            ..statement()
        };
        assert_eq!(broken.text(), None);
    }

    #[test]
    fn a_checkpoint_is_read_as_it_was_written_and_in_no_other_form() {
        let text = checkpoint("auth.example.com/log/1", 10, record_hash(b""));
        let read = read_checkpoint(&text).unwrap();
        assert_eq!((read.origin(), read.size()), ("auth.example.com/log/1", 10));
        assert_eq!(*read.hash(), record_hash(b""));
        for other in [
            text.replace("\n10\n", "\n010\n"),
            text.replace("\n10\n", "\n+10\n"),
            text.replace("\n10\n", "\nten\n"),
            text.replace("=\n", "\n"),
            format!("{text}more\n"),
            text.trim_end().to_owned(),
            String::new(),
        ] {
            assert!(read_checkpoint(&other).is_none(), "{other:?}");
        }
    }
}
