//! What becomes of an attribute: the table, the options, and what neither has (PS3.15 §E.1.1).
//!
//! Beyond the letter, where the table is silent: names become empty; dates are treated as those of
//! the table; UIDs that are not of classes, transfer syntaxes or vocabularies become others; free
//! text is cleaned; URLs, issuers of identifiers and whatever PS3.6 does not know go.

use dicom_core::dictionary::{DataDictionary as _, DataDictionaryEntry as _, VirtualVr};
use dicom_dictionary_std::StandardDataDictionary;

use super::{
    Dates, Options,
    table::{self, Code, Columns},
};
use crate::dicom::{Tag, VR};

pub(super) const PATIENT_NAME: Tag = Tag(0x0010, 0x0010);
pub(super) const PATIENT_ID: Tag = Tag(0x0010, 0x0020);
pub(super) const CONTENT_SEQUENCE: Tag = Tag(0x0040, 0xA730);
pub(super) const TEXT_VALUE: Tag = Tag(0x0040, 0xA160);
pub(super) const GRAPHIC_ANNOTATIONS: Tag = Tag(0x0070, 0x0001);
pub(super) const PERSON_CODES: Tag = Tag(0x0040, 0x1101);
const PERFORMED_STEPS: Tag = Tag(0x0008, 0x1111);

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The value stays; a sequence stays, and its items are treated in turn.
    Keep,
    /// Gone.
    Remove,
    /// Of length zero.
    Empty,
    /// A value that says nothing.
    Dummy,
    /// [`Action::Dummy`], but for plain classes [`Action::Remove`].
    DummyOrRemove,
    /// [`Action::Dummy`], but for plain classes [`Action::Empty`].
    DummyOrEmpty,
    /// Another UID.
    Uid,
    /// Another UID, unless it is one of a public vocabulary.
    VocabularyUid,
    /// A date or time, moved.
    Shift,
    /// Words that cannot identify stay. What is left of nothing is empty.
    Clean,
    /// The same; a dummy is left of nothing.
    CleanOrDummy,
    /// What a code means: stays, unless it has a word of a name or identifier.
    Meaning,
    /// The pseudonym of the patient.
    Pseudonym,
    /// Of a sequence: attributes stay in its items that the table names.
    Listed,
    /// A sequence with an item that says nothing.
    DummyItem,
    /// A content tree, cleaned.
    Content,
    /// Annotations, of which the text is replaced; graphics stay or are replaced as well.
    Graphics {
        /// Whether graphics stay.
        keep: bool,
    },
    /// Private: decided once the creator is known.
    Private,
}

/// An attribute with the VR that it is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) action: Action,
    pub(super) vr: VR,
}

/// Classes in whose modules attributes of the codes X/D and X/Z/D are of Type 3 and those of Z/D of
/// Type 2: images of a single frame, as they were before there were enhanced ones.
pub(super) fn is_plain(sop_class: &str) -> bool {
    let Some(number) = sop_class.strip_prefix("1.2.840.10008.5.1.4.1.1.") else { return false };
    matches!(
        number,
        "1" | "1.1"
            | "1.1.1"
            | "1.2"
            | "1.2.1"
            | "1.3"
            | "1.3.1"
            | "2"
            | "4"
            | "7"
            | "12.1"
            | "12.2"
            | "20"
            | "128"
    )
}

/// What becomes of an attribute that came with this VR; `is_listed`: in an item where only what the
/// table names may stay.
pub(super) fn rule(options: &Options, tag: Tag, came_as: VR, is_listed: bool) -> Rule {
    let remove = Rule { action: Action::Remove, vr: came_as };
    if tag.group() % 2 == 1 {
        let is_retained = options.retain_safe_private && !is_listed && may_be_safe(tag, came_as);
        return if is_retained { Rule { action: Action::Private, vr: came_as } } else { remove };
    }
    if is_always_removed(tag) {
        return remove;
    }
    let Some(vr) = suits(tag, came_as) else { return remove };
    let action = match table::row(tag) {
        Some((code, columns)) => listed(options, tag, vr, code, columns),
        // References name their class besides.
        None if is_listed && !is_of_class(tag) => Action::Remove,
        None => unlisted(options, tag, vr),
    };
    let vr = if is_same_text(came_as, vr) { came_as } else { vr };
    Rule { action, vr }
}

