//! Damage made by hand, one kind to a partition, and one run that has to tell them apart.

use std::fs;

use super::{file, fill, findings, of_partition, sql, verified};
use crate::harness::{Dicom, PARTITIONS, Server};

/// Damage to rows: what is run, `$p` standing for the partition, and what has to be found.
const ROWS: &[(&str, &str, &[&str])] = &[
    (
        "hash",
        "UPDATE instance SET sha256 = decode(repeat('00', 32), 'hex')
            WHERE partition_id = '$p' AND sop_instance_uid = '1.2.1.1.2'",
        &["bytes_differ 1.2.1.1.2"],
    ),
    (
        "place",
        "UPDATE instance SET blob_offset = blob_offset + 1000000
            WHERE partition_id = '$p' AND sop_instance_uid = '1.2.1.1.2'",
        &["outside_blob 1.2.1.1.2"],
    ),
    (
        "overlap",
        "UPDATE instance i SET blob_offset = o.blob_offset, sha256 = o.sha256, length = o.length
            FROM instance o WHERE i.partition_id = '$p' AND o.partition_id = '$p'
            AND i.sop_instance_uid = '1.2.1.1.2' AND o.sop_instance_uid = '1.2.1.1.1'",
        &["blob_overlap 1.2.1.1.2"],
    ),
    (
        "blobrow",
        "DELETE FROM blob b USING instance i WHERE b.partition_id = '$p'
            AND i.partition_id = '$p' AND b.blob_id = i.blob_id
            AND i.sop_instance_uid = '1.2.2.1.1'",
        &["outside_blob 1.2.2.1.1"],
    ),
    (
        "unused",
        "INSERT INTO blob (partition_id, blob_id, length)
            VALUES ('$p', '00000000-0000-4000-8000-000000000001', 7)",
        &["blob_missing null"],
    ),
    (
        "study",
        "DELETE FROM study WHERE partition_id = '$p' AND study_instance_uid = '1.2.2'",
        &["study_missing 1.2.2.1.1", "study_missing 1.2.2.1", "rows_left null"],
    ),
    (
        "series",
        "DELETE FROM series WHERE partition_id = '$p' AND series_instance_uid = '1.2.1.2'",
        &["series_missing 1.2.1.2.1", "counts_differ 1.2.1"],
    ),
    (
        "moved",
        "UPDATE series SET study_key = (SELECT study_key FROM study
                WHERE partition_id = '$p' AND study_instance_uid = '1.2.2')
            WHERE partition_id = '$p' AND series_instance_uid = '1.2.1.2'",
        &["parents_disagree 1.2.1.2.1", "counts_differ 1.2.1", "counts_differ 1.2.2"],
    ),
    (
        "empty",
        "INSERT INTO study (partition_id, study_instance_uid, attributes)
            VALUES ('$p', '1.2.8', '{}'), ('$p', '1.2.9', '{}');
        INSERT INTO series (partition_id, study_key, series_instance_uid, attributes)
            SELECT '$p', study_key, '1.2.9.1', '{}' FROM study
            WHERE partition_id = '$p' AND study_instance_uid = '1.2.9'",
        &["study_empty 1.2.8", "series_empty 1.2.9.1"],
    ),
    (
        "nometadata",
        "DELETE FROM instance_metadata m USING instance i WHERE m.partition_id = '$p'
            AND i.partition_id = '$p' AND m.watermark = i.watermark
            AND i.sop_instance_uid = '1.2.1.1.1'",
        &["metadata_missing 1.2.1.1.1"],
    ),
    (
        "badmetadata",
        "UPDATE instance_metadata m SET metadata = substring(metadata FOR 40) FROM instance i
            WHERE m.partition_id = '$p' AND i.partition_id = '$p' AND m.watermark = i.watermark
            AND i.sop_instance_uid = '1.2.1.1.1'",
        &["metadata_unreadable 1.2.1.1.1"],
    ),
    (
        "othermetadata",
        "UPDATE instance_metadata m SET metadata = (SELECT o.metadata
                FROM instance_metadata o JOIN instance j USING (partition_id, watermark)
                WHERE o.partition_id = '$p' AND j.sop_instance_uid = '1.2.1.1.2')
            FROM instance i
            WHERE m.partition_id = '$p' AND i.partition_id = '$p' AND m.watermark = i.watermark
            AND i.sop_instance_uid = '1.2.1.1.1'",
        &["metadata_differs 1.2.1.1.1"],
    ),
    (
        "frames",
        "UPDATE frame_table f SET native_length = 1000000 FROM instance i
            WHERE f.partition_id = '$p' AND i.partition_id = '$p' AND f.watermark = i.watermark
            AND i.sop_instance_uid = '1.2.1.1.1'",
        &["frames_wrong 1.2.1.1.1"],
    ),
    (
        "terms",
        "DELETE FROM study_term WHERE partition_id = '$p' AND term LIKE '_:%' AND study_key =
            (SELECT study_key FROM study
                WHERE partition_id = '$p' AND study_instance_uid = '1.2.2')",
        &["term_missing 1.2.2.1.1", "term_missing 1.2.2.1"],
    ),
    (
        "order",
        "UPDATE study_term SET study_order = 7 WHERE partition_id = '$p' AND study_key =
            (SELECT study_key FROM study
                WHERE partition_id = '$p' AND study_instance_uid = '1.2.2')",
        &["term_astray 1.2.2"],
    ),
    (
        "left",
        "INSERT INTO frame_table (partition_id, watermark, number_of_frames)
            VALUES ('$p', 1000000007, 1);
        INSERT INTO series_request (partition_id, series_key, item, study_key)
            VALUES ('$p', 1000000007, 0, 1)",
        &["rows_left null"],
    ),
    (
        "packleft",
        "INSERT INTO metadata_pack (partition_id, study_key, first_watermark, last_watermark,
                series_keys, pack)
            VALUES ('$p', 1000000007, 1, 2, '{1}', '')",
        &["rows_left null"],
    ),
    (
        "noevent",
        "DELETE FROM change_feed WHERE partition_id = '$p' AND sop_instance_uid = '1.2.2.1.1'",
        &["event_missing 1.2.2.1.1"],
    ),
    (
        "hole",
        "DELETE FROM change_feed WHERE partition_id = '$p' AND sequence = 2",
        &["event_missing 1.2.1.1.2", "feed_hole 2"],
    ),
    (
        "contradiction",
        "UPDATE change_feed SET action = 'delete' WHERE partition_id = '$p'
            AND sop_instance_uid = '1.2.2.1.1'",
        &["event_contradicted 1.2.2.1.1", "event_missing 1.2.2.1.1"],
    ),
    (
        "stranger",
        "UPDATE change_feed SET sop_instance_uid = '1.2.77' WHERE partition_id = '$p'
            AND sop_instance_uid = '1.2.2.1.1'",
        &["event_contradicted 1.2.77"],
    ),
    (
        "lost",
        "INSERT INTO change_feed (partition_id, action, study_instance_uid, series_instance_uid,
                sop_instance_uid, watermark)
            VALUES ('$p', 'create', '1.2', '1.2.3', '1.2.3.4', 1000000007)",
        &["instance_lost 1.2.3.4"],
    ),
    (
        "untold",
        "INSERT INTO deleted_instance SELECT partition_id, 1000000007, '1.2', '1.2.3', '1.2.3.4',
                sop_class_uid, transfer_syntax_uid, blob_id, blob_offset, length, data_set_offset,
                sha256, stored_at, now()
            FROM instance WHERE partition_id = '$p' AND sop_instance_uid = '1.2.2.1.1'",
        &["deletion_untold 1.2.3.4"],
    ),
    (
        "backwards",
        "UPDATE change_feed SET position = position - 2000000 WHERE partition_id = '$p'
            AND sequence = 3",
        &["feed_order 1.2.1.2.1"],
    ),
    (
        "earlier",
        "UPDATE change_feed SET occurred_at = occurred_at - interval '1 hour'
            WHERE partition_id = '$p' AND sequence = 3",
        &["feed_order 1.2.1.2.1"],
    ),
    ("retained", "DELETE FROM change_feed WHERE partition_id = '$p' AND sequence < 4", &[]),
];

