//! Store of metadata and bulk data (PS3.18 §10.5.2): instances put together from their metadata and
//! the parts that it names.
//!
//! Holds: an instance is a Part 10 file of our own writing, stored as any other, while its values
//! arrive: a value goes from its part into the file. What comes before its turn, and what does not
//! tell its length, is held in memory within `limits.staged_bytes`. An instance with a flaw fails
//! alone, and what comes for it is passed over.

use bytes::Bytes;

use super::{
    Broken,
    live::{Live, Stop, chunk},
    payload::{Known, Plan, Refusal, explicit, note_value, plan, probed},
    pictures,
    waiting::{Instance, NO_PART, Waiting, Whose},
};
use crate::{
    archive::{FailureReason, NoRoom, Outcome, PartSink, StoreSession},
    codec::probe::HEAD,
    config::LimitsConfig,
    dicom::{
        Uid,
        compose::{
            Composition, FRAMES_END, Piece, Place, bulk_header, fragment_header, frames_header,
            padding, read_json, read_xml,
        },
        model::Malformed,
    },
    http::multipart::{MultipartError, PartHead, PartReader},
};

/// Bytes of memory that a byte of metadata may need.
const SPREAD: u64 = 16;
/// And those that any metadata may need.
const LEAST: u64 = 64 << 10;
/// Longest value, in bytes: longer ones have no length that an element can tell.
const LONGEST: u64 = u32::MAX as u64 - 1;

/// What metadata is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Xml,
}

impl Form {
    /// The form of a part or body of this media type.
    pub(super) fn of(media_type: &str) -> Option<Self> {
        match media_type {
            "application/dicom+json" => Some(Self::Json),
            "application/dicom+xml" => Some(Self::Xml),
            _ => None,
        }
    }
}

/// A request that is being read.
pub(super) struct Assembly<'a> {
    session: &'a mut StoreSession,
    reader: &'a mut PartReader,
    waiting: Waiting,
    /// Parts that are nobody's, to be told when nothing is being written.
    strays: Vec<&'static str>,
    depth: u16,
    /// The form of a root part without a media type of its own.
    root: Form,
    crowded: Crowded,
}

/// Instances that failed because there was no room, and for nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Crowded {
    /// How many.
    pub(super) instances: usize,
    /// What there was no room in, of the last one; memory, if it was that once.
    pub(super) room: Option<NoRoom>,
}

impl Crowded {
    /// What the request as a whole had no room in: where nothing is stored, and nothing but that is why.
    pub(super) fn of(&self, outcome: &Outcome) -> Option<NoRoom> {
        let is_all = outcome.stored.is_empty() && outcome.failed.len() == self.instances;
        self.room.filter(|_| is_all)
    }

    fn note(&mut self, refusal: &Refusal) {
        let Some(room) = refusal.room else { return };
        self.instances += 1;
        if self.room != Some(NoRoom::Memory) {
            self.room = Some(room);
        }
    }
}

impl<'a> Assembly<'a> {
    pub(super) fn new(
        session: &'a mut StoreSession,
        reader: &'a mut PartReader,
        limits: &LimitsConfig,
        root: Form,
    ) -> Self {
        let waiting = Waiting::new(session.staged());
        let depth = limits.element_depth;
        let crowded = Crowded::default();
        Self { session, reader, waiting, strays: Vec::new(), depth, root, crowded }
    }

    /// Takes all parts of the request.
    pub(super) async fn take(mut self, head: PartHead) -> (Crowded, Result<(), Broken>) {
        let mut taken = self.parts(head).await;
        // What was held while another instance was written.
        for number in self.waiting.ready() {
            if let Err(broken) = self.instance(number, None).await {
                taken = taken.and(Err(broken));
            }
        }
        self.tell_strays();
        self.waiting.end(self.session);
        (self.crowded, taken)
    }

    fn refuse(&mut self, sop: Option<(Uid, Uid)>, refusal: Refusal) {
        self.crowded.note(&refusal);
        self.session.refuse_instance(sop, refusal.reason, refusal.detail);
    }

