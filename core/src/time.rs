//! Durations in Go's syntax, and time stamps in RFC 3339's.
//!
//! Enters: text, or milliseconds since 1970. Leaves: nanoseconds, milliseconds, or text. Refuses: a number without a unit, a value that overflows, a date that
//! does not exist.

use crate::buf::{Writer, display_by_describe};

/// Why text is not a duration or a time stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeError {
    /// The text does not follow the syntax.
    Malformed {
        /// Bytes before the fault.
        offset: usize,
    },
    /// The text follows the syntax, but the value does not fit or the date does not exist.
    OutOfRange,
}

impl TimeError {
    /// Writes the cause as one lowercase clause.
    pub fn describe(&self, out: &mut Writer<'_>) {
        match self {
            Self::Malformed { offset } => out.text("is malformed at byte ").decimal(*offset as u64),
            Self::OutOfRange => out.text("is out of range"),
        };
    }
}

display_by_describe!(TimeError);

/// Units of a duration and their nanoseconds. `ms` comes before `m`, because the parser takes the first unit that matches.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Parses a duration in the syntax of Go's `time.ParseDuration`, such as `1h2m3.5s`, `300ms`, `-1.5h` or `0`. Returns nanoseconds.
///
/// # Errors
/// [`TimeError::Malformed`] for another syntax, [`TimeError::OutOfRange`] past `i64` (some 292 years).
pub fn parse_duration(text: &[u8]) -> Result<i64, TimeError> {
    let offset = |rest: &[u8]| text.len().saturating_sub(rest.len());
    let (negative, mut rest) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    if rest == b"0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(TimeError::Malformed { offset: offset(rest) });
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, after) = split_digits(rest);
        let (fraction, after) = after.strip_prefix(b".").map_or((&[][..], after), split_digits);
        if whole.is_empty() && fraction.is_empty() {
            return Err(TimeError::Malformed { offset: offset(rest) });
        }
        let Some((unit, scale)) = UNITS.iter().find(|(unit, _)| after.starts_with(unit.as_bytes())) else {
            return Err(TimeError::Malformed { offset: offset(after) });
        };
        let number = if whole.is_empty() { 0 } else { crate::exit::parse_decimal(whole).ok_or(TimeError::OutOfRange)? };
        let nanoseconds = number.checked_mul(*scale).ok_or(TimeError::OutOfRange)?;
        total = total
            .checked_add(nanoseconds)
            .and_then(|total| total.checked_add(fraction_of(*scale, fraction)))
            .ok_or(TimeError::OutOfRange)?;
        rest = after.get(unit.len()..).unwrap_or_default();
    }
    let limit = if negative { i64::MIN.unsigned_abs() } else { i64::MAX.unsigned_abs() };
    if total > limit {
        return Err(TimeError::OutOfRange);
    }
    Ok(if negative { 0_i64.wrapping_sub_unsigned(total) } else { total.cast_signed() })
}

/// `0.fraction * scale`, rounded down. Only the first 15 digits count: later digits add less than a nanosecond.
fn fraction_of(scale: u64, fraction: &[u8]) -> u64 {
    let mut value: u64 = 0;
    let mut divisor: u64 = 1;
    for &digit in fraction.iter().take(15) {
        value = value.saturating_mul(10).saturating_add(u64::from(digit.wrapping_sub(b'0')));
        divisor = divisor.saturating_mul(10);
    }
    let product = u128::from(value).saturating_mul(u128::from(scale));
    u64::try_from(product.checked_div(u128::from(divisor)).unwrap_or(0)).unwrap_or(u64::MAX)
}

fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, &[]))
}

