//! S-46: what is called, by whichever name and spelling, and what is read of its answer.

use std::collections::VecDeque;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// S-46
#[test]
fn only_addresses_of_the_public_internet_are_public_s46() {
    for refused in [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "192.168.255.255",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0.0.0.0",
        "::127.0.0.1",
        "::7f00:1",
        "64:ff9b::7f00:1",
        "64:ff9b::8.8.8.8",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:0:1::1",
        "2001:10::1",
        "2001:20::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
        "4000::1",
    ] {
        assert!(!is_public(refused.parse().unwrap()), "{refused}");
    }
    for public in [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.1",
        "169.253.255.255",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.1",
        "192.167.255.255",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2606:4700::1111",
        "2001:4860::8888",
        "2001:200::1",
        "2a00::1",
        "::ffff:8.8.8.8",
    ] {
        assert!(is_public(public.parse().unwrap()), "{public}");
    }
}

fn get(url: &str) -> HttpRequest {
    let request = oauth2::http::Request::get(url);
    request.body(Vec::new()).unwrap()
}

/// S-46: however the address is written; nothing is sent before it is looked at.
#[tokio::test]
async fn private_addresses_are_refused_in_every_spelling_s46() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let outgoing = Outgoing::new(false).unwrap();
    for url in [
        "http://127.0.0.1:1/",
        "http://2130706433:1/",
        "http://0x7f.1:1/",
        "http://017700000001:1/",
        "http://127.1:1/",
        "http://0:1/",
        "http://[::1]:1/",
        "http://[::ffff:127.0.0.1]:1/",
        "http://[0:0:0:0:0:ffff:7f00:1]:1/",
        "http://169.254.169.254:1/latest/meta-data",
    ] {
        let refused = outgoing.send(get(url)).await;
        assert!(
            matches!(refused, Err(OutgoingError::Forbidden)),
            "{url}: {refused:?}"
        );
    }
    // A name is refused by what it stands for.
    let refused = outgoing.send(get("http://localhost:1/")).await.unwrap_err();
    let reason = "the address is not public";
    assert!(refused.in_full().ends_with(reason), "{}", refused.in_full());
}

/// Gives an answer to one call, and tells where it listens.
async fn answering(answer: Vec<u8>) -> (String, tokio::task::JoinHandle<TcpListener>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        // Whoever has heard enough hangs up.
        let _ = stream.write_all(&answer).await;
        listener
    });
    (url, task)
}

/// S-46
#[tokio::test]
async fn redirects_are_not_followed_and_large_answers_not_read_s46() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let outgoing = Outgoing::new(true).unwrap();
    let redirect = "HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n";
    let (url, task) = answering(redirect.into()).await;
    let answer = outgoing.send(get(&url)).await.unwrap();
    assert!(answer.status().is_redirection());
    let listener = task.await.unwrap();
    let second = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(second.is_err(), "somebody followed it");

    for (size, fits) in [(ANSWER_MAX_BYTES, true), (ANSWER_MAX_BYTES + 1, false)] {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n");
        let (url, _task) = answering([head.into_bytes(), vec![b'x'; size]].concat()).await;
        let answer = outgoing.send(get(&url)).await;
        assert_eq!(answer.is_ok(), fits, "{answer:.100?}");
    }
}

/// Stands for one answer after the other, as the name server of an attacker would say it.
fn changing(answers: &[&[&str]]) -> (Lookup, Arc<Mutex<VecDeque<Vec<SocketAddr>>>>) {
    let parsed = |answer: &&[&str]| {
        let addresses = answer.iter();
        addresses
            .map(|address| SocketAddr::new(address.parse().unwrap(), 0))
            .collect()
    };
    let left: VecDeque<_> = answers.iter().map(parsed).collect();
    let left = Arc::new(Mutex::new(left));
    let said = left.clone();
    let lookup: Lookup = Arc::new(move |_| {
        let answer = said.lock().unwrap().pop_front();
        Box::pin(async move { answer.ok_or_else(|| io::Error::other("asked once more")) })
    });
    (lookup, left)
}

/// S-46: a name is asked for once, and the call goes to the very address that was looked at: what the name stands
/// for a moment later is not even heard.
#[tokio::test]
async fn a_call_goes_to_the_address_that_was_checked_s46() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let good = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let (url, task) = answering(good.into()).await;
    let port = url.rsplit_once(':').unwrap().1;
    let elsewhere = TcpListener::bind(format!("127.0.0.2:{}", port.trim_end_matches('/')));
    let elsewhere = elsewhere.await.unwrap();
    let (lookup, left) = changing(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let outgoing = Outgoing::resolving(true, lookup).unwrap();
    let answer = outgoing
        .send(get(&format!("http://rebinding.test:{port}")))
        .await;
    assert!(answer.unwrap().status().is_success());
    task.await.unwrap();
    assert_eq!(left.lock().unwrap().len(), 1, "it was asked for once");
    let other = tokio::time::timeout(Duration::from_millis(50), elsewhere.accept()).await;
    assert!(other.is_err(), "somebody went to the second address");
}

/// S-46: each answer is looked at by itself, and all of it: one that was public before vouches for none after it.
#[tokio::test]
async fn a_name_that_turns_private_is_refused_from_then_on_s46() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let private: [&[&str]; 4] = [
        &["127.0.0.1"],
        &["8.8.8.8", "127.0.0.1"],
        &["::ffff:10.0.0.1"],
        &["169.254.169.254"],
    ];
    for answer in private {
        let (lookup, left) = changing(&[&["8.8.8.8"], answer]);
        let checked = Checked {
            allow_private: false,
            lookup,
        };
        let name = || "rebinding.test".parse::<Name>().unwrap();
        let found: Vec<SocketAddr> = checked.resolve(name()).await.unwrap().collect();
        assert_eq!(found, ["8.8.8.8:0".parse().unwrap()]);
        // The call after it, by the client that everything goes through.
        let outgoing = Outgoing::resolving(false, checked.lookup).unwrap();
        let refused = outgoing.send(get("http://rebinding.test:1/")).await;
        let refused = refused.unwrap_err().in_full();
        assert!(refused.ends_with("the address is not public"), "{refused}");
        assert!(left.lock().unwrap().is_empty());
    }
}
