//! The development mailbox: keeps the last mails in memory instead of sending them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{Mail, MailKind, Rendered};

/// How many mails are kept; the oldest go first.
const CAPACITY: usize = 500;

/// The last mails, in memory. Clones share them.
#[derive(Clone)]
pub struct Mailbox {
    inner: Arc<Inner>,
}

struct Inner {
    now: Box<dyn Fn() -> DateTime<Utc> + Send + Sync>,
    /// Newest at the front.
    mails: Mutex<VecDeque<Arc<StoredMail>>>,
}

/// A mail as its receiver would have got it. Serialised, it is an entry of the mailbox's JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredMail {
    /// The message id: the id of the event that caused it.
    pub id: String,
    /// Which message it is.
    pub kind: MailKind,
    /// The address it went to.
    pub to: String,
    /// The subject line.
    pub subject: String,
    /// The plain text part.
    pub text: String,
    /// The HTML part.
    #[serde(skip)]
    pub html: String,
    /// The link that it holds.
    pub url: Option<String>,
    /// When it arrived here.
    pub sent_at: DateTime<Utc>,
}

impl Mailbox {
    /// An empty mailbox that takes the time of arrival from `now`.
    pub fn new(now: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        let inner = Inner {
            now: Box::new(now),
            mails: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// All mails, newest first.
    pub fn list(&self) -> Vec<Arc<StoredMail>> {
        self.mails().iter().cloned().collect()
    }

    /// The mail with this id.
    pub fn get(&self, id: &str) -> Option<Arc<StoredMail>> {
        self.mails().iter().find(|mail| mail.id == id).cloned()
    }

    /// The mails to one address, in any case of letters, newest first.
    pub fn messages_to(&self, address: &str) -> Vec<Arc<StoredMail>> {
        self.mails()
            .iter()
            .filter(|mail| mail.to.eq_ignore_ascii_case(address))
            .cloned()
            .collect()
    }

    /// Forgets all mails.
    pub fn clear(&self) {
        self.mails().clear();
    }

    /// Keeps a mail, unless it is a repeat of one that is here: receivers drop those by their id.
    pub(super) fn keep(&self, id: &str, mail: &Mail, rendered: Rendered) {
        let stored = StoredMail {
            id: id.to_owned(),
            kind: mail.kind,
            to: mail.to.clone(),
            subject: rendered.subject,
            text: rendered.text,
            html: rendered.html,
            url: rendered.url,
            sent_at: (self.inner.now)(),
        };
        let mut mails = self.mails();
        if mails.iter().any(|mail| mail.id == stored.id) {
            return;
        }
        mails.truncate(CAPACITY - 1);
        mails.push_front(Arc::new(stored));
    }

    fn mails(&self) -> MutexGuard<'_, VecDeque<Arc<StoredMail>>> {
        // A panic elsewhere cannot leave the queue half changed, so a poisoned lock is still good.
        self.inner
            .mails
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Mailer;
    use super::*;

    async fn send(mailbox: &Mailbox, id: &str, to: &str) {
        let mail = Mail::to(MailKind::AccountExists, to, "Ada", None);
        Mailer::Mailbox(mailbox.clone())
            .send(id, "noreply@mana.test", &mail)
            .await
            .unwrap();
    }

    fn ids(mails: &[Arc<StoredMail>]) -> Vec<&str> {
        mails.iter().map(|mail| mail.id.as_str()).collect()
    }

    #[tokio::test]
    async fn mails_are_found_by_id_and_address_newest_first() {
        let mailbox = Mailbox::new(|| DateTime::UNIX_EPOCH);
        send(&mailbox, "1", "ada@example.org").await;
        send(&mailbox, "2", "bob@example.org").await;
        send(&mailbox, "3", "ada@example.org").await;
        assert_eq!(ids(&mailbox.list()), ["3", "2", "1"]);
        assert_eq!(ids(&mailbox.messages_to("Ada@example.org")), ["3", "1"]);
        let bobs = mailbox.get("2").unwrap();
        assert_eq!(bobs.to, "bob@example.org");
        assert_eq!(bobs.sent_at, DateTime::UNIX_EPOCH);
        assert!(mailbox.get("4").is_none());
        mailbox.clear();
        assert!(mailbox.list().is_empty());
    }

    #[tokio::test]
    async fn mailbox_keeps_the_last_500() {
        let mailbox = Mailbox::new(|| DateTime::UNIX_EPOCH);
        for number in 0..502 {
            send(&mailbox, &number.to_string(), "ada@example.org").await;
        }
        let mails = mailbox.list();
        assert_eq!(mails.len(), 500);
        assert_eq!(mails.first().unwrap().id, "501");
        assert_eq!(mails.last().unwrap().id, "2");
    }

    /// I-10: the receiver drops repeats by the event id.
    #[tokio::test]
    async fn repeated_mail_is_there_once() {
        let mailbox = Mailbox::new(|| DateTime::UNIX_EPOCH);
        send(&mailbox, "1", "ada@example.org").await;
        send(&mailbox, "1", "ada@example.org").await;
        assert_eq!(ids(&mailbox.list()), ["1"]);
    }

    #[tokio::test]
    async fn mail_that_smtp_could_not_send_is_refused_here_too() {
        let mailbox = Mailbox::new(|| DateTime::UNIX_EPOCH);
        let mail = Mail::to(MailKind::AccountExists, "not an address", "", None);
        let mailer = Mailer::Mailbox(mailbox.clone());
        assert!(mailer.send("1", "noreply@mana.test", &mail).await.is_err());
        assert!(mailbox.list().is_empty());
    }
}
