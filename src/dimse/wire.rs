//! PDUs on a connection (PS3.8 §9.3): whole ones in, written ones out.
//!
//! Holds: input is hostile; no PDU is longer than its kind may be, and no more of one is held than
//! has come; every wait for the peer ends. [`Wire::read`] may be given up at any moment and called
//! again. Absent: what PDUs mean.

use std::time::Duration;

use bytes::BytesMut;
use dicom_ul::pdu::{MAXIMUM_PDU_SIZE, Pdu, read_pdu, write_pdu};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::{Instant, timeout, timeout_at},
};

/// Bytes of type, reserved byte and length.
const HEADER: usize = 6;
/// Longest request for an association, and longest answer: 128 contexts with all that is known of
/// transfer syntaxes take less than half of it.
const LONGEST_ASSOCIATE: usize = 512 << 10;
/// Longest PDU of any other kind but P-DATA-TF; those that PS3.8 knows have 4 bytes.
const LONGEST_SHORT: usize = 64;
/// Bytes that are read at a time.
const READ: usize = 64 << 10;
/// Bytes that are gathered before they are written.
const WRITE: usize = 256 << 10;

/// Type of the P-DATA-TF PDU.
const P_DATA: u8 = 0x04;

/// A connection, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

/// Why nothing more is read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The peer closed the connection, or it broke.
    #[error("closed")]
    Closed,
    /// The peer did nothing for too long.
    #[error("timeout")]
    Timeout,
    /// A PDU of an unknown type.
    #[error("unrecognized-pdu")]
    Unknown,
    /// A PDU that is too long, or malformed.
    #[error("invalid-pdu")]
    Invalid,
}

/// One connection.
pub(super) struct Wire {
    stream: Box<dyn Stream>,
    read: BytesMut,
    written: Vec<u8>,
    longest: usize,
    patience: Duration,
}

impl Wire {
    /// A connection whose peer may send P-DATA-TF PDUs of this length, and take this long for
    /// whatever it is waited for.
    pub(super) fn new(stream: Box<dyn Stream>, longest: u32, patience: Duration) -> Self {
        let (read, written) = (BytesMut::new(), Vec::new());
        Self { stream, read, written, longest: longest as usize, patience }
    }

    /// Waits so long for the peer from now on.
    pub(super) fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// The next PDU.
    ///
    /// # Errors
    /// [`Broken`].
    pub(super) async fn read(&mut self) -> Result<Pdu, Broken> {
        let until = Instant::now() + self.patience;
        loop {
            if let Some(pdu) = self.next()? {
                return Ok(pdu);
            }
            self.read.reserve(READ);
            match timeout_at(until, self.stream.read_buf(&mut self.read)).await {
                Ok(Ok(0) | Err(_)) => return Err(Broken::Closed),
                Ok(Ok(_)) => {}
                Err(_) => return Err(Broken::Timeout),
            }
        }
    }

    /// The PDU that has come, if it is whole.
    fn next(&mut self) -> Result<Option<Pdu>, Broken> {
        let Some(&[kind, _, a, b, c, d]) = self.read.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let longest = match kind {
            0x01 | 0x02 => LONGEST_ASSOCIATE,
            P_DATA => self.longest,
            0x03 | 0x05..=0x07 => LONGEST_SHORT,
            _ => return Err(Broken::Unknown),
        };
        if length > longest {
            return Err(Broken::Invalid);
        }
        let whole = HEADER + length;
        if self.read.len() < whole {
            return Ok(None);
        }
        let bytes = self.read.split_to(whole).freeze();
        // Its length was looked at above.
        match read_pdu(bytes, MAXIMUM_PDU_SIZE, false) {
            Ok(Some(pdu)) => Ok(Some(pdu)),
            Ok(None) | Err(_) => Err(Broken::Invalid),
        }
    }

    /// Writes a PDU, and whatever was gathered before.
    ///
    /// # Errors
    /// [`Broken`].
    pub(super) async fn send(&mut self, pdu: &Pdu) -> Result<(), Broken> {
        write_pdu(&mut self.written, pdu).map_err(|_| Broken::Invalid)?;
        self.flush().await
    }

