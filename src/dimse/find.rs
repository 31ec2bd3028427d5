//! C-FIND as its SCP (PS3.4 §C.4.1), Study Root and Patient Root.
//!
//! Holds: matches leave one by one as they are read; between two of them a C-CANCEL is heard. More
//! matches than a search may have are no success: the last answer says so.

use std::collections::HashSet;

use futures::StreamExt as _;

use super::{
    answer::{self, CHARACTER_SET, LEVEL},
    association::Association,
    command::{Command, field, status},
    link::End,
    negotiate::{Context, Root},
    record,
    store::{named, refusal},
    sub::aside,
};
use crate::{
    archive::{ArchiveError, SearchPage},
    control::{ControlError, Kind, Seat},
    dicom::{
        Tag, Uid,
        attributes::Level,
        identifier::{self, Element, Value},
        transfer_syntax::IMPLICIT_LITTLE,
    },
    query::{Asks, Key, Resource},
    tenancy::{PartitionScope, Permission},
};

/// Longest identifier, in bytes.
pub(super) const LONGEST: usize = 1 << 20;

pub(super) const STUDY: Tag = Tag(0x0020, 0x000D);
pub(super) const SERIES: Tag = Tag(0x0020, 0x000E);
pub(super) const INSTANCE: Tag = Tag(0x0008, 0x0018);
pub(super) const PATIENT: Tag = Tag(0x0010, 0x0020);
const ISSUER: Tag = Tag(0x0010, 0x0021);

/// A status, with a comment.
pub(super) type Failure = (u16, String);

/// A level of an information model (PS3.4 §C.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum At {
    Patient,
    Study,
    Series,
    Image,
}

impl At {
    /// That of an identifier.
    pub(super) fn of(keys: &[Element], root: Root) -> Result<Self, Failure> {
        match text(keys, LEVEL) {
            "PATIENT" if root == Root::Patient => Ok(Self::Patient),
            "STUDY" => Ok(Self::Study),
            "SERIES" => Ok(Self::Series),
            "IMAGE" => Ok(Self::Image),
            _ => Err(mismatch("(0008,0052) is no level of the information model")),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Patient => "PATIENT",
            Self::Study => "STUDY",
            Self::Series => "SERIES",
            Self::Image => "IMAGE",
        }
    }
}

pub(super) fn mismatch(what: &str) -> Failure {
    (status::DOES_NOT_MATCH, what.to_owned())
}

/// The text of a key of the data set; empty where there is none.
pub(super) fn text(keys: &[Element], tag: Tag) -> &str {
    let found = keys.iter().find(|key| key.tag == tag);
    match found.map(|key| &key.value) {
        Some(Value::Text(text)) => text,
        _ => "",
    }
}

/// The one UID that a key has to name.
pub(super) fn uid(keys: &[Element], tag: Tag) -> Result<Uid, Failure> {
    let parsed = text(keys, tag).parse();
    parsed.map_err(|_| (status::DOES_NOT_MATCH, format!("{tag} has to be one UID")))
}

/// How a failure of the archive is answered; never what it is about.
pub(super) fn failure(error: &ArchiveError) -> Failure {
    let (status, text) = match error {
        ArchiveError::TooBroad { .. } => {
            (status::OUT_OF_RESOURCES, "too many rows to look at: narrow the search")
        }
        ArchiveError::TooSlow => (status::OUT_OF_RESOURCES, "it takes too long: narrow the search"),
        ArchiveError::Unavailable(_) => {
            (status::OUT_OF_RESOURCES, "a part of the archive does not answer now")
        }
        _ => (status::CANNOT_UNDERSTAND, "the archive could not do it"),
    };
    if let ArchiveError::Unavailable(cause) | ArchiveError::Internal(cause) = error {
        tracing::error!(error = ?cause, "a DIMSE message failed");
    }
    (status, text.to_owned())
}

/// How a search ended that was begun.
enum Ended {
    /// There may be more than was said.
    Partly,
    Wholly,
    Canceled,
}

