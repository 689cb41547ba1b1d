//! A minimal HTTP/1.1 client, so that the load generator costs little of the cores that are measured.

use std::{fmt::Write, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub struct Connection {
    stream: TcpStream,
    token: String,
    buffer: Vec<u8>,
    out: String,
}

impl Connection {
    pub async fn open(to: SocketAddr, token: &str) -> Self {
        let stream = TcpStream::connect(to).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, token: token.to_owned(), buffer: Vec::with_capacity(16_384), out: String::new() }
    }

    pub async fn send(&mut self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.out.clear();
        write!(
            self.out,
            "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        )
        .unwrap();
        self.stream.write_all(self.out.as_bytes()).await.unwrap();
        self.buffer.clear();
        let (head, length) = loop {
            self.read().await;
            if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = std::str::from_utf8(&self.buffer[..end]).unwrap();
                let length = head.lines().find_map(|l| {
                    let (name, value) = l.split_once(':')?;
                    name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
                });
                let status: u16 = head[9..12].parse().unwrap();
                let length = if status == 204 { 0 } else { length.expect("a content-length") };
                break ((end + 4, status), length);
            }
        };
        let (body_at, status) = head;
        while self.buffer.len() < body_at + length {
            self.read().await;
        }
        (status, String::from_utf8_lossy(&self.buffer[body_at..body_at + length]).into_owned())
    }

    async fn read(&mut self) {
        let n = self.stream.read_buf(&mut self.buffer).await.unwrap();
        assert!(n > 0, "the server hung up");
    }
}
