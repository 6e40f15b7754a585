//! Spans and moments, as people write and read them.

use std::time::Duration;

use skep_base::WallTime;

const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];

/// A span in its two greatest units: `3 d 4 h`, `12 min 5 s`, `4.2 s`, `340 ms`.
#[must_use]
pub fn span(milliseconds: u64) -> String {
    if milliseconds < 1_000 {
        return format!("{milliseconds} ms");
    }
    if milliseconds < 10_000 {
        return format!("{}.{} s", milliseconds / 1_000, milliseconds % 1_000 / 100);
    }
    let mut rest = milliseconds;
    let mut parts = Vec::new();
    for (name, unit) in UNITS.iter().take(4) {
        if rest >= *unit || !parts.is_empty() {
            let count = rest / unit;
            rest %= unit;
            parts.push((count, *name));
        }
        if parts.len() == 2 {
            break;
        }
    }
    let shown: Vec<String> = parts
        .iter()
        .enumerate()
        .filter(|(at, (count, _))| *at == 0 || *count > 0)
        .map(|(_, (count, name))| format!("{count} {name}"))
        .collect();
    shown.join(" ")
}

/// The same for a column: `3d04h`, `12m05s`, `4.2s`, `340ms`.
#[must_use]
pub fn brief(milliseconds: u64) -> String {
    let seconds = milliseconds / 1_000;
    let (great, small) = match seconds {
        0 => return format!("{milliseconds}ms"),
        1..10 => return format!("{seconds}.{}s", milliseconds % 1_000 / 100),
        10..60 => return format!("{seconds}s"),
        60..3_600 => ((seconds / 60, "m"), (seconds % 60, "s")),
        3_600..86_400 => ((seconds / 3_600, "h"), (seconds / 60 % 60, "m")),
        _ => ((seconds / 86_400, "d"), (seconds / 3_600 % 24, "h")),
    };
    format!("{}{}{:02}{}", great.0, great.1, small.0, small.1)
}

/// A round trip: `840 µs`, `12.4 ms`, `1.2 s`.
#[must_use]
pub fn round_trip(microseconds: u32) -> String {
    match microseconds {
        0..1_000 => format!("{microseconds} µs"),
        1_000..1_000_000 => {
            let (whole, tenth) = (microseconds / 1_000, microseconds % 1_000 / 100);
            format!("{whole}.{tenth} ms")
        }
        _ => span(u64::from(microseconds / 1_000)),
    }
}

/// A moment in universal time, to the second.
#[must_use]
pub fn moment(at: WallTime) -> String {
    let seconds = at.unix_ms / 1_000;
    let (year, month, day) = date(seconds / 86_400);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        seconds / 3_600 % 24,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// Year, month and day of the Gregorian calendar, so many days after 1970-01-01. Counts from the
/// first of March of the year 0, so that the leap day is the last of its year.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_TO_1970: u64 = 719_468;
    const DAYS_OF_400_YEARS: u64 = 146_097;
    let days = days + DAYS_TO_1970;
    let of_era = days % DAYS_OF_400_YEARS;
    let year_of_era =
        (of_era - of_era / 1_460 + of_era / 36_524 - of_era / (DAYS_OF_400_YEARS - 1)) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = days / DAYS_OF_400_YEARS * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

/// The time of day in universal time, to the millisecond.
#[must_use]
pub fn time_of_day(at: WallTime) -> String {
    let ms = at.unix_ms % 86_400_000;
    format!(
        "{:02}:{:02}:{:02}.{:03}",
        ms / 3_600_000,
        ms / 60_000 % 60,
        ms / 1_000 % 60,
        ms % 1_000
    )
}

/// Reads a span: a whole number and `ms`, `s`, `min` or `m`, `h`, `d`.
///
/// # Errors
/// What was expected.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let expected = || format!("{text:?} is not a span such as 90s, 15min, 24h or 30d");
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(expected)?;
    let number: u64 = number.parse().map_err(|_| expected())?;
    let unit = match unit.trim() {
        "m" => "min",
        unit => unit,
    };
    let (_, milliseconds) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(expected)?;
    number
        .checked_mul(*milliseconds)
        .filter(|span| *span > 0)
        .map(Duration::from_millis)
        .ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_show_their_two_greatest_units() {
        let cases = [
            (0, "0 ms"),
            (340, "340 ms"),
            (4_250, "4.2 s"),
            (59_999, "59 s"),
            (60_000, "1 min"),
            (725_000, "12 min 5 s"),
            (3_600_000, "1 h"),
            (3_605_000, "1 h"),
            (90_061_000, "1 d 1 h"),
            (86_400_000 * 400, "400 d"),
        ];
        for (milliseconds, expected) in cases {
            assert_eq!(span(milliseconds), expected);
        }
    }

    #[test]
    fn brief_spans_keep_a_column_narrow() {
        let cases = [
            (999, "999ms"),
            (4_250, "4.2s"),
            (59_999, "59s"),
            (725_000, "12m05s"),
            (3_605_000, "1h00m"),
            (90_061_000, "1d01h"),
        ];
        for (milliseconds, expected) in cases {
            assert_eq!(brief(milliseconds), expected);
        }
    }

    #[test]
    fn round_trips_choose_their_unit() {
        assert_eq!(round_trip(7), "7 µs");
        assert_eq!(round_trip(12_440), "12.4 ms");
        assert_eq!(round_trip(1_240_000), "1.2 s");
    }

    #[test]
    fn moments_are_universal_time() {
        assert_eq!(moment(WallTime::from_unix_ms(1_700_000_000_123)), "2023-11-14 22:13:20 UTC");
        assert_eq!(time_of_day(WallTime::from_unix_ms(1_700_000_000_123)), "22:13:20.123");
        for (days, expected) in [
            (0, (1970, 1, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (19_722, (2023, 12, 31)),
            (19_723, (2024, 1, 1)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(date(days), expected);
        }
    }

    #[test]
    fn spans_are_read_with_their_unit_and_not_without() {
        assert_eq!(parse_span("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_span("15 min"), Ok(Duration::from_secs(900)));
        assert_eq!(parse_span("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(parse_span("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for wrong in ["", "90", "s", "0s", "-1s", "1.5h", "1y", "99999999999999d", "é"] {
            assert!(parse_span(wrong).is_err(), "{wrong}");
        }
    }
}
