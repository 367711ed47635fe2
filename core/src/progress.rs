//! Progress of a long save: when to report it, and in which words.
//!
//! Enters: bytes read and written, the total where it is known, and the time. Leaves: one clause for a log line, or one line of a terminal that the next
//! report overwrites. Refuses: nothing.

use crate::buf::Writer;
use crate::timers::{Duration, Instant};

/// A save that ends within this time reports no progress.
const QUIET: Duration = Duration::from_ms(2_000);
/// Time between two log lines.
const LOG: Duration = Duration::from_ms(4_000);
/// Time between two states of the bar on a terminal.
const BAR: Duration = Duration::from_ms(200);
/// Width of the bar in characters.
const BAR_WIDTH: u64 = 24;

/// The progress of one save.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    began: Instant,
    due: Instant,
    total_bytes: Option<u64>,
    is_terminal: bool,
}

impl Progress {
    /// A save that begins at `now`. `total_bytes` is the number of bytes to read, if it is known.
    #[must_use]
    pub const fn new(now: Instant, total_bytes: Option<u64>, is_terminal: bool) -> Self {
        Self { began: now, due: now.after(QUIET), total_bytes, is_terminal }
    }

    /// Returns whether a report is due at `now`. If it is due, sets the time of the next report.
    pub const fn take_due(&mut self, now: Instant) -> bool {
        if now.as_ms() < self.due.as_ms() {
            return false;
        }
        self.due = now.after(if self.is_terminal { BAR } else { LOG });
        true
    }

    /// Writes a clause such as `read 1.2 GB of 4.0 GB (30 %), wrote 400.1 MB, 120.0 MB/s`.
    pub fn describe(&self, now: Instant, read_bytes: u64, written_bytes: u64, out: &mut Writer<'_>) {
        out.text("read ");
        write_size(read_bytes, out);
        if let Some(total) = self.total_bytes {
            out.text(" of ");
            write_size(total, out);
            out.text(" (").decimal(share(read_bytes, total, 100)).text(" %)");
        }
        out.text(", wrote ");
        write_size(written_bytes, out);
        out.text(", ");
        write_size(read_bytes.saturating_mul(1_000).checked_div(now.since(self.began).as_ms()).unwrap_or(0), out);
        out.text("/s");
    }

    /// Writes `name`, a bar and the clause of [`Progress::describe`] over the terminal's current line, without a newline.
    pub fn bar(&self, name: &[u8], now: Instant, read_bytes: u64, written_bytes: u64, out: &mut Writer<'_>) {
        out.text("\r\x1b[K").shown(name).byte(b' ');
        if let Some(total) = self.total_bytes {
            let full = share(read_bytes, total, BAR_WIDTH);
            out.byte(b'[');
            for at in 0..BAR_WIDTH {
                out.byte(if at < full { b'#' } else { b'.' });
            }
            out.text("] ");
        }
        self.describe(now, read_bytes, written_bytes, out);
    }
}

/// Erases the bar: carriage return, and ECMA-48's sequence «erase in line».
pub const CLEAR_BAR: &[u8] = b"\r\x1b[K";

/// How many of `parts` equal parts `part` makes of `total`, rounded down, at most `parts`. All of them if `total` is 0.
fn share(part: u64, total: u64, parts: u64) -> u64 {
    let share = u128::from(part).saturating_mul(u128::from(parts)).checked_div(u128::from(total)).unwrap_or(u128::from(parts));
    u64::try_from(share).unwrap_or(parts).min(parts)
}

/// Writes a number of bytes in the decimal unit that leaves one to three digits before the point, with one digit after it.
fn write_size(bytes: u64, out: &mut Writer<'_>) {
    let (mut unit, mut left) = (1_u64, bytes);
    for name in [" B", " kB", " MB", " GB", " TB", " PB"] {
        if left < 1_000 || name == " PB" {
            out.decimal(left);
            if unit > 1 {
                let tenth = bytes.checked_rem(unit).and_then(|rest| rest.checked_div(unit.checked_div(10)?)).unwrap_or(0);
                out.byte(b'.').decimal(tenth);
            }
            out.text(name);
            return;
        }
        left = left.checked_div(1_000).unwrap_or(0);
        unit = unit.saturating_mul(1_000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Instant as I;
    use std::string::String;
    use std::vec::Vec;

    fn text(write: impl Fn(&mut Writer<'_>)) -> String {
        let mut room = [0xa5; 200];
        let mut out = Writer::new(&mut room);
        write(&mut out);
        String::from_utf8(out.written().to_vec()).unwrap()
    }

    #[test]
    fn sizes() {
        for (bytes, want) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (999_999, "999.9 kB"),
            (1_000_000, "1.0 MB"),
            (4_250_000_000, "4.2 GB"),
            (7_000_000_000_000, "7.0 TB"),
            (u64::MAX, "18446.7 PB"),
        ] {
            assert_eq!(text(|out| write_size(bytes, out)), want);
        }
    }

    #[test]
    fn when_a_report_is_due() {
        let mut log = Progress::new(I::from_ms(10_000), None, false);
        let due: Vec<u64> = (10_000..22_000).step_by(100).filter(|&now| log.take_due(I::from_ms(now))).collect();
        assert_eq!(due, [12_000, 16_000, 20_000]);
        let mut bar = Progress::new(I::from_ms(0), None, true);
        assert_eq!((0..3_000).step_by(50).filter(|&now| bar.take_due(I::from_ms(now))).count(), 5);
    }

    #[test]
    fn words_and_bar() {
        let known = Progress::new(I::from_ms(0), Some(4_000_000_000), false);
        assert_eq!(
            text(|out| known.describe(I::from_ms(10_000), 1_200_000_000, 400_100_000, out)),
            "read 1.2 GB of 4.0 GB (30 %), wrote 400.1 MB, 120.0 MB/s"
        );
        let unknown = Progress::new(I::from_ms(0), None, false);
        assert_eq!(text(|out| unknown.describe(I::from_ms(0), 5, 1, out)), "read 5 B, wrote 1 B, 0 B/s");
        let empty = Progress::new(I::from_ms(0), Some(0), false);
        assert_eq!(text(|out| empty.describe(I::from_ms(1), 9, 9, out)), "read 9 B of 0 B (100 %), wrote 9 B, 9.0 kB/s");
        assert_eq!(
            text(|out| known.bar(b"o\n", I::from_ms(10_000), 2_000_000_000, 1, out)),
            "\r\x1b[Ko\\x0a [############............] read 2.0 GB of 4.0 GB (50 %), wrote 1 B, 200.0 MB/s"
        );
    }
}
