//! The body of a request for storage commitment (PS3.18 §13.1.1.3): references to instances, alone
//! or by study and series, in DICOM JSON or as a Native DICOM Model.

use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};
use serde_json::{Map, Value, json};

use super::problem::Problem;
use crate::{archive::Reference, dicom::Uid};

/// Items within items: a request has four levels.
const MAX_DEPTH: usize = 16;

pub(super) const SOP_SEQUENCE: &str = "00081199";
pub(super) const STUDY_SEQUENCE: &str = "00081110";
const SERIES_SEQUENCE: &str = "00081115";
const CLASS_SEQUENCE: &str = "00081112";
const INSTANCE_SEQUENCE: &str = "0008114A";

/// Reads the references of a body: at least one, at most `limit`, all with parents or none.
///
/// # Errors
/// 400, 413.
pub fn read(body: &[u8], is_xml: bool, limit: u32) -> Result<Vec<Reference>, Problem> {
    let data_set = if is_xml { native(body)? } else { dicom_json(body)? };
    let (sops, studies) = (data_set.get(SOP_SEQUENCE), data_set.get(STUDY_SEQUENCE));
    let mut found = Found { references: Vec::new(), limit };
    match (sops, studies) {
        (Some(_), None) => {
            for item in items(&data_set, SOP_SEQUENCE)? {
                found.add(None, uid(item, "00081150")?, uid(item, "00081155")?)?;
            }
        }
        (None, Some(_)) => {
            for study in items(&data_set, STUDY_SEQUENCE)? {
                found.study(study)?;
            }
        }
        _ => {
            return Err(Problem::bad_request(
                "the request has either a Referenced SOP Sequence (0008,1199) or a Referenced Study \
                 Sequence (0008,1110)",
            ));
        }
    }
    match found.references.is_empty() {
        true => Err(Problem::bad_request("the request references no instance")),
        false => Ok(found.references),
    }
}

struct Found {
    references: Vec<Reference>,
    limit: u32,
}

impl Found {
    fn add(
        &mut self,
        parents: Option<(String, String)>,
        sop_class: String,
        instance: String,
    ) -> Result<(), Problem> {
        if self.references.len() >= self.limit as usize {
            return Err(Problem::too_large("commitment.max_instances", self.limit.into()));
        }
        self.references.push(Reference { parents, sop_class, instance });
        Ok(())
    }

    fn study(&mut self, study: &Map<String, Value>) -> Result<(), Problem> {
        let study_uid = uid(study, "0020000D")?;
        for series in items(study, SERIES_SEQUENCE)? {
            let series_uid = uid(series, "0020000E")?;
            for of_class in items(series, CLASS_SEQUENCE)? {
                let sop_class = uid(of_class, "00081150")?;
                for instance in items(of_class, INSTANCE_SEQUENCE)? {
                    let parents = Some((study_uid.clone(), series_uid.clone()));
                    self.add(parents, sop_class.clone(), uid(instance, "00081155")?)?;
                }
            }
        }
        Ok(())
    }
}

/// The items of a sequence, of which there must be one.
fn items<'a>(
    of: &'a Map<String, Value>,
    tag: &'static str,
) -> Result<impl Iterator<Item = &'a Map<String, Value>>, Problem> {
    let items = of.get(tag).and_then(|attribute| attribute.get("Value")?.as_array());
    match items {
        Some(items) if !items.is_empty() && items.iter().all(Value::is_object) => {
            Ok(items.iter().filter_map(Value::as_object))
        }
        _ => Err(Problem::invalid(tag, "a sequence with one item or more")),
    }
}

fn uid(of: &Map<String, Value>, tag: &'static str) -> Result<String, Problem> {
    let values = of.get(tag).and_then(|attribute| attribute.get("Value")?.as_array());
    let uid = match values.map(Vec::as_slice) {
        Some([Value::String(text)]) => Uid::from_value(text.as_bytes()).ok(),
        _ => None,
    };
    uid.map(|uid| uid.as_str().to_owned()).ok_or_else(|| Problem::invalid(tag, "one UID"))
}

/// One object, or an array of one.
fn dicom_json(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    let refused = || Problem::bad_request("the body is not one data set of DICOM JSON");
    match serde_json::from_slice(body).map_err(|_| refused())? {
        Value::Object(data_set) => Ok(data_set),
        Value::Array(mut all) => match (all.pop(), all.is_empty()) {
            (Some(Value::Object(data_set)), true) => Ok(data_set),
            _ => Err(refused()),
        },
        _ => Err(refused()),
    }
}

/// What is open while a Native DICOM Model is read.
enum Open {
    DataSet(Map<String, Value>),
    Attribute {
        tag: String,
        vr: String,
        values: Vec<Value>,
    },
    Text(String),
    /// What no reference is in: names, binary values.
    Other,
}

/// A Native DICOM Model (PS3.19 A.1) as DICOM JSON. Values are texts.
fn native(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    let refused = || Problem::bad_request("the body is not a Native DICOM Model");
    let mut reader = Reader::from_reader(body);
    let mut open: Vec<Open> = Vec::new();
    loop {
        match reader.read_event().map_err(|_| refused())? {
            Event::Start(start) if open.len() < 3 * MAX_DEPTH => {
                open.push(opened(&start, open.is_empty()).ok_or_else(refused)?);
            }
            Event::Empty(start) => {
                let one = opened(&start, open.is_empty()).ok_or_else(refused)?;
                if let Some(whole) = close(&mut open, one).ok_or_else(refused)? {
                    return Ok(whole);
                }
            }
            Event::Text(text) => {
                if let Some(Open::Text(so_far)) = open.last_mut() {
                    so_far.push_str(&text.decode().map_err(|_| refused())?);
                }
            }
            Event::End(_) => {
                let one = open.pop().ok_or_else(refused)?;
                if let Some(whole) = close(&mut open, one).ok_or_else(refused)? {
                    return Ok(whole);
                }
            }
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
            // No document type, no entities; and no end before the end.
            _ => return Err(refused()),
        }
    }
}

/// What an element opens.
fn opened(start: &BytesStart<'_>, is_root: bool) -> Option<Open> {
    let attribute = |name: &str| {
        let mut all = start.attributes().filter_map(Result::ok);
        let found = all.find(|attribute| attribute.key.as_ref() == name.as_bytes())?;
        String::from_utf8(found.value.to_vec()).ok()
    };
    match (start.local_name().as_ref(), is_root) {
        (b"NativeDicomModel", true) | (b"Item", false) => Some(Open::DataSet(Map::new())),
        (_, true) => None,
        (b"DicomAttribute", false) => Some(Open::Attribute {
            tag: attribute("tag")?.to_ascii_uppercase(),
            vr: attribute("vr").unwrap_or_default(),
            values: Vec::new(),
        }),
        (b"Value", false) => Some(Open::Text(String::new())),
        _ => Some(Open::Other),
    }
}

/// Puts what ends into what it is in; the whole, where it is the root.
fn close(open: &mut [Open], one: Open) -> Option<Option<Map<String, Value>>> {
    match (one, open.last_mut()) {
        (Open::DataSet(whole), None) => return Some(Some(whole)),
        (Open::DataSet(item), Some(Open::Attribute { values, .. })) => {
            values.push(Value::Object(item));
        }
        (Open::Text(text), Some(Open::Attribute { values, .. })) => values.push(text.into()),
        (Open::Attribute { tag, vr, values }, Some(Open::DataSet(data_set))) => {
            data_set.insert(tag, json!({ "vr": vr, "Value": values }));
        }
        (Open::Other | Open::Text(_), Some(_)) => {}
        _ => return None,
    }
    Some(None)
}
