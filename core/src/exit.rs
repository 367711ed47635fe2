//! Wait outcome to exit code to the digits of an exit-code file, and back.
//!
//! Enters: a wait status as wait(2) gives it, or the bytes of an exit-code file. Leaves: a code of 0 to 255.
//! Refuses: a file that is not digits, or a number past 255.

use crate::buf::{Writer, display_by_describe};
use crate::signal::Signal;

/// Our own exit status: bad input, or an output that could not be saved.
pub const FAILURE: u8 = 64;

/// Our own exit status: the supervisor of an init-less pod failed, or an input artifact was refused.
pub const NOT_READY: u8 = 65;

/// What wait(2) says of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It ended by itself with this status.
    Exited(u8),
    /// A signal ended it.
    Killed(u8),
    /// It was stopped or continued, and has not ended.
    Alive,
}

impl Outcome {
    /// Reads a wait status of Linux (wait(2); the layout is the same on every architecture).
    #[must_use]
    pub const fn from_wait_status(status: i32) -> Self {
        let [low, high, ..] = status.to_le_bytes();
        match low & 0x7f {
            0 => Self::Exited(high),
            0x7f => Self::Alive,
            signal => Self::Killed(signal),
        }
    }

    /// The code for the exit-code file and our own exit: the status, or 128 + the signal. `None` while it lives.
    #[must_use]
    pub const fn exit_code(self) -> Option<u8> {
        match self {
            Self::Exited(status) => Some(status),
            Self::Killed(signal) => Some(128_u8.saturating_add(signal)),
            Self::Alive => None,
        }
    }
}

/// The code of a step that a signal ended before its command ran: 128 + its number.
#[must_use]
pub const fn code_of_signal(signal: Signal) -> u8 {
    128_u8.saturating_add(signal.number())
}

/// Why some bytes are no exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCodeError {
    /// Nothing there yet: the writer has created the file and not written it.
    Empty,
    /// Not decimal digits, or past 255.
    Malformed,
}

impl ExitCodeError {
    /// Writes the cause as one lowercase clause.
    pub fn describe(&self, out: &mut Writer<'_>) {
        out.text(match self {
            Self::Empty => "is empty",
            Self::Malformed => "is not a number from 0 to 255",
        });
    }
}

display_by_describe!(ExitCodeError);

/// Parses an exit-code file: decimal digits, white space around them.
///
/// # Errors
/// [`ExitCodeError::Empty`] for a file without digits yet, [`ExitCodeError::Malformed`] for anything else that is no code.
pub fn parse(bytes: &[u8]) -> Result<u8, ExitCodeError> {
    let digits = bytes.trim_ascii();
    if digits.is_empty() {
        return Err(ExitCodeError::Empty);
    }
    parse_decimal(digits).and_then(|code| u8::try_from(code).ok()).ok_or(ExitCodeError::Malformed)
}

/// The code that stands for several containers: the first that is not 0. One that left none counts as [`FAILURE`].
#[must_use]
pub fn first_failure(codes: impl Iterator<Item = Option<u8>>) -> u8 {
    codes.map(|code| code.unwrap_or(FAILURE)).find(|code| *code != 0).unwrap_or(0)
}

/// Writes an exit code's digits into `buf`, without a newline, and returns them.
#[must_use]
pub fn digits(code: u8, buf: &mut [u8; 3]) -> &[u8] {
    let mut out = Writer::new(buf);
    out.decimal(u64::from(code));
    // Three bytes hold every u8.
    out.finish().map_or(&[], |digits| &*digits)
}

/// A number of decimal digits and nothing else; `None` for no digits, another byte, or more than a `u64` holds.
#[must_use]
pub fn parse_decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, &digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_statuses() {
        for (status, outcome, code) in [
            (0x0000, Outcome::Exited(0), Some(0)),
            (0x0300, Outcome::Exited(3), Some(3)),
            (0xff00, Outcome::Exited(255), Some(255)),
            (0x0009, Outcome::Killed(9), Some(137)),
            (0x008b, Outcome::Killed(11), Some(139)),
            (0x137f, Outcome::Alive, None),
            (0xffff, Outcome::Alive, None),
        ] {
            assert_eq!(Outcome::from_wait_status(status), outcome);
            assert_eq!(outcome.exit_code(), code);
        }
    }

    #[test]
    fn one_code_for_several() {
        for (codes, want) in [(&[Some(0), Some(7), Some(9)][..], 7), (&[Some(0), None, Some(9)], 64), (&[Some(0)], 0), (&[], 0)] {
            assert_eq!(first_failure(codes.iter().copied()), want);
        }
    }

    #[test]
    fn every_code_round_trips() {
        for code in 0..=255 {
            let mut room = [0xa5; 3];
            assert_eq!(parse(digits(code, &mut room)), Ok(code));
        }
    }

    #[test]
    fn files() {
        for (bytes, want) in [
            (&b""[..], Err(ExitCodeError::Empty)),
            (b"\n", Err(ExitCodeError::Empty)),
            (b"7\n", Ok(7)),
            (b" 255 ", Ok(255)),
            (b"256", Err(ExitCodeError::Malformed)),
            (b"-1", Err(ExitCodeError::Malformed)),
            (b"1x", Err(ExitCodeError::Malformed)),
            (b"99999999999999999999999", Err(ExitCodeError::Malformed)),
            (b"\xff", Err(ExitCodeError::Malformed)),
        ] {
            assert_eq!(parse(bytes), want);
        }
    }
}
