//! The tables of the conformance statement, made of what the server decides by. With
//! `WRITE_TABLES=1` in the environment the document is written instead of compared.

use std::{collections::BTreeMap, fs, path::Path};

use collimator::{
    codec,
    dicom::{
        Uid, attributes,
        transfer_syntax::{EXPLICIT_LITTLE, PixelForm, TransferSyntax},
    },
    http::{
        accept::{Form, Offer},
        operation::{Operation, Parameter, Place, Reach, matching_workitems, meaning},
        routes,
    },
};

use super::{ROOT, read};

const DOCUMENT: &str = "docs/conformance.md";

/// Compares a table with what stands in the document, or writes it there.
fn hold(name: &str, head: &[&str], rows: &[Vec<String>]) {
    let mut table = format!("| {} |\n|{}\n", head.join(" | "), " --- |".repeat(head.len()));
    for row in rows {
        assert_eq!(row.len(), head.len());
        table.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    let text = read(DOCUMENT);
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("there is no {begin}"));
    let (inside, after) = rest.split_once(&end).expect("its end");
    if std::env::var_os("WRITE_TABLES").is_some() {
        let text = format!("{before}{begin}{table}{end}{after}");
        fs::write(Path::new(ROOT).join(DOCUMENT), text).expect("the document");
        return;
    }
    assert!(inside == table, "{DOCUMENT} has another table of {name}; the code says\n{table}");
}

fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}

fn reach(reach: Reach) -> &'static str {
    match reach {
        Reach::Partition => "partition",
        Reach::Server => "server",
        Reach::Operator => "operator",
    }
}

fn routes_table() {
    let rows: Vec<Vec<String>> = routes()
        .operations()
        .iter()
        .map(|own| {
            vec![
                code(own.method.as_str()),
                code(own.path),
                reach(own.reach).to_owned(),
                own.summary.to_owned(),
                own.section.to_owned(),
            ]
        })
        .collect();
    hold("routes", &["method", "path", "reach", "what", "PS3.18"], &rows);
}

fn transfer_syntaxes() {
    let yes = |yes: bool| if yes { "yes" } else { "" }.to_owned();
    let rows: Vec<Vec<String>> = TransferSyntax::known()
        .iter()
        .map(|entry| {
            let uid: Uid = entry.uid.parse().expect("a UID");
            // Of those without codestreams one is made: the others are not for web services
            // (PS3.18 §8.6.2.1) or other forms of it.
            let is_made = entry.pixels != PixelForm::Native || entry.uid == EXPLICIT_LITTLE;
            vec![
                entry.name.to_owned(),
                code(entry.uid),
                code(entry.media_type),
                "yes".to_owned(),
                yes(codec::decodes(&uid)),
                yes(is_made && codec::encodes(&uid)),
            ]
        })
        .collect();
    let head = ["transfer syntax", "UID", "frames", "stored and given as stored", "read", "made"];
    hold("transfer syntaxes", &head, &rows);
}

fn media_types() {
    let mut found: Vec<(&[Offer], Vec<&str>)> = Vec::new();
    let routes = routes();
    for operation in routes.operations().iter().filter(|own| !own.offers.is_empty()) {
        match found.iter_mut().find(|(offers, _)| *offers == operation.offers) {
            Some((_, summaries)) => summaries.push(operation.summary),
            None => found.push((operation.offers, vec![operation.summary])),
        }
    }
    let rows: Vec<Vec<String>> = found
        .into_iter()
        .map(|(offers, summaries)| {
            let of = |form| -> String {
                let own = offers.iter().filter(|offer| offer.form == form);
                own.map(|offer| code(offer.media_type)).collect::<Vec<_>>().join(", ")
            };
            let default = code(&offers[0].name());
            vec![summaries.join("; "), default, of(Form::Single), of(Form::Multipart)]
        })
        .collect();
    let head = ["answer to", "for `*/*`", "as one part", "in parts"];
    hold("media types", &head, &rows);
}

fn parameters() {
    let mut found: Vec<(Parameter, Vec<&'static str>)> = Vec::new();
    for operation in routes().operations() {
        for parameter in published(operation) {
            let at = found.iter().position(|(known, _)| *known == parameter);
            let at = at.unwrap_or_else(|| {
                found.push((parameter, Vec::new()));
                found.len() - 1
            });
            if !found[at].1.contains(&operation.service) {
                found[at].1.push(operation.service);
            }
        }
    }
    let mut services: Vec<&str> = Vec::new();
    for own in routes().operations().iter().filter(|own| own.reach == Reach::Partition) {
        if !services.contains(&own.service) {
            services.push(own.service);
        }
    }
    let rows: Vec<Vec<String>> = found
        .into_iter()
        .map(|(parameter, used)| {
            let place = match parameter.place {
                Place::Query => "query",
                Place::Header => "header",
            };
            let default = match parameter.default {
                "" => String::new(),
                default => code(default),
            };
            let everywhere = services.iter().all(|service| used.contains(service));
            let used = if everywhere { "all".to_owned() } else { used.join(", ") };
            vec![
                code(parameter.name),
                place.to_owned(),
                parameter.summary.to_owned(),
                default,
                used,
            ]
        })
        .collect();
    hold("parameters", &["parameter", "in", "meaning", "default", "services"], &rows);
}

/// The parameters of a route, with one for those of all attributes, which have a table of theirs.
fn published(operation: &Operation) -> Vec<Parameter> {
    let groups = operation.groups.iter().flat_map(|group| group.iter().copied());
    let of_attribute = |name: &str| {
        attributes::TABLE.iter().any(|attribute| attribute.keyword == name)
            || ["ModalitiesInStudy", "SOPClassesInStudy"].contains(&name)
            || matching_workitems().any(|one| one.name == name)
    };
    let groups: Vec<Parameter> = groups.collect();
    let others = operation.all_parameters().into_iter();
    let others = others.filter(|one| !groups.contains(one) && !of_attribute(one.name));
    others.chain(groups.clone()).collect()
}

fn statuses() {
    let mut found: BTreeMap<u16, Vec<&'static str>> = BTreeMap::new();
    for operation in routes().operations() {
        for status in operation.statuses {
            let services = found.entry(*status).or_default();
            if !services.contains(&operation.service) {
                services.push(operation.service);
            }
        }
    }
    let rows: Vec<Vec<String>> = found
        .into_iter()
        .map(|(status, services)| {
            vec![status.to_string(), meaning(status).to_owned(), services.join(", ")]
        })
        .collect();
    hold("statuses", &["status", "meaning", "services"], &rows);
}

/// In one test, since they may write the same file.
#[test]
fn the_conformance_statement_has_the_tables_of_the_code() {
    routes_table();
    transfer_syntaxes();
    media_types();
    parameters();
    statuses();
}