    async fn parts(&mut self, first: PartHead) -> Result<(), Broken> {
        let mut head = Some(first);
        while let Some(current) = head {
            head = match self.form_of(&current) {
                Some(form) => {
                    self.metadata(form).await?;
                    self.reader.next_head().await?
                }
                None => self.value(current).await?,
            };
            self.tell_strays();
        }
        Ok(())
    }

    /// The form of a part of metadata; `None`: it is a value.
    fn form_of(&self, head: &PartHead) -> Option<Form> {
        match &head.content_type {
            Some(content_type) => Form::of(content_type.essence()),
            None => (!head.headers.contains_key("content-location")).then_some(self.root),
        }
    }

    fn tell_strays(&mut self) {
        for what in self.strays.drain(..) {
            // It may be of an instance for which there was no room, and which nobody knows of.
            if what != NOBODYS || self.crowded.instances == 0 {
                self.session.refuse_part(what.to_owned());
            }
        }
    }

    /// Reads a part of metadata; stores what has no values beside it.
    async fn metadata(&mut self, form: Form) -> Result<(), Broken> {
        let mut text = Vec::new();
        while let Some(chunk) = chunk(self.reader, self.session).await? {
            self.waiting.staged.hold(chunk.len() as u64).await?;
            text.extend_from_slice(&chunk);
        }
        let length = text.len() as u64;
        let room = length.saturating_mul(SPREAD).saturating_add(LEAST);
        let room = room.min(self.waiting.staged.left());
        self.waiting.staged.hold(room).await?;
        let depth = self.depth;
        let read = tokio::task::spawn_blocking(move || match form {
            Form::Json => read_json(&text, depth, room),
            Form::Xml => read_xml(&text, depth, room).map(|one| vec![one]),
        });
        let read = read.await.unwrap_or(Err(Malformed { at: 0, what: "it cannot be read" }));
        self.waiting.staged.give_back(length + room);
        for composition in read? {
            if let Some(flaw) = composition.flaw() {
                let (sop, reason) = (composition.sop(), FailureReason::CannotUnderstand);
                self.session.refuse_instance(sop, reason, flaw.to_string());
            } else if composition.places().is_empty() {
                self.whole(&composition).await;
            } else {
                match self.waiting.staged.hold(composition.weight()).await {
                    Ok(()) => self.waiting.add(composition, self.session),
                    Err(none) => self.refuse(composition.sop(), none.into()),
                }
            }
        }
        Ok(())
    }

    /// Stores an instance that has no values beside its metadata.
    async fn whole(&mut self, composition: &Composition) {
        let sop = composition.sop();
        let pieces = explicit().and_then(|syntax| Ok(composition.pieces(&syntax)?));
        match pieces {
            Ok(pieces) => {
                let mut sink = self.session.part();
                for piece in pieces {
                    if let Piece::Bytes(bytes) = piece {
                        sink.push(bytes.into()).await;
                    }
                }
                sink.finish().await;
            }
            Err(refusal) => self.refuse(sop, refusal),
        }
    }

    /// Takes the part of a value; the header of the next part that is not dealt with.
    async fn value(&mut self, head: PartHead) -> Result<Option<PartHead>, Broken> {
        let is_instance =
            head.content_type.as_ref().is_some_and(|of| of.essence() == "application/dicom");
        match self.waiting.whose(&head) {
            _ if is_instance => self.strays.push(MIXED),
            Whose::Nobodys => self.strays.push(NOBODYS),
            Whose::Late => self.strays.push(LATE),
            Whose::Failed => {}
            Whose::Of { instance, place, begins: false } => {
                self.keep(instance, place, head).await?;
            }
            Whose::Of { instance, place, begins: true } => {
                return self.instance(instance, Some((place, Live::new(head)))).await;
            }
        }
        Ok(self.reader.next_head().await?)
    }

    /// Holds a part until its turn comes.
    async fn keep(&mut self, number: usize, place: usize, head: PartHead) -> Result<(), Broken> {
        let mut live = Live::new(head);
        match live.read_all(self.reader, &mut self.waiting, self.session).await {
            Ok(()) => self.waiting.keep(number, place, live.into_held()),
            Err(Stop::Broken(broken)) => return Err(broken),
            Err(Stop::Refused(refusal)) => {
                live.release(&mut self.waiting);
                let sop = self.waiting.fail(number);
                self.refuse(sop, refusal);
            }
        }
        Ok(())
    }

