//! `serve` as a process, and `health` beside it: how it starts, waits, stops. Requests that run while it stops
//! gracefully are in the end-to-end tests.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Child;

use crate::command::{Cli, Said, end, signal};
use crate::harness::wait_until;
use crate::place::Place;

/// The service as a process.
pub struct Served {
    /// The command line with the service's settings.
    pub cli: Cli,
    base: String,
    client: reqwest::Client,
    process: Child,
}

impl Served {
    /// Starts it on a free port, without waiting for anything.
    pub async fn start(cli: &Cli) -> Served {
        // Free just now, and nobody else on this machine asks for it by number.
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let cli = cli.with("PORT", &port.to_string());
        Served {
            process: cli.start(&["serve"]),
            base: format!("http://127.0.0.1:{port}"),
            client: reqwest::Client::new(),
            cli,
        }
    }

    /// Status and body of an answer; 0 if there is none.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        match self.client.get(format!("{}{path}", self.base)).send().await {
            Ok(answer) => (
                answer.status().as_u16(),
                answer.json().await.unwrap_or_default(),
            ),
            Err(_) => (0, Value::Null),
        }
    }

    /// Waits until it says this about its readiness.
    pub async fn wait_for(&self, status: u16, body: &Value) {
        wait_until(&format!("readiness is {body}"), async || {
            let (code, said) = self.get("/health/ready").await;
            (code, &said) == (status, body)
        })
        .await;
    }

    /// Waits until it serves.
    pub async fn wait_until_ready(&self) {
        self.wait_for(200, &json!({"status": "ready"})).await;
    }

    /// Where it answers.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Its number among the processes of the machine.
    pub fn process_id(&self) -> u32 {
        self.process.id().unwrap()
    }

    /// Ends it without a word.
    pub async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }

    /// What it says when it ends by itself.
    pub async fn ends(self) -> Said {
        end(self.process).await
    }

    /// Asks it to stop; it has to end well.
    pub async fn stop(self) {
        signal(&self.process, "TERM").await;
        let said = end(self.process).await;
        assert_eq!(said.code, 0, "{}", said.err);
        assert_eq!(said.out, "", "what it has to say goes to the log");
    }
}

#[tokio::test]
async fn health_tells_whether_the_service_serves() {
    let place = Place::new().await;
    let service = Served::start(&place.cli).await;
    let mut said = service.cli.run(&["health"]).await;
    wait_until("health is content", async || {
        said = service.cli.run(&["health"]).await;
        said.code == 0
    })
    .await;
    assert_eq!(said.well(), "{\"status\":\"ready\"}\n");
    let cli = service.cli.clone();
    service.stop().await;
    let complaint = cli.run(&["health"]).await.refused(1);
    assert!(
        complaint.starts_with("error: the service does not answer: "),
        "{complaint}"
    );
}

#[tokio::test]
async fn a_service_that_waits_for_its_database_says_so_and_stops_at_once() {
    let cli = Cli::new().with(
        "DATABASE_URL",
        "postgres://app:hidden@localhost/auth?host=/nowhere",
    );
    let service = Served::start(&cli).await;
    wait_until("the reason is told", async || {
        let (status, body) = service.get("/health/ready").await;
        let reason = body["reason"].as_str().unwrap_or_default();
        status == 503 && reason.starts_with("the database cannot be reached: ")
    })
    .await;
    let (_, body) = service.get("/health/ready").await;
    assert!(!body.to_string().contains("hidden"), "{body}");
    let health = service.cli.run(&["health"]).await;
    assert_eq!(
        (health.code, &health.json()[0]["status"]),
        (1, &json!("not ready"))
    );
    service.stop().await;
}

#[tokio::test]
async fn a_second_signal_stops_a_service_that_waits_for_a_request() {
    let place = Place::new().await;
    let service = Served::start(&place.cli).await;
    service.wait_until_ready().await;
    let address = service.base.strip_prefix("http://").unwrap();
    let mut request = TcpStream::connect(address).await.unwrap();
    let head = "POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                content-length: 9\r\nexpect: 100-continue\r\n\r\n";
    request.write_all(head.as_bytes()).await.unwrap();
    // The service is at work on the request once it asks for the body, which never comes.
    let mut go_on = [0; 12];
    request.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100");
    signal(&service.process, "TERM").await;
    wait_until("no connection is accepted", async || {
        TcpStream::connect(address).await.is_err()
    })
    .await;
    signal(&service.process, "TERM").await;
    assert_eq!(end(service.process).await.code, 130);
}

/// A mail that takes its time is left to its lease; nothing is said to be lost, since nothing is.
#[tokio::test]
async fn a_slow_mail_server_does_not_hold_up_a_stop() {
    let place = Place::new().await;
    let slow = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = slow.local_addr().unwrap().port().to_string();
    let cli = place
        .cli
        .with("SMTP_HOST", "127.0.0.1")
        .with("SMTP_PORT", &port)
        .with("MANA_AUTH_SMTP_TLS", "none");
    let service = Served::start(&cli).await;
    service.wait_until_ready().await;
    let arrived = tokio::task::spawn_blocking(move || {
        // The greeting comes late, and then no further word: two times ten seconds are waited for.
        let (mut stream, _) = slow.accept().unwrap();
        std::thread::sleep(std::time::Duration::from_secs(6));
        stream.write_all(b"220 mail.test ready\r\n").unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        lines.next();
        let _ = stream.write_all(b"250 mail.test\r\n");
        (stream, lines)
    });
    let body =
        json!({"name": "Ada", "email": "ada@example.com", "password": "correct horse battery"});
    let url = format!("{}/api/auth/sign-up/email", service.base);
    let signed_up = service.client.post(url).json(&body).send().await.unwrap();
    assert_eq!(signed_up.status().as_u16(), 200);
    let _kept = arrived.await.unwrap();
    signal(&service.process, "TERM").await;
    let said = end(service.process).await;
    assert_eq!(said.code, 0, "{}", said.err);
    let logged = said.out + &said.err;
    assert!(logged.contains("is left to its leases"), "{logged}");
    assert!(!logged.contains("is dropped"), "{logged}");
    assert_eq!(
        place
            .text("select count(*)::text from effects where kind = 'mail'")
            .await,
        "1"
    );
}

#[tokio::test]
async fn a_port_that_is_taken_is_told() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let said = Cli::new().with("PORT", &port).run(&["serve"]).await;
    assert_eq!(said.code, 1);
    assert!(
        said.err
            .contains(&format!("error: listening on 127.0.0.1:{port}")),
        "{}",
        said.err
    );
}