    /// Gathers a P-DATA-TF PDU with one value; written out where much is gathered.
    ///
    /// # Errors
    /// [`Broken`].
    pub(super) async fn data(
        &mut self,
        context: u8,
        (is_command, is_last): (bool, bool),
        bytes: &[u8],
    ) -> Result<(), Broken> {
        // The value has a length that fits: callers cut to what peers take.
        let length = u32::try_from(bytes.len()).map_err(|_| Broken::Invalid)?;
        self.written.extend_from_slice(&[P_DATA, 0]);
        self.written.extend_from_slice(&length.saturating_add(6).to_be_bytes());
        self.written.extend_from_slice(&length.saturating_add(2).to_be_bytes());
        self.written.extend_from_slice(&[context, u8::from(is_command) | u8::from(is_last) << 1]);
        self.written.extend_from_slice(bytes);
        if self.written.len() >= WRITE { self.flush().await } else { Ok(()) }
    }

    /// Writes what was gathered.
    ///
    /// # Errors
    /// [`Broken`].
    pub(super) async fn flush(&mut self) -> Result<(), Broken> {
        let mut at = 0;
        while let Some(rest) = self.written.get(at..).filter(|rest| !rest.is_empty()) {
            match timeout(self.patience, self.stream.write(rest)).await {
                Ok(Ok(0) | Err(_)) => return Err(Broken::Closed),
                Ok(Ok(count)) => at += count,
                Err(_) => return Err(Broken::Timeout),
            }
        }
        self.written.clear();
        match timeout(self.patience, self.stream.flush()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Broken::Closed),
            Err(_) => Err(Broken::Timeout),
        }
    }

    /// Waits for the peer to close the connection, and closes it.
    pub(super) async fn close(mut self, patience: Duration) {
        let mut rest = [0; 1024];
        let closed = async {
            _ = self.stream.shutdown().await;
            while self.stream.read(&mut rest).await.is_ok_and(|count| count > 0) {}
        };
        _ = timeout(patience, closed).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn outcome(sent: &[u8]) -> Result<Pdu, Broken> {
        let (mut peer, own) = tokio::io::duplex(1 << 16);
        peer.write_all(sent).await.unwrap();
        drop(peer);
        Wire::new(Box::new(own), 1024, Duration::from_secs(60)).read().await
    }

    #[tokio::test]
    async fn what_is_no_pdu_or_too_long_is_not_read() {
        assert_eq!(outcome(b"\x05\0\0\0\0\x04\0\0\0\0").await, Ok(Pdu::ReleaseRQ));
        assert_eq!(outcome(b"GET / HTTP/1.1\r\n").await, Err(Broken::Unknown));
        assert_eq!(outcome(b"").await, Err(Broken::Closed));
        assert_eq!(outcome(b"\x05\0\0\0\0\x04\0").await, Err(Broken::Closed));
        for sent in [
            &b"\x04\0\0\0\x04\x01"[..],
            b"\x01\0\xFF\xFF\xFF\xFF",
            b"\x05\0\0\x01\0\0",
            b"\x05\0\0\0\0\x01\0",
            b"\x04\0\0\0\0\x06\0\0\0\x01\x01\x03",
            b"\x04\0\0\0\0\x06\0\0\0\xFF\x01\x03",
            b"\x01\0\0\0\0\x04\0\x01\0\0",
        ] {
            assert_eq!(outcome(sent).await, Err(Broken::Invalid), "{sent:?}");
        }
    }

    #[tokio::test]
    async fn a_value_comes_out_as_it_went_in() {
        let (own, peer) = tokio::io::duplex(1 << 16);
        let patience = Duration::from_secs(60);
        let mut wire = Wire::new(Box::new(own), 1024, patience);
        wire.data(3, (false, true), b"abc").await.unwrap();
        wire.flush().await.unwrap();
        let Pdu::PData { data } = Wire::new(Box::new(peer), 1024, patience).read().await.unwrap()
        else {
            panic!("P-DATA-TF")
        };
        assert_eq!(data.len(), 1);
        assert_eq!((data[0].presentation_context_id, data[0].is_last), (3, true));
        assert_eq!(data[0].data, b"abc");
    }
}
