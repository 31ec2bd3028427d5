//! The model that predicts samples and tells how their errors are coded (T.87 Annexes A and C.2.4).

use super::super::CodecError;

/// Order of the run lengths (Annex A, `J`).
pub(super) const RUN_ORDERS: [u32; 32] = [
    0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13,
    14, 15,
];

/// Contexts of regular samples: signs are folded together.
const REGULAR: usize = 365;

/// Preset coding parameters (§C.2.4.1.1); 0 stands for the default.
#[derive(Clone, Copy, Default)]
pub(super) struct Preset {
    pub(super) max: u32,
    pub(super) thresholds: [u32; 3],
    pub(super) reset: u32,
}

/// Parameters of one scan.
#[derive(Clone)]
pub(super) struct Model {
    /// Greatest sample, `MAXVAL`.
    pub(super) max: i32,
    /// Greatest difference between a sample and its reconstruction.
    pub(super) near: i32,
    /// `T1`, `T2`, `T3`.
    pub(super) thresholds: [i32; 3],
    /// Samples after which a context forgets half.
    pub(super) reset: u32,
    /// Number of different errors.
    pub(super) range: i32,
    /// Bits of a number below `range`.
    pub(super) error_bits: u32,
    /// Longest code of an error.
    pub(super) limit: u32,
    /// `2 * near + 1`.
    pub(super) step: i32,
    /// Quantised gradients, from `-max` on.
    quantised: Vec<i8>,
}

/// Bits that hold `values` different values.
fn bits(values: i32) -> u32 {
    32 - (values - 1).leading_zeros()
}

impl Preset {
    /// The parameters for samples of `precision` bits, checked.
    ///
    /// # Errors
    /// [`CodecError::Damaged`] where they contradict each other.
    pub(super) fn complete(self, precision: u32, near: u32) -> Result<Model, CodecError> {
        let damaged = Err(CodecError::Damaged("JPEG-LS coding parameters"));
        if self.max >= 1 << precision {
            return damaged;
        }
        let max = if self.max == 0 { (1 << precision) - 1 } else { self.max };
        if near > 255 || 2 * near > max {
            return damaged;
        }
        let model = self.model(precision, near);
        let [t1, t2, t3] = model.thresholds;
        let ordered = model.near < t1 && t1 <= t2 && t2 <= t3 && t3 <= model.max;
        if !ordered || model.reset < 3 || model.reset as i32 > model.max.max(255) {
            return damaged;
        }
        Ok(model)
    }

    /// The parameters for samples of `precision` bits, of values known to be good.
    pub(super) fn model(self, precision: u32, near: u32) -> Model {
        let max = if self.max == 0 { (1 << precision) - 1 } else { self.max as i32 };
        let near = near as i32;
        let or = |value: u32, default: i32| if value == 0 { default } else { value as i32 };
        let defaults = default_thresholds(max, near);
        let [t1, t2, t3] = self.thresholds;
        let thresholds = [or(t1, defaults[0]), or(t2, defaults[1]), or(t3, defaults[2])];
        let step = 2 * near + 1;
        let range = (max + 2 * near) / step + 1;
        let sample_bits = bits(max + 1).max(2);
        Model {
            max,
            near,
            thresholds,
            reset: if self.reset == 0 { 64 } else { self.reset },
            range,
            error_bits: bits(range),
            limit: 2 * (sample_bits + sample_bits.max(8)),
            step,
            quantised: (-max..=max).map(|gradient| quantise(gradient, near, thresholds)).collect(),
        }
    }
}

/// Defaults of the thresholds (§C.2.4.1.1.1).
fn default_thresholds(max: i32, near: i32) -> [i32; 3] {
    let clamp = |value: i32, least: i32| if value > max || value < least { least } else { value };
    let basic = [3, 7, 21];
    let by_near = [3 * near, 5 * near, 7 * near];
    let [t1, t2, t3] = if max >= 128 {
        let factor = (max.min(4095) + 128) / 256;
        let offset = [2, 3, 4];
        [0, 1, 2].map(|i| factor * (basic[i] - offset[i]) + offset[i] + by_near[i])
    } else {
        let factor = 256 / (max + 1);
        [0, 1, 2].map(|i| (basic[i] / factor + by_near[i]).max(2 + i as i32))
    };
    let t1 = clamp(t1, near + 1);
    let t2 = clamp(t2, t1);
    [t1, t2, clamp(t3, t2)]
}

/// A gradient's region (Code segment A.4).
fn quantise(gradient: i32, near: i32, [t1, t2, t3]: [i32; 3]) -> i8 {
    let size = gradient.abs();
    let region = match size {
        _ if size <= near => 0,
        _ if size < t1 => 1,
        _ if size < t2 => 2,
        _ if size < t3 => 3,
        _ => 4,
    };
    if gradient < 0 { -region } else { region }
}

impl Model {
    fn region(&self, gradient: i32) -> i32 {
        self.quantised.get((gradient + self.max) as usize).map_or(0, |region| i32::from(*region))
    }

    /// The context of a sample with its neighbours left, above, above left and above right; it is
    /// below 0 where the sign is turned.
    #[inline(always)]
    pub(super) fn context(&self, a: i32, b: i32, c: i32, d: i32) -> i32 {
        (self.region(d - b) * 9 + self.region(b - c)) * 9 + self.region(c - a)
    }

