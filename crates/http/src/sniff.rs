//! Tells HTTP/2 with prior knowledge from HTTP/1.1 by a connection's first bytes.

use std::io::Cursor;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

/// What every HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// Reads until it is clear what is spoken; what was read is read again by whoever takes the connection over. The
/// caller bounds the time.
pub(crate) async fn sniff(stream: TcpStream) -> std::io::Result<(Protocol, impl AsyncRead + AsyncWrite + Unpin)> {
    let (mut reader, writer) = stream.into_split();
    let mut seen = [0; PREFACE.len()];
    let mut length = 0;
    let protocol = loop {
        match reader.read(&mut seen[length..]).await? {
            0 => break Protocol::Http1,
            more => length += more,
        }
        if !PREFACE.starts_with(&seen[..length]) {
            break Protocol::Http1;
        }
        if length == PREFACE.len() {
            break Protocol::Http2;
        }
    };
    let again = Cursor::new(seen[..length].to_vec()).chain(reader);
    Ok((protocol, tokio::io::join(again, writer)))
}
