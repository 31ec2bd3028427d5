//! Why one of several acceptable answers could not be made.

use super::problem::Problem;
use crate::archive::ArchiveError;

/// What hindered an answer.
pub(super) enum Hindered {
    /// Another choice may do: the pixels cannot be given in this one.
    By(ArchiveError),
    /// No choice will do.
    Refused(Problem),
}

impl From<ArchiveError> for Hindered {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Undecodable(_) | ArchiveError::TooLarge { .. } => Self::By(error),
            error => Self::Refused(error.into()),
        }
    }
}

impl From<Problem> for Hindered {
    fn from(problem: Problem) -> Self {
        Self::Refused(problem)
    }
}
