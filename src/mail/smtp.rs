//! Hands mails to an SMTP server, one connection per mail.
//!
//! There is no connection pool: a conversation that was given up halfway must not be continued by the next mail, which
//! would take the late answers for its own.

use std::sync::Arc;
use std::time::Duration;

use lettre::Message;
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;

use super::{MailError, permanent, temporary};

/// How long the server may take to let us in, and again to take a mail.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long we wait for the server's goodbye; the mail is accepted by then.
const FAREWELL: Duration = Duration::from_secs(2);

/// How to reach the SMTP server.
pub struct SmtpSettings {
    /// Name or address of the server; its certificate must be for this name.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// When the connection is encrypted.
    pub tls: SmtpTls,
    /// User to sign in as; given together with the password or not at all.
    pub user: Option<String>,
    /// Password of that user.
    pub password: Option<SecretString>,
}

/// When an SMTP connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpTls {
    /// Starts in the clear and must switch to TLS before anything is sent: a server without STARTTLS gets no mail.
    StartTls,
    /// TLS from the first byte (usually port 465).
    Implicit,
    /// Never: only for a relay on the same host or network.
    None,
}

/// Why SMTP settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SmtpSettingsError {
    /// One half of the credentials is missing.
    #[error("SMTP user and password belong together: one of them is missing")]
    HalfCredentials,
    /// The certificates of the system cannot be loaded.
    #[error("TLS towards the SMTP server cannot be set up")]
    Tls(#[source] SmtpError),
}

/// Sends mails over SMTP. Clones share the settings.
#[derive(Clone)]
pub struct SmtpMailer {
    server: Arc<Server>,
}

struct Server {
    host: String,
    port: u16,
    tls: Option<(SmtpTls, TlsParameters)>,
    credentials: Option<Credentials>,
    client: ClientId,
    patience: Duration,
}

impl SmtpMailer {
    /// Prepares sending. The server is not contacted yet.
    ///
    /// # Errors
    /// Half credentials are refused, as are settings for TLS when no certificates can be loaded.
    pub fn new(settings: SmtpSettings) -> Result<Self, SmtpSettingsError> {
        Self::with_patience(settings, PATIENCE)
    }

    fn with_patience(
        settings: SmtpSettings,
        patience: Duration,
    ) -> Result<Self, SmtpSettingsError> {
        let credentials = match (settings.user, settings.password) {
            (Some(user), Some(password)) => {
                Some(Credentials::new(user, password.expose_secret().to_owned()))
            }
            (None, None) => None,
            _ => return Err(SmtpSettingsError::HalfCredentials),
        };
        let tls = match settings.tls {
            SmtpTls::None => None,
            tls => {
                let parameters = TlsParameters::new(settings.host.clone());
                Some((tls, parameters.map_err(SmtpSettingsError::Tls)?))
            }
        };
        let server = Server {
            host: settings.host,
            port: settings.port,
            tls,
            credentials,
            client: ClientId::default(),
            patience,
        };
        Ok(Self {
            server: Arc::new(server),
        })
    }

    /// Delivers one message.
    pub(super) async fn deliver(&self, message: &Message) -> Result<(), MailError> {
        let patience = self.server.patience;
        let mut connection = timeout(patience, self.server.connect())
            .await
            .map_err(|_| temporary("no answer from the SMTP server"))?
            .map_err(|error| not_let_in(&error))?;
        let content = message.formatted();
        timeout(patience, connection.send(message.envelope(), &content))
            .await
            .map_err(|_| temporary("the SMTP server stopped answering"))?
            .map_err(|error| not_taken(&error))?;
        // The mail is accepted: however the goodbye goes, it must not be sent again.
        let _ = timeout(FAREWELL, connection.quit()).await;
        Ok(())
    }
}

impl Server {
    /// Connects, encrypts and signs in, as far as the settings say so.
    async fn connect(&self) -> Result<AsyncSmtpConnection, SmtpError> {
        let implicit = match &self.tls {
            Some((SmtpTls::Implicit, parameters)) => Some(parameters.clone()),
            _ => None,
        };
        let address = (self.host.as_str(), self.port);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(address, None, &self.client, implicit, None)
                .await?;
        if let Some((SmtpTls::StartTls, parameters)) = &self.tls {
            connection
                .starttls(parameters.clone(), &self.client)
                .await?;
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).await?;
        }
        Ok(connection)
    }
}

