//! The PROXY protocol: what a proxy that passes TLS through says, before the first byte of it, of who connects.
//!
//! Both versions, since nginx writes only the first and the second is what others prefer. Read strictly, byte by byte up to the end of
//! the header and no further. What else a header of the second version may say (names, TLS) is passed over: we see the TLS ourselves.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Why what a proxy sends is no header.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    /// The connection ended or broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Neither version begins like this.
    #[error("no header of the PROXY protocol")]
    NoHeader,
    /// The first version, but not a line of it.
    #[error("a malformed header of version 1")]
    Line,
    /// The second version, with a version or command in its 13th byte that is not known.
    #[error("unknown version or command {0:#04x}")]
    Command(u8),
    /// The second version, for something else than TCP.
    #[error("unknown family or transport {0:#04x}")]
    Family(u8),
    /// The second version, with too few bytes for its addresses, or too many to be read.
    #[error("{0} bytes of addresses")]
    Length(u16),
}

/// Reads a header. `None` is what the proxy says of connections of its own, and of those it knows nothing about.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, ProxyError> {
    // As many bytes as the shorter version always has.
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == *SIGNATURE {
        return read_binary(stream).await;
    }
    match start.strip_prefix(WORD) {
        Some(rest) => read_line(stream, rest).await,
        None => Err(ProxyError::NoHeader),
    }
}

async fn read_binary(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, ProxyError> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [command, family, high, low] = head;
    let len = u16::from_be_bytes([high, low]);
    if len > MAX_BYTES {
        return Err(ProxyError::Length(len));
    }
    let mut rest = vec![0; usize::from(len)];
    stream.read_exact(&mut rest).await?;
    match command {
        LOCAL => return Ok(None),
        PROXY => {}
        other => return Err(ProxyError::Command(other)),
    }
    let too_short = ProxyError::Length(len);
    match family {
        UNSPECIFIED => Ok(None),
        TCP_4 => {
            let (source, port) = source::<4>(&rest).ok_or(too_short)?;
            Ok(Some((Ipv4Addr::from(source), port).into()))
        }
        TCP_6 => {
            let (source, port) = source::<16>(&rest).ok_or(too_short)?;
            Ok(Some((Ipv6Addr::from(source), port).into()))
        }
        other => Err(ProxyError::Family(other)),
    }
}

/// Source address, destination address, source port, destination port.
fn source<const N: usize>(bytes: &[u8]) -> Option<([u8; N], u16)> {
    let (source, rest) = bytes.split_first_chunk::<N>()?;
    let (_, rest) = rest.split_first_chunk::<N>()?;
    let ([high, low, _, _], _) = rest.split_first_chunk::<4>()?;
    Some((*source, u16::from_be_bytes([*high, *low])))
}

/// The line whose first word was read; `begun` is what came after it.
async fn read_line(stream: &mut (impl AsyncRead + Unpin), begun: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    let mut line = begun.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() >= MAX_LINE {
            return Err(ProxyError::Line);
        }
        line.push(stream.read_u8().await?);
    }
    line.truncate(line.len() - 2);
    let line = std::str::from_utf8(&line).map_err(|_| ProxyError::Line)?;
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Ok(None);
    }
    parse_line(line).map(Some).ok_or(ProxyError::Line)
}

/// `TCP4 source destination port port`
fn parse_line(line: &str) -> Option<SocketAddr> {
    let mut words = line.split(' ');
    let mut next = || words.next();
    let (family, source, destination, port, other) = (next()?, next()?, next()?, next()?, next()?);
    if next().is_some() {
        return None;
    }
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    address(destination)?;
    parse_port(other)?;
    Some((address(source)?, parse_port(port)?).into())
}

fn parse_port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| digits)
}

