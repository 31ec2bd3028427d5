//! From values behind the modality transformation to 0 … 255 (PS3.3 §C.11.2).
//!
//! Owns the formulas of windows and VOI tables. Holds: every number in gives a byte out, NaN the
//! darkest. Absent: which of them a frame has.

use super::{
    lut::Lut,
    view::{Function, Window},
};

/// How values become greys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scale {
    /// A window of the instance or of the client.
    Window(Window),
    /// The instance's VOI LUT.
    Table,
    /// Straight from the first (black) to the second (white).
    Between(f64, f64),
}

impl Scale {
    /// The grey of a value.
    pub fn grey(self, value: f64, table: Option<&Lut>) -> u8 {
        let grey = match (self, table) {
            (Self::Window(window), _) => windowed(window, value),
            (Self::Table, Some(lut)) => lut.at(value) * 255.0 / lut.white(),
            (Self::Table, None) => 0.0,
            (Self::Between(black, white), _) => (value - black) / (white - black) * 255.0,
        };
        // A cast saturates, and makes 0 of what is no number.
        (grey + 0.5) as u8
    }
}

/// PS3.3 §C.11.2.1.2 (linear), §C.11.2.1.3.1 (sigmoid) and §C.11.2.1.3.2 (linear exact), for an
/// output from 0 to 255. A linear window narrower than 1, which the standard forbids but writers of
/// floating point values use, is taken as exact.
fn windowed(Window { center, width, function }: Window, value: f64) -> f64 {
    match function {
        Function::Linear if width >= 1.0 => {
            let half = (width - 1.0) / 2.0;
            let offset = value - (center - 0.5);
            if offset <= -half {
                0.0
            } else if offset > half {
                255.0
            } else {
                (offset / (width - 1.0) + 0.5) * 255.0
            }
        }
        Function::Linear | Function::LinearExact => {
            let offset = value - center;
            if offset <= -width / 2.0 {
                0.0
            } else if offset > width / 2.0 {
                255.0
            } else {
                (offset / width + 0.5) * 255.0
            }
        }
        Function::Sigmoid => 255.0 / (1.0 + (-4.0 * (value - center) / width).exp()),
    }
}

impl Window {
    /// Whether the formulas have a meaning for it.
    pub(super) fn is_usable(&self) -> bool {
        self.center.is_finite() && self.width.is_finite() && self.width > 0.0
    }
}

impl Function {
    /// The function of a defined term (0028,1056), [`Function::Linear`] if there is none such.
    pub(super) fn of(term: &str) -> Self {
        match term.trim() {
            "LINEAR_EXACT" => Self::LinearExact,
            "SIGMOID" => Self::Sigmoid,
            _ => Self::Linear,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(center: f64, width: f64, function: Function, value: f64) -> u8 {
        Scale::Window(Window { center, width, function }).grey(value, None)
    }

    /// The examples of PS3.3 §C.11.2.1.2.1: which values are black and white.
    #[test]
    fn linear_windows_end_where_the_standard_says() {
        let rows = [
            // center, width, last black, first white
            (2048.0, 4096.0, 0.0, 4095.0),
            (2048.0, 1.0, 2047.0, 2048.0),
            (0.0, 100.0, -50.0, 49.0),
            (0.0, 1.0, -1.0, 0.0),
            (128.0, 256.0, 0.0, 255.0),
        ];
        for (center, width, black, white) in rows {
            assert_eq!(grey(center, width, Function::Linear, black), 0, "{center} {width}");
            assert_eq!(grey(center, width, Function::Linear, white), 255, "{center} {width}");
            if width > 2.0 {
                let one = (white - black) / 255.0;
                assert_eq!(grey(center, width, Function::Linear, black + one), 1);
                assert_eq!(grey(center, width, Function::Linear, white - one), 254);
            }
        }
    }

    #[test]
    fn a_window_of_256_leaves_bytes_alone() {
        for value in 0..=255 {
            assert_eq!(grey(128.0, 256.0, Function::Linear, value.into()), value);
            assert_eq!(grey(127.5, 255.0, Function::LinearExact, value.into()), value);
        }
    }

    #[test]
    fn exact_windows_are_symmetric() {
        let exact = |value| grey(40.0, 400.0, Function::LinearExact, value);
        assert_eq!((exact(-160.0), exact(240.0)), (0, 255));
        assert_eq!(exact(40.0), 128);
        assert_eq!(exact(140.0), 191);
        assert_eq!(exact(-60.0), 64);
    }

    #[test]
    fn sigmoid_windows_follow_their_formula() {
        let sigmoid = |value| grey(50.0, 100.0, Function::Sigmoid, value);
        assert_eq!(sigmoid(50.0), 128);
        // 255 / (1 + e^±2)
        assert_eq!((sigmoid(0.0), sigmoid(100.0)), (30, 225));
        assert_eq!((sigmoid(-1e9), sigmoid(1e9)), (0, 255));
    }

    #[test]
    fn odd_numbers_give_some_grey() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN] {
            for function in [Function::Linear, Function::LinearExact, Function::Sigmoid] {
                let grey = grey(0.0, 1e-300, function, value);
                assert!(!value.is_nan() || grey == 0);
            }
            Scale::Between(1.0, 1.0).grey(value, None);
        }
    }
}
