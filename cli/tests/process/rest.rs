//! Bare REST calls, for what the client verbs never send.

use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut found = found.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        found.next().expect("the header is there").1
    }

    /// It is this status with these words for what is wrong and what to do.
    pub(crate) fn refused(&self, status: u16, detail: &str, hint: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(
            (self.body["detail"].as_str(), self.body["hint"].as_str()),
            (Some(detail), Some(hint))
        );
        assert_eq!(self.header("content-type"), "application/problem+json");
    }
}

/// Asks the api-server at `base`.
pub(crate) fn call(base: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let address = base.strip_prefix("http://").expect("a base address");
    let mut stream = TcpStream::connect(address).expect("an api-server");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a timeout");
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .expect("a status");
    let body = serde_json::from_str(body).unwrap_or(Value::Null);
    Reply {
        status,
        head: head.to_owned(),
        body,
    }
}
