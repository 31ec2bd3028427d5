//! Choosing among offers: weights, specificity, and the order of what could be given.

use super::parse::{AcceptSet, MediaRange, RangeSyntax};
use crate::{dicom::Uid, http::problem::Problem};

/// Whether an answer is one representation or a `multipart/related` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// One representation; only for a resource that is exactly one item.
    Single,
    /// `multipart/related`.
    Multipart,
}

/// The transfer syntaxes in which an offer can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntaxes {
    /// The parameter means nothing here (JSON) and is ignored.
    None,
    /// `*` and any UID; whether it can be given depends on the instance.
    Any,
    /// `*` and these UIDs, the default first (PS3.18 Tables 8.7.3-4, -5).
    Listed(&'static [&'static str]),
}

/// One thing that a service can answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Single part or multipart.
    pub form: Form,
    /// Media type (of the parts), as it is written in answers.
    pub media_type: &'static str,
    /// What `transfer-syntax` may ask.
    pub syntaxes: Syntaxes,
    /// Whether it is the default of the resource's category: given where `accept` in the query
    /// names nothing that can be had (PS3.18 §8.3.3.1).
    pub default: bool,
}

impl Offer {
    /// A single-part offer without transfer syntax, such as JSON.
    pub const fn plain(media_type: &'static str) -> Self {
        Self::single(media_type, Syntaxes::None)
    }

    /// A single-part offer.
    pub const fn single(media_type: &'static str, syntaxes: Syntaxes) -> Self {
        Self { form: Form::Single, media_type, syntaxes, default: false }
    }

    /// A multipart offer.
    pub const fn multipart(media_type: &'static str, syntaxes: Syntaxes) -> Self {
        Self { form: Form::Multipart, media_type, syntaxes, default: false }
    }

    /// The same as the default of its category.
    pub const fn by_default(mut self) -> Self {
        self.default = true;
        self
    }

    /// The media type as it stands in `Accept` and `Content-Type`, without transfer syntax.
    pub fn name(&self) -> String {
        match self.form {
            Form::Single => self.media_type.to_owned(),
            Form::Multipart => format!("multipart/related; type=\"{}\"", self.media_type),
        }
    }

    /// The offer as a client would ask for it in `Accept`.
    pub fn describe(&self) -> Vec<String> {
        let base = self.name();
        let with = |syntax: &str| format!("{base}; transfer-syntax={syntax}");
        match self.syntaxes {
            Syntaxes::None => vec![base],
            Syntaxes::Any => vec![with("*"), base],
            Syntaxes::Listed(uids) => {
                std::iter::once(with("*")).chain(uids.iter().map(|uid| with(uid))).collect()
            }
        }
    }
}

/// The transfer syntax that a candidate asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// The media type was named without the parameter: its default (PS3.18 §8.7.3.5.2: Explicit
    /// VR Little Endian, or the first listed of a compressed type).
    Default,
    /// `*`: as stored, without transcoding.
    Stored,
    /// That one.
    Uid(Uid),
    /// The range was a wildcard such as `*/*`: the server's choice.
    Open,
}

/// One acceptable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Single part or multipart.
    pub form: Form,
    /// Media type (of the parts).
    pub media_type: &'static str,
    /// The transfer syntax asked for.
    pub syntax: Syntax,
}

/// None of the offers is acceptable: 406.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("none of the acceptable media types can be given")]
pub struct NotAcceptable {
    /// What could be had, in the words of an `Accept` header.
    pub available: Vec<String>,
}

impl NotAcceptable {
    /// The refusal for a service with these offers; also for callers that went through all
    /// candidates and could give none.
    pub fn of(offers: &[Offer]) -> Self {
        Self { available: offers.iter().flat_map(Offer::describe).collect() }
    }
}

impl From<NotAcceptable> for Problem {
    fn from(refusal: NotAcceptable) -> Self {
        Self::not_acceptable(refusal.available)
    }
}

/// The best acceptable answer.
///
/// # Errors
/// [`NotAcceptable`] where there is none.
pub fn choose(accept: &AcceptSet, offers: &[Offer]) -> Result<Choice, NotAcceptable> {
    candidates(accept, offers).into_iter().next().ok_or_else(|| NotAcceptable::of(offers))
}

/// How closely a range names an offer. Of the ranges that match an offer, the closest gives the
/// weight (RFC 9110 §12.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Closeness {
    /// `*/*`
    Anything,
    /// `type/*`, or multipart without (or with any) `type`
    Kind,
    /// The media type.
    Exact,
}

/// Every acceptable answer, the most wanted first: those of the `accept` query parameter, then by
/// weight, then named types before wildcards, then in the client's order, then in that of
/// `offers` (each of which is there once). At most one for each pair of offer and transfer syntax.
pub fn candidates(accept: &AcceptSet, offers: &[Offer]) -> Vec<Choice> {
    let mut found: Vec<(Rank, Choice)> = Vec::new();
    for (at_offer, offer) in offers.iter().enumerate() {
        let mut own = asked_of(accept.ranges(), offer, at_offer);
        own.sort_by_key(|(rank, _)| *rank);
        let first = found.len();
        for (rank, choice) in own {
            if !found[first..].iter().any(|(_, known)| *known == choice) {
                found.push((rank, choice));
            }
        }
    }
    found.sort_by_key(|(rank, _)| *rank);
    if found.is_empty() && accept.is_linked() {
        return defaults(offers);
    }
    found.into_iter().map(|(_, choice)| choice).collect()
}