/// A failure before the mail was offered. It says nothing about the mail, even when the server means it for good.
fn not_let_in(error: &SmtpError) -> MailError {
    MailError::Temporary(match error.status() {
        Some(code) => format!("the SMTP server did not let us in: {code}"),
        None if error.is_tls() => "no TLS with the SMTP server".to_owned(),
        None if error.is_client() => {
            "the SMTP server offers no STARTTLS or no sign-in that we know".to_owned()
        }
        None => "no connection to the SMTP server".to_owned(),
    })
}

/// A failure after the mail was offered. Answers may quote the address: only their code is kept.
fn not_taken(error: &SmtpError) -> MailError {
    /// "Authentication required": about our settings, not about the mail.
    const SIGN_IN_FIRST: u16 = 530;
    match error.status() {
        Some(code) if error.is_permanent() && u16::from(code) != SIGN_IN_FIRST => {
            MailError::Permanent(format!("SMTP answer {code}"))
        }
        Some(code) => MailError::Temporary(format!("SMTP answer {code}")),
        None if error.is_client() => permanent("the SMTP server takes no addresses beyond ASCII"),
        None => temporary("the connection to the SMTP server broke"),
    }
}

#[cfg(test)]
mod tests {
    //! A small SMTP server on a thread of its own holds the conversations; the client's side is the real one.

    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::thread::{self, JoinHandle};

    use super::super::{Mail, MailKind, Mailer};
    use super::*;

    const LINK: &str = "https://auth.mana.test/api/auth/verify-email?token=a.b.c&callbackURL=x";

    /// Says what a server answers to a line; the empty line is the client's arrival, the dot ends a message.
    type Answers = fn(&str) -> &'static str;

