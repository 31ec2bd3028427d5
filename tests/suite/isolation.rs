//! One partition against another: whatever is asked, foreign is absent.

mod crowd;
mod leaks;
mod matrix;
mod webhooks;
