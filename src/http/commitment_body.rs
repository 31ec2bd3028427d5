//! The body of a request for storage commitment (PS3.18 §13.1.1.3): references to instances, alone
//! or by study and series, in DICOM JSON or as a Native DICOM Model.

use serde_json::{Map, Value};

use super::problem::Problem;
use crate::{
    archive::Reference,
    dicom::{Uid, sent},
};

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
    let data_set = if is_xml { sent::native(body)? } else { sent::json(body)? };
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