/// What goes whatever the options: curves and overlays, directories, encrypted attributes, what
/// names issuers of identifiers, pixel data (that of the data set itself does not come here), and
/// what we write ourselves.
fn is_always_removed(tag: Tag) -> bool {
    matches!(tag.group() & 0xFF00, 0x5000 | 0x6000)
        || tag.group() == 0x0004
        || matches!(
            tag,
            Tag(0x0008, 0x0051 | 0x0300)
                | Tag(0x0010, 0x0022 | 0x0024 | 0x0026..=0x0028)
                | Tag(0x0012, 0x0062..=0x0064)
                | Tag(0x0028, 0x0303)
                | Tag(
                    0x0040,
                    0x0026 | 0x0027 | 0x0031..=0x0033 | 0x0035 | 0x0036 | 0x0039 | 0x003A
                )
                | Tag(0x0400, 0x0500)
                | Tag(0x7FE0, 0x0008..=0x0010)
        )
}

fn listed(options: &Options, tag: Tag, vr: VR, code: Code, columns: Columns) -> Action {
    let is_date = matches!(vr, VR::DA | VR::DT | VR::TM);
    if columns.has(Columns::DATES) {
        match options.dates {
            Dates::Full => return Action::Keep,
            Dates::Modified if is_date => return Action::Shift,
            Dates::Modified | Dates::Remove => {}
        }
    }
    for (is_on, column) in [
        (options.retain_uids, Columns::UIDS),
        (options.retain_device_identity, Columns::DEVICE),
        (options.retain_institution_identity, Columns::INSTITUTION),
        (options.retain_patient_characteristics, Columns::PATIENT),
    ] {
        if is_on && columns.has(column) {
            return Action::Keep;
        }
    }
    let is_cleaned = options.clean_descriptors && columns.has(Columns::DESCRIPTORS)
        || options.retain_patient_characteristics && columns.has(Columns::PATIENT_CLEAN);
    if is_cleaned && vr == VR::SQ {
        return Action::Keep;
    }
    if is_cleaned && is_text(vr) {
        let needs_one = matches!(code, Code::D);
        return if needs_one { Action::CleanOrDummy } else { Action::Clean };
    }
    if options.clean_structured_content && columns.has(Columns::CONTENT) {
        return Action::Content;
    }
    if tag == GRAPHIC_ANNOTATIONS {
        return Action::Graphics { keep: options.clean_graphics };
    }
    match code {
        _ if matches!(tag, PATIENT_NAME | PATIENT_ID) => Action::Pseudonym,
        Code::X => Action::Remove,
        Code::Z | Code::XorZ => Action::Empty,
        Code::U => Action::Uid,
        Code::References => Action::Keep,
        Code::D if vr == VR::UI => Action::Uid,
        Code::D | Code::ZorD | Code::XorD | Code::XorZorD if vr == VR::SQ => match tag {
            CONTENT_SEQUENCE | PERSON_CODES => Action::DummyItem,
            // Nothing but references.
            PERFORMED_STEPS => Action::Listed,
            _ if code == Code::D => Action::Listed,
            _ => Action::Remove,
        },
        Code::D => Action::Dummy,
        Code::ZorD => Action::DummyOrEmpty,
        Code::XorD | Code::XorZorD => Action::DummyOrRemove,
    }
}

fn unlisted(options: &Options, tag: Tag, vr: VR) -> Action {
    match vr {
        VR::PN => Action::Empty,
        VR::DA | VR::DT | VR::TM => match options.dates {
            Dates::Full => Action::Keep,
            Dates::Modified => Action::Shift,
            Dates::Remove => Action::Dummy,
        },
        VR::UI if is_of_class(tag) => Action::Keep,
        VR::UI if options.retain_uids => Action::Keep,
        VR::UI if is_of_vocabulary(tag) => Action::VocabularyUid,
        VR::UI => Action::Uid,
        // URN Code Value and Coding Scheme URL.
        VR::UR if matches!(tag, Tag(0x0008, 0x0120 | 0x010E)) => Action::Keep,
        VR::AE | VR::AS | VR::UN | VR::UR => Action::Remove,
        VR::LT | VR::ST | VR::UT if tag == TEXT_VALUE => Action::CleanOrDummy,
        VR::LT | VR::ST | VR::UT => Action::Clean,
        _ => Action::Keep,
    }
}

