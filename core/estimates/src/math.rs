//! What `core` lacks of arithmetic, in the few lines that are needed: `no_std` has neither root nor
//! sine, and these are too small to be worth a crate.

use core::f64::consts::{PI, TAU};

/// The square root; 0 for what has none.
pub(crate) fn sqrt(x: f64) -> f64 {
    if x.is_nan() || x <= 0.0 || x.is_infinite() {
        return if x > 0.0 { x } else { 0.0 };
    }
    // Halving the exponent is within 6 % of it; each of Newton's steps squares the error.
    let mut root = f64::from_bits((x.to_bits() >> 1) + (1023 << 51));
    for _ in 0..5 {
        root = 0.5 * (root + x / root);
    }
    root
}

/// Sine and cosine of an angle within a few turns of zero.
pub(crate) fn sin_cos(angle: f64) -> (f64, f64) {
    (sin(angle), sin(angle + PI / 2.0))
}

fn sin(angle: f64) -> f64 {
    let mut x = angle % TAU;
    if x > PI {
        x -= TAU;
    } else if x < -PI {
        x += TAU;
    }
    // The series needs fewer terms near zero, and the sine is symmetric about a quarter turn.
    if x > PI / 2.0 {
        x = PI - x;
    } else if x < -PI / 2.0 {
        x = -PI - x;
    }
    let (mut term, mut sum) = (x, x);
    for n in [2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 18.0_f64] {
        term *= -x * x / (n * (n + 1.0));
        sum += term;
    }
    sum
}

/// The angle over a chord of the unit circle. Halving the arc ten times leaves one so short that it
/// is its chord (Archimedes); written so that nothing cancels.
pub(crate) fn arc(chord: f64) -> f64 {
    let mut chord = chord.clamp(0.0, 2.0);
    for _ in 0..10 {
        chord /= sqrt(2.0 + sqrt(4.0 - chord * chord));
    }
    chord * 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_square_to_what_they_are_of() {
        let mut x = 1e-12;
        while x < 1e12 {
            let root = sqrt(x);
            assert!((root * root - x).abs() <= x * 1e-12, "{x}");
            x *= 1.37;
        }
        assert_eq!((sqrt(0.0), sqrt(-4.0), sqrt(f64::NAN)), (0.0, 0.0, 0.0));
    }

    #[test]
    fn sines_are_those_of_the_table() {
        for (degrees, sine) in
            [(0.0, 0.0), (30.0, 0.5), (90.0, 1.0), (150.0, 0.5), (180.0, 0.0), (-90.0, -1.0)]
        {
            let (sin, cos) = sin_cos(f64::to_radians(degrees));
            assert!((sin - sine).abs() < 1e-9, "{degrees}");
            assert!((sin * sin + cos * cos - 1.0).abs() < 1e-9, "{degrees}");
        }
    }

    #[test]
    fn arcs_are_longer_than_their_chords() {
        assert!((arc(2.0) - PI).abs() < 1e-5);
        assert!((arc(1.0) - PI / 3.0).abs() < 1e-5);
        assert_eq!(arc(0.0), 0.0);
    }
}