#[tokio::test]
async fn each_kind_of_damage_is_found_and_nothing_else() {
    let settings = [PARTITIONS[0], ("store.own_blob_bytes", "64KiB")];
    let server = Server::with(&settings).await;
    let (db, blobs) = server.parts().await;
    let files = ["flipped", "cut", "longer", "gone", "tail", "orphan", "idle", "whole"];
    for partition in ROWS.iter().map(|(partition, ..)| partition).chain(&files) {
        fill(&server, partition).await;
    }
    // Who reads the feed has its events numbered.
    server.get("/changefeed").await.is(200);
    for (partition, damage, _) in ROWS {
        sql(&server, &damage.replace("$p", partition)).await;
    }
    // A byte in the middle of one instance; its neighbours are as they were.
    let (path, offset) = file(&server, "flipped", "1.2.1.1.2").await;
    let mut bytes = fs::read(&path).unwrap();
    bytes[offset as usize + 400] ^= 1;
    fs::write(&path, &bytes).unwrap();
    // Cut in the last instance of several, and in the only one.
    let (path, _) = file(&server, "cut", "1.2.1.1.1").await;
    let length = path.metadata().unwrap().len();
    fs::File::options().write(true).open(&path).unwrap().set_len(length - 1).unwrap();
    let (path, _) = file(&server, "tail", "1.2.2.1.1").await;
    fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    let (path, _) = file(&server, "longer", "1.2.2.1.1").await;
    let longer = [fs::read(&path).unwrap(), vec![0; 3]].concat();
    fs::write(&path, longer).unwrap();
    fs::remove_file(file(&server, "gone", "1.2.1.1.1").await.0).unwrap();
    let (path, _) = file(&server, "orphan", "1.2.1.1.1").await;
    let folder = path.parent().unwrap().parent().unwrap().join("00");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("00000000-0000-4000-8000-000000000009"), b"seven").unwrap();

    // A blob in which nothing lives.
    let idle = "INSERT INTO blob (partition_id, blob_id, length)
        VALUES ('idle', '00000000-0000-4000-8000-000000000009', 5)";
    sql(&server, idle).await;
    let (path, _) = file(&server, "idle", "1.2.1.1.1").await;
    let folder = path.parent().unwrap().parent().unwrap().join("00");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("00000000-0000-4000-8000-000000000009"), b"seven").unwrap();

    let lines = verified(&db, &blobs, &[], true).await;
    let found = |partition: &str| findings(&lines, partition);
    let set = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    for (partition, _, expected) in ROWS {
        assert_eq!(found(partition), set(expected), "{partition}");
    }
    assert_eq!(found("flipped"), set(&["bytes_differ 1.2.1.1.2"]));
    let last = cut_instance(&server).await;
    assert_eq!(found("cut"), set(&["blob_length null", &format!("bytes_missing {last}")]));
    assert_eq!(found("tail"), set(&["blob_length null", "bytes_missing 1.2.2.1.1"]));
    assert_eq!(found("longer"), set(&["blob_length null"]));
    let gone = ["1.2.1.1.1", "1.2.1.1.2", "1.2.1.2.1"].map(|uid| format!("bytes_missing {uid}"));
    let gone: Vec<&str> = gone.iter().map(String::as_str).chain(["blob_missing null"]).collect();
    assert_eq!(found("gone"), set(&gone));
    assert_eq!(found("orphan"), set(&[]));
    assert_eq!(of_partition(&lines, "orphan")["orphans"]["blobs"], 1);
    assert_eq!(of_partition(&lines, "orphan")["orphans"]["bytes"], 5);
    assert_eq!(of_partition(&lines, "orphan")["orphans"]["overdue"], 0);
    assert_eq!(found("idle"), set(&["blob_unused null"]));
    assert_eq!(found("whole"), set(&[]));
    for line in lines.iter().filter(|line| line["type"] == "finding") {
        assert!(!line["advice"].as_str().unwrap().is_empty());
        assert!(!line.to_string().contains("Doe"), "{line}");
    }
    // Without bytes, what rows and sizes tell is found all the same.
    let quick = verified(&db, &blobs, &["flipped", "cut", "gone", "hash"], false).await;
    for partition in ["cut", "gone"] {
        assert_eq!(findings(&quick, partition), found(partition), "{partition}");
    }
    assert_eq!(findings(&quick, "flipped"), set(&[]));
    assert_eq!(findings(&quick, "hash"), set(&[]));
}

