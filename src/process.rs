//! Who this process is to the operating system, and what of its memory leaves it.

use rustix::process::{self, Resource, Rlimit};

/// Keeps the keys in memory out of core dumps, and from other processes of the same user (S-79).
///
/// # Errors
/// If the operating system does not take it.
pub fn hide_memory() -> std::io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    process::setrlimit(Resource::Core, none)?;
    // The limit says nothing to a program that is given all dumps, such as that of systemd.
    #[cfg(target_os = "linux")]
    process::set_dumpable_behavior(process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Whether we run as root.
pub fn is_root() -> bool {
    process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S-79.
    #[test]
    fn memory_is_neither_dumped_nor_shown_s79() {
        hide_memory().unwrap();
        let limit = process::getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
        #[cfg(target_os = "linux")]
        assert_eq!(
            process::dumpable_behavior().unwrap(),
            process::DumpableBehavior::NotDumpable
        );
    }
}