    /// Writes an instance, beginning with the part for one of its values where not all are held; the
    /// header of the first part that is not its own.
    async fn instance(
        &mut self,
        number: usize,
        mut live: Option<(usize, Live)>,
    ) -> Result<Option<PartHead>, Broken> {
        let Some(mut instance) = self.waiting.begin(number) else { return Ok(None) };
        let sop = instance.sop.clone();
        let begun =
            begin(&mut instance, &mut live, self.reader, &mut self.waiting, self.session).await;
        let (plan, pieces) = match begun {
            Ok(begun) => begun,
            Err(stop) => {
                self.waiting.release(&instance);
                self.waiting.fail(number);
                return match stop {
                    Stop::Broken(broken) => {
                        self.unfinished(sop);
                        Err(broken)
                    }
                    Stop::Refused(refusal) => {
                        self.refuse(sop, refusal);
                        Ok(self.reader.next_head().await?)
                    }
                };
            }
        };
        let mut file = File {
            sink: self.session.part(),
            reader: self.reader,
            waiting: &mut self.waiting,
            strays: &mut self.strays,
            number,
            instance,
            live,
            next: None,
            broken: None,
        };
        let written = file.write(&plan, pieces).await;
        let File { sink, instance, live, next, broken, .. } = file;
        self.waiting.release(&instance);
        if let Some((_, live)) = live {
            live.release(&mut self.waiting);
        }
        match written {
            Ok(()) => {
                sink.finish().await;
                broken.map_or(Ok(next), |error| Err(error.into()))
            }
            Err(Stop::Refused(refusal)) => {
                self.crowded.note(&refusal);
                sink.refuse(sop, refusal.reason, refusal.detail).await;
                self.waiting.fail(number);
                match next {
                    Some(next) => Ok(Some(next)),
                    None => Ok(self.reader.next_head().await?),
                }
            }
            Err(Stop::Broken(broken)) => {
                sink.abandon().await;
                self.unfinished(sop);
                Err(broken)
            }
        }
    }

    /// An instance whose values did not come to their end.
    fn unfinished(&mut self, sop: Option<(Uid, Uid)>) {
        let detail = "the body ends before its values do".to_owned();
        self.session.refuse_instance(sop, FailureReason::CannotUnderstand, detail);
    }
}

const NOBODYS: &str = "no metadata names the part by its Content-Location";
const MIXED: &str = "instances and metadata are not taken in one request";
const LATE: &str = "the value of that Content-Location came before";

/// Plans an instance, of which a part is being read where not all is held, and writes all but its
/// values.
async fn begin(
    instance: &mut Instance,
    part: &mut Option<(usize, Live)>,
    reader: &mut PartReader,
    waiting: &mut Waiting,
    session: &mut StoreSession,
) -> Result<(Plan, Vec<Piece>), Stop> {
    if let Some((_, live)) = part {
        live.read_first(reader, session).await?;
    }
    if let Some(at) = instance.pixels() {
        pictures::transform(instance, at, part, reader, waiting, session).await?;
    }
    let live = part.as_ref().map(|(place, live)| (*place, live));
    let live_for = |at: usize| live.filter(|(place, _)| *place == at).map(|(_, live)| live);
    let pixels = instance.pixels();
    for at in 0..instance.places.len() {
        if Some(at) == pixels {
            continue;
        }
        let held = instance.held.get(at).and_then(|parts| parts.front());
        let (head, length) = match (held, live_for(at)) {
            (Some(held), _) => (held.head.clone(), Some(held.length)),
            (None, Some(live)) => (live.head.clone(), live.length()),
            (None, None) => continue,
        };
        note_value(instance, at, &head, length)?;
    }
    let held = pixels.and_then(|at| instance.held.get(at)).and_then(|parts| parts.front());
    let known = match (held, pixels.and_then(live_for)) {
        (Some(held), _) => Some((held.head.clone(), held.chunks.first(HEAD))),
        (None, Some(live)) => Some((live.head.clone(), live.first())),
        (None, None) => None,
    };
    let known = known.as_ref().map(|(head, first)| Known { head, first });
    let plan = plan(instance, known)?;
    let pieces = instance.composition.pieces(&plan.syntax).map_err(Refusal::from)?;
    Ok((plan, pieces))
}

