//! The routes of Non-Patient Instances (PS3.18 chapter 12): the same for each category.

use axum::http::Method;

use super::{BYTES, Routes};
use crate::http::{
    App,
    accept::{Offer, offers},
    non_patient, non_patient_get,
    operation::{Operation, Reach::Partition},
    parameters::{CHARSET, CONDITIONAL, MATCHING, RANGES},
};

/// A category: paths of its list, of an instance, and of a bulk value, and summaries.
struct Paths {
    list: &'static str,
    one: &'static str,
    bulk: &'static str,
    store: [&'static str; 2],
    search: &'static str,
    retrieve: &'static str,
    value: &'static str,
    delete: &'static str,
}

macro_rules! paths {
    ($name:literal, $several:literal, $one:literal) => {
        Paths {
            list: concat!("/", $name),
            one: concat!("/", $name, "/{instance}"),
            bulk: concat!("/", $name, "/{instance}/bulkdata/{*path}"),
            store: [concat!("Store ", $several), concat!("Store ", $one)],
            search: concat!("Search for ", $several),
            retrieve: concat!("Retrieve ", $one),
            value: concat!("Retrieve a bulk value of ", $one),
            delete: concat!("Delete ", $one),
        }
    };
}

const ALL: [Paths; 6] = [
    paths!("color-palettes", "color palettes", "a color palette"),
    paths!("hanging-protocols", "hanging protocols", "a hanging protocol"),
    paths!(
        "defined-procedure-protocols",
        "defined procedure protocols",
        "a defined procedure protocol"
    ),
    paths!("implant-templates", "implant templates", "an implant template"),
    paths!("inventories", "inventories", "an inventory"),
    paths!("protocol-approvals", "protocol approvals", "a protocol approval"),
];

fn of(
    method: Method,
    path: &'static str,
    summary: &'static str,
    section: &'static str,
    gives: &'static [Offer],
) -> Operation {
    Operation::new(method, path, Partition, "non-patient", summary, section).gives(gives)
}

/// Every route of every category.
pub fn with_non_patient(routes: Routes<App>) -> Routes<App> {
    ALL.into_iter().fold(routes, with)
}

fn with(mut routes: Routes<App>, category: Paths) -> Routes<App> {
    const STORED: &[u16] = &[200, 202, 400, 404, 406, 408, 409, 413, 415, 503];
    const FOUND: &[u16] = &[200, 204, 400, 404, 406, 413, 503];
    const GIVEN: &[u16] = &[200, 206, 304, 400, 404, 406, 416, 503];
    let Paths { list, one, bulk, store, search, retrieve, value, delete } = category;
    for (path, summary) in [list, one].into_iter().zip(store) {
        let operation = of(Method::POST, path, summary, "§12.3", &offers::STORED)
            .takes(&["multipart/related; type=\"application/dicom\"", "application/dicom"])
            .parameters(&[CHARSET])
            .statuses(STORED);
        routes = routes.add(operation, non_patient::store);
    }
    routes
        .add(
            of(Method::GET, list, search, "§12.5", &offers::SEARCH)
                .parameters(&[CHARSET, MATCHING])
                .statuses(FOUND),
            non_patient_get::search,
        )
        .add(
            of(Method::GET, one, retrieve, "§12.4", &offers::NON_PATIENT)
                .parameters(&[CHARSET, CONDITIONAL, RANGES])
                .statuses(GIVEN),
            non_patient_get::retrieve,
        )
        .add(
            of(Method::GET, bulk, value, "§12.4", &offers::NON_PATIENT_BULK)
                .parameters(BYTES)
                .statuses(GIVEN),
            non_patient_get::bulk,
        )
        .add(
            Operation::new(Method::DELETE, one, Partition, "non-patient", delete, "")
                .statuses(&[204, 400, 404, 503]),
            non_patient::delete,
        )
}
