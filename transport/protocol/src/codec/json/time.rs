//! Times as RFC 3339 in UTC with microseconds: `2026-11-21T08:30:00.000000Z`, always 27 bytes.

use bytes::{BufMut, BytesMut};
use tidewire_eventstore::Timestamp;

const DAY_MICROS: i64 = 86_400_000_000;

/// The first and the last moment with a year of four digits.
const RANGE: (i64, i64) = (-62_167_219_200_000_000, 253_402_300_799_999_999);

/// Writes a time. Moments outside the years 0 to 9999 are cut to them.
pub fn format_time(at: Timestamp, out: &mut BytesMut) {
    let micros = at.as_micros().clamp(RANGE.0, RANGE.1);
    let (year, month, day) = civil(micros.div_euclid(DAY_MICROS));
    let in_day = micros.rem_euclid(DAY_MICROS);
    let (seconds, fraction) = (in_day / 1_000_000, in_day % 1_000_000);
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    digits(&mut text[0..4], year);
    digits(&mut text[5..7], month);
    digits(&mut text[8..10], day);
    digits(&mut text[11..13], seconds / 3600);
    digits(&mut text[14..16], seconds / 60 % 60);
    digits(&mut text[17..19], seconds % 60);
    digits(&mut text[20..26], fraction);
    out.put_slice(&text);
}

fn digits(place: &mut [u8], mut number: i64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Reads a time as [`format_time`] writes it; the fraction may have 0 to 9 digits.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    let text = text.as_bytes();
    let rest = text.get(19..)?.strip_suffix(b"Z")?;
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, separator)| text[*at] != *separator) {
        return None;
    }
    let number = |from: usize, to: usize| decimal(&text[from..to]);
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let days = days(year, month, day);
    if civil(days) != (year, month, day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let fraction = match rest.split_first() {
        None => 0,
        Some((b'.', digits)) if (1..=9).contains(&digits.len()) => {
            let kept = &digits[..digits.len().min(6)];
            decimal(digits)?;
            decimal(kept)? * 10_i64.pow(6 - kept.len() as u32)
        }
        Some(_) => return None,
    };
    let seconds = hour * 3600 + minute * 60 + second;
    Some(Timestamp::from_micros(days * DAY_MICROS + seconds * 1_000_000 + fraction))
}

fn decimal(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0'))
    })
}

/// Year, month and day of a day counted from 1970-01-01 (Howard Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms", `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The reverse of [`civil`] (`days_from_civil` of the same source).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_rfc_3339() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_795_250_096_123_456, "2026-11-21T08:34:56.123456Z"),
            (i64::MAX, "9999-12-31T23:59:59.999999Z"),
            (i64::MIN, "0000-01-01T00:00:00.000000Z"),
        ] {
            let mut out = BytesMut::new();
            format_time(Timestamp::from_micros(micros), &mut out);
            assert_eq!(out, text);
            let back = parse_time(text).expect("what we wrote");
            assert_eq!(back.as_micros(), micros.clamp(RANGE.0, RANGE.1));
        }
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for text in [
            "",
            "2026-11-21",
            "2026-11-21T08:34:56",
            "2026-02-30T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T08:34:56.Z",
            "2026-11-21T08:34:56.1234567890Z",
            "2026-11-21T08:34:56+01:00",
            "2026-11-21 08:34:56Z",
            "２026-11-21T08:34Z",
        ] {
            assert_eq!(parse_time(text), None, "{text:?}");
        }
        assert_eq!(parse_time("1970-01-01T00:00:00.5Z"), Some(Timestamp::from_micros(500_000)));
        assert_eq!(parse_time("1970-01-01T00:00:01Z"), Some(Timestamp::from_micros(1_000_000)));
    }
}
