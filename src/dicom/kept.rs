//! Metadata as it is kept: DICOM JSON as one zstd frame, whose header says how long it was.
//!
//! Holds: the tables that zstd works with are made once for each thread. Making them takes longer
//! than the metadata of an instance does.

use std::{cell::RefCell, io};

use zstd::bulk::{Compressor, Decompressor};

/// The fastest level that still folds repeated attribute names away.
const LEVEL: i32 = 1;

/// No metadata is as long, in bytes: one that says so is damaged.
const LONGEST: usize = 1 << 30;

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Makes JSON what is kept.
///
/// # Errors
/// Where memory is short.
pub fn compress(json: &[u8]) -> io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|slot| made(slot, || Compressor::new(LEVEL))?.compress(json))
}

/// Makes what is kept JSON again.
///
/// # Errors
/// Where it is not what [`compress`] made.
pub fn decompress(frame: &[u8]) -> io::Result<Vec<u8>> {
    let length = Decompressor::upper_bound(frame).filter(|length| *length <= LONGEST);
    let length = length.ok_or(io::ErrorKind::InvalidData)?;
    DECOMPRESSOR.with_borrow_mut(|slot| made(slot, Decompressor::new)?.decompress(frame, length))
}

fn made<T>(slot: &mut Option<T>, make: impl FnOnce() -> io::Result<T>) -> io::Result<&mut T> {
    let made = match slot.take() {
        Some(made) => made,
        None => make()?,
    };
    Ok(slot.insert(made))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_comes_back_and_damage_is_told() {
        let json = br#"{"00080005":{"vr":"CS","Value":["ISO_IR 192"]}}"#.repeat(50);
        for text in [&b""[..], &json[..1], &json[..]] {
            assert_eq!(decompress(&compress(text).unwrap()).unwrap(), text);
        }
        let frame = compress(&json).unwrap();
        assert!(decompress(&frame[..frame.len() - 1]).is_err());
        assert!(decompress(b"{}").is_err());
        // What failed spoils nothing that comes after it.
        assert_eq!(decompress(&frame).unwrap(), json);
    }
}