/// What a link gets whose `accept` names nothing that can be had: the category's default, if
/// there is one (PS3.18 §8.3.3.1).
fn defaults(offers: &[Offer]) -> Vec<Choice> {
    let default = offers.iter().filter(|offer| offer.default);
    default
        .map(|offer| Choice {
            form: offer.form,
            media_type: offer.media_type,
            syntax: if offer.syntaxes == Syntaxes::None { Syntax::Default } else { Syntax::Open },
        })
        .collect()
}

/// What the ranges ask of one offer, without what they refuse.
fn asked_of(ranges: &[MediaRange], offer: &Offer, at_offer: usize) -> Vec<(Rank, Choice)> {
    // A wildcard says nothing about an offer that a closer range without transfer syntax covers
    // whole; with one, the range covers only that syntax of the offer.
    let covered = |query: bool| {
        ranges
            .iter()
            .filter(|range| range.from_query == query)
            .filter(|range| range.syntaxes.is_empty() || offer.syntaxes == Syntaxes::None)
            .filter_map(|range| closeness(range, offer))
            .max()
    };
    let covered = [covered(false), covered(true)];
    let mut found = Vec::new();
    for (at_range, range) in ranges.iter().enumerate() {
        let Some(closeness) = closeness(range, offer) else { continue };
        let closest = covered[usize::from(range.from_query)];
        if closeness < Closeness::Exact && closest.is_some_and(|closest| closeness < closest) {
            continue;
        }
        for (at_syntax, syntax) in asked(range, offer, closeness).into_iter().enumerate() {
            let rank = Rank {
                header: !range.from_query,
                lightness: 1000 - range.q.min(1000),
                distance: Closeness::Exact as u8 - closeness as u8,
                at_range,
                at_syntax,
                at_offer,
            };
            let choice = Choice { form: offer.form, media_type: offer.media_type, syntax };
            found.push((rank, choice));
        }
    }
    refuse(&mut found);
    found
}

/// Drops what has weight zero, and whatever else would give the same.
fn refuse(found: &mut Vec<(Rank, Choice)>) {
    let (refused, mut kept): (Vec<_>, Vec<_>) =
        std::mem::take(found).into_iter().partition(|(rank, _)| rank.lightness == 1000);
    kept.retain(|(rank, choice)| {
        !refused.iter().any(|(no, refused)| {
            no.header == rank.header && no.distance <= rank.distance && refused == choice
        })
    });
    *found = kept;
}

/// Order of candidates; the least is the most wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    header: bool,
    lightness: u16,
    distance: u8,
    at_range: usize,
    at_syntax: usize,
    at_offer: usize,
}

impl MediaRange {
    /// Whether the range names the offer's media type, by one of its names. That of a codestream
    /// outside of DICOM stands for the one of DICOM, where codestreams are offered.
    fn names(&self, offer: &Offer) -> bool {
        let asked = match self.media_type.as_str() {
            "image/j2c" | "image/j2k" if offer.syntaxes != Syntaxes::None => "image/jp2",
            "image/jph" if offer.syntaxes != Syntaxes::None => "image/jphc",
            other => other,
        };
        asked.eq_ignore_ascii_case(offer.media_type)
    }
}

fn closeness(range: &MediaRange, offer: &Offer) -> Option<Closeness> {
    if range.media_type == "*/*" && !range.multipart {
        return Some(Closeness::Anything);
    }
    if range.multipart != (offer.form == Form::Multipart) {
        return None;
    }
    if range.names(offer) {
        return Some(Closeness::Exact);
    }
    let kind = range.media_type.strip_suffix("/*")?;
    let matches = kind == "*"
        || offer.media_type.strip_prefix(kind).is_some_and(|rest| rest.starts_with('/'));
    matches.then_some(Closeness::Kind)
}

/// The transfer syntaxes that a range asks of an offer it matches, the most wanted first. Of two
/// parameters the first counts; viewers append a second `*`, which stays as the way out.
fn asked(range: &MediaRange, offer: &Offer, closeness: Closeness) -> Vec<Syntax> {
    if offer.syntaxes == Syntaxes::None {
        return vec![Syntax::Default];
    }
    if range.syntaxes.is_empty() {
        let is_open = closeness < Closeness::Exact;
        return vec![if is_open { Syntax::Open } else { Syntax::Default }];
    }
    let mut asked = Vec::new();
    for (at, syntax) in range.syntaxes.iter().enumerate() {
        match syntax {
            RangeSyntax::Any => {
                asked.push(Syntax::Stored);
                break;
            }
            RangeSyntax::Uid(uid) if at == 0 && can(offer, uid) => {
                asked.push(Syntax::Uid(uid.clone()));
            }
            RangeSyntax::Uid(_) => {}
        }
    }
    asked
}

fn can(offer: &Offer, uid: &Uid) -> bool {
    match offer.syntaxes {
        Syntaxes::None => false,
        Syntaxes::Any => true,
        Syntaxes::Listed(uids) => uids.contains(&uid.as_str()),
    }
}
