//! Messages on an association (PS3.7 §6.3, PS3.8 Annex E): commands and data sets, cut into
//! presentation data values and put together again.
//!
//! Holds: one message at a time in each direction; a command is held as a whole and is short, a data
//! set comes in pieces. Absent: which messages there are.

use std::{collections::VecDeque, time::Duration};

use dicom_ul::pdu::{
    AbortRQServiceProviderReason as Reason, AbortRQSource, PDataValue, PDataValueType, Pdu,
};
use futures::FutureExt as _;

use super::{
    command::{Command, LONGEST},
    wire::{Broken, Wire},
};

/// Longest P-DATA-TF PDU that is sent, whatever a peer would take.
const LONGEST_SENT: u32 = 256 << 10;
/// What stands before the value in a PDU that has one.
const VALUE_HEADER: u32 = 6;
/// Shortest P-DATA-TF PDU that a peer may insist on: less would be all headers.
pub(super) const SHORTEST: u32 = 256;
/// Wait for a peer to close its side.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why an association is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum End {
    /// The peer released it.
    #[error("released")]
    Released,
    /// The peer aborted it.
    #[error("aborted")]
    Aborted,
    /// The connection is of no more use.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The peer broke a rule of the protocol.
    #[error("unexpected-pdu")]
    Unexpected,
    /// What was begun cannot be completed.
    #[error("failed")]
    Failed,
    /// The server ends.
    #[error("closing")]
    Closing,
}

/// One side of an association.
pub(super) struct Link {
    wire: Wire,
    /// Values that came with the last PDU and were not taken.
    values: VecDeque<PDataValue>,
    /// Longest value that the peer takes.
    longest: usize,
}

impl Link {
    /// An established association, whose peer takes PDUs of this length; 0: of any.
    pub(super) fn new(wire: Wire, longest: u32) -> Self {
        let longest = if longest == 0 { LONGEST_SENT } else { longest.min(LONGEST_SENT) };
        let longest = longest.saturating_sub(VALUE_HEADER).max(2) as usize & !1;
        Self { wire, values: VecDeque::new(), longest }
    }

    /// The next value. May be given up and called again.
    ///
    /// # Errors
    /// [`End`].
    pub(super) async fn value(&mut self) -> Result<PDataValue, End> {
        loop {
            if let Some(value) = self.values.pop_front() {
                return Ok(value);
            }
            match self.wire.read().await? {
                Pdu::PData { data } => self.values.extend(data),
                Pdu::ReleaseRQ => return Err(End::Released),
                Pdu::AbortRQ { .. } => return Err(End::Aborted),
                _ => return Err(End::Unexpected),
            }
        }
    }

    /// The next command, and the presentation context that it came by. May not be given up once
    /// something of it has come.
    ///
    /// # Errors
    /// [`End`].
    pub(super) async fn command(&mut self) -> Result<(u8, Command), End> {
        let first = self.value().await?;
        self.command_from(first).await
    }

    /// The command that begins with a value.
    ///
    /// # Errors
    /// [`End`].
    pub(super) async fn command_from(&mut self, first: PDataValue) -> Result<(u8, Command), End> {
        let context = first.presentation_context_id;
        let mut value = first;
        let mut bytes = Vec::new();
        loop {
            let is_ours = value.value_type == PDataValueType::Command
                && value.presentation_context_id == context
                && bytes.len() + value.data.len() <= LONGEST;
            if !is_ours {
                return Err(End::Unexpected);
            }
            bytes.append(&mut value.data);
            if value.is_last {
                let command = Command::read(&bytes).ok_or(End::Unexpected)?;
                return Ok((context, command));
            }
            value = self.value().await?;
        }
    }

    /// A command that has come already, if one has begun to.
    ///
    /// # Errors
    /// [`End`].
    pub(super) async fn command_now(&mut self) -> Result<Option<(u8, Command)>, End> {
        match self.value().now_or_never() {
            Some(first) => Ok(Some(self.command_from(first?).await?)),
            None => Ok(None),
        }
    }

    /// The next piece of the data set of the message that came by `context`, and whether it is the
    /// last. May be given up and called again.
    ///
    /// # Errors
    /// [`End`].
    pub(super) async fn piece(&mut self, context: u8) -> Result<(Vec<u8>, bool), End> {
        let PDataValue { presentation_context_id, value_type, is_last, data } =
            self.value().await?;
        if value_type != PDataValueType::Data || presentation_context_id != context {
            return Err(End::Unexpected);
        }
        Ok((data, is_last))
    }