/// The file of an instance that is being written.
struct File<'s, 'a> {
    sink: PartSink<'s>,
    reader: &'a mut PartReader,
    waiting: &'a mut Waiting,
    strays: &'a mut Vec<&'static str>,
    number: usize,
    instance: Instance,
    /// The part that is being read, and for which value it is.
    live: Option<(usize, Live)>,
    /// The header of a part that is not this instance's.
    next: Option<PartHead>,
    /// What is wrong with the body behind the instance.
    broken: Option<MultipartError>,
}

impl File<'_, '_> {
    async fn write(&mut self, plan: &Plan, pieces: Vec<Piece>) -> Result<(), Stop> {
        let mut at = 0;
        for piece in pieces {
            match piece {
                Piece::Bytes(bytes) => self.sink.push(bytes.into()).await,
                Piece::Place(place) => {
                    match &plan.frames {
                        Some(_) if self.instance.pixels() == Some(at) => {
                            self.frames(at, &place, plan).await?;
                        }
                        _ => self.octets(at, &place).await?,
                    }
                    at += 1;
                }
            }
        }
        // A part that is one too many shows that something is amiss.
        match self.reader.next_head().await {
            Ok(next) => self.next = next,
            Err(error) => self.broken = Some(error),
        }
        let own = self.next.as_ref().and_then(|head| self.waiting.place_of(head));
        match own.filter(|(number, _)| *number == self.number) {
            Some((_, place)) => Err(self.too_many(place)),
            None => match self.instance.held.iter().position(|parts| !parts.is_empty()) {
                Some(place) => Err(self.too_many(place)),
                None => Ok(()),
            },
        }
    }

    fn too_many(&self, place: usize) -> Stop {
        match self.instance.places.get(place) {
            Some(place) => Refusal::mismatch(place, "has more parts than it should").into(),
            None => Refusal::new(FailureReason::Processing, LATE).into(),
        }
    }

    /// The next part for the value at `at`, with its first bytes.
    async fn part_for(&mut self, at: usize, place: &Place) -> Result<Live, Stop> {
        if let Some(held) = self.instance.held.get_mut(at).and_then(|parts| parts.pop_front()) {
            return Ok(Live::of_held(held));
        }
        match self.live.take() {
            Some((of, live)) if of == at => return Ok(live),
            live => self.live = live,
        }
        loop {
            let head = self.reader.next_head().await?;
            let Some(head) = head else {
                let detail = format!("{} {NO_PART}", place.tag);
                return Err(Refusal::new(FailureReason::CannotUnderstand, detail).into());
            };
            let is_metadata =
                head.content_type.as_ref().is_some_and(|of| Form::of(of.essence()).is_some());
            if is_metadata {
                self.next = Some(head);
                let detail = format!("{} {NO_PART}", place.tag);
                return Err(Refusal::new(FailureReason::CannotUnderstand, detail).into());
            }
            let mut live = Live::new(head);
            match self.waiting.place_of(&live.head) {
                None => self.strays.push(NOBODYS),
                Some((number, of)) if number == self.number && of == at => {
                    live.read_first(self.reader, &mut self.sink).await?;
                    return Ok(live);
                }
                Some((number, of)) if number == self.number => {
                    live.read_all(self.reader, self.waiting, &mut self.sink).await?;
                    if let Some(parts) = self.instance.held.get_mut(of) {
                        parts.push_back(live.into_held());
                    }
                }
                Some((number, of)) => {
                    let whose = self.waiting.whose(&live.head);
                    if whose == Whose::Late {
                        self.strays.push(LATE);
                    } else if let Whose::Of { .. } = whose {
                        match live.read_all(self.reader, self.waiting, &mut self.sink).await {
                            Ok(()) => self.waiting.keep(number, of, live.into_held()),
                            Err(Stop::Broken(broken)) => return Err(Stop::Broken(broken)),
                            // It is found missing in the end.
                            Err(Stop::Refused(_)) => live.release(self.waiting),
                        }
                    }
                }
            }
        }
    }

