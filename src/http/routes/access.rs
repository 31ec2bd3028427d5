//! The routes of who may do what in a partition.

use axum::http::Method;

use super::{managed, managed_list};
use crate::http::{
    App,
    accept::offers,
    api_keys,
    openapi::Routes,
    operation::Operation,
    parameters::{FORCE, OVERLAP, PAGES, PRINCIPALS as WHO},
    policy, principals, revocations, roles,
};

const SERVICE: &str = "access";

const PRINCIPALS: &str = "/principals";
const PRINCIPAL: &str = "/principals/{principal}";
const SIGN_OUT: &str = "/principals/{principal}/$signOut";
const ROLES: &str = "/roles";
const ROLE: &str = "/roles/{role}";
const KEYS: &str = "/apikeys";
const KEY: &str = "/apikeys/{key}";
const ROTATE: &str = "/apikeys/{key}/$rotate";
const POLICY: &str = "/policy";
const REVOCATIONS: &str = "/revocations";
const REVOCATION: &str = "/revocations/{revocation}";

const ADDED: &[u16] = &[201, 400, 404, 408, 409, 413, 415, 503];
const CHANGED: &[u16] = &[200, 400, 404, 408, 409, 413, 415, 503];
const PUT: &[u16] = &[200, 201, 400, 404, 408, 409, 413, 415, 503];

fn shows(path: &'static str, summary: &'static str) -> Operation {
    managed(Method::GET, path, SERVICE, summary, &[200, 400, 404, 503]).gives(&offers::OWN_JSON)
}

fn does(path: &'static str, summary: &'static str) -> Operation {
    managed(Method::POST, path, SERVICE, summary, &[200, 400, 404, 409, 503])
        .gives(&offers::OWN_JSON)
}

fn takes(
    method: Method,
    path: &'static str,
    summary: &'static str,
    statuses: &'static [u16],
) -> Operation {
    managed(method, path, SERVICE, summary, statuses)
        .takes(&["application/json"])
        .gives(&offers::OWN_JSON)
}

fn removes(path: &'static str, summary: &'static str) -> Operation {
    managed(Method::DELETE, path, SERVICE, summary, &[204, 400, 404, 409, 503])
}

/// Adds them.
pub fn with_access(routes: Routes<App>) -> Routes<App> {
    let list = |path, summary| managed_list(path, SERVICE, summary);
    let (add, change) = ("Add a principal", "Change a principal");
    routes
        .add(list(PRINCIPALS, "List principals").parameters(&[PAGES, WHO]), principals::list)
        .add(takes(Method::POST, PRINCIPALS, add, ADDED), principals::add)
        .add(shows(PRINCIPAL, "Get a principal"), principals::get)
        .add(
            takes(Method::PATCH, PRINCIPAL, change, CHANGED).parameters(&[FORCE]),
            principals::change,
        )
        .add(removes(PRINCIPAL, "Remove a principal").parameters(&[FORCE]), principals::remove)
        .add(does(SIGN_OUT, "Sign a principal out everywhere"), principals::sign_out)
        .add(list(ROLES, "List roles"), roles::list)
        .add(shows(ROLE, "Get a role"), roles::get)
        .add(takes(Method::PUT, ROLE, "Add or change a role", PUT).parameters(&[FORCE]), roles::put)
        .add(removes(ROLE, "Remove a role"), roles::remove)
        .add(list(KEYS, "List API keys"), api_keys::list)
        .add(takes(Method::POST, KEYS, "Add an API key", ADDED), api_keys::add)
        .add(shows(KEY, "Get an API key"), api_keys::get)
        .add(
            takes(Method::PATCH, KEY, "Change an API key", CHANGED).parameters(&[FORCE]),
            api_keys::change,
        )
        .add(removes(KEY, "Remove an API key").parameters(&[FORCE]), api_keys::remove)
        .add(
            does(ROTATE, "Replace the secret of an API key").parameters(&[OVERLAP]),
            api_keys::rotate,
        )
        .add(shows(POLICY, "Get the policy"), policy::get)
        .add(
            takes(Method::PUT, POLICY, "Set the policy", CHANGED).parameters(&[FORCE]),
            policy::put,
        )
        .add(list(REVOCATIONS, "List revocations"), revocations::list)
        .add(takes(Method::POST, REVOCATIONS, "Revoke a session or token", ADDED), revocations::add)
        .add(removes(REVOCATION, "Take a revocation back"), revocations::remove)
}
