//! Places on the earth (FLOOD-16): the round trip that the distance alone makes likely.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::math::{arc, sin_cos, sqrt};

/// Kilometres of great circle to a millisecond of round trip: light in glass, there and back, over
/// cables that are a third longer than the way of the crow.
pub const KM_PER_MS: f64 = 75.0;
/// What a round trip costs besides the distance: the way to the next exchange at both ends.
const ENDS_MS: f64 = 1.0;
const EARTH_KM: f64 = 6371.0;

/// Latitude and longitude, to a ten-thousandth of a degree: eleven metres.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    latitude: i32,
    longitude: i32,
}

impl Place {
    const UNITS: f64 = 10_000.0;

    /// The place at these degrees; nothing where no place is.
    #[must_use]
    pub fn from_degrees(latitude: f64, longitude: f64) -> Option<Self> {
        let on_earth = latitude.abs() <= 90.0 && longitude.abs() <= 180.0;
        #[expect(clippy::cast_possible_truncation, reason = "at most 180 degrees, checked")]
        let units = |degrees: f64| (degrees * Self::UNITS) as i32;
        on_earth.then(|| Self { latitude: units(latitude), longitude: units(longitude) })
    }

    /// Degrees north and east.
    #[must_use]
    pub fn degrees(self) -> (f64, f64) {
        (f64::from(self.latitude) / Self::UNITS, f64::from(self.longitude) / Self::UNITS)
    }

    /// Ten-thousandths of a degree north and east.
    #[must_use]
    pub const fn degrees_e4(self) -> (i32, i32) {
        (self.latitude, self.longitude)
    }

    /// Whether a place that came from elsewhere is on the earth.
    pub(crate) fn is_valid(self) -> bool {
        let (latitude, longitude) = self.degrees();
        latitude.abs() <= 90.0 && longitude.abs() <= 180.0
    }

    /// The way of the crow.
    #[must_use]
    pub fn km_to(self, other: Self) -> f64 {
        let ([ax, ay, az], [bx, by, bz]) = (self.unit(), other.unit());
        let (dx, dy, dz) = (ax - bx, ay - by, az - bz);
        EARTH_KM * arc(sqrt(dx * dx + dy * dy + dz * dz))
    }

    /// The round trip that the distance makes likely: [`KM_PER_MS`], and a millisecond.
    #[must_use]
    pub fn round_trip(self, other: Self) -> Duration {
        let ms = ENDS_MS + self.km_to(other) / KM_PER_MS;
        Duration::from_secs_f64(ms / 1e3)
    }

    fn unit(self) -> [f64; 3] {
        let (latitude, longitude) = self.degrees();
        let (sin_lat, cos_lat) = sin_cos(latitude.to_radians());
        let (sin_long, cos_long) = sin_cos(longitude.to_radians());
        [cos_lat * cos_long, cos_lat * sin_long, sin_lat]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cities_are_as_far_apart_as_the_atlas_says() {
        let at = |lat, long| Place::from_degrees(lat, long).unwrap();
        let (sydney, london) = (at(-33.95, 151.18), at(51.47, -0.45));
        let (amsterdam, poles) = (at(52.31, 4.76), (at(90.0, 0.0), at(-90.0, 77.0)));
        assert!((16_900.0..17_100.0).contains(&sydney.km_to(london)), "{}", sydney.km_to(london));
        assert!((360.0..380.0).contains(&amsterdam.km_to(london)));
        assert!((20_000.0..20_030.0).contains(&poles.0.km_to(poles.1)));
        assert!(london.km_to(london) < 0.001);
        assert_eq!(sydney.round_trip(london), london.round_trip(sydney));
        assert!((220..235).contains(&sydney.round_trip(london).as_millis()));
    }

    #[test]
    fn what_is_not_on_the_earth_is_no_place() {
        for (lat, long) in [(91.0, 0.0), (0.0, -181.0), (f64::NAN, 0.0), (0.0, f64::INFINITY)] {
            assert_eq!(Place::from_degrees(lat, long), None, "{lat} {long}");
        }
    }
}
