//! The states of a workitem and how they follow each other (PS3.4 Table CC.1.1-2).

/// Procedure Step State (0074,1000).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// To be performed.
    Scheduled,
    /// Claimed.
    InProgress,
    /// Done.
    Completed,
    /// Stopped for good.
    Canceled,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Scheduled, Self::InProgress, Self::Completed, Self::Canceled];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "SCHEDULED",
            Self::InProgress => "IN PROGRESS",
            Self::Completed => "COMPLETED",
            Self::Canceled => "CANCELED",
        }
    }

    /// The state of a word; also of the other spelling that PS3.18 §11.7.1.4 has of one.
    pub fn of(word: &str) -> Option<Self> {
        let word = if word == "CANCELLED" { "CANCELED" } else { word };
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// What a change of state comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The workitem gets the state, if it has what that needs.
    Enter,
    /// It has it already.
    Already,
}

/// Why a workitem does not get a state, or is not changed: the status of DIMSE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// C300: it has ended.
    Final,
    /// C301: no Transaction UID.
    Missing,
    /// C301: another one than that of who claimed it.
    Incorrect,
    /// C302: it is claimed already.
    Claimed,
    /// C303: it becomes SCHEDULED by being created, and never again.
    NotScheduled,
    /// C310: it is not claimed yet.
    NotClaimed,
}

/// What comes of a request for a state. `lock` is the Transaction UID of who claimed the workitem,
/// `key` that of the request.
///
/// # Errors
/// [`Refusal`].
pub fn change(
    state: State,
    lock: Option<&str>,
    wanted: State,
    key: Option<&str>,
) -> Result<Action, Refusal> {
    if wanted == State::Scheduled {
        return Err(Refusal::NotScheduled);
    }
    let key = key.ok_or(Refusal::Missing)?;
    match (state, wanted) {
        (State::Scheduled, State::InProgress) => return Ok(Action::Enter),
        (State::Scheduled, _) => return Err(Refusal::NotClaimed),
        _ => {}
    }
    let is_owner = lock == Some(key);
    match (state, wanted) {
        // Who comes second has a Transaction UID of his own: that it is claimed says more.
        (State::InProgress, State::InProgress) => Err(Refusal::Claimed),
        _ if !is_owner => Err(Refusal::Incorrect),
        (State::Completed, State::Completed) | (State::Canceled, State::Canceled) => {
            Ok(Action::Already)
        }
        (State::Completed | State::Canceled, _) => Err(Refusal::Final),
        (State::InProgress | State::Scheduled, _) => Ok(Action::Enter),
    }
}

/// Whether a request may change attributes (PS3.4 §CC.2.6.3).
///
/// # Errors
/// [`Refusal`].
pub fn may_update(state: State, lock: Option<&str>, key: Option<&str>) -> Result<(), Refusal> {
    match (state, key) {
        (State::Completed | State::Canceled, _) => Err(Refusal::Final),
        (State::Scheduled, None) => Ok(()),
        (State::Scheduled, Some(_)) => Err(Refusal::NotClaimed),
        (State::InProgress, None) => Err(Refusal::Missing),
        (State::InProgress, key) if key == lock => Ok(()),
        (State::InProgress, Some(_)) => Err(Refusal::Incorrect),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Action::{Already, Enter},
        Refusal::{Claimed, Final, Incorrect, Missing, NotClaimed, NotScheduled},
        State::{Canceled, Completed, InProgress, Scheduled},
        *,
    };

    #[test]
    fn words_lead_back() {
        for state in State::ALL {
            assert_eq!(State::of(state.as_str()), Some(state));
        }
        assert_eq!(State::of("CANCELLED"), Some(Canceled));
        assert_eq!((State::of("scheduled"), State::of("")), (None, None));
    }

    /// Table CC.1.1-2, cell by cell: each wanted state, with the right Transaction UID, with another
    /// and with none.
    #[test]
    fn the_table_of_transitions() {
        for (state, wanted, right, other) in [
            (Scheduled, InProgress, Ok(Enter), Ok(Enter)),
            (Scheduled, Completed, Err(NotClaimed), Err(NotClaimed)),
            (Scheduled, Canceled, Err(NotClaimed), Err(NotClaimed)),
            (InProgress, InProgress, Err(Claimed), Err(Claimed)),
            (InProgress, Completed, Ok(Enter), Err(Incorrect)),
            (InProgress, Canceled, Ok(Enter), Err(Incorrect)),
            (Completed, InProgress, Err(Final), Err(Incorrect)),
            (Completed, Completed, Ok(Already), Err(Incorrect)),
            (Completed, Canceled, Err(Final), Err(Incorrect)),
            (Canceled, InProgress, Err(Final), Err(Incorrect)),
            (Canceled, Completed, Err(Final), Err(Incorrect)),
            (Canceled, Canceled, Ok(Already), Err(Incorrect)),
        ] {
            let lock = (state != Scheduled).then_some("1.2");
            let case = format!("{state:?} {wanted:?}");
            assert_eq!(change(state, lock, wanted, Some("1.2")), right, "{case}");
            assert_eq!(change(state, lock, wanted, Some("1.3")), other, "{case}");
            assert_eq!(change(state, lock, wanted, None), Err(Missing), "{case}");
            for key in [Some("1.2"), Some("1.3"), None] {
                assert_eq!(change(state, lock, Scheduled, key), Err(NotScheduled), "{case}");
            }
        }
    }

    #[test]
    fn who_may_change_attributes() {
        assert_eq!(may_update(Scheduled, None, None), Ok(()));
        assert_eq!(may_update(Scheduled, None, Some("1.2")), Err(NotClaimed));
        assert_eq!(may_update(InProgress, Some("1.2"), Some("1.2")), Ok(()));
        assert_eq!(may_update(InProgress, Some("1.2"), Some("1.3")), Err(Incorrect));
        assert_eq!(may_update(InProgress, Some("1.2"), None), Err(Missing));
        for state in [Completed, Canceled] {
            assert_eq!(may_update(state, Some("1.2"), Some("1.2")), Err(Final));
        }
    }
}
