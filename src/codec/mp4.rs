//! What an MP4 file (ISO/IEC 14496-12) says of its H.264 video, where its index is in front.
//!
//! Holds: only boxes that are whole in what is given are read; what is not found is not guessed.

use crate::dicom::compose::Description;

/// A video.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Video {
    /// What it says of its pixels.
    pub(super) description: Description,
    /// For (0028,0008).
    pub(super) frames: u32,
    /// Milliseconds of a frame, for (0018,1063).
    pub(super) frame_time: f64,
    /// Ten times the level of H.264.
    pub(super) level: u8,
}

/// The content of the boxes of a box, with their types; those that are not whole are left out.
fn boxes(mut bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (kind, rest) = rest.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        let content = rest.get(..length.checked_sub(8)?)?;
        bytes = bytes.get(length..)?;
        Some((*kind, content))
    })
}

fn within<'a>(bytes: &'a [u8], wanted: &[u8; 4]) -> Option<&'a [u8]> {
    boxes(bytes).find(|(kind, _)| kind == wanted).map(|(_, content)| content)
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Reads the first bytes of a file. `None` where they do not hold the index of such a video.
pub(super) fn read(bytes: &[u8]) -> Option<Video> {
    let (_, movie) = boxes(bytes).find(|(kind, _)| kind == b"moov")?;
    let tracks = boxes(movie).filter(|(kind, _)| kind == b"trak");
    tracks.map(|(_, track)| track).find_map(video)
}

fn video(track: &[u8]) -> Option<Video> {
    let media = within(track, b"mdia")?;
    let table = within(within(media, b"minf")?, b"stbl")?;
    // Version and flags, and the number of entries, come first.
    let entry = within(within(table, b"stsd")?.get(8..)?, b"avc1")?;
    let (columns, rows) = (word(entry, 24)?, word(entry, 26)?);
    let &[_, profile, _, level, ..] = within(entry.get(78..)?, b"avcC")?.first_chunk::<4>()?;
    let counts = within(table, b"stts")?;
    let entries = counts.get(8..)?.as_chunks::<8>().0.iter();
    let entries = entries.take(long(counts, 4)? as usize);
    let samples = entries.filter_map(|entry| long(entry, 0));
    let frames = samples.fold(0_u32, u32::saturating_add);
    let header = within(media, b"mdhd")?;
    let (scale, duration) = match header.first()? {
        0 => (long(header, 12)?, u64::from(long(header, 16)?)),
        _ => {
            let duration = u64::from(long(header, 24)?) << 32 | u64::from(long(header, 28)?);
            (long(header, 20)?, duration)
        }
    };
    let frame_time = duration as f64 * 1000.0 / f64::from(scale) / f64::from(frames);
    // Pictures of 8 bits in 4:2:0: what profiles up to High have.
    let sane = rows > 0 && columns > 0 && frames > 0 && frame_time.is_finite() && profile <= 100;
    let photometric = "YBR_PARTIAL_420";
    let description =
        Description { rows, columns, samples: 3, bits: 8, signed: false, photometric, lossy: true };
    sane.then_some(Video { description, frames, frame_time, level })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let length = (content.len() as u32 + 8).to_be_bytes();
        [&length[..], kind, content].concat()
    }

    /// A file of 50 frames of 640 × 480, 25 a second.
    fn file() -> Vec<u8> {
        let mut entry = vec![0; 78];
        entry[24..28].copy_from_slice(&[0x02, 0x80, 0x01, 0xE0]);
        entry.extend(boxed(b"avcC", &[1, 100, 0, 41, 0xFF]));
        let description = [&[0, 0, 0, 0, 0, 0, 0, 1][..], &boxed(b"avc1", &entry)].concat();
        let mut times = vec![0, 0, 0, 0, 0, 0, 0, 1];
        times.extend([0, 0, 0, 50, 0, 0, 0, 40]);
        let table = [boxed(b"stsd", &description), boxed(b"stts", &times)].concat();
        let mut header = vec![0; 12];
        header.extend(1000_u32.to_be_bytes());
        header.extend(2000_u32.to_be_bytes());
        let media = [boxed(b"mdhd", &header), boxed(b"minf", &boxed(b"stbl", &table))].concat();
        let sound = boxed(b"trak", &boxed(b"mdia", b""));
        let movie = [sound, boxed(b"trak", &boxed(b"mdia", &media))].concat();
        [boxed(b"ftyp", b"isom\0\0\0\0"), boxed(b"moov", &movie), boxed(b"mdat", &[7; 100])]
            .concat()
    }

    #[test]
    fn the_index_tells() {
        let file = file();
        let video = read(&file).unwrap();
        assert_eq!((video.description.columns, video.description.rows), (640, 480));
        assert_eq!((video.frames, video.frame_time, video.level), (50, 40.0, 41));
        // Cut anywhere it is not there, or the same.
        for end in 0..file.len() {
            assert!(read(&file[..end]).is_none_or(|found| found == video), "{end}");
        }
    }
}
