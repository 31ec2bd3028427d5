//! Changes attributes of a Part 10 file while it passes, in its own transfer syntax and character
//! set.
//!
//! An [`Editor`] takes the bytes of a file as they come and gives those of the edited one. It holds
//! them back until the attributes that may change were read; then its caller looks at their values
//! and decides ([`Editor::edit`], [`Editor::leave`]). From [`Editor::tail`] on, the file goes on as
//! it was: there a caller may copy the bytes himself.
//!
//! Holds: attributes that are not edited are copied byte for byte; one that is edited is written
//! once, in its order, however often it occurred; an edit that changes nothing leaves the file as
//! it was. What was replaced is in a new item of the Original Attributes Sequence (PS3.3
//! §C.12.1.1.9), with the bytes that it had. Group lengths of groups that change are left out. No
//! more is held than `limits.header_bytes`, beside what the caller has not taken.
//!
//! Decisions:
//! - Text that the Specific Character Set of the file cannot hold is an error, except where the
//!   file has none: then it becomes ISO_IR 100, by which text beyond ASCII was read already, or,
//!   where that does not do and all text before is ASCII, ISO_IR 192.
//! - The File Meta Information of an edited file names us as its writer, and what uses the preamble
//!   for another format is gone: its offsets would be wrong.
//! - A deflated data set is inflated and deflated again as a whole, and has no tail.
//! - An edited attribute that occurs again behind what was read for it is an error.
//!
//! Absent: attributes of items (a sequence is edited as a whole), I/O.

mod encode;
mod original;
mod raw;
mod rebuild;
mod survey;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};

use super::{
    DicomError, Limits, Tag, VR,
    charset::{Charset, Text},
    compose::{self, Composition},
    reader::Reader,
    transfer_syntax::{Encoding, TransferSyntax},
};
use encode::Form;
pub(super) use encode::is_text;
pub use original::{Origin, Reason};
use raw::Raw;
use survey::Survey;

const CHARACTER_SET: Tag = Tag(0x0008, 0x0005);
/// (0400,0561) Original Attributes Sequence.
const ORIGINAL: Tag = Tag(0x0400, 0x0561);
/// The first tag of its group.
const ORIGINAL_GROUP: Tag = Tag(0x0400, 0x0000);
/// Behind these come pixels.
const LAST_GROUP: u16 = 0x5FFF;
/// Binary values from this size on, in bytes, pass the reader in pieces.
const BULK: u32 = 4096;

/// Why a file cannot be edited.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It cannot be read.
    #[error(transparent)]
    Dicom(#[from] DicomError),
    /// The character set of the file has not all characters of a value.
    #[error("{0} does not fit the file's character set")]
    Characters(Tag),
    /// The value is longer than its VR allows in this transfer syntax.
    #[error("{0} would be too long")]
    TooLong(Tag),
    /// (0400,0561) is there, and no sequence.
    #[error("{ORIGINAL} is no sequence")]
    NoSequence,
    /// The attribute is not one that can be edited, or not of what was read.
    #[error("{0} cannot be edited")]
    Fixed(Tag),
}

/// A value to be written.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// In little endian; text in UTF-8, several values with `\` between them.
    Bytes(Vec<u8>),
    /// The items of a sequence.
    Items(Vec<BTreeMap<Tag, (VR, Value)>>),
}

/// What attributes of a data set become.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edits {
    attributes: BTreeMap<Tag, Option<(VR, Value)>>,
}

impl Edits {
    /// Whether an attribute can be edited: not what says how the file is encoded, nor pixels, nor
    /// what is written about the edits.
    pub fn allows(tag: Tag) -> bool {
        let Tag(group, element) = tag;
        (0x0008..=LAST_GROUP).contains(&group)
            && element != 0
            && !matches!(tag, CHARACTER_SET | ORIGINAL)
    }

    /// Gives an attribute a value, whether it is there or not.
    pub fn set(&mut self, tag: Tag, vr: VR, value: Value) {
        self.attributes.insert(tag, Some((vr, value)));
    }

