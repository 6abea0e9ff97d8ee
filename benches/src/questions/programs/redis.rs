//! What does a server on loopback cost?
//!
//! A redis server and its benchmark, both inside: ten connections, small requests, `epoll` and sockets. The server is started
//! and found answering before the time begins.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::super::{Granted, Question, When};
use crate::stopwatch::Stint;

pub(in super::super) const QUESTION: Question =
    Question::program("redis", "`redis-benchmark`, 4000 requests", &["redis-server", "redis-benchmark"], ask)
        .only(When::Full);

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ask(_: &Granted, stint: Stint) -> io::Result<f64> {
    // Not every subject has a loopback of its own, so a free port is looked for.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = free.local_addr()?;
    let port = address.port().to_string();
    drop(free);
    let mut server = super::program("redis-server");
    server.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", "/tmp"]);
    let _server = Server(server.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    let began = Instant::now();
    while let Err(error) = TcpStream::connect(address) {
        if began.elapsed() > PATIENCE {
            return Err(io::Error::new(error.kind(), format!("redis-server does not answer: {error}")));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut benchmark = super::program("redis-benchmark");
    benchmark.args(["-h", "127.0.0.1", "-p", &port, "--csv", "-n", "2000", "-c", "10", "-t", "set,get"]);
    let has = |text: &str, name: &str| text.lines().any(|line| line.starts_with(&format!("\"{name}\",")));
    super::time(stint, &mut benchmark, |text| {
        let text = String::from_utf8_lossy(text);
        has(&text, "SET") && has(&text, "GET")
    })
}
