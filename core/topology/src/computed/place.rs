//! Where a site is on the Earth, and how far that is from another.
//!
//! `core` has no sine or root, and those of a platform's library differ in the last bit from one to
//! the next. So they are computed here in plain additions and multiplications, which are the same
//! everywhere: two masters must see the same distances.

use core::f64::consts::PI;

/// The Earth's mean radius in kilometres.
const EARTH_KM: f64 = 6371.0;

/// A place on the Earth (FLOOD-20).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    latitude: f64,
    longitude: f64,
}

impl Place {
    /// The place at so many degrees north and east; nothing when there is no such place: latitudes
    /// go from -90 to 90, longitudes from -180 to 180.
    #[must_use]
    pub fn new(latitude: f64, longitude: f64) -> Option<Self> {
        let exists = (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude);
        exists.then_some(Self { latitude, longitude })
    }

    /// Degrees north of the equator.
    #[must_use]
    pub const fn latitude(&self) -> f64 {
        self.latitude
    }

    /// Degrees east of Greenwich.
    #[must_use]
    pub const fn longitude(&self) -> f64 {
        self.longitude
    }

    /// Kilometres along the great circle, right to about 200 m.
    #[must_use]
    pub fn kilometres_to(&self, other: &Self) -> f64 {
        self.direction().kilometres_to(&other.direction())
    }

    pub(crate) fn direction(&self) -> Direction {
        let (latitude, longitude) = (self.latitude * PI / 180.0, self.longitude * PI / 180.0);
        let level = cosine(latitude);
        Direction([level * cosine(longitude), level * sine(longitude), sine(latitude)])
    }
}

/// A place as seen from the Earth's centre: computed once a site, used once a pair.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Direction([f64; 3]);

impl Direction {
    pub(crate) fn kilometres_to(&self, other: &Self) -> f64 {
        let square = |axis: usize| {
            let apart = self.0[axis] - other.0[axis];
            apart * apart
        };
        // By half the chord and not by the product of the two, which cannot tell near places apart.
        let half_chord = root(square(0) + square(1) + square(2)) / 2.0;
        2.0 * EARTH_KM * arc_sine(half_chord.min(1.0))
    }
}

/// The square root of a number that is not negative, by Newton.
pub(crate) fn root(square: f64) -> f64 {
    if square <= 0.0 {
        return 0.0;
    }
    // Half the exponent is a guess within a few per cent; each round doubles the digits.
    let mut guess = f64::from_bits((square.to_bits() >> 1) + (0x3ff0_0000_0000_0000_u64 >> 1));
    for _ in 0..5 {
        guess = (guess + square / guess) / 2.0;
    }
    guess
}

/// For angles from -2π to 2π.
pub(crate) fn sine(angle: f64) -> f64 {
    let mut angle = angle;
    while angle > PI {
        angle -= 2.0 * PI;
    }
    while angle < -PI {
        angle += 2.0 * PI;
    }
    // The series alternates and falls fast below π: the last term is under 10^-14.
    let square = angle * angle;
    let (mut term, mut sum) = (angle, angle);
    for step in 1..16_u32 {
        let n = f64::from(2 * step);
        term *= -square / (n * (n + 1.0));
        sum += term;
    }
    sum
}

pub(crate) fn cosine(angle: f64) -> f64 {
    sine(angle + PI / 2.0)
}

/// For 0 to 1, right to 2 · 10^-8 (Abramowitz and Stegun 4.4.46).
fn arc_sine(x: f64) -> f64 {
    const FACTORS: [f64; 8] = [
        -0.001_262_491_1,
        0.006_670_090_1,
        -0.017_088_125_6,
        0.030_891_881_0,
        -0.050_174_304_6,
        0.088_978_987_4,
        -0.214_598_801_6,
        1.570_796_305_0,
    ];
    // The polynomial is a difference of two near numbers there, and the series' first terms
    // suffice.
    if x < 0.05 {
        let square = x * x;
        return x * (1.0 + square / 6.0 * (1.0 + square * 9.0 / 20.0));
    }
    let polynomial = FACTORS.iter().fold(0.0, |sum, factor| sum * x + factor);
    PI / 2.0 - root(1.0 - x) * polynomial
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_agrees_with_the_platforms() {
        for step in -620..=620_i32 {
            let angle = f64::from(step) / 100.0;
            assert!((sine(angle) - angle.sin()).abs() < 1e-12, "{angle}");
        }
        for step in 0..=1000_i32 {
            let x = f64::from(step) / 1000.0;
            assert!((arc_sine(x) - x.asin()).abs() < 5e-8, "{x}");
            let large = x * 12_345.0;
            assert!((root(large) - large.sqrt()).abs() <= 1e-12 * large.sqrt(), "{large}");
        }
    }

    #[test]
    fn places_are_as_far_apart_as_maps_say() {
        let at = |latitude, longitude| Place::new(latitude, longitude).unwrap();
        let (amsterdam, sydney) = (at(52.31, 4.76), at(-33.95, 151.18));
        assert!((amsterdam.kilometres_to(&sydney) - 16_644.0).abs() < 30.0);
        assert!((at(0.0, 180.0).kilometres_to(&at(0.0, -180.0))).abs() < 0.3);
        assert!((at(90.0, 7.0).kilometres_to(&at(-90.0, 3.0)) - PI * EARTH_KM).abs() < 0.3);
        assert!((at(10.0, 10.0).kilometres_to(&at(10.001, 10.0)) - 0.111).abs() < 0.001);
    }

    #[test]
    fn there_is_no_place_beyond_the_pole() {
        assert_eq!(Place::new(90.1, 0.0), None);
        assert_eq!(Place::new(0.0, -180.5), None);
        assert_eq!(Place::new(f64::NAN, 0.0), None);
    }
}
