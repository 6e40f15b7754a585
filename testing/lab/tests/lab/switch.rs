//! What only the switch can do: time, order and rate.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use skep_base::ByteSize;
use skep_lab::{Lab, Path};

use crate::PATIENCE;
use crate::probe::{Echo, Pinger, tell};

#[test]
fn no_answer_comes_sooner_than_both_delays() -> Result<()> {
    let Some(lab) = Lab::switched_or_skip("latency") else {
        return Ok(());
    };
    let [a, b, near] = lab.hosts(["a", "b", "near"])?;
    let _echo = (Echo::on(&b)?, Echo::on(&near)?);
    lab.set_path(&a, &b, Path::delayed(Duration::from_millis(30)))?;
    lab.set_path(&b, &a, Path::delayed(Duration::from_millis(12)))?;
    let mut far = Pinger::from(&a, b.ip())?;
    let mut beside = Pinger::from(&a, near.ip())?;
    let (mut far_best, mut near_best) = (Duration::MAX, Duration::MAX);
    for _ in 0..20 {
        far_best = far_best.min(far.until_answered(&lab)?);
        near_best = near_best.min(beside.until_answered(&lab)?);
    }
    ensure!(far_best >= Duration::from_millis(42), "{far_best:?}");
    ensure!(near_best < far_best, "{near_best:?} on a path without delay");

    lab.set_path(&b, &a, Path::default())?;
    let once = far.until_answered(&lab)?;
    ensure!(once >= Duration::from_millis(30), "{once:?}");
    Ok(())
}

#[test]
fn jitter_keeps_the_order_and_reordering_does_not() -> Result<()> {
    const COUNT: u64 = 300;
    let Some(lab) = Lab::switched_or_skip("order") else {
        return Ok(());
    };
    let [a, b] = lab.hosts(["a", "b"])?;
    let _echo = Echo::on(&b)?;
    let mut pinger = Pinger::from(&a, b.ip())?;
    pinger.until_answered(&lab)?;
    let mut burst = |path: Path| -> Result<Vec<u64>> {
        lab.set_path(&a, &b, path)?;
        for _ in 0..COUNT {
            pinger.send();
        }
        let answers: Vec<u64> = (0..COUNT).map_while(|_| pinger.next(PATIENCE)).collect();
        ensure!(answers.len() == 300, "{} of {COUNT} answered", answers.len());
        Ok(answers)
    };
    let jittered = burst(Path {
        delay: Duration::from_millis(5),
        jitter: Duration::from_millis(20),
        ..Path::default()
    })?;
    ensure!(jittered.is_sorted(), "jitter let datagrams overtake");
    let reordered =
        burst(Path { delay: Duration::from_millis(50), reorder: 0.2, ..Path::default() })?;
    ensure!(!reordered.is_sorted(), "none of {COUNT} overtook another");
    Ok(())
}

#[test]
fn a_rate_holds_a_path_back() -> Result<()> {
    let Some(lab) = Lab::switched_or_skip("rate") else {
        return Ok(());
    };
    let [a, b] = lab.hosts(["a", "b"])?;
    tell(&a, &b, b.ip(), "warm")?;
    let slow = Path { rate: Some(ByteSize(1_000_000)), ..Path::default() };
    lab.set_path(&a, &b, slow)?;
    let start = Instant::now();
    tell(&a, &b, b.ip(), &"x".repeat(1_000_000))?;
    // 1 MB at 1 MB/s: what is told was received whole, so no byte may be early.
    ensure!(start.elapsed() >= Duration::from_millis(950), "{:?}", start.elapsed());
    Ok(())
}
