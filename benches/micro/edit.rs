//! Editing a file while it passes: what coercion costs beside reading and hashing what is stored.

use bytes::Bytes;
use collimator::dicom::{
    Tag, VR,
    edit::{Editor, Edits, Origin, Reason},
};

use crate::{Bench, files, step};

/// Bytes that come from the network at once, about.
const PIECE: usize = 64 << 10;

pub fn benches(bench: &mut Bench) {
    let limits = files::limits();
    let mut edits = Edits::default();
    edits.set_text(Tag(0x0008, 0x0080), VR::LO, "North");
    edits.set_text(Tag(0x0010, 0x0020), VR::LO, "N-1");
    edits.remove(Tag(0x0010, 0x4000));
    let origin = Origin {
        date_time: "20260101120000.000000+0000".into(),
        system: "COLLIMATOR".into(),
        source: String::new(),
        reason: Reason::Coerce,
    };
    let mut group = bench.benchmark_group("edit");
    for (name, file) in [
        ("CT of 512 x 512", files::ct(0)),
        ("CT of 64 x 64", files::small(0)),
        ("CT, deflated", files::deflated()),
        ("enhanced, 200 frames", files::enhanced()),
    ] {
        let file = Bytes::from(file);
        step(&mut group, name, crate::bytes(file.len()), || {
            let mut editor = Editor::new(Tag(0x0010, 0x4000), limits);
            let mut length = 0;
            for start in (0..file.len()).step_by(PIECE) {
                editor.push(file.slice(start..file.len().min(start + PIECE)));
                while editor.step().expect(name) || editor.is_read() {
                    if editor.is_read() {
                        editor.edit(&edits, &origin).expect(name);
                    }
                }
                length +=
                    std::iter::from_fn(|| editor.take()).map(|piece| piece.len()).sum::<usize>();
            }
            editor.end().expect(name);
            length += std::iter::from_fn(|| editor.take()).map(|piece| piece.len()).sum::<usize>();
            assert!(length > 1000, "{name}: {length} bytes");
        });
    }
    group.finish();
}
