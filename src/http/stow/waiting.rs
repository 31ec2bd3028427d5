//! Instances whose values have not all come: which part is whose, and what came before its turn.
//!
//! Holds: a URI is of one value; what is held is counted ([`Staged`]).

use std::collections::{HashMap, VecDeque, hash_map::Entry};

use crate::{
    archive::{Chunks, FailureReason, Staged, StoreSession},
    dicom::{
        Uid,
        compose::{Composition, PIXEL_DATA, Place},
    },
    http::multipart::PartHead,
};

/// Bytes that a URI takes besides its text.
const KNOWN: usize = 64;

/// A part that was read whole.
pub(super) struct Held {
    pub(super) head: PartHead,
    pub(super) chunks: Chunks,
    pub(super) length: u64,
}

/// An instance of which something is still to come.
pub(super) struct Instance {
    pub(super) composition: Composition,
    /// What was held for it when it came, but for its URIs.
    weight: u64,
    pub(super) sop: Option<(Uid, Uid)>,
    /// The values that come beside it, in the order of the file.
    pub(super) places: Vec<Place>,
    /// Parts that came before their turn, for each of them.
    pub(super) held: Vec<VecDeque<Held>>,
}

impl Instance {
    /// Which of its values is the pixel data of the data set itself.
    pub(super) fn pixels(&self) -> Option<usize> {
        self.places.iter().position(|place| place.top && place.tag == PIXEL_DATA)
    }

    /// Whether the file can be begun with the part for the value at `at`: all before it is held, and
    /// the pixel data, which decides the transfer syntax, has come.
    fn begins_with(&self, at: usize) -> bool {
        let is_here = |other: usize| self.held.get(other).is_some_and(|parts| !parts.is_empty());
        let pixels = self.pixels();
        (0..at).all(is_here) && pixels.is_none_or(|pixels| pixels == at || is_here(pixels))
    }
}

/// What is known of an instance.
enum State {
    Waiting(Box<Instance>),
    /// Its file is being written, or it was.
    Begun,
    /// It failed: what comes for it is passed over.
    Failed,
}

/// Whose a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// No metadata names it.
    Nobodys,
    /// The value is there already.
    Late,
    /// An instance's that failed.
    Failed,
    /// For the value of an instance, with which its file can be begun or not.
    Of { instance: usize, place: usize, begins: bool },
}

/// All instances of a request that have values beside them.
pub(super) struct Waiting {
    instances: Vec<State>,
    places: HashMap<String, (usize, usize)>,
    pub(super) staged: Staged,
}

impl Waiting {
    pub(super) fn new(staged: Staged) -> Self {
        Self { instances: Vec::new(), places: HashMap::new(), staged }
    }

    /// Takes an instance in, whose weight is held. Fails it where a URI is another value's too.
    pub(super) fn add(&mut self, composition: Composition, session: &mut StoreSession) {
        let (number, sop, places) = (self.instances.len(), composition.sop(), composition.places());
        // URIs are known to the end of the request, and are counted as long.
        let known: usize = places.iter().map(|place| place.uri.len() + KNOWN).sum();
        let weight = composition.weight().saturating_sub(known as u64);
        let mut twice = None;
        for (at, place) in places.iter().enumerate() {
            match self.places.entry(place.uri.clone()) {
                Entry::Vacant(entry) => drop(entry.insert((number, at))),
                Entry::Occupied(_) => twice = twice.or(Some(place.tag)),
            }
        }
        if let Some(tag) = twice {
            let detail = format!("{tag} has the BulkDataURI of another value");
            self.staged.give_back(weight);
            self.instances.push(State::Failed);
            return session.refuse_instance(sop, FailureReason::CannotUnderstand, detail);
        }
        let held = places.iter().map(|_| VecDeque::new()).collect();
        let instance = Instance { composition, weight, sop, places, held };
        self.instances.push(State::Waiting(Box::new(instance)));
    }

    /// Whose the part with this `Content-Location` is.
    pub(super) fn whose(&self, head: &PartHead) -> Whose {
        let Some((instance, place)) = self.place_of(head) else { return Whose::Nobodys };
        match self.instances.get(instance) {
            Some(State::Waiting(waiting)) => {
                Whose::Of { instance, place, begins: waiting.begins_with(place) }
            }
            Some(State::Failed) => Whose::Failed,
            Some(State::Begun) | None => Whose::Late,
        }
    }

    /// The instance and value that a part names.
    pub(super) fn place_of(&self, head: &PartHead) -> Option<(usize, usize)> {
        let location = head.headers.get("content-location")?.to_str().ok()?;
        self.places.get(location.trim()).copied()
    }

    /// Takes an instance out, whose file is begun.
    pub(super) fn begin(&mut self, number: usize) -> Option<Instance> {
        let state = self.instances.get_mut(number)?;
        match std::mem::replace(state, State::Begun) {
            State::Waiting(instance) => Some(*instance),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Instances of all whose values something is held.
    pub(super) fn ready(&self) -> Vec<usize> {
        let is_ready = |state: &State| match state {
            State::Waiting(instance) => instance.held.iter().all(|parts| !parts.is_empty()),
            State::Begun | State::Failed => false,
        };
        let numbered = self.instances.iter().enumerate();
        numbered.filter(|(_, state)| is_ready(state)).map(|(number, _)| number).collect()
    }

    /// Keeps a part for later.
    pub(super) fn keep(&mut self, number: usize, place: usize, held: Held) {
        if let Some(State::Waiting(instance)) = self.instances.get_mut(number)
            && let Some(parts) = instance.held.get_mut(place)
        {
            parts.push_back(held);
        }
    }

    /// An instance failed. What it held is given back.
    pub(super) fn fail(&mut self, number: usize) -> Option<(Uid, Uid)> {
        let state = self.instances.get_mut(number)?;
        match std::mem::replace(state, State::Failed) {
            State::Waiting(instance) => {
                self.release(&instance);
                instance.sop
            }
            _ => None,
        }
    }

    /// Gives back what an instance holds.
    pub(super) fn release(&mut self, instance: &Instance) {
        let parts: u64 = instance.held.iter().flatten().map(|held| held.length).sum();
        self.staged.give_back(instance.weight + parts);
    }

    /// Nothing more comes: fails what is not whole.
    pub(super) fn end(self, session: &mut StoreSession) {
        for state in self.instances {
            let State::Waiting(instance) = state else { continue };
            let mut places = instance.places.iter().zip(&instance.held);
            let Some((place, _)) = places.find(|(_, held)| held.is_empty()) else { continue };
            let detail = format!("{} {NO_PART}", place.tag);
            session.refuse_instance(instance.sop, FailureReason::CannotUnderstand, detail);
        }
    }
}

/// What is wrong with a value whose part does not come.
pub(super) const NO_PART: &str = "has no part with its BulkDataURI";
