//! A socket on which no wait for the client lasts for ever.

use std::{
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// Length of the HTTP/2 connection preface (RFC 9113 §3.4), whose first byte is `P`. Until the
/// server has seen that much or something else, no HTTP machinery with timers of its own runs.
const PREFACE: usize = 24;

/// A socket with a deadline for its first bytes and for writes that do not move.
pub(super) struct Timed<S> {
    socket: S,
    /// Bytes of a possible preface that were read, and until when the rest must come; `None`
    /// when it is clear which HTTP this is.
    opening: Option<(usize, Pin<Box<Sleep>>)>,
    write_timeout: Duration,
    write: Pin<Box<Sleep>>,
    /// Whether a write is waiting for the client, and `write` runs.
    stalled: bool,
}

impl<S> Timed<S> {
    pub(super) fn new(socket: S, header_timeout: Duration, write_timeout: Duration) -> Self {
        Self {
            socket,
            opening: Some((0, Box::pin(tokio::time::sleep(header_timeout)))),
            write_timeout,
            write: Box::pin(tokio::time::sleep(write_timeout)),
            stalled: false,
        }
    }

    /// Passes on what a write gave, or an error if the client took nothing for too long.
    fn moved<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = false;
            return polled;
        }
        if !self.stalled {
            self.stalled = true;
            self.write.as_mut().reset(Instant::now() + self.write_timeout);
        }
        self.write.as_mut().poll(context).map(|()| {
            Err(io::Error::new(ErrorKind::TimedOut, "the client took nothing of its answer"))
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.socket).poll_read(context, buffer);
        let Some((read, deadline)) = &mut this.opening else { return polled };
        if polled.is_pending() {
            return deadline
                .as_mut()
                .poll(context)
                .map(|()| Err(io::Error::new(ErrorKind::TimedOut, "the client sent no request")));
        }
        let new = buffer.filled().get(before..).unwrap_or_default();
        let starts_otherwise = *read == 0 && new.first().is_some_and(|first| *first != b'P');
        *read += new.len();
        if starts_otherwise || *read >= PREFACE {
            this.opening = None;
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.moved(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.moved(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.socket).poll_flush(context);
        self.moved(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.socket).poll_shutdown(context);
        self.moved(context, polled)
    }
}
