//! mana-auth.
