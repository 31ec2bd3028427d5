//! Pixel data and other bulk values.

use super::*;

pub(super) fn image(rows: u8, columns: u8, frames: &str) -> Vec<Vec<u8>> {
    vec![
        el(0x0028, 0x0002, "US", [1, 0]),
        el(0x0028, 0x0004, "CS", "MONOCHROME2"),
        el(0x0028, 0x0008, "IS", frames),
        el(0x0028, 0x0010, "US", [rows, 0]),
        el(0x0028, 0x0011, "US", [columns, 0]),
        el(0x0028, 0x0100, "US", [8, 0]),
    ]
}

#[test]
fn native_pixel_data() {
    // Short enough to be handed over whole, and long enough to be bulk.
    for rows in [4, 100] {
        let mut elements = image(rows, 4, "2");
        let bytes = vec![7; usize::from(rows) * 8];
        elements.push(el(0x7FE0, 0x0010, "OW", &bytes));
        let indexed = index(&elements);
        let entry = &indexed.bulk[0];
        let length = u64::from(rows) * 8;
        assert_eq!((entry.path.as_str(), entry.vr, entry.length), ("7FE00010", VR::OW, length));
        let wanted = FrameTable::Native {
            offset: entry.offset,
            length,
            frame_bits: u64::from(rows) * 32,
            frames: 2,
        };
        assert_eq!(indexed.frames, Some(wanted));
        let uri = json!({"vr": "OW", "BulkDataURI": "@7FE00010"});
        assert_eq!(metadata(&indexed)["7FE00010"], uri);
    }
    let mut short = image(4, 4, "3");
    short.push(el(0x7FE0, 0x0010, "OW", [0; 40]));
    let indexed = index(&short);
    assert_eq!(indexed.frames.as_ref().map(FrameTable::len), Some(2));
    assert_eq!(warnings(&indexed), ["(7FE0,0010)"]);
    let indexed = index(&[el(0x7FE0, 0x0010, "OW", [0; 40])]);
    assert_eq!((indexed.frames.is_none(), warnings(&indexed)), (true, vec!["(7FE0,0010)".into()]));
    let mut many = image(1, 1, "200");
    many.push(el(0x7FE0, 0x0010, "OW", [0; 200]));
    many.extend(identity());
    let limit = DicomError::Limit { key: "limits.frames", limit: 100 };
    assert_eq!(read(&file(EXPLICIT, &many).0, usize::MAX).err(), Some(limit));
}

#[test]
fn encapsulated_pixel_data() {
    let soi = b"\xFF\xD8\xFF\xE0";
    let mut elements = image(4, 4, "2");
    elements.push(fragments(0x7FE0, 0x0010, &[b"", soi, b"rest", soi]));
    let indexed = index_as(JPEG, &elements);
    let Some(FrameTable::Fragments { frames }) = &indexed.frames else {
        panic!("{:?}", indexed.frames)
    };
    let (bytes, _) = file(JPEG, &{
        let mut all = [elements, identity().to_vec()].concat();
        all.sort_by_key(|bytes| (bytes[1], bytes[0], bytes[3], bytes[2]));
        all
    });
    let read_back: Vec<Vec<&[u8]>> = frames
        .iter()
        .map(|frame| {
            frame.iter().map(|&(at, n)| &bytes[at as usize..at as usize + n as usize]).collect()
        })
        .collect();
    assert_eq!(read_back, [vec![&soi[..], b"rest"], vec![&soi[..]]]);
    assert_eq!((indexed.bulk[0].path.as_str(), indexed.bulk[0].length), ("7FE00010", 0));

    // Basic and extended offset tables, the latter long enough to be bulk.
    let mut elements = image(4, 4, "2");
    elements.push(fragments(0x7FE0, 0x0010, &[&[0, 0, 0, 0, 22, 0, 0, 0], b"ab", b"cdef", b"gh"]));
    let table = index_as(JPEG, &elements).frames.unwrap();
    assert_eq!((table.len(), table.ranges(0).unwrap().len()), (2, 2));
    let offsets: Vec<u8> = (0..20u64).flat_map(|frame| (frame * 10).to_le_bytes()).collect();
    let mut elements = image(4, 4, "20");
    elements.push(el(0x7FE0, 0x0001, "OV", &offsets));
    elements.push(fragments(0x7FE0, 0x0010, &[&[&b""[..]][..], &[&b"ab"[..]; 20]].concat()));
    let indexed = index_as(JPEG, &elements);
    assert_eq!(indexed.frames.unwrap().len(), 20);
    assert_eq!(indexed.bulk.len(), 2);

    // Frames that cannot be told apart: the value as it stands can still be had.
    let mut elements = image(4, 4, "2");
    elements.push(fragments(0x7FE0, 0x0010, &[b"", b"ab", b"cd", b"ef"]));
    let indexed = index_as(JPEG, &elements);
    assert_eq!((indexed.frames, indexed.bulk[0].length), (None, 30));
    // Nothing in it.
    let indexed = index_as(JPEG, &[fragments(0x7FE0, 0x0010, &[b""])]);
    assert_eq!(metadata(&indexed)["7FE00010"], json!({"vr": "OB"}));
    assert!(indexed.frames.is_none() && indexed.bulk.is_empty() && indexed.warnings.is_empty());
}

#[test]
fn bulk_values_in_items_have_paths() {
    let indexed = index_as(
        JPEG,
        &[
            sq(
                0x0054,
                0x0016,
                &[
                    item(&[]),
                    item(&[
                        el(0x0018, 0x1072, "OB", [1; 100]),
                        sq(
                            0x0088,
                            0x0200,
                            &[
                                item(&[fragments(0x7FE0, 0x0010, &[b"", b"icon"])]),
                                item(&[fragments(0x7FE0, 0x0010, &[b"", b"ic", b"on"])]),
                            ],
                        ),
                    ]),
                ],
            ),
            el(0x0009, 0x1001, "OB", [2; 100]),
        ],
    );
    let found: Vec<_> = indexed.bulk.iter().map(|b| (b.path.as_str(), b.length)).collect();
    let expect = [
        ("00091001", 100),
        ("00540016/1/00181072", 100),
        ("00540016/1/00880200/0/7FE00010", 4),
        ("00540016/1/00880200/1/7FE00010", 20),
    ];
    assert_eq!(found, expect);
    let mut json = Vec::new();
    crate::dicom::json::resolve_bulk(&mut json, &indexed.metadata, "/bulkdata", "");
    let text = String::from_utf8(json).unwrap();
    for (path, _) in expect {
        assert!(text.contains(&format!("\"BulkDataURI\":\"/bulkdata/{path}\"")), "{path}");
    }
    assert!(indexed.frames.is_none());
}