    /// Takes every mail.
    fn polite(line: &str) -> &'static str {
        match line.get(..4).unwrap_or(line) {
            "" => "220 mail.test ready",
            "EHLO" => "250-mail.test\r\n250 AUTH PLAIN",
            "AUTH" => "235 welcome",
            "DATA" => "354 go on",
            "QUIT" => "221 bye",
            _ => "250 ok",
        }
    }

    /// Serves one connection and returns the lines it got.
    fn serve(answers: Answers) -> (u16, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let conversation = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut say = |answer: &str| {
                // The client may have hung up already, which is its right.
                let _ = stream.write_all(format!("{answer}\r\n").as_bytes());
            };
            say(answers(""));
            let mut got = Vec::new();
            let mut in_message = false;
            for line in lines.map_while(Result::ok) {
                if !in_message || line == "." {
                    let answer = answers(&line);
                    in_message = answer.starts_with("354");
                    say(answer);
                }
                got.push(line);
            }
            got
        });
        (port, conversation)
    }

    fn settings(port: u16) -> SmtpSettings {
        SmtpSettings {
            host: "127.0.0.1".to_owned(),
            port,
            tls: SmtpTls::None,
            user: None,
            password: None,
        }
    }

    async fn send(settings: SmtpSettings) -> Result<(), MailError> {
        let mail = Mail {
            url: Some(LINK.to_owned()),
            ..Mail::to(MailKind::VerifyEmail, "ada@example.org", "Ada", None)
        };
        let mailer = Mailer::Smtp(SmtpMailer::new(settings).unwrap());
        mailer
            .send("0190-event", "Mana <noreply@mana.test>", &mail)
            .await
    }

    async fn outcome(answers: Answers) -> Result<(), MailError> {
        let (port, _) = serve(answers);
        send(settings(port)).await
    }

    #[tokio::test]
    async fn mail_arrives_with_its_headers_and_a_link_that_works() {
        let (port, conversation) = serve(polite);
        send(settings(port)).await.unwrap();
        let lines = conversation.join().unwrap();
        assert_eq!(lines[1], "MAIL FROM:<noreply@mana.test>");
        assert_eq!(lines[2], "RCPT TO:<ada@example.org>");
        assert_eq!(lines.last().unwrap(), "QUIT");
        let message = lines.join("\n");
        assert!(
            message.contains("\nFrom: Mana <noreply@mana.test>\n"),
            "{message}"
        );
        assert!(message.contains("\nMessage-ID: <0190-event@mana.test>\n"));
        assert!(message.contains("\nAuto-Submitted: auto-generated\n"));
        // What a mail program does to quoted-printable, as far as links need it.
        let decoded = message.replace("=\n", "").replace("=3D", "=");
        assert!(decoded.contains(&format!("\n{LINK}\n")), "{decoded}");
        assert!(decoded.contains(&format!("href=\"{LINK}\"")));
    }

    #[tokio::test]
    async fn mail_is_worth_another_try_after_a_4xx_answer() {
        let greylisted = outcome(|line| match line.starts_with("RCPT") {
            true => "451 4.7.1 <ada@example.org> greylisted",
            false => polite(line),
        });
        assert_eq!(greylisted.await, Err(temporary("SMTP answer 451")));
        let full = outcome(|line| {
            if line == "." {
                "452 full"
            } else {
                polite(line)
            }
        });
        assert_eq!(full.await, Err(temporary("SMTP answer 452")));
    }

    #[tokio::test]
    async fn mail_is_refused_for_good_by_a_5xx_answer() {
        let unknown = outcome(|line| match line.starts_with("RCPT") {
            true => "550 5.1.1 <ada@example.org> unknown",
            false => polite(line),
        });
        assert_eq!(unknown.await, Err(permanent("SMTP answer 550")));
        let spam = outcome(|line| {
            if line == "." {
                "554 spam"
            } else {
                polite(line)
            }
        });
        assert_eq!(spam.await, Err(permanent("SMTP answer 554")));
    }

    /// S-37.
    #[tokio::test]
    async fn errors_do_not_repeat_the_address_that_the_server_quotes() {
        let error = outcome(|line| match line.starts_with("RCPT") {
            true => "550 5.1.1 <ada@example.org> unknown",
            false => polite(line),
        })
        .await
        .unwrap_err();
        assert!(!format!("{error} {error:?}").contains("ada"));
    }

    #[tokio::test]
    async fn mail_survives_a_server_that_is_not_there() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let refused = send(settings(port)).await;
        assert_eq!(refused, Err(temporary("no connection to the SMTP server")));
    }

    #[tokio::test]
    async fn mail_survives_a_server_that_says_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let patience = Duration::from_millis(1);
        let mailer = SmtpMailer::with_patience(settings(port), patience).unwrap();
        let rendered = super::super::Rendered {
            subject: "Hi".to_owned(),
            text: "text".to_owned(),
            html: "html".to_owned(),
            url: None,
        };
        let message = super::super::compose("1", "a@mana.test", "b@mana.test", &rendered).unwrap();
        let silence = mailer.deliver(&message).await;
        assert_eq!(silence, Err(temporary("no answer from the SMTP server")));
    }

    #[tokio::test]
    async fn mail_survives_a_server_that_hangs_up() {
        let (port, conversation) = serve(|line| match line.starts_with("MAIL") {
            true => panic!("hangs up"),
            false => polite(line),
        });
        let broken = send(settings(port)).await;
        assert_eq!(
            broken,
            Err(temporary("the connection to the SMTP server broke"))
        );
        assert!(conversation.join().is_err());
    }

    #[tokio::test]
    async fn mail_survives_a_wrong_password_of_ours() {
        let (port, conversation) = serve(|line| match line.starts_with("AUTH") {
            true => "535 5.7.8 no",
            false => polite(line),
        });
        let refused = send(SmtpSettings {
            user: Some("mana".to_owned()),
            password: Some("wrong".into()),
            ..settings(port)
        });
        let reason = "the SMTP server did not let us in: 535";
        assert_eq!(refused.await, Err(temporary(reason)));
        let lines = conversation.join().unwrap();
        assert!(!lines.iter().any(|line| line.starts_with("MAIL")));

        let sign_in_first = outcome(|line| match line.starts_with("MAIL") {
            true => "530 5.7.0 sign in first",
            false => polite(line),
        });
        assert_eq!(sign_in_first.await, Err(temporary("SMTP answer 530")));
    }

    /// S-37: neither password nor link leaves in the clear when TLS was stripped from the server's offer.
    #[tokio::test]
    async fn nothing_is_sent_without_the_required_starttls() {
        let (port, conversation) = serve(polite);
        let refused = send(SmtpSettings {
            tls: SmtpTls::StartTls,
            user: Some("mana".to_owned()),
            password: Some("right".into()),
            ..settings(port)
        });
        assert!(matches!(refused.await, Err(MailError::Temporary(_))));
        let lines = conversation.join().unwrap();
        assert_eq!(lines.len(), 1, "only EHLO, not {lines:?}");
    }

    #[tokio::test]
    async fn implicit_tls_does_not_fall_back_to_plain_text() {
        let (port, _) = serve(polite);
        let refused = send(SmtpSettings {
            tls: SmtpTls::Implicit,
            ..settings(port)
        });
        assert!(matches!(refused.await, Err(MailError::Temporary(_))));
    }

    #[test]
    fn half_credentials_are_refused() {
        let half = SmtpMailer::new(SmtpSettings {
            user: Some("mana".to_owned()),
            ..settings(25)
        });
        assert!(matches!(half, Err(SmtpSettingsError::HalfCredentials)));
    }
}
