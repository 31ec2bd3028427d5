//! What Search matches of the series' (0040,0275) Request Attributes Sequence.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{IndexError, PartitionTx};
use crate::dicom::{matching::Object, normalise};

pub(super) const CREATE: &str = "-- request_create
    INSERT INTO series_request (partition_id, series_key, study_key, item,
        scheduled_procedure_step_id, requested_procedure_id)
    SELECT $1, * FROM unnest($2::bigint[], $3::bigint[], $4::smallint[], $5::text[], $6::text[])
    ON CONFLICT (partition_id, series_key, item) DO NOTHING";

/// The attribute in DICOM JSON.
pub(super) const SEQUENCE: &str = "00400275";

/// Most items of a series that are searched. Real ones have one; this is far above them, and keeps
/// what was made to be a burden from being one.
const MAX_ITEMS: usize = 1000;

/// What is matched of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// (0040,0009) Scheduled Procedure Step ID.
    step: Option<String>,
    /// (0040,1001) Requested Procedure ID.
    procedure: Option<String>,
}

/// The items in a series' attributes. Text that is no DICOM JSON has none.
pub(super) fn items(attributes: &str) -> Vec<Item> {
    #[derive(Deserialize)]
    struct Series<'a> {
        #[serde(rename = "00400275", borrow)]
        requests: Option<Sequence<'a>>,
    }
    #[derive(Deserialize)]
    struct Sequence<'a> {
        #[serde(rename = "Value", borrow, default)]
        items: Vec<Option<Ids<'a>>>,
    }
    #[derive(Deserialize, Default)]
    struct Ids<'a> {
        #[serde(rename = "00400009", borrow)]
        step: Option<&'a RawValue>,
        #[serde(rename = "00401001", borrow)]
        procedure: Option<&'a RawValue>,
    }
    if !attributes.contains(SEQUENCE) {
        return Vec::new();
    }
    let series: Option<Series<'_>> = serde_json::from_str(attributes).ok();
    let items = series.and_then(|series| series.requests).map_or(Vec::new(), |found| found.items);
    let items = items.into_iter().take(MAX_ITEMS).map(Option::unwrap_or_default);
    items.map(|ids| Item { step: first(ids.step), procedure: first(ids.procedure) }).collect()
}

/// The first value of an attribute that is not empty, as columns hold text.
fn first(attribute: Option<&RawValue>) -> Option<String> {
    #[derive(Deserialize)]
    struct Attribute {
        #[serde(rename = "Value", default)]
        values: Vec<Option<String>>,
    }
    let found: Attribute = serde_json::from_str(attribute?.get()).ok()?;
    let mut values = found.values.iter().flatten().map(|value| normalise::text(value));
    let value = values.find(|value| value.as_deref() != Ok(""))?;
    value.ok()
}

/// The first value of an attribute of a DICOM JSON object, as columns hold text.
pub(super) fn value(attributes: &str, tag: &str) -> Option<String> {
    if !attributes.contains(tag) {
        return None;
    }
    let object: Object<'_> = serde_json::from_str(attributes).ok()?;
    first(object.get(tag).copied())
}

/// Items under construction as rows.
#[derive(Debug, Default)]
pub(super) struct Rows {
    series: Vec<i64>,
    studies: Vec<i64>,
    numbers: Vec<i16>,
    steps: Vec<Option<String>>,
    procedures: Vec<Option<String>>,
}

impl Rows {
    /// Adds those of a series.
    pub(super) fn add(&mut self, series: i64, study: i64, items: Vec<Item>) {
        for (number, item) in (0..).zip(items) {
            self.series.push(series);
            self.studies.push(study);
            self.numbers.push(number);
            self.steps.push(item.step);
            self.procedures.push(item.procedure);
        }
    }

    /// Binds them to [`CREATE`], behind the partition.
    pub(super) fn bind(self, query: super::db::Statement) -> super::db::Statement {
        query
            .bind(self.series)
            .bind(self.studies)
            .bind(self.numbers)
            .bind(self.steps)
            .bind(self.procedures)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.series.is_empty()
    }
}

impl PartitionTx {
    /// Adds items; those that are there already stay as they are.
    pub(super) async fn requests(&mut self, rows: Rows) -> Result<(), IndexError> {
        if rows.is_empty() {
            return Ok(());
        }
        let (query, conn) = self.statement(CREATE);
        rows.bind(query).execute(conn).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_hold_what_is_matched() {
        let item = |step: &str, procedure: &str| {
            let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
            Item { step: text(step), procedure: text(procedure) }
        };
        let check = |value: &str, expect: &[Item]| {
            let json = format!(r#"{{"00400275":{{"vr":"SQ"{value}}}}}"#);
            assert_eq!(items(&json), expect, "{value}");
        };
        check("", &[]);
        check(r#","Value":[]"#, &[]);
        check(
            r#","Value":[{"00400009":{"vr":"SH","Value":[" S1 "]},
                "00401001":{"vr":"SH","Value":["P1"]},"00400007":{"vr":"LO","Value":["x"]}},
                {}, null, {"00401001":{"vr":"SH","Value":[null,"","P2","P3"]}}]"#,
            &[item("S1", "P1"), item("", ""), item("", ""), item("", "P2")],
        );
        check(r#","Value":[{"00400009":{"vr":"SH","Value":[7]}}]"#, &[item("", "")]);
        check(r#","Value":[{"00400009":{"vr":"SH","Value":["a\nb"]}}]"#, &[item("", "")]);
        check(r#","Value":["no item"]"#, &[]);
        let text = r#"{"00080201":{"vr":"SH","Value":["+0100"]}}"#;
        assert_eq!(value(text, "00080201").as_deref(), Some("+0100"));
        assert_eq!(value(text, "00080202"), None);
        assert_eq!(items("00400275"), []);
        assert_eq!(items("{}"), []);
    }
}
