//! The little of DER that a certificate of one fixed profile needs: tag, length, value.
//!
//! The reader takes definite, minimal, two-byte-at-most lengths and one-byte tags, never recurses
//! and never allocates, so whatever a peer sends costs one walk over at most
//! [`crate::MAX_CERTIFICATE_BYTES`] bytes. Certificates are *judged* by `rustls-webpki`; this walk
//! reads what that library does not hand out (validity, subject).

use skep_base::WallTime;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

/// Universal and context tags, as the byte on the wire.
pub(crate) mod tag {
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const BIT_STRING: u8 = 0x03;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const OID: u8 = 0x06;
    pub(crate) const UTF8_STRING: u8 = 0x0c;
    pub(crate) const PRINTABLE_STRING: u8 = 0x13;
    pub(crate) const IA5_STRING: u8 = 0x16;
    pub(crate) const UTC_TIME: u8 = 0x17;
    pub(crate) const GENERALIZED_TIME: u8 = 0x18;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;
    /// `[0]`, constructed: a certificate's version.
    pub(crate) const CONTEXT_0: u8 = 0xa0;
    /// `[3]`, constructed: a certificate's extensions.
    pub(crate) const CONTEXT_3: u8 = 0xa3;
    /// `[0]`, primitive: an authority key's identifier.
    pub(crate) const KEY_ID: u8 = 0x80;
    /// `[6]`, primitive: a URI among a certificate's other names.
    pub(crate) const URI: u8 = 0x86;
}

/// What is wrong with an encoding; the caller says of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DerError;

/// A walk over the values of one level.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next value with its tag.
    pub(crate) fn any(&mut self) -> Result<(u8, &'a [u8]), DerError> {
        let (&tag, rest) = self.rest.split_first().ok_or(DerError)?;
        // Low five bits all set announce a tag of several bytes: none is in a certificate.
        if tag & 0x1f == 0x1f {
            return Err(DerError);
        }
        let (&first, rest) = rest.split_first().ok_or(DerError)?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81 => {
                let (&low, rest) = rest.split_first().ok_or(DerError)?;
                if low < 0x80 {
                    return Err(DerError);
                }
                (usize::from(low), rest)
            }
            0x82 => {
                let (&bytes, rest) = rest.split_first_chunk::<2>().ok_or(DerError)?;
                let length = u16::from_be_bytes(bytes);
                if length < 0x100 {
                    return Err(DerError);
                }
                (usize::from(length), rest)
            }
            _ => return Err(DerError),
        };
        let (value, rest) = rest.split_at_checked(length).ok_or(DerError)?;
        self.rest = rest;
        Ok((tag, value))
    }

    /// The next value, which must have this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Result<&'a [u8], DerError> {
        match self.any()? {
            (found, value) if found == tag => Ok(value),
            _ => Err(DerError),
        }
    }

    /// The next value if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, DerError> {
        if self.rest.first() == Some(&tag) { self.expect(tag).map(Some) } else { Ok(None) }
    }

    /// The values inside the next value, which must have this tag.
    pub(crate) fn enter(&mut self, tag: u8) -> Result<Self, DerError> {
        self.expect(tag).map(Self::new)
    }

    /// Nothing may be left.
    pub(crate) const fn finish(self) -> Result<(), DerError> {
        if self.at_end() { Ok(()) } else { Err(DerError) }
    }

    /// A point in time in either of the two forms that certificates use; never before 1970.
    pub(crate) fn time(&mut self) -> Result<WallTime, DerError> {
        let (tag, text) = self.any()?;
        let (year, rest) = match tag {
            tag::UTC_TIME => {
                let (digits, rest) = text.split_at_checked(2).ok_or(DerError)?;
                let short = digits_of(digits)?;
                (if short < 50 { 2000 + short } else { 1900 + short }, rest)
            }
            tag::GENERALIZED_TIME => {
                let (digits, rest) = text.split_at_checked(4).ok_or(DerError)?;
                (digits_of(digits)?, rest)
            }
            _ => return Err(DerError),
        };
        let [m1, m2, d1, d2, h1, h2, n1, n2, s1, s2, b'Z'] = *rest else {
            return Err(DerError);
        };
        let month = Month::try_from(small(m1, m2)?).map_err(|_| DerError)?;
        let year = i32::try_from(year).map_err(|_| DerError)?;
        let date = Date::from_calendar_date(year, month, small(d1, d2)?).map_err(|_| DerError)?;
        let time =
            Time::from_hms(small(h1, h2)?, small(n1, n2)?, small(s1, s2)?).map_err(|_| DerError)?;
        let seconds = PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp();
        let seconds = u64::try_from(seconds).map_err(|_| DerError)?;
        Ok(WallTime::from_unix_ms(seconds.saturating_mul(1000)))
    }
}

