//! Extended query tags of the test: at the root and in one partition, at each level.

use serde_json::{Value, json};

use super::{
    known::{self, Level},
    request::At,
    search::QueryTag,
};
use crate::harness::{Server, until};

const ACME: &str = "ACME 1.1";

fn standard(keyword: &str, level: Level, partition: Option<usize>) -> QueryTag {
    let known = known::named(keyword).unwrap();
    QueryTag { at: At::Standard(known.tag), vr: known.vr, level, partition }
}

fn private(element: u8, level: Level, partition: Option<usize>) -> QueryTag {
    let at = At::Private { group: 0x0009, creator: ACME.to_owned(), element };
    QueryTag { at, vr: "LO", level, partition }
}

/// Tags of all partitions, then of the first one.
pub fn chosen() -> Vec<QueryTag> {
    vec![
        standard("KVP", Level::Study, None),
        standard("ConsultingPhysicianName", Level::Study, None),
        standard("RetrieveAETitle", Level::Series, None),
        standard("ReferencePixelX0", Level::Series, None),
        standard("DateTime", Level::Instance, None),
        standard("SelectorAttribute", Level::Instance, None),
        private(0x01, Level::Study, None),
        standard("AcquisitionDuration", Level::Study, Some(0)),
        standard("RelatedGeneralSOPClassUID", Level::Series, Some(0)),
        standard("SelectorUVValue", Level::Instance, Some(0)),
    ]
}

/// Asks for tags; answers the operations that index what is stored already.
pub async fn add(server: &Server, tags: &[QueryTag], partitions: &[&str]) -> Vec<String> {
    let mut operations = Vec::new();
    for place in [None, Some(0)] {
        let of_place: Vec<&QueryTag> = tags.iter().filter(|tag| tag.partition == place).collect();
        let body: Vec<Value> = of_place.into_iter().map(entry).collect();
        let base =
            place.map_or_else(String::new, |n: usize| format!("/partitions/{}", partitions[n]));
        let path = format!("{base}/extendedquerytags");
        let answer = server.post(&path, "application/json", json!(body).to_string().into()).await;
        let operation = answer.is(202).json()["href"].as_str().unwrap().to_owned();
        operations.push(operation);
    }
    operations
}

/// Waits until operations have ended well.
pub async fn ended(server: &Server, operations: &[String]) {
    for operation in operations {
        let mut state = Value::Null;
        until("the operation ends", async || {
            let answer = server.get(operation).await;
            state = answer.json();
            answer.status == 200
        })
        .await;
        assert_eq!(state["status"], "succeeded", "{state}");
    }
}

fn entry(tag: &QueryTag) -> Value {
    let level = match tag.level {
        Level::Study => "study",
        Level::Series => "series",
        Level::Instance => "instance",
    };
    match &tag.at {
        At::Standard(at) => json!({"path": known::hex(*at), "vr": tag.vr, "level": level}),
        At::Private { group, creator, element } => {
            let path = known::hex((*group, 0x1000 | u16::from(*element)));
            json!({"path": path, "vr": tag.vr, "privateCreator": creator, "level": level})
        }
    }
}
