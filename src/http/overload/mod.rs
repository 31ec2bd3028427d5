//! How much is worked at a time: classes of requests, and what one of them holds of the server.
//!
//! A request is counted twice. It is *open* from its header to the end of its answer, which costs a
//! socket and little memory; and it is *working* while the server is to do something for it. One
//! whose client is to send or to take something is not working: its seat is given back, and taken
//! again when the client has moved. So nobody who is slow on purpose keeps others out. Holds: begun
//! work is never made to wait for a seat (it may hold what others wait for), so that there can be
//! more working than `overload.working`; then nobody new gets in. Who may is found out before a
//! seat is taken: nobody fills the share of a partition that he does not reach, or sees how much
//! goes on in it. Absent: the layer ([`super::layers::admission`]), the queue (`control::Seats`).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::http::{Method, request::Parts};

use super::{operation::Operation, problem::Problem};
pub use crate::control::Shed;
use crate::{
    config::OverloadConfig,
    control::{Aside, Kind, Open, Seat, Seats},
    telemetry::names,
    tenancy::Scope,
};

/// When one may come again who was turned away, by how much there is to do for him.
const SOON: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(5);

/// What a request is to the server when there is too much to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Answered whatever goes on: health, metrics, documents.
    Vital,
    /// A frame, an instance, its metadata, a page of a search, whatever is managed.
    Small,
    /// Whole studies and series, and pictures.
    Heavy,
    /// A Store: as heavy, and its body comes when it comes.
    Store,
    /// Who waits for changes: there is nothing to do for him for most of the time.
    Waiting,
}

impl Class {
    /// That of a route.
    pub fn of(operation: &Operation) -> Self {
        match operation.service {
            "health" | "capabilities" => Self::Vital,
            "store" => Self::Store,
            "non-patient" if operation.method == Method::POST => Self::Store,
            "rendered" | "thumbnail" | "wado-uri" => Self::Heavy,
            "retrieve" | "metadata" | "bulkdata" | "pixeldata"
                if !operation.path.contains("{instance}") =>
            {
                Self::Heavy
            }
            "change-feed" if operation.path == "/changefeed" => Self::Waiting,
            _ => Self::Small,
        }
    }

    /// As a label of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vital => "vital",
            Self::Small => "small",
            Self::Heavy => "heavy",
            Self::Store => "store",
            Self::Waiting => "waiting",
        }
    }

    fn kind(self) -> Option<Kind> {
        match self {
            Self::Vital | Self::Waiting => None,
            Self::Small => Some(Kind::Small),
            Self::Heavy => Some(Kind::Heavy),
            Self::Store => Some(Kind::Store),
        }
    }
}

impl Shed {
    /// The answer, counted: 429 where a partition has its share, else 503, with `Retry-After`. It is
    /// the same whatever was named, and made without looking at anything.
    pub fn answer(self, class: Class) -> Problem {
        let labels = [(names::CLASS, class.as_str()), (names::REASON, self.as_str())];
        metrics::counter!(names::REQUESTS_SHED, &labels).increment(1);
        let after = if class == Class::Small { SOON } else { LATER };
        match self {
            Self::Share => Problem::too_many_requests(after),
            Self::Full | Self::Connections | Self::Memory => Problem::overloaded(after),
            Self::Deadline => Problem::too_late(LATER),
        }
    }
}

/// The bounds of the server, and who is within. Cheap to clone.
#[derive(Clone)]
pub struct Overload {
    seats: Seats,
    aside: Aside,
    deadline: Duration,
    heavy_deadline: Duration,
}

impl Overload {
    /// By configuration, with the seats of the server.
    pub fn new(config: &OverloadConfig, seats: Seats, aside: Aside) -> Self {
        let OverloadConfig { deadline, heavy_deadline, .. } = *config;
        Self { seats, aside, deadline, heavy_deadline }
    }

    /// The threads on which a request of the class is worked at; `None`: those of all others.
    pub fn aside(&self, class: Class) -> Option<&Aside> {
        (class == Class::Store).then_some(&self.aside)
    }

    /// A request has come.
    ///
    /// # Errors
    /// `Shed::Full` where too many are open.
    pub fn enter(&self, class: Class) -> Result<Arc<Visit>, Shed> {
        let open = self.seats.open().ok_or(Shed::Full)?;
        let seats = self.seats.clone();
        Ok(Arc::new(Visit { seats, class, seat: Mutex::new(None), _open: open }))
    }

    /// Time until the answer to a read must begin; `None`: it has as long as it takes.
    pub fn deadline(&self, class: Class) -> Option<Duration> {
        let time = match class {
            Class::Small => self.deadline,
            Class::Heavy => self.heavy_deadline,
            Class::Vital | Class::Store | Class::Waiting => Duration::ZERO,
        };
        (!time.is_zero()).then_some(time)
    }
}

/// A request, from its header to the end of its answer.
pub struct Visit {
    seats: Seats,
    class: Class,
    seat: Mutex<Option<Seat>>,
    _open: Open,
}

impl Visit {
    /// Takes a seat for what was decided that a request may touch, once; waits for one.
    ///
    /// # Errors
    /// The answer to who is turned away.
    pub async fn sit(parts: &Parts, scope: &Scope) -> Result<(), Problem> {
        // What is vital is not counted.
        let Some(visit) = parts.extensions.get::<Arc<Self>>() else { return Ok(()) };
        if visit.seat().is_some() {
            return Ok(());
        }
        let class = visit.class;
        let seat = visit.seats.take(scope.into(), class.kind()).await;
        *visit.seat() = Some(seat.map_err(|shed| shed.answer(class))?);
        Ok(())
    }

    /// The client is to move.
    pub fn pause(&self) {
        if let Some(seat) = &mut *self.seat() {
            seat.pause();
        }
    }

    /// The client has moved: there is something to do.
    pub fn go_on(&self) {
        if let Some(seat) = &mut *self.seat() {
            seat.go_on();
        }
    }

    /// All bytes of the request are there.
    pub fn wind_up(&self) {
        if let Some(seat) = &mut *self.seat() {
            seat.wind_up();
        }
    }

    fn seat(&self) -> std::sync::MutexGuard<'_, Option<Seat>> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