    /// The whole data set of the message that came by `context`; `None` where it is longer than
    /// `most` bytes, and was passed over.
    ///
    /// # Errors
    /// [`End`].
    pub(super) async fn data_set(
        &mut self,
        context: u8,
        most: usize,
    ) -> Result<Option<Vec<u8>>, End> {
        let mut all = Some(Vec::new());
        loop {
            let (mut piece, is_last) = self.piece(context).await?;
            all = all.filter(|all| all.len() + piece.len() <= most);
            if let Some(all) = &mut all {
                all.append(&mut piece);
            }
            if is_last {
                return Ok(all);
            }
        }
    }

    /// Passes over the data set of a message, where it has one.
    ///
    /// # Errors
    /// [`End`].
    pub(super) async fn pass(&mut self, context: u8, command: &Command) -> Result<(), End> {
        if command.has_data_set() {
            while !self.piece(context).await?.1 {}
        }
        Ok(())
    }

    /// Sends a message without a data set.
    ///
    /// # Errors
    /// [`End`].
    pub(super) async fn send(&mut self, context: u8, command: &Command) -> Result<(), End> {
        self.begin(context, command).await?;
        Ok(self.wire.flush().await?)
    }

    /// Sends a message with a data set.
    ///
    /// # Errors
    /// [`End`].
    pub(super) async fn send_with(
        &mut self,
        context: u8,
        command: Command,
        data_set: &[u8],
    ) -> Result<(), End> {
        self.begin(context, &command.with_data_set()).await?;
        self.write(context, data_set, true).await?;
        Ok(self.wire.flush().await?)
    }

    /// Sends a command whose data set follows by [`Link::write`].
    ///
    /// # Errors
    /// [`End`].
    pub(super) async fn begin(&mut self, context: u8, command: &Command) -> Result<(), End> {
        let bytes = command.write();
        let mut pieces = bytes.chunks(self.longest).peekable();
        while let Some(piece) = pieces.next() {
            self.wire.data(context, (true, pieces.peek().is_none()), piece).await?;
        }
        Ok(())
    }

    /// Sends a part of a data set, which may be empty.
    ///
    /// # Errors
    /// [`End`].
    pub(super) async fn write(
        &mut self,
        context: u8,
        bytes: &[u8],
        is_last: bool,
    ) -> Result<(), End> {
        if bytes.is_empty() && is_last {
            return Ok(self.wire.data(context, (false, true), &[]).await?);
        }
        let mut pieces = bytes.chunks(self.longest).peekable();
        while let Some(piece) = pieces.next() {
            let is_end = is_last && pieces.peek().is_none();
            self.wire.data(context, (false, is_end), piece).await?;
        }
        Ok(())
    }

    /// Longest value that the peer takes, in bytes; an even number.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// Writes out what was gathered.
    ///
    /// # Errors
    /// [`End`].
    pub(super) async fn flush(&mut self) -> Result<(), End> {
        Ok(self.wire.flush().await?)
    }

    /// Ends the association as its end asks: the answer to a release, or an abort.
    pub(super) async fn end(mut self, end: End) {
        let provider = AbortRQSource::ServiceProvider;
        let pdu = match end {
            End::Released => Pdu::ReleaseRP,
            End::Aborted | End::Broken(Broken::Closed) => return,
            End::Broken(Broken::Unknown) => {
                Pdu::AbortRQ { source: provider(Reason::UnrecognizedPdu) }
            }
            End::Broken(Broken::Invalid) => {
                Pdu::AbortRQ { source: provider(Reason::InvalidPduParameter) }
            }
            End::Unexpected => Pdu::AbortRQ { source: provider(Reason::UnexpectedPdu) },
            End::Failed | End::Closing | End::Broken(Broken::Timeout) => {
                Pdu::AbortRQ { source: AbortRQSource::ServiceUser }
            }
        };
        if self.wire.send(&pdu).await.is_ok() {
            self.wire.close(FAREWELL).await;
        }
    }

    /// Releases an association that was asked for here.
    pub(super) async fn release(mut self) {
        self.wire.set_patience(FAREWELL);
        if self.wire.send(&Pdu::ReleaseRQ).await.is_ok() {
            _ = self.wire.read().await;
        }
    }
}