    /// Gives an attribute text; several values have `\` between them.
    pub fn set_text(&mut self, tag: Tag, vr: VR, text: &str) {
        self.set(tag, vr, Value::Bytes(text.into()));
    }

    /// Removes an attribute, if it is there.
    pub fn remove(&mut self, tag: Tag) {
        self.attributes.insert(tag, None);
    }

    /// The last attribute that is edited.
    pub fn last(&self) -> Option<Tag> {
        self.attributes.last_key_value().map(|(tag, _)| *tag)
    }
}

/// Sets the attributes of a data set that came as metadata. Its character set does not count, nor
/// do values that would come beside it.
impl From<Composition> for Edits {
    fn from(composition: Composition) -> Self {
        let attributes = of_elements(composition.into_elements());
        let edit = |(tag, attribute)| (tag, Some(attribute));
        Self { attributes: attributes.into_iter().map(edit).collect() }
    }
}

fn of_elements(elements: Vec<compose::Element>) -> BTreeMap<Tag, (VR, Value)> {
    let value = |value| match value {
        compose::Value::Bytes(bytes) => Some(Value::Bytes(bytes)),
        compose::Value::Items(items) => {
            Some(Value::Items(items.into_iter().map(of_elements).collect()))
        }
        compose::Value::Bulk(_) => None,
    };
    elements
        .into_iter()
        .filter(|element| element.tag != CHARACTER_SET)
        .filter_map(|element| Some((element.tag, (element.vr, value(element.value)?))))
        .collect()
}

/// What became of the attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edited {
    /// Those that are not as they were, ascending.
    pub tags: Vec<Tag>,
}

/// What attributes become, as the data set has values; `None`: they are removed.
type Changes = BTreeMap<Tag, Option<(VR, Vec<u8>)>>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Bytes are held until the attributes that may change were read.
    Reading,
    /// They were read, and stand before this place; the caller is to decide.
    Read(u64),
    /// What comes passes, until (0400,0561) has its place.
    Passing,
    /// What there is of its group is held.
    Holding,
    /// The rest passes.
    Tail,
    /// All passes, and nothing changes.
    Untouched,
}

/// Edits one file.
pub struct Editor {
    reader: Reader<Survey>,
    limits: Limits,
    /// The last attribute that may change or whose value is asked for.
    through: Tag,
    stage: Stage,
    /// Not given to the reader yet.
    input: VecDeque<Bytes>,
    /// The reader must be called again although there is no input.
    has_more: bool,
    /// The reader came to the end of the file.
    is_finished: bool,
    /// The file, from the first byte that was not passed on.
    came: Raw,
    /// The data set of a deflated file, inflated, likewise.
    inflated: Raw,
    deflater: Option<Box<Deflater>>,
    /// The new item of (0400,0561), while its place has not come.
    item: Vec<u8>,
    form: Form,
    out: VecDeque<Bytes>,
}

impl Editor {
    /// An editor that reads attributes up to `through` before it asks what to do.
    pub fn new(through: Tag, limits: Limits) -> Self {
        // Whose it was is told with it.
        let through = if through == original::PATIENT_ID { original::ISSUER } else { through };
        Self {
            reader: Reader::new(Survey::default(), limits, BULK),
            limits,
            through,
            stage: Stage::Reading,
            input: VecDeque::new(),
            has_more: false,
            is_finished: false,
            came: Raw::default(),
            inflated: Raw::default(),
            deflater: None,
            item: Vec::new(),
            form: Form::EXPLICIT_LITTLE,
            out: VecDeque::new(),
        }
    }

