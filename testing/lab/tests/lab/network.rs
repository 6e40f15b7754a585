//! Hosts reach one another, and cuts cut what they say: on both networks.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use skep_base::ByteSize;
use skep_lab::{Lab, Path};

use crate::PATIENCE;
use crate::probe::{Echo, Pinger, only_heard, tell, unheard};

#[test]
fn hosts_reach_one_another_by_both_families_and_by_name() -> Result<()> {
    let Some(lab) = Lab::or_skip("reach") else {
        return Ok(());
    };
    reach(&lab)
}

#[test]
fn hosts_reach_one_another_over_the_switch() -> Result<()> {
    let Some(lab) = Lab::switched_or_skip("reach-switch") else {
        return Ok(());
    };
    reach(&lab)
}

fn reach(lab: &Lab) -> Result<()> {
    let [a, b] = lab.hosts(["a", "b"])?;
    let [late] = lab.hosts(["late"])?;
    ensure!(tell(&a, &b, b.ip(), "over IPv4")? == "over IPv4");
    ensure!(tell(&b, &a, a.ipv6().into(), "over IPv6")? == "over IPv6");
    ensure!(tell(&late, &a, a.ip(), "came later")? == "came later");
    let large = "skep".repeat(200_000);
    ensure!(tell(&a, &b, b.ip(), &large)? == large);
    let named = a.command("getent").args(["ahostsv4", "late"]).run()?;
    ensure!(named.contains(&late.ipv4().to_string()), "a does not know late: {named}");
    ensure!(lab.hosts(["b"]).is_err(), "a name is given once");
    Ok(())
}

#[test]
fn a_cut_is_of_one_direction_when_asked_and_heals() -> Result<()> {
    let Some(lab) = Lab::or_skip("cuts") else {
        return Ok(());
    };
    cuts(&lab)
}

#[test]
fn a_cut_is_of_one_direction_over_the_switch() -> Result<()> {
    let Some(lab) = Lab::switched_or_skip("cuts-switch") else {
        return Ok(());
    };
    cuts(&lab)
}

fn cuts(lab: &Lab) -> Result<()> {
    let [a, b] = lab.hosts(["a", "b"])?;
    let echo = Echo::on(&b)?;
    let mut pinger = Pinger::from(&a, b.ip())?;
    pinger.until_answered(lab)?;

    lab.cut_one_way(&b, &a)?;
    only_heard(lab, &echo, &mut pinger)?;
    lab.heal()?;
    pinger.until_answered(lab)?;

    lab.cut_one_way(&a, &b)?;
    unheard(lab, &echo, &mut pinger)?;
    lab.cut(&a, &b)?;
    unheard(lab, &echo, &mut pinger)?;
    lab.join(&a, &b)?;
    pinger.until_answered(lab)?;
    Ok(())
}

#[test]
fn a_partition_leaves_groups_and_bridges_connected() -> Result<()> {
    let Some(lab) = Lab::or_skip("partition") else {
        return Ok(());
    };
    let [a, b, c, bridge] = lab.hosts(["a", "b", "c", "bridge"])?;
    let (echo_b, echo_c) = (Echo::on(&b)?, Echo::on(&c)?);
    let mut to_b = Pinger::from(&a, b.ip())?;
    let mut to_c = Pinger::from(&a, c.ip())?;
    to_b.until_answered(&lab)?;
    to_c.until_answered(&lab)?;

    lab.partition(&[&[a.clone(), b.clone()], std::slice::from_ref(&c)])?;
    unheard(&lab, &echo_c, &mut to_c)?;
    to_b.until_answered(&lab)?;
    Pinger::from(&bridge, b.ip())?.until_answered(&lab)?;
    Pinger::from(&bridge, c.ip())?.until_answered(&lab)?;

    lab.isolate(&b)?;
    unheard(&lab, &echo_b, &mut to_b)?;
    lab.heal()?;
    to_b.until_answered(&lab)?;
    to_c.until_answered(&lab)?;
    Ok(())
}

#[test]
fn losses_are_near_what_was_asked_and_counted() -> Result<()> {
    let Some(lab) = Lab::or_skip("loss") else {
        return Ok(());
    };
    loss(&lab)
}

#[test]
fn losses_over_the_switch_are_counted() -> Result<()> {
    let Some(lab) = Lab::switched_or_skip("loss-switch") else {
        return Ok(());
    };
    loss(&lab)
}

fn loss(lab: &Lab) -> Result<()> {
    let [a, b] = lab.hosts(["a", "b"])?;
    let echo = Echo::on(&b)?;
    let mut pinger = Pinger::from(&a, b.ip())?;
    pinger.until_answered(lab)?;
    let before = echo.heard();

    lab.set_path(&a, &b, Path::lossy(0.3))?;
    let mut heard = 0;
    // In small portions, because what finds a full queue is not lost by chance.
    for round in 1..=40 {
        for _ in 0..50 {
            pinger.send();
        }
        heard = lab.wait_until("every datagram was heard or lost", PATIENCE, || {
            let heard = echo.heard() - before;
            let lost = lab.dropped()?.lost;
            ensure!(heard + lost >= round * 50, "{heard} heard, {lost} lost");
            Ok(heard)
        })?;
    }
    // 1400 are expected, with a standard deviation of 20.
    ensure!((1250..=1550).contains(&heard), "{heard} of 2000 passed");

    lab.set_path(&a, &b, Path::default())?;
    let lost = lab.dropped()?.lost;
    for _ in 0..100 {
        pinger.until_answered(lab)?;
    }
    ensure!(lab.dropped()?.lost == lost, "a healed path loses nothing");
    Ok(())
}

