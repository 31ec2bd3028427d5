//! Searches that find a few rows by nature.

use super::*;

/// Ids and UIDs have a few rows by nature: these are found and read by one statement.
#[tokio::test]
async fn what_is_few_is_found_and_read_by_one_statement() {
    let it = filled().await;
    let mut tx = it.db.begin(&scope("a")).await.unwrap();
    let key = |name, test| column(Level::Study, name, test);
    let step = || Condition::Request(vec![(RequestKey::ScheduledProcedureStepId, is("7"))]);
    let study = || Within::Study("1.2.7".parse().unwrap());
    for (level, within, conditions, indexes) in [
        (
            Level::Study,
            Within::Archive,
            vec![key("patient_id", is("P7"))],
            &["study_by_patient_id", "study_pkey", "series_by_study", "instance_by_study"][..],
        ),
        (
            Level::Study,
            Within::Archive,
            vec![key("accession_number", is("A7")), key("study_date", between("19000101", "2100"))],
            &["study_by_accession_number", "study_pkey"],
        ),
        (
            Level::Study,
            Within::Archive,
            vec![key("study_instance_uid", is("1.2.7"))],
            &["study_partition_id_study_instance_uid_key", "study_pkey"],
        ),
        (Level::Series, study(), vec![], &["series_by_study", "series_pkey"]),
        (Level::Series, Within::Archive, vec![step()], &["series_request_by_step", "series_pkey"]),
    ] {
        let what = format!("{level:?} {within:?} {conditions:?}");
        let page = SearchPlan { limit: 51, within, ..plan(level, conditions) };
        let explained = tx.search_explain(&page).await.unwrap();
        assert_plan(&of_statement(&explained, "-- search_few"), indexes, &[], &what);
        assert_lookups(&explained, &what);
    }
    for (level, within, conditions) in [
        (Level::Study, Within::Archive, vec![]),
        (Level::Study, Within::Archive, vec![name(is("name7^x7"))]),
        (Level::Study, Within::Archive, vec![key("patient_id", like("P7*"))]),
        // Each study of the patient might be tested.
        (
            Level::Study,
            Within::Archive,
            vec![key("patient_id", is("P7")), key("patient_sex", is("F"))],
        ),
        (Level::Series, Within::Archive, vec![key("patient_id", is("P7"))]),
        (Level::Instance, study(), vec![]),
    ] {
        let what = format!("{level:?} {within:?} {conditions:?}");
        let page = SearchPlan { limit: 51, within, ..plan(level, conditions) };
        let explained = tx.search_explain(&page).await.unwrap();
        assert!(!explained.is_empty());
        assert_plan(&explained, &[], &["-- search_few"], &what);
    }
}