#[tokio::test]
async fn non_patient_instances_are_held_against_their_blobs() {
    let server = Server::with(&PARTITIONS).await;
    let (db, blobs) = server.parts().await;
    let palette = |uid: &str| {
        let mut palette = Dicom::item();
        palette.text(0x0008, 0x0016, "UI", "1.2.840.10008.5.1.4.39.1");
        palette.text(0x0008, 0x0018, "UI", uid).text(0x0070, 0x0080, "CS", "LABEL");
        palette.file()
    };
    let damages: [(&str, &str, &[&str]); 4] = [
        ("whole", "SELECT", &[]),
        (
            "hash",
            "UPDATE non_patient_instance SET sha256 = decode(repeat('00', 32), 'hex')
                WHERE partition_id = '$p'",
            &["bytes_differ 1.2.1"],
        ),
        (
            "place",
            "UPDATE non_patient_instance SET length = length + 1000 WHERE partition_id = '$p'",
            &["outside_blob 1.2.1"],
        ),
        (
            "row",
            "DELETE FROM non_patient_instance WHERE partition_id = '$p'",
            &["blob_unused null"],
        ),
    ];
    for partition in damages.iter().map(|(partition, ..)| *partition).chain(["gone", "flipped"]) {
        let path = format!("/partitions/{partition}/color-palettes");
        server.store(&path, &[palette("1.2.1")]).await.is(200);
    }
    for (partition, damage, _) in damages {
        sql(&server, &damage.replace("$p", partition)).await;
    }
    let only = |partition: &str| server.blobs(partition).into_iter().next().unwrap();
    fs::remove_file(only("gone")).unwrap();
    let mut bytes = fs::read(only("flipped")).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(only("flipped"), bytes).unwrap();
    let lines = verified(&db, &blobs, &[], true).await;
    let set = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    for (partition, _, expected) in damages {
        assert_eq!(findings(&lines, partition), set(expected), "{partition}");
    }
    assert_eq!(findings(&lines, "gone"), set(&["bytes_missing 1.2.1", "blob_missing null"]));
    assert_eq!(findings(&lines, "flipped"), set(&["bytes_differ 1.2.1"]));
}

/// The instance at the end of the blob that was cut.
async fn cut_instance(server: &Server) -> String {
    let mut conn = server.superuser().await;
    sqlx::query_scalar(
        "SELECT sop_instance_uid FROM instance WHERE partition_id = 'cut'
            AND blob_id = (SELECT blob_id FROM instance
                WHERE partition_id = 'cut' AND sop_instance_uid = '1.2.1.1.1')
        ORDER BY blob_offset DESC LIMIT 1",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap()
}