    /// Takes the next bytes of the file; [`Editor::step`] reads them.
    pub fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.input.push_back(bytes);
        }
    }

    /// Does some of the work that there is: of one piece that was pushed, or 64 KiB where the data
    /// set is deflated. Whether there is more to do before other bytes are pushed; while the caller
    /// is to decide there is not.
    ///
    /// # Errors
    /// [`EditError`]; then there is no edited file.
    pub fn step(&mut self) -> Result<bool, EditError> {
        match self.stage {
            Stage::Read(_) => return Ok(false),
            Stage::Untouched => {
                self.pass_all();
                return Ok(false);
            }
            _ => {}
        }
        let mut chunk = match self.input.pop_front() {
            Some(chunk) => chunk,
            None if self.has_more => Bytes::new(),
            None => return Ok(false),
        };
        let mut rest = &chunk[..];
        self.has_more = self.reader.push_some(&mut rest)?;
        let taken = chunk.split_to(chunk.len() - rest.len());
        if !chunk.is_empty() {
            self.input.push_front(chunk);
        }
        if self.deflater.is_none() {
            self.came.push(taken);
        }
        let inflated = std::mem::take(&mut self.reader.sink_mut().inflated);
        self.inflated.push(inflated.into());
        self.advance()?;
        Ok(!matches!(self.stage, Stage::Read(_)) && (self.has_more || !self.input.is_empty()))
    }

    /// The file ended. Where the caller is to decide yet, he does that now and calls this again;
    /// afterwards all of the output can be taken.
    ///
    /// # Errors
    /// As [`Editor::step`]; where the file ends too early.
    pub fn end(&mut self) -> Result<(), EditError> {
        while self.step()? {}
        match self.stage {
            Stage::Read(_) | Stage::Untouched => Ok(()),
            _ if self.is_finished => Ok(()),
            Stage::Reading | Stage::Passing | Stage::Holding | Stage::Tail => self.finish(),
        }
    }

    fn finish(&mut self) -> Result<(), EditError> {
        self.is_finished = true;
        let fresh = || Reader::new(Survey::default(), self.limits, BULK);
        let mut survey = std::mem::replace(&mut self.reader, fresh()).finish()?;
        let inflated = std::mem::take(&mut survey.inflated);
        self.inflated.push(inflated.into());
        self.reader = Reader::new(survey, self.limits, BULK);
        let end = self.source().end();
        match self.stage {
            Stage::Reading => self.stage = Stage::Read(self.survey().known_end(end)),
            Stage::Passing | Stage::Holding => self.place_item(self.survey().known_end(end))?,
            _ => {}
        }
        if self.stage == Stage::Tail {
            let rest = self.source_mut().split_to(end);
            self.emit(rest)?;
            self.flush()?;
        }
        Ok(())
    }

    /// Whether the attributes were read, and the caller is to decide.
    pub fn is_read(&self) -> bool {
        matches!(self.stage, Stage::Read(_))
    }

    /// Bytes that are held, about.
    pub fn held(&self) -> u64 {
        let input: usize = self.input.iter().map(Bytes::len).sum();
        let out: usize = self.out.iter().map(Bytes::len).sum();
        self.came.len() + self.inflated.len() + self.survey().held() + (input + out) as u64
    }

    /// The values of an attribute that was read, as text; `None`: it is not there, or not text.
    /// Blanks at their ends are dropped.
    pub fn values(&self, tag: Tag) -> Option<Vec<String>> {
        let Stage::Read(end) = self.stage else { return None };
        let element = self.survey().elements(end).find(|element| element.tag == tag)?.value?;
        let vr = super::attributes::vr_of(tag).filter(|_| element.vr == VR::UN);
        let vr = vr.unwrap_or(element.vr);
        if !encode::is_text(vr) {
            return None;
        }
        let bytes = self.source().copy(element.offset, element.end()?);
        let charset = if encode::has_charset(vr) { self.charset(end).0 } else { Charset::DEFAULT };
        let kind = if vr == VR::PN { Text::PersonName } else { Text::Plain };
        let value = |value| charset.decode(value, kind).trim_matches([' ', '\0']).to_owned();
        Some(if encode::is_single(vr) {
            vec![value(&bytes)]
        } else {
            charset.values(&bytes).map(value).collect()
        })
    }

    /// Leaves the file as it is.
    pub fn leave(&mut self) {
        self.stage = Stage::Untouched;
        self.inflated = Raw::default();
        self.pass_all();
    }

    fn pass_all(&mut self) {
        self.input.drain(..).for_each(|chunk| self.came.push(chunk));
        let end = self.came.end();
        self.out.extend(self.came.split_to(end));
    }

    /// Edits the file; what changed is written down with `origin`. Where nothing does, the file is
    /// left as it is.
    ///
    /// # Errors
    /// [`EditError`]; then nothing was done.
    pub fn edit(&mut self, edits: &Edits, origin: &Origin) -> Result<Edited, EditError> {
        let Stage::Read(end) = self.stage else { return Ok(Edited::default()) };
        let beyond = |tag: &Tag| !Edits::allows(*tag) || *tag > self.through;
        if let Some(tag) = edits.attributes.keys().find(|tag| beyond(tag)) {
            return Err(EditError::Fixed(*tag));
        }
        self.form = self.survey().form();
        let mut changes = self.changes(edits, end)?;
        if changes.is_empty() {
            self.leave();
            return Ok(Edited::default());
        }
        let tags: Vec<Tag> = changes.keys().copied().collect();
        self.survey_mut().close(&tags, end)?;
        self.item = self.original_item(&changes, origin, end)?;
        let identity = |tag: Tag| changes.get(&tag).and_then(Option::as_ref).map(|new| &new.1);
        let (class, instance) = (identity(Tag(8, 0x16)), identity(Tag(8, 0x18)));
        let (class, instance) = (class.cloned(), instance.cloned());
        let meta = self.survey_mut().file_meta(class, instance);
        let start = match TransferSyntax::of(&self.survey().transfer_syntax()?).encoding {
            Encoding::Deflated => {
                self.deflater = Some(Box::default());
                self.came = Raw::default();
                0
            }
            _ => self.survey().data_set_offset(),
        };
        self.out.extend(meta.map(Bytes::from));
        // Where (0400,0561) belongs among what was read.
        let has_place = self.survey().begins(end).is_some_and(|tag| tag > ORIGINAL)
            || self.survey().begins_padding(end);
        let is_past = self.survey().elements(end).any(|element| element.tag >= ORIGINAL);
        let is_settled = has_place || is_past || self.is_finished;
        if is_settled {
            changes.insert(ORIGINAL, Some((VR::SQ, self.original_value(end)?)));
        }
        self.source_mut().split_to(start);
        let bytes = self.rebuild(&changes, end)?;
        self.source_mut().split_to(end);
        self.emit(vec![bytes.into()])?;
        self.stage = if is_settled { Stage::Tail } else { Stage::Passing };
        self.survey_mut().forget(end);
        self.survey_mut().look_again();
        self.advance()?;
        if self.is_finished {
            self.flush()?;
        }
        Ok(Edited { tags })
    }

    /// From this byte on, behind all output, the file is as it was; `None`: that is not known yet,
    /// or never so.
    pub fn tail(&self) -> Option<u64> {
        match self.stage {
            Stage::Tail if self.deflater.is_none() => Some(self.came.base()),
            Stage::Untouched => Some(self.came.base()),
            _ => None,
        }
    }

    /// The next bytes of the edited file.
    pub fn take(&mut self) -> Option<Bytes> {
        self.out.pop_front()
    }

    fn survey(&self) -> &Survey {
        self.reader.sink()
    }

    fn survey_mut(&mut self) -> &mut Survey {
        self.reader.sink_mut()
    }

    /// The bytes that the offsets of elements count in.
    fn source(&self) -> &Raw {
        if self.survey().is_deflated() { &self.inflated } else { &self.came }
    }

    fn source_mut(&mut self) -> &mut Raw {
        if self.survey().is_deflated() { &mut self.inflated } else { &mut self.came }
    }

    /// Goes on with what was read.
    fn advance(&mut self) -> Result<(), EditError> {
        if self.stage == Stage::Reading {
            let through = self.through;
            if let Some(at) = self.survey_mut().find(|tag| tag > through) {
                self.stage = Stage::Read(at);
                return Ok(());
            }
            return self.check_held();
        }
        if self.stage == Stage::Passing {
            let end = self.source().end();
            let found = self.survey_mut().find(|tag| tag >= ORIGINAL_GROUP);
            let upto = found.unwrap_or_else(|| self.survey().known_end(end).min(end));
            let passed = self.source_mut().split_to(upto);
            self.emit(passed)?;
            if found.is_none() {
                self.survey_mut().forget(upto);
                return Ok(());
            }
            self.stage = Stage::Holding;
            self.survey_mut().look_again();
        }
        if self.stage == Stage::Holding {
            let Some(at) = self.survey_mut().find(|tag| tag > ORIGINAL) else {
                return self.check_held();
            };
            self.place_item(at)?;
        }
        if self.stage == Stage::Tail {
            let end = self.source().end();
            let passed = self.source_mut().split_to(end);
            self.emit(passed)?;
            self.survey_mut().forget(end);
        }
        Ok(())
    }

    /// Writes (0400,0561) among what is held, which ends here.
    fn place_item(&mut self, end: u64) -> Result<(), EditError> {
        let value = self.original_value(end)?;
        let changes = BTreeMap::from([(ORIGINAL, Some((VR::SQ, value)))]);
        let bytes = self.rebuild(&changes, end)?;
        self.source_mut().split_to(end);
        self.emit(vec![bytes.into()])?;
        self.stage = Stage::Tail;
        Ok(())
    }

    fn check_held(&self) -> Result<(), EditError> {
        let limit = self.limits.header_bytes;
        if self.came.len().max(self.inflated.len()) + self.survey().held() > limit {
            return Err(DicomError::Limit { key: "limits.header_bytes", limit }.into());
        }
        Ok(())
    }

    /// Bytes of the data set go out.
    fn emit(&mut self, chunks: Vec<Bytes>) -> Result<(), EditError> {
        let Some(deflater) = &mut self.deflater else {
            self.out.extend(chunks);
            return Ok(());
        };
        for chunk in chunks {
            self.out.extend(deflater.deflate(&chunk, FlushCompress::None)?);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), EditError> {
        if let Some(deflater) = &mut self.deflater {
            self.out.extend(deflater.deflate(&[], FlushCompress::Finish)?);
            self.out.extend(deflater.padding());
        }
        Ok(())
    }
}

/// Deflates a data set (PS3.5 §A.5).
struct Deflater(Compress);

impl Default for Deflater {
    fn default() -> Self {
        Self(Compress::new(Compression::default(), false))
    }
}

impl Deflater {
    fn deflate(&mut self, mut bytes: &[u8], flush: FlushCompress) -> Result<Vec<Bytes>, EditError> {
        const PIECE: usize = 64 * 1024;
        let mut out = Vec::new();
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            let taken = self.0.total_in();
            let status = self
                .0
                .compress_vec(bytes, &mut piece, flush)
                .map_err(|_| EditError::Dicom(DicomError::Inflate))?;
            let taken = (self.0.total_in() - taken) as usize;
            bytes = bytes.get(taken..).unwrap_or_default();
            let is_full = piece.len() == piece.capacity();
            if !piece.is_empty() {
                out.push(piece.into());
            }
            let is_done = match flush {
                FlushCompress::Finish => status == Status::StreamEnd,
                _ => bytes.is_empty() && !is_full,
            };
            if is_done {
                return Ok(out);
            }
        }
    }

    /// The byte that makes the length even.
    fn padding(&self) -> Option<Bytes> {
        (self.0.total_out() % 2 == 1).then(|| Bytes::from_static(&[0]))
    }
}
