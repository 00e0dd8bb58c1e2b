//! The file of key-encryption keys (`MANA_AUTH_KEKS_FILE`), to which an operator adds.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::Path;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::config;
use crate::crypto::aead::Key32;

/// Makes a random key and adds it to the file, which has its owner and rights of before. A crash leaves the file as it
/// was or with the key.
///
/// # Errors
/// When the file cannot be read or written, has that key already, or the id is none.
pub fn add(path: &Path, id: &str) -> anyhow::Result<()> {
    let shown = path.display();
    let there = config::keks_in_file(path).map_err(anyhow::Error::msg)?;
    if there.iter().any(|kek| kek.id == id) {
        bail!("{shown} has a key {id:?} already: add it without --generate");
    }
    let reading = || format!("reading {shown}");
    let before = Zeroizing::new(fs::read_to_string(path).with_context(reading)?);
    let rights = fs::metadata(path).with_context(reading)?;
    let key = Zeroizing::new(STANDARD.encode(Key32::generate().expose()));
    let after = Zeroizing::new(format!("{},{id}:{}\n", before.trim_end(), key.as_str()));
    let fresh = path.with_extension("new");
    let write = || {
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(after.as_bytes())?;
        chown(&fresh, Some(rights.uid()), Some(rights.gid()))?;
        file.set_permissions(fs::Permissions::from_mode(rights.mode() & 0o777))?;
        file.sync_all()
    };
    write().with_context(|| format!("writing {}", fresh.display()))?;
    // An id that is none must not make the file useless.
    if let Err(problem) = config::keks_in_file(&fresh) {
        fs::remove_file(&fresh)?;
        bail!("{id:?} is no id of a key: {problem}");
    }
    let replaced = fs::rename(&fresh, path).and_then(|()| {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    });
    replaced.with_context(|| format!("writing {shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "env-v1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n";

    #[test]
    fn a_key_is_added_and_the_rest_of_the_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keks");
        fs::write(&path, BEFORE).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        add(&path, "k2").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(&format!("{},k2:", BEFORE.trim_end())));
        let keys = config::keks_in_file(&path).unwrap();
        let ids: Vec<&str> = keys.iter().map(|kek| kek.id.as_str()).collect();
        assert_eq!(ids, ["env-v1", "k2"]);
        assert_ne!(keys[1].key.expose(), &[0; 32]);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);

        for (id, complaint) in [
            ("k2", "has a key \"k2\" already"),
            ("k 3", "is no id"),
            ("", "is no id"),
            ("a:b", "is no id"),
        ] {
            let refused = add(&path, id).unwrap_err().to_string();
            assert!(refused.contains(complaint), "{refused}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        let refused = add(&folder.path().join("none"), "k2").unwrap_err();
        assert!(refused.to_string().contains("cannot read"), "{refused}");
    }
}
