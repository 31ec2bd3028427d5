//! Where decoded samples go: one plane for each component, and the walk over a scan's units.
//!
//! Owns [`Plane`] and its sizes (T.81 §A.1, §A.2), and [`intervals`], which cuts a scan at its
//! restart markers. Holds: planes are only made after the codestream proved long enough to fill
//! them. Absent: how samples are coded.

use super::{
    bits::Bits,
    damaged,
    stream::{Frame, Process, Scan, Stream},
};
use crate::codec::CodecError;

/// The samples of one component.
pub(super) struct Plane {
    /// Horizontal sampling factor.
    pub(super) h: usize,
    /// Vertical sampling factor.
    pub(super) v: usize,
    /// Number of its quantisation table.
    pub(super) table: usize,
    /// Samples of a line that belong to the image.
    pub(super) width: usize,
    /// Lines that belong to the image.
    pub(super) height: usize,
    /// Samples of a line with those that fill up the last MCU.
    pub(super) stride: usize,
    /// Lines with those that fill up the last MCU.
    pub(super) lines: usize,
    /// `stride * lines` samples.
    pub(super) samples: Vec<u16>,
    /// A scan has filled it.
    pub(super) done: bool,
}

/// The sizes that all components share.
pub(super) struct Grid {
    /// Greatest horizontal sampling factor.
    pub(super) h: usize,
    /// Greatest vertical sampling factor.
    pub(super) v: usize,
    /// MCUs in a line of an interleaved scan.
    pub(super) columns: usize,
    /// Lines of MCUs of an interleaved scan.
    pub(super) rows: usize,
}

/// Makes the planes of a frame whose entropy-coded bytes are `available` at most.
///
/// # Errors
/// [`CodecError::Damaged`] where so few bytes cannot hold so many samples.
pub(super) fn planes(frame: &Frame, available: usize) -> Result<(Grid, Vec<Plane>), CodecError> {
    let (columns, rows) = (usize::from(frame.columns), usize::from(frame.rows));
    let h = frame.components.iter().map(|c| usize::from(c.h)).max().unwrap_or(1);
    let v = frame.components.iter().map(|c| usize::from(c.v)).max().unwrap_or(1);
    let unit = if frame.process == Process::Lossless { 1 } else { 8 };
    let grid = Grid { h, v, columns: columns.div_ceil(h * unit), rows: rows.div_ceil(v * unit) };
    let sized = frame.components.iter().map(|component| {
        let (own_h, own_v) = (usize::from(component.h), usize::from(component.v));
        Plane {
            h: own_h,
            v: own_v,
            table: usize::from(component.table),
            width: (columns * own_h).div_ceil(h),
            height: (rows * own_v).div_ceil(v),
            stride: grid.columns * own_h * unit,
            lines: grid.rows * own_v * unit,
            samples: Vec::new(),
            done: false,
        }
    });
    let mut planes: Vec<Plane> = sized.collect();
    // Every data unit takes a bit at least: a sample, or the DC coefficient of a block.
    let units = |plane: &Plane| plane.width.div_ceil(unit) * plane.height.div_ceil(unit);
    if planes.iter().map(units).sum::<usize>() > available.saturating_mul(8) {
        return Err(damaged("too few bytes"));
    }
    for plane in &mut planes {
        plane.samples = vec![0; plane.stride * plane.lines];
    }
    Ok((grid, planes))
}

/// The units of a scan: MCUs where several components are interleaved, else the units of the one
/// component that the image needs.
pub(super) fn units(scan: &Scan, grid: &Grid, planes: &[Plane], unit: usize) -> (usize, usize) {
    match scan.members.as_slice() {
        [member] => planes
            .get(member.component)
            .map_or((0, 0), |plane| (plane.width.div_ceil(unit), plane.height.div_ceil(unit))),
        _ => (grid.columns, grid.rows),
    }
}

/// Calls `decode` for each restart interval of a scan of `units` units, with its bits and which
/// units it has.
pub(super) fn intervals(
    stream: &mut Stream<'_>,
    units: usize,
    mut decode: impl FnMut(&mut Bits<'_>, std::ops::Range<usize>) -> Result<(), CodecError>,
) -> Result<(), CodecError> {
    let step = if stream.restart == 0 { units } else { usize::from(stream.restart) };
    let mut segment = Vec::new();
    let mut first = 0;
    for count in 0.. {
        let last = units.min(first + step);
        stream.segment(&mut segment);
        let mut bits = Bits::new(&segment);
        decode(&mut bits, first..last)?;
        if bits.ran_out() {
            return Err(damaged("too few bytes"));
        }
        if last == units {
            break;
        }
        stream.restart_marker(count)?;
        first = last;
    }
    Ok(())
}