#[test]
fn multicast_reaches_the_others_and_cables_can_be_pulled() -> Result<()> {
    let Some(lab) = Lab::or_skip("multicast") else {
        return Ok(());
    };
    multicast(&lab)
}

#[test]
fn multicast_passes_the_switch_and_cables_can_be_pulled() -> Result<()> {
    let Some(lab) = Lab::switched_or_skip("multicast-switch") else {
        return Ok(());
    };
    multicast(&lab)
}

fn multicast(lab: &Lab) -> Result<()> {
    const GROUP: Ipv4Addr = Ipv4Addr::new(239, 77, 77, 77);
    const PORT: u16 = 7777;
    let [a, b] = lab.hosts(["a", "b"])?;
    let listen = || -> std::io::Result<UdpSocket> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
        socket.join_multicast_v4(&GROUP, &Ipv4Addr::UNSPECIFIED)?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(socket)
    };
    let listener = b.enter(listen)??;
    let sender = a.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
    let announce = || -> Result<SocketAddr> {
        sender.send_to(b"here", (GROUP, PORT)).context("cannot send")?;
        let mut buffer = [0; 16];
        Ok(listener.recv_from(&mut buffer)?.1)
    };
    let from = lab.wait_until("the group is heard", PATIENCE, announce)?;
    ensure!(from.ip() == a.ip());

    let carrier = |expected: &str| {
        lab.wait_until("the carrier changes", PATIENCE, || {
            let state = b.command("cat").arg("/sys/class/net/eth0/carrier").run()?;
            ensure!(state.trim() == expected, "it is {state}");
            Ok(())
        })
    };
    b.unplug()?;
    carrier("0")?;
    while listener.recv_from(&mut [0; 16]).is_ok() {}
    ensure!(announce().is_err(), "a host without a cable hears nothing");
    b.plug()?;
    carrier("1")?;
    lab.wait_until("the group is heard again", PATIENCE, announce)?;
    Ok(())
}

#[test]
fn an_egress_limit_is_kept_and_traffic_is_counted() -> Result<()> {
    const BYTES: usize = 1_000_000;
    let Some(lab) = Lab::or_skip("egress") else {
        return Ok(());
    };
    let [a, b] = lab.hosts(["a", "b"])?;
    tell(&a, &b, b.ip(), "warm")?;
    let before = a.traffic()?;
    let rate = ByteSize(1_000_000);
    a.limit_egress(Some(rate))?;
    let start = std::time::Instant::now();
    tell(&a, &b, b.ip(), &"x".repeat(BYTES))?;
    // The bytes take a second, less the burst and what is still queued when the sender is done.
    ensure!(start.elapsed() >= Duration::from_millis(700), "too fast: {:?}", start.elapsed());
    a.limit_egress(None)?;
    let sent = a.traffic()? - before;
    let bytes = u64::try_from(BYTES)?;
    ensure!(sent.ip_bytes_sent() > bytes && sent.ip_bytes_sent() < 2 * bytes, "{sent:?}");
    ensure!(sent.frame_bytes_sent > sent.ip_bytes_sent(), "{sent:?}");
    ensure!(sent.frames_sent > 0 && sent.frame_bytes_received > 0, "{sent:?}");
    Ok(())
}

#[test]
fn a_host_behind_a_router_reaches_others_and_is_reached_by_nobody() -> Result<()> {
    let Some(lab) = Lab::translating_or_skip("router") else {
        return Ok(());
    };
    let [outside, home, other] = lab.hosts(["outside", "home", "other"])?;
    lab.put_behind_router(&home)?;
    lab.put_behind_router(&other)?;
    for hidden in [&home, &other] {
        ensure!(tell(hidden, &outside, outside.ip(), "from within")? == "from within");
        for from in [&outside, &home, &other] {
            let at = |address: Ipv4Addr| {
                from.enter(|| {
                    let listener = hidden.enter(|| std::net::TcpListener::bind(("0.0.0.0", 9)));
                    (listener, std::net::TcpStream::connect((address, 9)).is_ok())
                })
            };
            let (_listener, reached) = at(hidden.ipv4())?;
            ensure!(!reached, "{} reaches {}", from.name(), hidden.name());
        }
    }
    // Both have the same address, and each reaches itself under it.
    let itself = home.enter(|| {
        let listener = std::net::TcpListener::bind((Lab::BEHIND_ROUTER, 9))?;
        std::net::TcpStream::connect((Lab::BEHIND_ROUTER, 9)).map(|_| drop(listener))
    })?;
    ensure!(itself.is_ok(), "{itself:?}");
    ensure!(outside.enter(|| std::net::TcpStream::connect((Lab::BEHIND_ROUTER, 9)))?.is_err());
    Ok(())
}