/// UIDs of SOP classes and transfer syntaxes.
fn is_of_class(tag: Tag) -> bool {
    matches!(
        tag,
        Tag(0x0008, 0x0016 | 0x001A | 0x001B | 0x0062 | 0x040E | 0x1150 | 0x115A | 0x3002)
            | Tag(0x0034, 0x0003)
            | Tag(0x0400, 0x0010 | 0x0510)
            | Tag(0x3010, 0x0052 | 0x0053)
    )
}

/// UIDs of coding schemes, context groups and palettes.
fn is_of_vocabulary(tag: Tag) -> bool {
    matches!(
        tag,
        Tag(0x0008, 0x010C | 0x010D | 0x0117 | 0x0118) | Tag(0x0028, 0x0304) | Tag(0x0072, 0x007F)
    )
}

/// Private creators, and elements of a block whose value is no more than a number or a code.
fn may_be_safe(tag: Tag, vr: VR) -> bool {
    let is_creator = (0x0010..=0x00FF).contains(&tag.element()) && vr == VR::LO;
    let is_element = tag.element() >= 0x1000
        && !matches!(
            vr,
            VR::AE | VR::AS | VR::DA | VR::DT | VR::PN | VR::SQ | VR::TM | VR::UI | VR::UR
        );
    is_creator || is_element
}

fn is_text(vr: VR) -> bool {
    matches!(vr, VR::LO | VR::LT | VR::SH | VR::ST | VR::UC | VR::UT)
}

fn is_same_text(a: VR, b: VR) -> bool {
    let plain = |vr| is_text(vr) || vr == VR::CS;
    plain(a) && plain(b)
}

fn is_integer(vr: VR) -> bool {
    matches!(vr, VR::SL | VR::SS | VR::SV | VR::UL | VR::US | VR::UV)
}

fn is_binary(vr: VR) -> bool {
    matches!(vr, VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::UN)
}

fn is_string(vr: VR) -> bool {
    !is_integer(vr) && !is_binary(vr) && !matches!(vr, VR::AT | VR::FD | VR::FL | VR::SQ)
}

