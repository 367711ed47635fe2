//! Exit codes: from the end of a process, and to and from the digits of an exit-code file (docs/protocol.md, "Files"; wait(2)).
//!
//! Enters: a wait status of wait(2), or the bytes of an exit-code file. Leaves: a code from 0 to 255, or its digits. Refuses: a file that does not hold decimal
//! digits, and a number above 255.

use crate::buf::{Writer, display_by_describe};
use crate::signal::Signal;

/// Emissary's own exit status for bad input, or for an output that it could not save.
pub const FAILURE: u8 = 64;

/// Emissary's own exit status if the supervisor of a pod without an init container failed, or if an input artifact was refused.
pub const NOT_READY: u8 = 65;

/// What wait(2) reports of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The child exited with this status.
    Exited(u8),
    /// This signal ended the child.
    Killed(u8),
    /// The child was stopped or continued, and has not ended.
    Alive,
}

impl Outcome {
    /// Parses a wait status of Linux (wait(2)). The layout is the same on every architecture.
    #[must_use]
    pub const fn from_wait_status(status: i32) -> Self {
        let [low, high, ..] = status.to_le_bytes();
        match low & 0x7f {
            0 => Self::Exited(high),
            0x7f => Self::Alive,
            signal => Self::Killed(signal),
        }
    }

    /// The code for the exit-code file and for emissary's own exit: the status, or 128 + the signal. `None` while the child lives.
    #[must_use]
    pub const fn exit_code(self) -> Option<u8> {
        match self {
            Self::Exited(status) => Some(status),
            Self::Killed(signal) => Some(128_u8.saturating_add(signal)),
            Self::Alive => None,
        }
    }
}

/// The exit status after the time limit of a run has ended its command.
pub const TIMED_OUT: u8 = 124;

/// The exit status, in the convention of POSIX shells, for a command that was found and cannot be executed.
pub const NOT_EXECUTABLE: u8 = 126;

/// The exit status, in the convention of POSIX shells, for a command that was not found.
pub const NOT_FOUND: u8 = 127;

/// Which status emissary exits with in the place of the command's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remaps(
    /// For each code: the code XOR its status. So zeros change nothing.
    [u8; 256],
);

impl Remaps {
    /// Every code stays as it is.
    pub const NONE: Self = Self([0; 256]);

    /// Adds `N` or `N:M`: code N becomes status M, or 0.
    ///
    /// # Errors
    /// [`ExitCodeError`], if a part is not a number from 0 to 255.
    pub fn add(&mut self, text: &[u8]) -> Result<(), ExitCodeError> {
        let mut parts = text.splitn(2, |&byte| byte == b':');
        let from = parse(parts.next().unwrap_or_default())?;
        let to = parts.next().map_or(Ok(0), parse)?;
        self.set(from, to);
        Ok(())
    }

    /// Sets the status for a code.
    pub fn set(&mut self, from: u8, to: u8) {
        if let Some(slot) = self.0.get_mut(usize::from(from)) {
            *slot = from ^ to;
        }
    }

    /// The status for a code.
    #[must_use]
    pub fn apply(&self, code: u8) -> u8 {
        code ^ self.0.get(usize::from(code)).copied().unwrap_or(0)
    }
}

impl Default for Remaps {
    fn default() -> Self {
        Self::NONE
    }
}

/// The exit code of a step that a signal ended before its command ran: 128 + the signal's number.
#[must_use]
pub const fn code_of_signal(signal: Signal) -> u8 {
    128_u8.saturating_add(signal.number())
}

/// Why bytes are no exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCodeError {
    /// The file has no digits yet: the writer has created the file and not written to it.
    Empty,
    /// The file holds something other than decimal digits, or a number above 255.
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

/// Parses an exit-code file: decimal digits, with or without white space around them.
///
/// # Errors
/// [`ExitCodeError::Empty`] for a file without digits yet; [`ExitCodeError::Malformed`] for any other contents that are no code.
pub fn parse(bytes: &[u8]) -> Result<u8, ExitCodeError> {
    let digits = bytes.trim_ascii();
    if digits.is_empty() {
        return Err(ExitCodeError::Empty);
    }
    parse_decimal(digits).and_then(|code| u8::try_from(code).ok()).ok_or(ExitCodeError::Malformed)
}

/// The exit code that stands for several containers: the first one that is not 0. A container without an exit code counts as [`FAILURE`].
#[must_use]
pub fn first_failure(codes: impl Iterator<Item = Option<u8>>) -> u8 {
    codes.map(|code| code.unwrap_or(FAILURE)).find(|code| *code != 0).unwrap_or(0)
}

/// Writes the digits of an exit code into `buf`, without a newline, and returns them.
#[must_use]
pub fn digits(code: u8, buf: &mut [u8; 3]) -> &[u8] {
    let mut out = Writer::new(buf);
    out.decimal(u64::from(code));
    // Three bytes hold every `u8`.
    out.finish().map_or(&[], |digits| &*digits)
}

/// Parses a number of decimal digits alone. `None` if there is no digit, if there is another byte, or if the number does not fit a `u64`.
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
    #[test]
    fn remaps() {
        let mut remaps = Remaps::NONE;
        (0..=255).for_each(|code| assert_eq!(remaps.apply(code), code));
        for text in [&b"143"[..], b"5:7", b"0:9", b"255:1"] {
            remaps.add(text).unwrap();
        }
        assert_eq!([143, 5, 0, 255, 6].map(|code| remaps.apply(code)), [0, 7, 9, 1, 6]);
        remaps.add(b"5:5").unwrap();
        assert_eq!(remaps.apply(5), 5);
        for (text, want) in [
            (&b""[..], ExitCodeError::Empty),
            (b"5:", ExitCodeError::Empty),
            (b"256", ExitCodeError::Malformed),
            (b"-1", ExitCodeError::Malformed),
            (b"1:2:3", ExitCodeError::Malformed),
        ] {
            assert_eq!(remaps.add(text), Err(want), "{text:?}");
        }
    }
}
