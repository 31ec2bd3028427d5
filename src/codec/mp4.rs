//! What an MP4 file (ISO/IEC 14496-12) says of its H.264 or HEVC video, where its index is in front.
//!
//! Holds: only boxes that are whole in what is given are read; what is not found is not guessed.

use super::hevc::{self, Profile};
use crate::dicom::compose::Description;

/// How a video is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// H.264 of ten times this level.
    H264(u8),
    /// HEVC.
    Hevc(Profile),
}

/// A video.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Video {
    /// What it says of its pixels.
    pub(super) description: Description,
    /// For (0028,0008).
    pub(super) frames: u32,
    /// Milliseconds of a frame, for (0018,1063).
    pub(super) frame_time: f64,
    pub(super) coding: Coding,
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
    let (size, bits, coding) = sample(within(table, b"stsd")?.get(8..)?)?;
    let (columns, rows) = size;
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
    let sane = rows > 0 && columns > 0 && frames > 0 && frame_time.is_finite();
    let photometric = "YBR_PARTIAL_420";
    let description =
        Description { rows, columns, samples: 3, bits, signed: false, photometric, lossy: true };
    sane.then_some(Video { description, frames, frame_time, coding })
}

/// What the descriptions of samples say: columns and rows, bits of a sample, and how it is compressed.
fn sample(entries: &[u8]) -> Option<((u16, u16), u8, Coding)> {
    let (kind, entry) =
        boxes(entries).find(|(kind, _)| [b"avc1", b"hvc1", b"hev1"].contains(&kind))?;
    let size = (word(entry, 24)?, word(entry, 26)?);
    let inner = entry.get(78..)?;
    if &kind == b"avc1" {
        let &[_, profile, _, level, ..] = within(inner, b"avcC")?.first_chunk::<4>()?;
        // Pictures of 8 bits in 4:2:0: what profiles up to High have.
        return (profile <= 100).then_some((size, 8, Coding::H264(level)));
    }
    let told = hevc::configuration(within(inner, b"hvcC")?)?;
    Some((told.size.unwrap_or(size), told.bits, Coding::Hevc(told.profile)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::hevc::tests::{MAIN, Made, record};

    fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let length = (content.len() as u32 + 8).to_be_bytes();
        [&length[..], kind, content].concat()
    }

    /// A file of 50 frames of 640 × 480, 25 a second.
    fn file(kind: &[u8; 4], configuration: &[u8]) -> Vec<u8> {
        let mut entry = vec![0; 78];
        entry[24..28].copy_from_slice(&[0x02, 0x80, 0x01, 0xE0]);
        entry.extend_from_slice(configuration);
        let description = [&[0, 0, 0, 0, 0, 0, 0, 1][..], &boxed(kind, &entry)].concat();
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
        let file = file(b"avc1", &boxed(b"avcC", &[1, 100, 0, 41, 0xFF]));
        let video = read(&file).unwrap();
        assert_eq!((video.description.columns, video.description.rows), (640, 480));
        let told = (video.frames, video.frame_time, video.coding);
        assert_eq!(told, (50, 40.0, Coding::H264(41)));
        // Cut anywhere it is not there, or the same.
        for end in 0..file.len() {
            assert!(read(&file[..end]).is_none_or(|found| found == video), "{end}");
        }
    }

    #[test]
    fn hevc_tells_by_its_parameter_sets_or_by_its_sample_entry() {
        let ten = Made { profile: 2, bits: 10, ..MAIN };
        for (kind, made, profile, bits) in
            [(b"hvc1", MAIN, Profile::Main, 8), (b"hev1", ten, Profile::Main10, 10)]
        {
            for (has_set, size) in [(true, (1920, 1080)), (false, (640, 480))] {
                let file = file(kind, &boxed(b"hvcC", &record(made, has_set)));
                let video = read(&file).unwrap();
                let described = video.description;
                assert_eq!(
                    (described.columns, described.rows, described.bits),
                    (size.0, size.1, bits)
                );
                assert_eq!((video.coding, video.frames), (Coding::Hevc(profile), 50));
                for end in 0..file.len() {
                    assert!(read(&file[..end]).is_none_or(|found| found == video), "{end}");
                }
            }
        }
    }
}