/// The VR as which an attribute that came as `vr` is understood; `None`: PS3.6 does not know it, or
/// its value is of another kind than it says.
fn suits(tag: Tag, vr: VR) -> Option<VR> {
    match StandardDataDictionary.by_tag(tag)?.vr() {
        VirtualVr::Exact(known) if known == vr => Some(vr),
        // A sequence that came as UN of defined length was not looked into.
        VirtualVr::Exact(VR::SQ) => None,
        VirtualVr::Exact(known) if vr == VR::UN => Some(known),
        VirtualVr::Exact(known) if is_string(known) && is_string(vr) => Some(known),
        VirtualVr::Exact(known) if is_integer(known) && is_integer(vr) => Some(vr),
        VirtualVr::Exact(known) if is_binary(known) && is_binary(vr) => Some(vr),
        VirtualVr::Exact(_) => None,
        VirtualVr::Xs if vr == VR::UN => Some(VR::US),
        VirtualVr::Xs | VirtualVr::Lt if matches!(vr, VR::OW | VR::SS | VR::US) => Some(vr),
        VirtualVr::Ox | VirtualVr::Px | VirtualVr::Lt if is_binary(vr) => Some(vr),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(options: &Options, tag: Tag, vr: VR) -> Action {
        rule(options, tag, vr, false).action
    }

    #[test]
    fn options_change_what_they_are_about() {
        let basic = Options::default();
        let all = Options {
            retain_uids: true,
            retain_device_identity: true,
            retain_institution_identity: true,
            retain_patient_characteristics: true,
            dates: Dates::Full,
            clean_descriptors: true,
            clean_structured_content: true,
            clean_graphics: true,
            retain_safe_private: true,
            ..basic
        };
        for (tag, vr, without, with) in [
            (Tag(0x0008, 0x0018), VR::UI, Action::Uid, Action::Keep),
            (Tag(0x0008, 0x0016), VR::UI, Action::Keep, Action::Keep),
            (Tag(0x0008, 0x0020), VR::DA, Action::Empty, Action::Keep),
            (Tag(0x0008, 0x0021), VR::DA, Action::DummyOrRemove, Action::Keep),
            (Tag(0x0008, 0x0023), VR::DA, Action::DummyOrEmpty, Action::Keep),
            (Tag(0x0008, 0x0050), VR::SH, Action::Empty, Action::Empty),
            (Tag(0x0008, 0x0080), VR::LO, Action::DummyOrRemove, Action::Keep),
            (Tag(0x0008, 0x1030), VR::LO, Action::Remove, Action::Clean),
            (Tag(0x0008, 0x1032), VR::SQ, Action::Keep, Action::Keep),
            (Tag(0x0008, 0x1140), VR::SQ, Action::Keep, Action::Keep),
            (PATIENT_NAME, VR::PN, Action::Pseudonym, Action::Pseudonym),
            (Tag(0x0010, 0x0030), VR::DA, Action::Empty, Action::Empty),
            (Tag(0x0010, 0x1010), VR::AS, Action::Remove, Action::Keep),
            (Tag(0x0010, 0x2110), VR::LO, Action::Remove, Action::Clean),
            (Tag(0x0018, 0x1000), VR::LO, Action::DummyOrRemove, Action::Keep),
            (Tag(0x0018, 0x1002), VR::UI, Action::Uid, Action::Keep),
            (CONTENT_SEQUENCE, VR::SQ, Action::DummyItem, Action::Content),
            (
                GRAPHIC_ANNOTATIONS,
                VR::SQ,
                Action::Graphics { keep: false },
                Action::Graphics { keep: true },
            ),
            (Tag(0x0019, 0x0010), VR::LO, Action::Remove, Action::Private),
            (Tag(0x0019, 0x1023), VR::DS, Action::Remove, Action::Private),
            (Tag(0x0019, 0x1023), VR::PN, Action::Remove, Action::Remove),
            (Tag(0x0019, 0x1023), VR::SQ, Action::Remove, Action::Remove),
            (Tag(0x6000, 0x3000), VR::OW, Action::Remove, Action::Remove),
            (Tag(0x0400, 0x0500), VR::SQ, Action::Remove, Action::Remove),
        ] {
            assert_eq!(action(&basic, tag, vr), without, "{tag}");
            assert_eq!(action(&all, tag, vr), with, "{tag}");
        }
        let modified = Options { dates: Dates::Modified, ..basic };
        assert_eq!(action(&modified, Tag(0x0008, 0x0020), VR::DA), Action::Shift);
        assert_eq!(action(&modified, Tag(0x0008, 0x0201), VR::SH), Action::Remove);
    }

    #[test]
    fn what_is_not_understood_goes() {
        let basic = Options::default();
        for (tag, vr) in [
            (Tag(0x0012, 0x9999), VR::LO),
            (Tag(0x0012, 0x9999), VR::UN),
            (Tag(0x0028, 0x0010), VR::LT),
            (Tag(0x0008, 0x1032), VR::UN),
            (Tag(0x0018, 0x0050), VR::US),
            (Tag(0x0008, 0x0060), VR::SQ),
            (Tag(0x7FE0, 0x0010), VR::OW),
        ] {
            assert_eq!(action(&basic, tag, vr), Action::Remove, "{tag} {vr}");
        }
        // What is only told wrongly is understood as what it is.
        let name = rule(&basic, PATIENT_NAME, VR::LO, false);
        assert_eq!(name, Rule { action: Action::Pseudonym, vr: VR::PN });
        let rows = rule(&basic, Tag(0x0028, 0x0010), VR::UN, false);
        assert_eq!(rows, Rule { action: Action::Keep, vr: VR::US });
        assert_eq!(rule(&basic, Tag(0x0028, 0x0010), VR::US, true).action, Action::Remove);
        assert_eq!(rule(&basic, Tag(0x0008, 0x1150), VR::UI, true).action, Action::Keep);
    }
}
