//! Instances that are handed to a peer which takes certain transfer syntaxes, each for its SOP class
//! (C-GET, C-MOVE): data sets alone, in what the peer takes.
//!
//! Holds: as of all Retrieves, rows are read by pages and memory does not grow; an instance that
//! cannot be given in any syntax that is taken is told, and passed over. Nothing has been given of it
//! then. Absent: how data sets are sent.

use std::collections::{BTreeSet, VecDeque};

use bytes::{Buf as _, Bytes, BytesMut};

use super::{
    Archive, ArchiveError, Instances, Target,
    retrieve::{Version, unreadable},
    wanted::{Encoding, Wanted},
};
use crate::{
    dicom::{
        Uid,
        explicit::Explicit,
        reader::Reader,
        transfer_syntax::{EXPLICIT_LITTLE, IMPLICIT_LITTLE},
    },
    index::Located,
    tenancy::PartitionScope,
};

/// Where (0002,0000) ends in a file that is written here, and its value begins 4 bytes before.
const GROUP_LENGTH_END: usize = 144;

/// An instance whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coming {
    /// (0008,0016).
    pub sop_class: Uid,
    /// (0008,0018).
    pub instance: Uid,
    /// What it is stored in.
    pub transfer_syntax: Uid,
}

impl Coming {
    fn of(located: &Located) -> Self {
        Self {
            sop_class: located.sop_class.clone(),
            instance: located.instance.clone(),
            transfer_syntax: located.transfer_syntax.clone(),
        }
    }
}

/// The instances of a study, series or instance, as a peer takes them.
pub struct Handed {
    instances: Instances,
    /// Those that are wanted; `None`: all.
    only: Option<BTreeSet<Uid>>,
    body: Body,
    ready: VecDeque<Bytes>,
}

/// What is done with the bytes of a file.
enum Body {
    /// So many of them stand before the data set.
    After(u64),
    /// The first of them say how many that are.
    Begun(BytesMut),
    /// They are written anew in implicit VR.
    Implicit(Box<Reader<Explicit>>),
    /// There are no more.
    Ended,
}

impl Archive {
    /// Opens a target for handing over; of a series, only the instances `only` where they are named.
    ///
    /// # Errors
    /// As [`Archive::instances`].
    pub async fn hand(
        &self,
        scope: PartitionScope,
        target: Target,
        only: Option<BTreeSet<Uid>>,
    ) -> Result<Handed, ArchiveError> {
        let instances = self.instances(scope, target, Version::Current, vec![Wanted::Any]).await?;
        Ok(Handed { instances, only, body: Body::Ended, ready: VecDeque::new() })
    }

    /// How many instances targets have, those that do not exist none.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn count(
        &self,
        scope: &PartitionScope,
        targets: &[&Target],
    ) -> Result<u64, ArchiveError> {
        Ok(self.0.db.begin_in(scope).await?.count(targets).await?)
    }
}

impl Handed {
    /// The instances that were named and did not come.
    pub fn missing(&self) -> impl Iterator<Item = &Uid> {
        self.only.iter().flatten()
    }

    /// The next instance; `None` after the last one.
    ///
    /// # Errors
    /// Where the index fails.
    pub async fn coming(&mut self) -> Result<Option<Coming>, ArchiveError> {
        while self.instances.turn().await? {
            let Some(located) = self.instances.page.front() else { continue };
            if self.is_wanted(located) {
                return Ok(Some(Coming::of(located)));
            }
            self.instances.page.pop_front();
        }
        Ok(None)
    }

    /// Those that are known to come, the next one first.
    pub fn ahead(&self) -> impl Iterator<Item = Coming> {
        self.instances.page.iter().filter(|located| self.is_wanted(located)).map(Coming::of)
    }

