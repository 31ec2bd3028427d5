//! What must lose nothing: the program is killed, its database goes away, its disk is full, its
//! object store fails, its clients misbehave, while others store, delete, search and poll.
//!
//! `model` is what the clients know: what was acknowledged, and what nobody can say. `load` are the
//! clients, `pollers` those of the change feed, `check` holds an archive against what they know.
//! The other files are one kind of fault each.
//!
//! `COLLIMATOR_TEST_BINARY` names the program (else the one that cargo built), and
//! `COLLIMATOR_TEST_KILLS` says how often it is killed (else a few times).

#[allow(dead_code, unused_imports, reason = "shared with tests/suite")]
#[path = "../suite/harness/mod.rs"]
mod harness;

#[allow(dead_code, reason = "shared with tests/blob")]
#[path = "../blob/servers.rs"]
mod servers;
#[allow(dead_code, reason = "shared with tests/blob")]
#[path = "../blob/shim.rs"]
mod shim;

mod check;
mod clients;
mod crash;
mod disk;
mod load;
mod model;
mod mount;
mod objects;
mod others;
mod pair;
mod pollers;
mod postgres;
mod proxy;
mod stage;
mod verify;