impl Association {
    /// Searches.
    pub(super) async fn find(
        &mut self,
        context: &Context,
        command: &Command,
        root: Root,
    ) -> Result<(), End> {
        let keys = self.identifier(context, command).await?;
        let deed = self.caller.deed(Permission::Search, "C-FIND", Vec::new());
        let scope = match self.caller.scope(&self.gateway, &deed).await {
            Ok(scope) => Ok(scope),
            Err(error) => {
                record::refused(&self.gateway, &deed, &self.caller.partition, &error);
                Err(refusal(&error))
            }
        };
        let is_refused = scope.is_err();
        let found = match (scope, keys) {
            (Ok(scope), Ok(keys)) => match self.search(scope, root, keys).await {
                Ok(search) => self.tell(context, command, search).await?,
                Err(failure) => Err(failure),
            },
            (Err(failure), _) | (_, Err(failure)) => Err(failure),
        };
        let (answered, comment) = match found {
            Ok(Ended::Wholly) => (status::SUCCESS, String::new()),
            Ok(Ended::Canceled) => (status::CANCELED, String::new()),
            Ok(Ended::Partly) => {
                (status::OUT_OF_RESOURCES, "there are more matches: narrow the search".to_owned())
            }
            Err(failure) => failure,
        };
        if !is_refused {
            record::ended(&self.gateway, &deed, &self.caller.partition, Some(answered));
        }
        record::count(field::FIND, answered);
        let answer = command.answer(answered).with_comment(&comment);
        self.link.send(context.id, &answer).await
    }

    /// The identifier of a message.
    pub(super) async fn identifier(
        &mut self,
        context: &Context,
        command: &Command,
    ) -> Result<Result<Vec<Element>, Failure>, End> {
        if !command.has_data_set() {
            return Ok(Err(mismatch("there is no identifier")));
        }
        let Some(bytes) = self.link.data_set(context.id, LONGEST).await? else {
            return Ok(Err((status::OUT_OF_RESOURCES, "the identifier is too long".to_owned())));
        };
        let limits = self.gateway.limits.parsing();
        let read = identifier::read(&bytes, &context.syntax, limits);
        Ok(read.map_err(|_| (status::CANNOT_UNDERSTAND, "the identifier is unreadable".to_owned())))
    }

    async fn search(
        &self,
        scope: PartitionScope,
        root: Root,
        keys: Vec<Element>,
    ) -> Result<Search, Failure> {
        let at = At::of(&keys, root)?;
        let resource = resource(at, &keys)?;
        let seat = self.gateway.seats.take((&*scope).into(), Some(Kind::Small)).await;
        let busy = "the server has enough to do; try again later";
        let seat = seat.map_err(|_| (status::OUT_OF_RESOURCES, busy.to_owned()))?;
        let mut paths = Vec::new();
        flatten(&keys, &mut Vec::new(), &mut paths);
        let (page, is_partly) = self.page(&scope, &resource, &paths).await?;
        Ok(Search { page, seat, keys, at, is_partly })
    }

    /// What keys find; and whether some of them match nothing here.
    pub(super) async fn page(
        &self,
        scope: &PartitionScope,
        resource: &Resource,
        keys: &[Key],
    ) -> Result<(SearchPage, bool), Failure> {
        let refuse = |error: crate::query::QueryError| {
            (status::DOES_NOT_MATCH, format!("{}: {}", error.field, error.reason))
        };
        let archive = &self.gateway.archive;
        let asks = Asks::of(keys).map_err(refuse)?;
        let tags = match asks.may_name_tags() {
            true => archive.search_tags(scope).await.map_err(|error| failure(&error))?,
            false => Vec::new(),
        };
        let query = asks.understand(resource, &self.gateway.search, &tags).map_err(refuse)?;
        let nowhere = std::sync::Arc::new(|_: &_| String::new());
        let found =
            archive.search((**scope).clone(), query.plan, query.filters, query.returned, nowhere);
        let page = found.await.map_err(|error| failure(&error))?;
        Ok((page, !query.warnings.is_empty()))
    }