/// Parses a time stamp (RFC 3339, section 5.6). Returns milliseconds since 1970, UTC. A leap second counts as the second before it.
///
/// # Errors
/// [`TimeError::Malformed`] for another syntax, [`TimeError::OutOfRange`] for a date or time that does not exist.
#[inline(never)]
pub fn parse_rfc3339(text: &[u8]) -> Result<i64, TimeError> {
    let number = |range: core::ops::Range<usize>| {
        let offset = range.start;
        text.get(range)
            .and_then(crate::exit::parse_decimal)
            .and_then(|value| i64::try_from(value).ok())
            .ok_or(TimeError::Malformed { offset })
    };
    let literal = |offset: usize, any: &[u8]| match text.get(offset) {
        Some(byte) if any.contains(byte) => Ok(()),
        _ => Err(TimeError::Malformed { offset }),
    };
    let year = number(0..4)?;
    literal(4, b"-")?;
    let month = number(5..7)?;
    literal(7, b"-")?;
    let day = number(8..10)?;
    literal(10, b"Tt ")?;
    let hour = number(11..13)?;
    literal(13, b":")?;
    let minute = number(14..16)?;
    literal(16, b":")?;
    let second = number(17..19)?;
    let mut at: usize = 19;
    let mut milliseconds: i64 = 0;
    if text.get(at) == Some(&b'.') {
        let (digits, rest) = split_digits(text.get(at.saturating_add(1)..).unwrap_or_default());
        if digits.is_empty() {
            return Err(TimeError::Malformed { offset: at.saturating_add(1) });
        }
        milliseconds = fraction_of(1_000, digits).cast_signed();
        at = text.len().saturating_sub(rest.len());
    }
    let offset_minutes: i64 = match text.get(at) {
        Some(b'Z' | b'z') => {
            at = at.saturating_add(1);
            0
        }
        Some(&sign @ (b'+' | b'-')) => {
            let hours = number(at.saturating_add(1)..at.saturating_add(3))?;
            literal(at.saturating_add(3), b":")?;
            let minutes = number(at.saturating_add(4)..at.saturating_add(6))?;
            if hours > 23 || minutes > 59 {
                return Err(TimeError::OutOfRange);
            }
            at = at.saturating_add(6);
            let offset = hours.saturating_mul(60).saturating_add(minutes);
            if sign == b'-' { offset.saturating_neg() } else { offset }
        }
        _ => return Err(TimeError::Malformed { offset: at }),
    };
    if at != text.len() {
        return Err(TimeError::Malformed { offset: at });
    }
    let exists = (1..=12).contains(&month) && day >= 1 && day <= days_of_month(year, month) && hour <= 23 && minute <= 59 && second <= 60;
    if !exists {
        return Err(TimeError::OutOfRange);
    }
    let minutes = days_from_civil(year, month, day).saturating_mul(1_440).saturating_add(hour.saturating_mul(60)).saturating_add(minute);
    let seconds = minutes.saturating_sub(offset_minutes).saturating_mul(60).saturating_add(second.min(59));
    Ok(seconds.saturating_mul(1_000).saturating_add(milliseconds))
}

/// Writes milliseconds since 1970 as an RFC 3339 time stamp in UTC with three decimals, such as `2026-11-24T05:37:28.123Z`. RFC 3339 has no years outside
/// 0 to 9999; the writer shows such a time as the first or last millisecond within them.
pub fn write_rfc3339(unix_ms: i64, out: &mut Writer<'_>) {
    let unix_ms = unix_ms.clamp(-62_167_219_200_000, 253_402_300_799_999);
    let days = unix_ms.div_euclid(86_400_000);
    let (year, month, day) = civil_from_days(days);
    let milliseconds = unix_ms.rem_euclid(86_400_000).unsigned_abs();
    let part = |unit: u64, modulus: u64| milliseconds.checked_div(unit).unwrap_or(0).checked_rem(modulus).unwrap_or(0);
    out.padded(year.unsigned_abs(), 4).byte(b'-').padded(month.unsigned_abs(), 2).byte(b'-').padded(day.unsigned_abs(), 2);
    out.byte(b'T').padded(part(3_600_000, 24), 2).byte(b':').padded(part(60_000, 60), 2).byte(b':').padded(part(1_000, 60), 2);
    out.byte(b'.').padded(part(1, 1_000), 3).byte(b'Z');
}

const fn is_leap(year: i64) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

const fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days before the first day of a month, counted from 0 for March, in a year that begins in March.
const fn days_before_month(from_march: i64) -> i64 {
    from_march.saturating_mul(153).saturating_add(2).div_euclid(5)
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar. The calculation uses eras of 400 years that begin in March.
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year.saturating_sub(1) } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let from_march = month.saturating_add(9).rem_euclid(12);
    let day_of_year = days_before_month(from_march).saturating_add(day).saturating_sub(1);
    let leap_days = year_of_era.div_euclid(4).saturating_sub(year_of_era.div_euclid(100));
    let day_of_era = year_of_era.saturating_mul(365).saturating_add(leap_days).saturating_add(day_of_year);
    era.saturating_mul(146_097).saturating_add(day_of_era).saturating_sub(719_468)
}

