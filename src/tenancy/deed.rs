//! What a request does, as the audit log tells it.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicBool, Ordering},
};

use super::{Permission, Principal};

/// Who does what, from where, by which request. A scope carries it to wherever something is changed,
/// so that the record of a change is part of its transaction.
#[derive(Debug)]
pub struct Deed {
    /// Who.
    pub who: Principal,
    /// From where.
    pub address: IpAddr,
    /// The request's id, as the answer's header and the log have it.
    pub request_id: Box<str>,
    /// What is permitted that way.
    pub permission: Permission,
    /// The request's method.
    pub method: Box<str>,
    /// The route's template; no values.
    pub route: Box<str>,
    /// UIDs and ids that the path names, by the names that the template has for them.
    pub named: Vec<(Box<str>, Box<str>)>,
    /// Whether somebody does it at the command line, beside the server.
    pub is_command: bool,
    is_recorded: AtomicBool,
}

impl Deed {
    /// A deed of which nothing is on the record yet.
    pub fn new(
        who: Principal,
        address: IpAddr,
        request_id: &str,
        permission: Permission,
        (method, route): (&str, &str),
        named: Vec<(Box<str>, Box<str>)>,
    ) -> Self {
        Self {
            who,
            address,
            request_id: request_id.into(),
            permission,
            method: method.into(),
            route: route.into(),
            named,
            is_command: false,
            is_recorded: AtomicBool::new(false),
        }
    }

    /// A deed of who has the database, by a command of the program: on this machine, by no request.
    pub fn by_command(permission: Permission, command: &str) -> Self {
        let (who, address) = (Principal::Anonymous, Ipv4Addr::LOCALHOST.into());
        let it = Self::new(who, address, "", permission, ("", command), Vec::new());
        Self { is_command: true, ..it }
    }

    /// Whether a change of it is on the record.
    pub fn is_recorded(&self) -> bool {
        self.is_recorded.load(Ordering::Relaxed)
    }

    /// Notes that a change of it is on the record.
    pub fn note_recorded(&self) {
        self.is_recorded.store(true, Ordering::Relaxed);
    }
}
