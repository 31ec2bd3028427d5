//! What came of a request for storage commitment (PS3.18 §13.1.2.3, §13.2.2.3), as a data set.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::commitment_body::{SOP_SEQUENCE, STUDY_SEQUENCE};
use crate::{archive::Reference, dicom::Uid};

/// The whole answer: what is safe and what is not, in the form in which it was asked.
pub fn result(transaction: &Uid, outcomes: &[(Reference, u16)]) -> Value {
    // By their tags, in ascending order.
    let mut body = BTreeMap::new();
    body.insert("00081195".to_owned(), one("UI", json!(transaction.as_str())));
    let (safe, failed): (Vec<_>, Vec<_>) = outcomes.iter().partition(|(_, reason)| *reason == 0);
    let has_parents = outcomes.iter().any(|(reference, _)| reference.parents.is_some());
    let (of_safe, of_failed) =
        if has_parents { (STUDY_SEQUENCE, "0008119B") } else { (SOP_SEQUENCE, "00081198") };
    for (tag, part) in [(of_safe, safe), (of_failed, failed)] {
        if part.is_empty() {
            continue;
        }
        let items: Vec<Value> = match has_parents {
            true => studies(&part),
            false => part.iter().map(|(reference, reason)| sop(reference, *reason)).collect(),
        };
        body.insert(tag.to_owned(), sequence(items));
    }
    Value::Object(body.into_iter().collect())
}

fn one(vr: &str, value: Value) -> Value {
    json!({ "vr": vr, "Value": [value] })
}

fn sequence(items: Vec<Value>) -> Value {
    json!({ "vr": "SQ", "Value": items })
}

fn sop(reference: &Reference, reason: u16) -> Value {
    let mut item = Map::new();
    item.insert("00081150".into(), one("UI", json!(reference.sop_class)));
    instance(&mut item, reference, reason);
    Value::Object(item)
}

fn instance(item: &mut Map<String, Value>, reference: &Reference, reason: u16) {
    item.insert("00081155".into(), one("UI", json!(reference.instance)));
    if reason != 0 {
        item.insert("00081197".into(), one("US", json!(reason)));
    }
}

/// References by study, series and SOP class, in the order in which they came.
fn studies(part: &[&(Reference, u16)]) -> Vec<Value> {
    let study = |of: &&(Reference, u16)| of.0.parents.as_ref().map(|(study, _)| study.clone());
    let series = |of: &&(Reference, u16)| of.0.parents.as_ref().map(|(_, series)| series.clone());
    let runs = part.chunk_by(|one, next| study(one) == study(next));
    let studies = runs.map(|of_study| {
        let of_series = of_study.chunk_by(|one, next| series(one) == series(next));
        let items = of_series.map(|of_series| {
            let of_class = of_series.chunk_by(|one, next| one.0.sop_class == next.0.sop_class);
            let classes = of_class.map(class).collect();
            json!({
                "00081112": sequence(classes),
                "0020000E": one("UI", json!(of_series.first().and_then(series))),
            })
        });
        json!({
            "00081115": sequence(items.collect()),
            "0020000D": one("UI", json!(of_study.first().and_then(study))),
        })
    });
    studies.collect()
}

fn class(of_class: &[&(Reference, u16)]) -> Value {
    let instances = of_class.iter().map(|(reference, reason)| {
        let mut item = Map::new();
        instance(&mut item, reference, *reason);
        Value::Object(item)
    });
    let sop_class = of_class.first().map(|(reference, _)| &reference.sop_class);
    json!({
        "0008114A": sequence(instances.collect()),
        "00081150": one("UI", json!(sop_class)),
    })
}