/// The date `days` after 1970-01-01: year, month, day.
const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days.saturating_add(719_468);
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    // Without the leap days before it, each year of the era has 365 days.
    let leap_days =
        day_of_era.div_euclid(1_460).saturating_sub(day_of_era.div_euclid(36_524)).saturating_add(day_of_era.div_euclid(146_096));
    let year_of_era = day_of_era.saturating_sub(leap_days).div_euclid(365);
    let before_year = year_of_era.saturating_mul(365).saturating_add(year_of_era.div_euclid(4)).saturating_sub(year_of_era.div_euclid(100));
    let day_of_year = day_of_era.saturating_sub(before_year);
    let from_march = day_of_year.saturating_mul(5).saturating_add(2).div_euclid(153);
    let day = day_of_year.saturating_sub(days_before_month(from_march)).saturating_add(1);
    let month = if from_march < 10 { from_march.saturating_add(3) } else { from_march.saturating_sub(9) };
    let year = era.saturating_mul(400).saturating_add(year_of_era);
    (if month <= 2 { year.saturating_add(1) } else { year }, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, want) in [
            ("0", 0),
            ("1h2m3.5s", 3_723_500_000_000),
            ("300ms", 300_000_000),
            ("-1.5h", -5_400_000_000_000),
            ("+5s", 5_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("1us2\u{b5}s3\u{3bc}s", 6_000),
            ("0.000000001s", 1),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
            ("1.0000000000000000000000001s", 1_000_000_000),
        ] {
            assert_eq!(parse_duration(text.as_bytes()), Ok(want), "{text}");
        }
        for (text, want) in [
            ("", TimeError::Malformed { offset: 0 }),
            ("-", TimeError::Malformed { offset: 1 }),
            ("3", TimeError::Malformed { offset: 1 }),
            ("s", TimeError::Malformed { offset: 0 }),
            (".s", TimeError::Malformed { offset: 0 }),
            ("1d", TimeError::Malformed { offset: 1 }),
            ("1h ", TimeError::Malformed { offset: 2 }),
            ("9223372036854775808ns", TimeError::OutOfRange),
            ("99999999999999999999h", TimeError::OutOfRange),
            ("3000000h", TimeError::OutOfRange),
        ] {
            assert_eq!(parse_duration(text.as_bytes()), Err(want), "{text}");
        }
    }

    #[test]
    fn time_stamps() {
        for (text, want) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-24T05:37:28Z", 1_795_498_648_000),
            ("2026-11-24t05:37:28.123456789z", 1_795_498_648_123),
            ("2026-11-24T06:37:28+01:00", 1_795_498_648_000),
            ("2026-11-24T00:07:28-05:30", 1_795_498_648_000),
            ("2000-02-29T00:00:00Z", 951_782_400_000),
            ("2016-12-31T23:59:60Z", 1_483_228_799_000),
            ("1969-12-31T23:59:59Z", -1_000),
        ] {
            assert_eq!(parse_rfc3339(text.as_bytes()), Ok(want), "{text}");
        }
        for (text, want) in [
            ("", TimeError::Malformed { offset: 0 }),
            ("2026-11-24", TimeError::Malformed { offset: 10 }),
            ("2026-11-24T05:37:28", TimeError::Malformed { offset: 19 }),
            ("2026-11-24T05:37:28.Z", TimeError::Malformed { offset: 20 }),
            ("2026-11-24T05:37:28Zx", TimeError::Malformed { offset: 20 }),
            ("2026-02-29T00:00:00Z", TimeError::OutOfRange),
            ("1900-02-29T00:00:00Z", TimeError::OutOfRange),
            ("2026-13-01T00:00:00Z", TimeError::OutOfRange),
            ("2026-01-01T24:00:00Z", TimeError::OutOfRange),
            ("2026-01-01T00:00:00+24:00", TimeError::OutOfRange),
        ] {
            assert_eq!(parse_rfc3339(text.as_bytes()), Err(want), "{text}");
        }
    }

    #[test]
    fn time_stamps_round_trip() {
        // Miri interprets the code, so it gets fewer days.
        for days in (-719_528..2_932_896).step_by(if cfg!(miri) { 36_524 } else { 37 }) {
            let unix_ms = days * 86_400_000 + 45_296_789;
            let mut room = [0xa5; 24];
            let mut out = Writer::new(&mut room);
            write_rfc3339(unix_ms, &mut out);
            let text = out.finish().unwrap();
            assert_eq!(parse_rfc3339(text), Ok(unix_ms), "{}", core::str::from_utf8(text).unwrap());
        }
    }

    #[test]
    fn the_time_stamp_that_gnu_date_prints() {
        // From `date -u -d @1795498648 +%FT%T` (GNU coreutils 9.1).
        let mut room = [0xa5; 24];
        let mut out = Writer::new(&mut room);
        write_rfc3339(1_795_498_648_007, &mut out);
        assert_eq!(out.finish().unwrap(), b"2026-11-24T05:37:28.007Z");
    }
}
