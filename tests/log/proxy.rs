//! A way to the database that can be disturbed at exact moments.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{oneshot, watch};

/// What is done with the first message that holds a mark, and with its connection.
pub enum Disturbance {
    /// The connection breaks before the message arrives.
    DropRequest,
    /// The connection breaks when the message was carried out and before the answer arrives.
    DropAnswer,
    /// The answer waits until this is sent or dropped.
    HoldAnswer(oneshot::Receiver<()>),
}

struct Rule {
    mark: String,
    disturbance: Disturbance,
    happened: oneshot::Sender<()>,
}

/// Passes everything on to the database until told otherwise.
pub struct Proxy {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    rule: Arc<Mutex<Option<Rule>>>,
    is_down: watch::Sender<bool>,
}

impl Proxy {
    /// A way to the database behind this socket.
    pub async fn start(socket: PathBuf) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let rule: Arc<Mutex<Option<Rule>>> = Arc::default();
        let (is_down, down) = watch::channel(false);
        let rule_of_all = rule.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *down.borrow() {
                    continue;
                }
                let server = UnixStream::connect(&socket).await.unwrap();
                let (rule, down) = (rule_of_all.clone(), down.clone());
                tokio::spawn(async move {
                    // Either side may go away at any time.
                    let _ = pass(client, server, &rule, down).await;
                });
            }
        });
        Proxy {
            port,
            rule,
            is_down,
        }
    }

    /// Disturbs the next message that holds `mark`; the answer tells when that has happened.
    pub fn disturb(&self, mark: &str, disturbance: Disturbance) -> oneshot::Receiver<()> {
        let (happened, when_happened) = oneshot::channel();
        *self.rule.lock().unwrap() = Some(Rule {
            mark: mark.to_owned(),
            disturbance,
            happened,
        });
        when_happened
    }

    /// Breaks every connection and lets none come up.
    pub fn go_down(&self) {
        self.is_down.send_replace(true);
    }
}

async fn pass(
    mut client: TcpStream,
    mut server: UnixStream,
    rule: &Mutex<Option<Rule>>,
    mut down: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut asked = vec![0; 1 << 16];
    let mut answered = vec![0; 1 << 16];
    loop {
        tokio::select! {
            length = client.read(&mut asked) => {
                let message = &asked[..length?];
                if message.is_empty() {
                    return Ok(());
                }
                let rule = {
                    let mut rule = rule.lock().unwrap();
                    let holds = |rule: &mut Rule| {
                        message.windows(rule.mark.len()).any(|part| part == rule.mark.as_bytes())
                    };
                    rule.take_if(holds)
                };
                let Some(rule) = rule else {
                    server.write_all(message).await?;
                    continue;
                };
                if !matches!(rule.disturbance, Disturbance::DropRequest) {
                    server.write_all(message).await?;
                    // The server answers when the transaction is over.
                    let length = server.read(&mut answered).await?;
                    if let Disturbance::HoldAnswer(released) = rule.disturbance {
                        let _ = rule.happened.send(());
                        let _ = released.await;
                        client.write_all(&answered[..length]).await?;
                        continue;
                    }
                }
                let _ = rule.happened.send(());
                return Ok(());
            }
            length = server.read(&mut answered) => {
                let message = &answered[..length?];
                if message.is_empty() {
                    return Ok(());
                }
                client.write_all(message).await?;
            }
            _ = down.changed() => return Ok(()),
        }
    }
}