/// How the second version begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// How the first version begins.
const WORD: &[u8] = b"PROXY ";
/// The longest line of the first version (107 bytes with its first word).
const MAX_LINE: usize = 107 - WORD.len();
/// The most that may follow the 16 bytes of the second version: addresses, and rather more of other things than any proxy says.
const MAX_BYTES: u16 = 2048;
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const UNSPECIFIED: u8 = 0x00;
const TCP_4: u8 = 0x11;
const TCP_6: u8 = 0x21;

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of `bytes`, and what is left behind it.
    async fn read_all(bytes: &[u8]) -> (Result<Option<SocketAddr>, ProxyError>, usize) {
        let mut rest = bytes;
        let outcome = read(&mut rest).await;
        (outcome, rest.len())
    }

    fn binary(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let len = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [SIGNATURE.as_slice(), &[command, family], &len, addresses].concat()
    }

    /// 192.0.2.7:4660 to 198.51.100.1:443, and something of another kind.
    const ADDRESSES: &[u8] = &[192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x34, 0x01, 0xbb, 0x01, 0, 1, b'x'];

    #[tokio::test]
    async fn headers_of_both_versions_name_the_source_and_nothing_behind_them_is_read() {
        let v6: Ipv6Addr = "2001:db8::7".parse().unwrap();
        let addresses_6 = [&v6.octets()[..], &[0; 16], &[0x12, 0x34, 0, 1]].concat();
        for (header, expected) in [
            (binary(PROXY, TCP_4, &ADDRESSES[..12]), Some("192.0.2.7:4660")),
            (binary(PROXY, TCP_4, ADDRESSES), Some("192.0.2.7:4660")),
            (binary(PROXY, TCP_6, &addresses_6), Some("[2001:db8::7]:4660")),
            (binary(PROXY, UNSPECIFIED, &[]), None),
            (binary(LOCAL, UNSPECIFIED, &[]), None),
            (binary(LOCAL, TCP_4, ADDRESSES), None),
            (
                b"PROXY TCP4 192.0.2.7 198.51.100.1 4660 443\r\n".to_vec(),
                Some("192.0.2.7:4660"),
            ),
            (
                b"PROXY TCP6 2001:db8::7 2001:db8::1 4660 443\r\n".to_vec(),
                Some("[2001:db8::7]:4660"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
        ] {
            let bytes = [&header[..], b"hello"].concat();
            let (outcome, left) = read_all(&bytes).await;
            assert_eq!(outcome.unwrap(), expected.map(|text| text.parse().unwrap()));
            assert_eq!(left, 5);
            for cut in 0..header.len() {
                let (outcome, _) = read_all(&header[..cut]).await;
                assert!(matches!(outcome, Err(ProxyError::Io(_))), "cut at {cut}: {outcome:?}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
        for line in [
            "GET / HTTP/1.1\r\n\r\n",
            "proxy UNKNOWN\r\n",
            "PROXY  UNKNOWN\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 4660\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 4660 443 1\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 4660 443 \r\n",
            "PROXY TCP4 192.0.2.7  198.51.100.1 4660 443\r\n",
            "PROXY TCP4 2001:db8::7 198.51.100.1 4660 443\r\n",
            "PROXY TCP6 192.0.2.7 198.51.100.1 4660 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 70000 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 +1 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 01 443\r\n",
            "PROXY UDP4 192.0.2.7 198.51.100.1 1 443\r\n",
            &long,
        ] {
            let (outcome, _) = read_all(line.as_bytes()).await;
            let refused = matches!(outcome, Err(ProxyError::NoHeader | ProxyError::Line));
            assert!(refused, "{line:?}: {outcome:?}");
        }
        for command in [0x10, 0x22, 0x00, 0x31] {
            let (outcome, _) = read_all(&binary(command, TCP_4, ADDRESSES)).await;
            assert!(matches!(outcome, Err(ProxyError::Command(found)) if found == command));
        }
        for family in [0x01, 0x12, 0x22, 0x31] {
            let (outcome, _) = read_all(&binary(PROXY, family, ADDRESSES)).await;
            assert!(matches!(outcome, Err(ProxyError::Family(found)) if found == family));
        }
        let (outcome, _) = read_all(&binary(PROXY, TCP_4, &ADDRESSES[..11])).await;
        assert!(matches!(outcome, Err(ProxyError::Length(11))));
        let (outcome, _) = read_all(&binary(PROXY, TCP_6, ADDRESSES)).await;
        assert!(matches!(outcome, Err(ProxyError::Length(16))));
        let (outcome, _) = read_all(&binary(LOCAL, TCP_4, &[0; 2049])).await;
        assert!(matches!(outcome, Err(ProxyError::Length(2049))));
    }
}
