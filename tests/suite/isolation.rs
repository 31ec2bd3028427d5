//! One partition against another: whatever is asked, foreign is absent.

mod access;
mod leaks;
mod matrix;
mod webhooks;