/// One value: tag, length, content.
///
/// Only for contents below 64 KiB, which is far over the longest certificate we make.
pub(crate) fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 4);
    out.push(tag);
    let [high, low] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    match (high, low) {
        (0, 0..=0x7f) => out.push(low),
        (0, _) => out.extend([0x81, low]),
        _ => out.extend([0x82, high, low]),
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// A sequence of values that are encoded already.
pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    value(tag::SEQUENCE, parts)
}

/// A bit string of whole bytes.
pub(crate) fn bits(bytes: &[u8]) -> Vec<u8> {
    value(tag::BIT_STRING, &[&[0], bytes])
}

/// The last second that both forms of time can say.
const LAST_SECOND: u64 = 253_402_300_799;

/// A point in time, to the second: the short form up to 2049, the long form from then on, as RFC
/// 5280 wants it.
pub(crate) fn time(at: WallTime) -> Vec<u8> {
    let date = date_of(at);
    let (month, day) = (u8::from(date.month()), date.day());
    let (hour, minute, second) = date.to_hms();
    let year = date.year();
    let tail = format!("{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
    if year < 2050 {
        value(tag::UTC_TIME, &[format!("{:02}{tail}", year % 100).as_bytes()])
    } else {
        value(tag::GENERALIZED_TIME, &[format!("{year:04}{tail}").as_bytes()])
    }
}

/// `at` to the second as a date in UTC; what is beyond the year 9999 is its last second.
pub(crate) fn date_of(at: WallTime) -> OffsetDateTime {
    let seconds = (at.unix_ms / 1000).min(LAST_SECOND);
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn digits_of(digits: &[u8]) -> Result<u32, DerError> {
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'9' => Ok(number * 10 + u32::from(digit - b'0')),
        _ => Err(DerError),
    })
}

fn small(tens: u8, ones: u8) -> Result<u8, DerError> {
    u8::try_from(digits_of(&[tens, ones])?).map_err(|_| DerError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_and_read_in_their_shortest_form() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff] {
            let content = vec![7; length];
            let encoded = value(tag::OCTET_STRING, &[&content]);
            let mut reader = Reader::new(&encoded);
            assert_eq!(reader.expect(tag::OCTET_STRING), Ok(&*content));
            assert_eq!(reader.finish(), Ok(()));
        }
    }

    #[test]
    fn longer_forms_than_needed_and_indefinite_lengths_are_refused() {
        for bytes in [
            &[0x04, 0x81, 0x01, 0x00][..],
            &[0x04, 0x82, 0x00, 0x01, 0x00],
            &[0x04, 0x80, 0x00, 0x00],
            &[0x04, 0x83, 0x01, 0x00, 0x00],
            &[0x04, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x1f, 0x81, 0x01, 0x00],
            &[0x04, 0x02, 0x00],
            &[0x04],
            &[],
        ] {
            assert_eq!(Reader::new(bytes).any(), Err(DerError), "{bytes:02x?}");
        }
    }

    #[test]
    fn times_round_trip_to_the_second_on_both_sides_of_2050() {
        for seconds in [0, 1_800_000_000, 2_524_607_999, 2_524_608_000, LAST_SECOND] {
            let at = WallTime::from_unix_ms(seconds * 1000);
            assert_eq!(Reader::new(&time(at)).time(), Ok(at));
        }
        let beyond = WallTime::from_unix_ms(u64::MAX);
        let last = WallTime::from_unix_ms(LAST_SECOND * 1000);
        assert_eq!(Reader::new(&time(beyond)).time(), Ok(last));
    }

    #[test]
    fn times_that_are_none_are_refused() {
        for text in [
            "700101000000",
            "7001010000Z",
            "691231235959Z",
            "260231000000Z",
            "26130100000xZ",
            "260101240000Z",
            "260101000000+0100",
            "2601010000",
        ] {
            let encoded = value(tag::UTC_TIME, &[text.as_bytes()]);
            assert_eq!(Reader::new(&encoded).time(), Err(DerError), "{text}");
        }
    }
}
