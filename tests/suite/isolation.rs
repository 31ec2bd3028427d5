//! One partition against another: whatever is asked, foreign is absent.

mod access;
mod crowd;
mod leaks;
mod matrix;
mod principals;
mod stage;
mod webhooks;
mod work;