    /// An error folded into the range of errors (Code segment A.9).
    #[inline(always)]
    pub(super) fn fold(&self, error: i32) -> i32 {
        let error = if error < 0 { error + self.range } else { error };
        if error >= (self.range + 1) / 2 { error - self.range } else { error }
    }

    /// The multiple of the step that is nearest to an error (Code segment A.8).
    #[inline(always)]
    pub(super) fn quantise_error(&self, error: i32) -> i32 {
        match self.near {
            0 => error,
            near if error > 0 => (error + near) / self.step,
            near => (error - near) / self.step,
        }
    }

    /// The sample that a prediction and its coded error make.
    #[inline(always)]
    pub(super) fn reconstruct(&self, predicted: i32, error: i32) -> i32 {
        let mut sample = predicted + error * self.step;
        if sample < -self.near {
            sample += self.range * self.step;
        } else if sample > self.max + self.near {
            sample -= self.range * self.step;
        }
        sample.clamp(0, self.max)
    }
}

/// The median edge detector (Code segment A.5).
#[inline(always)]
pub(super) fn predict(a: i32, b: i32, c: i32) -> i32 {
    let (least, most) = (a.min(b), a.max(b));
    // With c outside of both, the nearer of the two; else the plane through the three.
    (a + b - c).clamp(least, most)
}

/// Exponent of the Golomb code for `count` errors of `sum` in all (Code segment A.10).
#[inline(always)]
fn exponent(count: u32, sum: u32) -> u32 {
    if count >= sum {
        return 0;
    }
    // Equal in length once shifted by the difference, so that this or one more does.
    let shift = count.leading_zeros() - sum.leading_zeros();
    shift + u32::from(count << shift < sum)
}

/// State of a context of regular samples.
#[derive(Clone, Copy)]
pub(super) struct Regular {
    /// Sum of the errors' sizes.
    sum: u32,
    bias: i32,
    count: u32,
    correction: i32,
}

impl Regular {
    /// Corrects a prediction, whose sign the context turned (Code segment A.6).
    #[inline(always)]
    pub(super) fn correct(&self, predicted: i32, sign: i32, model: &Model) -> i32 {
        (predicted + turn(self.correction, sign)).clamp(0, model.max)
    }

    /// The exponent, and whether even and odd codes trade places (Code segment A.11).
    #[inline(always)]
    pub(super) fn code(&self, model: &Model) -> (u32, bool) {
        let exponent = exponent(self.count, self.sum);
        let swapped = exponent == 0 && model.near == 0 && 2 * self.bias <= -(self.count as i32);
        (exponent, swapped)
    }

    /// Learns an error (Code segments A.12 and A.13).
    #[inline(always)]
    pub(super) fn learn(&mut self, error: i32, model: &Model) {
        self.sum = self.sum.wrapping_add(error.unsigned_abs());
        self.bias += error * model.step;
        if self.count == model.reset {
            self.sum >>= 1;
            self.bias >>= 1;
            self.count >>= 1;
        }
        self.count += 1;
        let count = self.count as i32;
        if self.bias <= -count {
            self.correction = (self.correction - 1).max(-128);
            self.bias = (self.bias + count).max(1 - count);
        } else if self.bias > 0 {
            self.correction = (self.correction + 1).min(127);
            self.bias = (self.bias - count).min(0);
        }
    }
}

/// State of a context of samples that end a run.
#[derive(Clone, Copy)]
pub(super) struct Interruption {
    /// 1 where the neighbours left and above are alike.
    pub(super) kind: i32,
    sum: u32,
    count: u32,
    negative: u32,
}

impl Interruption {
    /// The exponent (§A.7.2.1).
    pub(super) fn exponent(&self) -> u32 {
        let more = if self.kind == 1 { self.count >> 1 } else { 0 };
        exponent(self.count, self.sum.wrapping_add(more))
    }

    /// Whether an error of that sign is the odd one of its size (Code segment A.21).
    pub(super) fn is_odd(&self, error: i32, exponent: u32) -> bool {
        let mostly_negative = 2 * self.negative >= self.count;
        error != 0 && (error < 0) == (exponent != 0 || mostly_negative)
    }

    /// Learns an error and the number that coded it (Code segment A.23).
    pub(super) fn learn(&mut self, error: i32, coded: u32, model: &Model) {
        if error < 0 {
            self.negative += 1;
        }
        let kind = self.kind as u32;
        self.sum = self.sum.wrapping_add(coded.wrapping_add(1 - kind) >> 1);
        if self.count == model.reset {
            self.sum >>= 1;
            self.count >>= 1;
            self.negative >>= 1;
        }
        self.count += 1;
    }
}

/// Every context of a scan, as it is at its start and after a restart (§A.2.1).
pub(super) struct Contexts {
    pub(super) regular: [Regular; REGULAR],
    pub(super) interruption: [Interruption; 2],
}

impl Contexts {
    pub(super) fn new(model: &Model) -> Self {
        let sum = ((model.range + 32) / 64).max(2) as u32;
        let regular = Regular { sum, bias: 0, count: 1, correction: 0 };
        let interruption = |kind| Interruption { kind, sum, count: 1, negative: 0 };
        Self { regular: [regular; REGULAR], interruption: [interruption(0), interruption(1)] }
    }
}

/// `value`, turned where `sign` is -1 instead of 0.
#[inline(always)]
pub(super) fn turn(value: i32, sign: i32) -> i32 {
    (value ^ sign) - sign
}