    /// Sends matches.
    async fn tell(
        &mut self,
        context: &Context,
        command: &Command,
        search: Search,
    ) -> Result<Result<Ended, Failure>, End> {
        let Search { page, mut seat, keys, at, is_partly } = search;
        let pending = if is_partly { status::PENDING_PARTLY } else { status::PENDING };
        let is_implicit = context.syntax.as_str() == IMPLICIT_LITTLE;
        let called = self.caller.called.clone();
        let has_more = page.remaining > 0;
        let mut patients = HashSet::new();
        let mut objects = page.objects();
        while let Some(json) = objects.next().await {
            let json = match json {
                Ok(json) => json,
                Err(error) => return Ok(Err(failure(&error))),
            };
            if at == At::Patient && !is_new_patient(&json, &mut patients) {
                continue;
            }
            if self.is_canceled(context, command).await? {
                return Ok(Ok(Ended::Canceled));
            }
            let place = (at.as_str(), &*called);
            let Some(bytes) = answer::data_set(&json, &keys, place, is_implicit) else {
                let what = "what is stored of a match is not readable".to_owned();
                return Ok(Err((status::CANNOT_UNDERSTAND, what)));
            };
            let sent = self.link.send_with(context.id, command.answer(pending), &bytes);
            aside(&mut seat, sent).await?;
        }
        Ok(Ok(if has_more { Ended::Partly } else { Ended::Wholly }))
    }

    /// Whether the message is not wanted any more. Nothing else may come meanwhile.
    pub(super) async fn is_canceled(
        &mut self,
        context: &Context,
        command: &Command,
    ) -> Result<bool, End> {
        match self.link.command_now().await? {
            None => Ok(false),
            Some((id, came)) => cancels(context, command, id, &came),
        }
    }
}

/// Whether a message cancels another one; none but a cancellation may come while that goes on.
pub(super) fn cancels(
    context: &Context,
    command: &Command,
    id: u8,
    came: &Command,
) -> Result<bool, End> {
    let is_cancel = came.field() == field::CANCEL && !came.has_data_set();
    if !is_cancel || id != context.id {
        return Err(End::Unexpected);
    }
    Ok(came.u16(super::command::element::RESPONDED) == Some(command.message()))
}

/// A search that found something, or nothing.
struct Search {
    page: SearchPage,
    seat: Seat,
    keys: Vec<Element>,
    at: At,
    is_partly: bool,
}

/// Where a search looks (PS3.4 §C.4.1.2.1): the unique keys above its level have one value each.
fn resource(at: At, keys: &[Element]) -> Result<Resource, Failure> {
    let level = match at {
        At::Patient | At::Study => Level::Study,
        At::Series => Level::Series,
        At::Image => Level::Instance,
    };
    let study = (at >= At::Series).then(|| uid(keys, STUDY)).transpose()?;
    let series = (at >= At::Image).then(|| uid(keys, SERIES)).transpose()?;
    Ok(Resource { level, study, series })
}

/// The keys of an identifier, those of items with their paths.
fn flatten(keys: &[Element], path: &mut Vec<Tag>, found: &mut Vec<Key>) {
    for key in keys {
        let is_about_query = path.is_empty() && [CHARACTER_SET, LEVEL].contains(&key.tag);
        if is_about_query || key.tag.element() == 0 {
            continue;
        }
        path.push(key.tag);
        match &key.value {
            Value::Text(value) => found.push(Key { path: path.clone(), value: value.clone() }),
            Value::Items(items) => match items.first().filter(|keys| !keys.is_empty()) {
                Some(keys) => flatten(keys, path, found),
                None => found.push(Key { path: path.clone(), value: String::new() }),
            },
        }
        path.pop();
    }
}

/// Whether a study is the first that is told of its patient.
fn is_new_patient(study: &[u8], known: &mut HashSet<String>) -> bool {
    let read: serde_json::Value = serde_json::from_slice(study).unwrap_or_default();
    let value = |tag: Tag| {
        read.get(crate::dicom::json::name(tag))
            .and_then(|attribute| attribute.get("Value"))
            .map(serde_json::Value::to_string)
            .unwrap_or_default()
    };
    known.insert(format!("{}{}", value(PATIENT), value(ISSUER)))
}

/// What a refused message is answered with, once it is on the record.
pub(super) fn refuse(
    it: &Association,
    deed: &crate::tenancy::Deed,
    error: &ControlError,
) -> Failure {
    record::refused(&it.gateway, deed, &it.caller.partition, error);
    refusal(error)
}

/// The study that an identifier names, for the audit log.
pub(super) fn named_study(keys: &[Element]) -> Vec<(Box<str>, Box<str>)> {
    named(uid(keys, STUDY).ok().as_ref())
}