    /// One value, as its octets.
    async fn octets(&mut self, at: usize, place: &Place) -> Result<(), Stop> {
        let mut live = self.part_for(at, place).await?;
        let expected = self.instance.composition.native_length(place);
        let length = match live.length().or(expected) {
            Some(length) => length,
            None => {
                live.read_all(self.reader, self.waiting, &mut self.sink).await?;
                live.read
            }
        };
        if live.length().is_some() {
            self.instance.composition.check_native(place, length).map_err(Refusal::from)?;
        }
        if length > LONGEST {
            return Err(Refusal::mismatch(place, "is longer than an element can be").into());
        }
        let header = bulk_header(place.tag, place.vr, even(length));
        self.sink.push(header.into()).await;
        self.content(live, place, length, padding(place.vr)).await
    }

    /// Frames, one for each part.
    async fn frames(&mut self, at: usize, place: &Place, plan: &Plan) -> Result<(), Stop> {
        let Some((count, first)) = &plan.frames else { return Ok(()) };
        self.sink.push(frames_header().into()).await;
        for number in 0..*count {
            let mut live = self.part_for(at, place).await?;
            let told = probed(place, plan.syntax.as_str(), &live.first())?;
            let same = told.map(|told| told.description) == first.map(|first| first.description);
            if number > 0 && !same {
                return Err(Refusal::mismatch(place, "has frames that are not alike").into());
            }
            if live.length().is_none() {
                live.read_all(self.reader, self.waiting, &mut self.sink).await?;
            }
            let length = live.length().unwrap_or(live.read);
            if length == 0 || length > LONGEST {
                return Err(
                    Refusal::mismatch(place, "has a frame that is empty or too long").into()
                );
            }
            self.sink.push(fragment_header(even(length)).into()).await;
            self.content(live, place, length, 0).await?;
        }
        self.sink.push(Bytes::from_static(&FRAMES_END)).await;
        Ok(())
    }

    /// The content of a part, of which `length` bytes are told (and one more may pad it).
    async fn content(
        &mut self,
        live: Live,
        place: &Place,
        length: u64,
        pad: u8,
    ) -> Result<(), Stop> {
        let (Live { mut chunks, mut read, whole, staged, .. }, even) =
            (live, u64::from(even(length)));
        if read <= even {
            for chunk in chunks.take() {
                self.sink.push(chunk).await;
            }
        }
        self.waiting.staged.give_back(staged);
        while !whole && read <= even {
            let next = chunk(self.reader, &mut self.sink).await?;
            let Some(chunk) = next else { break };
            read += chunk.len() as u64;
            if read <= even {
                self.sink.push(chunk).await;
            }
        }
        if read != length && read != even {
            return Err(Refusal::mismatch(place, "is not as long as it was said to be").into());
        }
        if read < even {
            self.sink.push(Bytes::copy_from_slice(&[pad])).await;
        }
        Ok(())
    }
}

/// The length that an element has whose value has this one.
fn even(length: u64) -> u32 {
    u32::try_from(length + length % 2).unwrap_or(u32::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Failed;

    #[test]
    fn memory_goes_before_the_limit_and_what_is_wrong_before_both() {
        let reason = FailureReason::OutOfResources;
        let of = |rooms: &[Option<NoRoom>]| {
            let mut crowded = Crowded::default();
            for room in rooms {
                crowded.note(&Refusal { room: *room, ..Refusal::new(reason, "") });
            }
            let failed = Failed { sop: None, reason, detail: String::new() };
            let failed = vec![failed; rooms.len()];
            crowded.of(&Outcome { failed, ..Outcome::default() })
        };
        let (limit, memory) = (Some(NoRoom::Limit(7)), Some(NoRoom::Memory));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[limit, limit]), limit);
        assert_eq!(of(&[memory, limit]), memory);
        assert_eq!(of(&[limit, None]), None);
    }
}