    fn is_wanted(&self, located: &Located) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&located.instance))
    }

    /// Passes over the next instance.
    pub fn pass(&mut self) {
        self.take();
    }

    fn take(&mut self) -> Option<Located> {
        let located = self.instances.page.pop_front()?;
        if let Some(only) = &mut self.only {
            only.remove(&located.instance);
        }
        Some(located)
    }

    /// Opens the next instance in one of these syntaxes: as it is stored where it can be, else in the
    /// first that can be made; which one. `None`: in none, and it is passed over.
    ///
    /// # Errors
    /// Where the index or the blob store fails.
    pub async fn open(&mut self, taken: &[&Uid]) -> Result<Option<usize>, ArchiveError> {
        while self.instances.chunk().await?.is_some() {}
        self.ready.clear();
        let Some(located) = self.take() else { return Ok(None) };
        let stored = &located.transfer_syntax;
        let as_stored = taken.iter().position(|syntax| *syntax == stored);
        let others = (0..taken.len()).filter(|at| Some(*at) != as_stored);
        for at in as_stored.into_iter().chain(others) {
            let Some(syntax) = taken.get(at) else { continue };
            for (encoding, is_implicit) in ways(syntax, stored)? {
                match self.instances.open(&located, vec![encoding.clone()]).await {
                    Ok(head) => {
                        let before = head.length.unwrap_or(0).saturating_sub(located.length);
                        self.body = self.body_of(&encoding, is_implicit, before, &located);
                        return Ok(Some(at));
                    }
                    Err(
                        ArchiveError::Undecodable(_)
                        | ArchiveError::TooLarge { .. }
                        | ArchiveError::NotFound,
                    ) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(None)
    }

    fn body_of(
        &self,
        encoding: &Encoding,
        is_implicit: bool,
        header: u64,
        located: &Located,
    ) -> Body {
        if is_implicit {
            let archive = &self.instances.archive;
            let (limits, threshold) = (archive.dicom_limits(), archive.bulk_threshold());
            return Body::Implicit(Box::new(Reader::new(Explicit::implicit(), limits, threshold)));
        }
        match encoding {
            Encoding::Stored => Body::After(header + located.data_set_offset),
            Encoding::ExplicitLittle | Encoding::Transcoded(_) => Body::Begun(BytesMut::new()),
        }
    }

    /// The next bytes of the data set; `None` at its end.
    ///
    /// # Errors
    /// Whatever keeps it from being completed.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ArchiveError> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Ok(Some(bytes));
            }
            if matches!(self.body, Body::Ended) {
                return Ok(None);
            }
            let Some(mut bytes) = self.instances.chunk().await? else {
                match std::mem::replace(&mut self.body, Body::Ended) {
                    Body::Implicit(reader) => {
                        self.ready.extend(reader.finish().map_err(unreadable)?.finish());
                    }
                    Body::After(_) | Body::Begun(_) | Body::Ended => {}
                }
                continue;
            };
            match &mut self.body {
                Body::After(left) => {
                    let skip = (*left).min(bytes.len() as u64);
                    *left -= skip;
                    bytes.advance(skip as usize);
                    if !bytes.is_empty() {
                        return Ok(Some(bytes));
                    }
                }
                Body::Begun(begun) => {
                    begun.extend_from_slice(&bytes);
                    let length = begun.get(GROUP_LENGTH_END - 4..GROUP_LENGTH_END);
                    if let Some(&[a, b, c, d]) = length {
                        let meta = u64::from(u32::from_le_bytes([a, b, c, d]));
                        self.ready.push_back(std::mem::take(begun).freeze());
                        self.body = Body::After(GROUP_LENGTH_END as u64 + meta);
                        self.skip_ready();
                    }
                }
                Body::Implicit(reader) => {
                    let mut rest = bytes.as_ref();
                    while reader.push_some(&mut rest).map_err(unreadable)? {
                        self.ready.extend(std::iter::from_fn(|| reader.sink_mut().take()));
                        tokio::task::consume_budget().await;
                    }
                    self.ready.extend(std::iter::from_fn(|| reader.sink_mut().take()));
                }
                Body::Ended => {}
            }
        }
    }

    /// Takes what stands before the data set off what is ready.
    fn skip_ready(&mut self) {
        let Body::After(left) = &mut self.body else { return };
        let Some(mut bytes) = self.ready.pop_front() else { return };
        let skip = (*left).min(bytes.len() as u64);
        *left -= skip;
        bytes.advance(skip as usize);
        if !bytes.is_empty() {
            self.ready.push_back(bytes);
        }
    }
}

/// How what is stored becomes a syntax, and whether it is then written anew in implicit VR.
fn ways(syntax: &Uid, stored: &Uid) -> Result<Vec<(Encoding, bool)>, ArchiveError> {
    let made = Wanted::Exactly(syntax.clone()).encodings(stored);
    if !made.is_empty() || syntax.as_str() != IMPLICIT_LITTLE {
        return Ok(made.into_iter().map(|encoding| (encoding, false)).collect());
    }
    let explicit = EXPLICIT_LITTLE.parse();
    let explicit: Uid = explicit
        .map_err(|error: crate::dicom::uid::InvalidUid| ArchiveError::Internal(error.into()))?;
    let made = Wanted::Exactly(explicit).encodings(stored);
    Ok(made.into_iter().map(|encoding| (encoding, true)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(syntax: &str, stored: &str) -> Vec<(Encoding, bool)> {
        ways(&syntax.parse().unwrap(), &stored.parse().unwrap()).unwrap()
    }

    #[test]
    fn implicit_vr_is_made_of_explicit_vr() {
        let jpeg = "1.2.840.10008.1.2.4.70";
        assert_eq!(of(IMPLICIT_LITTLE, IMPLICIT_LITTLE), [(Encoding::Stored, false)]);
        assert_eq!(of(IMPLICIT_LITTLE, EXPLICIT_LITTLE), [(Encoding::Stored, true)]);
        let explicit = Encoding::Transcoded(EXPLICIT_LITTLE.parse().unwrap());
        assert_eq!(of(IMPLICIT_LITTLE, jpeg), [(explicit.clone(), true)]);
        assert_eq!(of(EXPLICIT_LITTLE, jpeg), [(explicit, false)]);
        assert!(of(IMPLICIT_LITTLE, "1.2.840.10008.1.2.4.102").is_empty());
    }
}
