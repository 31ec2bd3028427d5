//! Transactions that lost a race are run again.

/// How often a change that lost a race is tried.
pub(super) const ATTEMPTS: u32 = 6;

/// Runs a change again where it lost a race. (A macro, since the futures of a closure that borrows
/// cannot be told to be `Send`.)
macro_rules! repeated {
    ($change:expr) => {{
        let mut attempt = 1;
        loop {
            match $change.await {
                Err(error)
                    if attempt < crate::archive::repeated::ATTEMPTS
                        && crate::index::IndexError::is_retryable(&error) =>
                {
                    tokio::time::sleep(std::time::Duration::from_millis(5 << (2 * attempt))).await;
                    attempt += 1;
                }
                ended => break ended,
            }
        }
    }};
}

pub(super) use repeated;
