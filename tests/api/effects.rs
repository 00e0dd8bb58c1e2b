//! What follows from events leaves in time, whatever the services outside do.

#![cfg(test)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use mana_auth::effects;
use mana_auth::mail::{Mail, MailKind};

use crate::client::UNVERIFIED;
use crate::harness::{TestApp, wait_until};

/// What a mail server says to a recipient; `None` keeps silent until the client hangs up.
type Answers = fn(&str) -> Option<&'static str>;

/// A mail server on threads of its own.
struct MailServer {
    port: String,
    /// `RCPT` lines that were answered, or `gave up` where the client did not wait for the answer.
    heard: Arc<Mutex<Vec<String>>>,
}

impl MailServer {
    fn start(answers: Answers) -> MailServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let log = heard.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, log) = (stream.unwrap(), log.clone());
                thread::spawn(move || converse(stream, answers, &log));
            }
        });
        MailServer { port, heard }
    }

    /// A node that sends its mails there.
    async fn app(&self) -> TestApp {
        TestApp::start(&[
            UNVERIFIED,
            ("SMTP_HOST", "127.0.0.1"),
            ("SMTP_PORT", &self.port),
            ("MANA_AUTH_SMTP_TLS", "none"),
        ])
        .await
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

fn converse(mut stream: TcpStream, answers: Answers, log: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut say = |answer: &str| {
        // The client may have hung up already, which is its right.
        let _ = stream.write_all(format!("{answer}\r\n").as_bytes());
    };
    say("220 mail.test ready");
    while let Some(Ok(line)) = lines.next() {
        match line.get(..4).unwrap_or(&line) {
            "RCPT" => match answers(&line) {
                Some(answer) => {
                    log.lock().unwrap().push(line);
                    say(answer);
                }
                None => {
                    while let Some(Ok(_)) = lines.next() {}
                    log.lock().unwrap().push("gave up".to_owned());
                }
            },
            "DATA" => {
                say("354 go on");
                while lines.next().is_some_and(|line| line.unwrap() != ".") {}
                say("250 ok");
            }
            "QUIT" => say("221 bye"),
            _ => say("250 ok"),
        }
    }
}

fn mail_to(subject: &str, address: &str) -> mana_auth::store::EffectDraft {
    effects::mail(
        subject,
        &Mail::to(MailKind::AccountExists, address, "Ada", None),
    )
}

/// A credits service that accepts and says nothing has the calls wait, not the mails behind them.
#[tokio::test]
async fn mails_do_not_wait_for_a_credits_service_that_never_answers() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let app = TestApp::start(&[UNVERIFIED, ("MANA_CREDITS_URL", &url)]).await;
    let ada = app.signed_in("ada").await;
    let id = ada.user_id.as_str();
    // With five seconds for each eight of them, they would take a minute.
    for _ in 0..96 {
        let call = effects::credits_init(id);
        effects::enqueue(&app.app, &call).await.unwrap();
    }
    let mail = mail_to(id, "late@example.com");
    effects::enqueue(&app.app, &mail).await.unwrap();
    app.wait_for_mail("late@example.com", 0).await;
    assert!(app.count("effects").await > 0, "the calls still wait");
}

/// Each mail that left makes room for another one, though one recipient's server keeps us waiting.
#[tokio::test]
async fn a_slow_mail_does_not_hold_up_the_others() {
    let server = MailServer::start(|line| (!line.contains("slow@")).then_some("250 ok"));
    let app = server.app().await;
    let ada = app.signed_in("ada").await;
    let id = ada.user_id.as_str();
    let quick = (0..20).map(|number| format!("ada{number}@example.com"));
    for address in ["slow@example.com".to_owned()].into_iter().chain(quick) {
        let mail = mail_to(id, &address);
        effects::enqueue(&app.app, &mail).await.unwrap();
    }
    wait_until("the others have left", async || server.heard().len() >= 20).await;
    let heard = server.heard();
    assert!(!heard.contains(&"gave up".to_owned()), "{heard:?}");
}

/// What was refused for good is kept a day, also if it had failed before; the second refusal ends it.
#[tokio::test]
async fn a_refused_mail_is_kept_until_it_is_refused_again() {
    // One recipient is refused for good at once, the other one after a failure that may pass.
    static FAILED: AtomicBool = AtomicBool::new(false);
    let server = MailServer::start(|line| {
        let is_first_failure = line.contains("later@") && !FAILED.swap(true, Ordering::Relaxed);
        Some(if is_first_failure {
            "451 not now"
        } else {
            "550 never"
        })
    });
    let app = server.app().await;
    let ada = app.signed_in("ada").await;
    for address in ["never@example.com", "later@example.com"] {
        let mail = mail_to(&ada.user_id, address);
        effects::enqueue(&app.app, &mail).await.unwrap();
    }
    let kept = "effects where last_error = 'SMTP answer 550'
        and due_at between clock_timestamp() + interval '23 h' and clock_timestamp() + interval '24 h'";
    // The third is the mail of the sign-up.
    wait_until("all were refused", async || app.count(kept).await == 3).await;
    assert_eq!(app.count("effects where attempts = 2").await, 1);
    effects::retry(&app.admin).await.unwrap();
    app.effects_done().await;
    let tries = |address| {
        server
            .heard()
            .iter()
            .filter(|line| line.contains(address))
            .count()
    };
    assert_eq!((tries("never@"), tries("later@")), (2, 3));
}
