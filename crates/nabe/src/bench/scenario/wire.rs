//! A line that counts: TCP on loopback from one port to another, and how many bytes went either way. What is counted is all that TCP carries, TLS and HTTP
//! included, and not what TCP and IP add.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

/// A port, and what went through it. It is closed with this; connections that are open stay until their ends close them.
pub(super) struct Line {
    pub(super) address: SocketAddr,
    counts: Arc<Counts>,
    accepting: AbortHandle,
}

#[derive(Default)]
struct Counts {
    up: AtomicU64,
    down: AtomicU64,
}

impl Line {
    /// Opens a port whose connections lead to `to`.
    pub(super) async fn open(to: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let counts = Arc::new(Counts::default());
        let counted = Arc::clone(&counts);
        let accepting = tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let counts = Arc::clone(&counted);
                // A connection that fails is closed at both ends, which is all that its ends need to know.
                tokio::spawn(async move { carry(from, to, &counts).await.ok() });
            }
        });
        Ok(Self {
            address,
            counts,
            accepting: accepting.abort_handle(),
        })
    }

    /// Bytes that whoever connected has sent.
    pub(super) fn up(&self) -> u64 {
        self.counts.up.load(Ordering::Relaxed)
    }

    /// Bytes that they were sent.
    pub(super) fn down(&self) -> u64 {
        self.counts.down.load(Ordering::Relaxed)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(from: TcpStream, to: SocketAddr, counts: &Counts) -> std::io::Result<()> {
    let onward = TcpStream::connect(to).await?;
    from.set_nodelay(true)?;
    onward.set_nodelay(true)?;
    let ((read_from, write_from), (read_to, write_to)) = (from.into_split(), onward.into_split());
    let (up, down) = tokio::join!(
        copy(read_from, write_to, &counts.up),
        copy(read_to, write_from, &counts.down)
    );
    up.and(down)
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: &AtomicU64,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        count.fetch_add(length as u64, Ordering::Relaxed);
        to.write_all(&buffer[..length]).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_byte_goes_through_and_is_counted_in_its_direction() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let line = Line::open(server.local_addr().unwrap()).await.unwrap();
        let mut client = TcpStream::connect(line.address).await.unwrap();
        let (mut served, _) = server.accept().await.unwrap();

        client.write_all(&[1; 100_000]).await.unwrap();
        client.shutdown().await.unwrap();
        let mut received = Vec::new();
        served.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, [1; 100_000]);
        served.write_all(b"answer").await.unwrap();
        drop(served);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answer");
        assert_eq!((line.up(), line.down()), (100_000, 6));
    }
}
