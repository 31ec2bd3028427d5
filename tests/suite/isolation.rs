//! One partition against another: whatever is asked, foreign is absent.

mod leaks;
mod matrix;
mod webhooks;
