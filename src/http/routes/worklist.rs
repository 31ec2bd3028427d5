//! The routes of the Worklist Service.

use axum::http::Method;

use super::{Routes, managed};
use crate::http::{
    App,
    accept::offers,
    event_channel,
    operation::Operation,
    parameters::{CHARSET, SUBSCRIPTION, TRANSACTION, WORKITEM, WORKLIST},
    subscriptions,
    workitem_body::TAKEN,
    workitems,
};

const ALL: &str = "/workitems";
const ONE: &str = "/workitems/{workitem}";
const SUBSCRIBER: &str = "/workitems/{workitem}/subscribers/{aetitle}";
const SUSPEND: &str = "/workitems/{workitem}/subscribers/{aetitle}/suspend";
const CHANNEL: &str = "/subscribers/{aetitle}";

/// A route of a section of PS3.18.
fn of(
    method: Method,
    path: &'static str,
    summary: &'static str,
    section: &'static str,
    statuses: &'static [u16],
) -> Operation {
    Operation { section, ..managed(method, path, "worklist", summary, statuses) }
}

/// Every route of the Worklist Service.
pub fn with_worklist(routes: Routes<App>) -> Routes<App> {
    const CREATED: &[u16] = &[201, 400, 404, 408, 409, 413, 415, 503];
    const CHANGED: &[u16] = &[200, 400, 404, 408, 409, 413, 415, 503];
    const SEARCHED: &[u16] = &[200, 204, 206, 400, 404, 406, 413, 503];
    const SUBSCRIBED: &[u16] = &[201, 400, 404, 413, 503];
    const ENDED: &[u16] = &[200, 400, 404, 503];
    const OPENED: &[u16] = &[101, 400, 403, 404, 426, 503];
    const ASKED: &[u16] = &[202, 400, 404, 408, 409, 413, 415, 503];
    routes
        .add(
            of(Method::POST, ALL, "Create a workitem", "§11.4", CREATED)
                .takes(&TAKEN)
                .parameters(&[WORKITEM]),
            workitems::create,
        )
        .add(
            of(Method::GET, ALL, "Search for workitems", "§11.9", SEARCHED)
                .gives(&offers::SEARCH)
                .parameters(&[CHARSET, WORKLIST]),
            workitems::search,
        )
        .add(
            of(Method::GET, ONE, "Retrieve a workitem", "§11.5", &[200, 400, 404, 406, 503])
                .gives(&offers::METADATA_ONE)
                .parameters(&[CHARSET]),
            workitems::retrieve,
        )
        .add(
            of(Method::POST, ONE, "Update a workitem", "§11.6", CHANGED)
                .takes(&TAKEN)
                .parameters(&[TRANSACTION]),
            workitems::update,
        )
        .add(
            of(
                Method::PUT,
                "/workitems/{workitem}/state",
                "Change the state of a workitem",
                "§11.7",
                CHANGED,
            )
            .takes(&TAKEN),
            workitems::change_state,
        )
        .add(
            of(
                Method::POST,
                "/workitems/{workitem}/cancelrequest",
                "Request cancellation of a workitem",
                "§11.8",
                ASKED,
            )
            .takes(&TAKEN),
            workitems::request_cancel,
        )
        .add(
            of(Method::POST, SUBSCRIBER, "Subscribe to workitems", "§11.10", SUBSCRIBED)
                .parameters(&[SUBSCRIPTION]),
            subscriptions::subscribe,
        )
        .add(
            of(Method::DELETE, SUBSCRIBER, "Unsubscribe from workitems", "§11.11", ENDED),
            subscriptions::unsubscribe,
        )
        .add(
            of(Method::POST, SUSPEND, "Suspend a global subscription", "§11.12", ENDED),
            subscriptions::suspend,
        )
        .add(
            of(Method::GET, CHANNEL, "Open an event channel", "§8.10.4", OPENED),
            event_channel::open,
        )
}
