//! A topology as text for a command, as bytes for peers, and as pictures: golden where others read
//! it, hostile where others write it.

use crate::fleet::{Scatter, sites};
use proptest::prelude::*;
use skep_base::{GroupName, NodeName, Rng};
use skep_topology::computed::decree::{
    Body, Decree, DecreeError, MAX_CONNECTIVITY, MAX_INLINE_BYTES, Stamp,
};
use skep_topology::computed::draw::{Drawing, Spot};
use skep_topology::computed::generator::{Question, Unfit, accept, parse_answer};
use skep_topology::computed::{
    Effort, Flaw, Known, Measured, Place, Problem, Site, Topology, Weights, compute,
};

fn group() -> GroupName {
    "mirror-1".parse().unwrap()
}

fn names(n: usize) -> Vec<NodeName> {
    (0..n).map(|at| format!("site-{at}").parse().unwrap()).collect()
}

fn ring(n: u32) -> Topology {
    let edges: Vec<(u32, u32)> = (0..n).map(|at| (at, (at + 1) % n)).collect();
    Topology::new(sites(n as usize).iter().map(|site| site.id).collect(), 2, &edges)
}

/// A topology of the size that matters: chords by chance make no difference to its length.
fn large(n: usize, seed: u64) -> Topology {
    let mut rng = Rng::seeded(seed);
    let chords =
        (0..n + n / 2).map(|_| (rng.index(n).unwrap() as u32, rng.index(n).unwrap() as u32));
    let chords: Vec<(u32, u32)> = chords.collect();
    Topology::new(sites(n).iter().map(|site| site.id).collect(), 3, &chords)
}

fn problem<'a>(sites: &'a [Site], known: &'a Known, k: usize) -> Problem<'a, Known> {
    Problem { sites, costs: known, k, degree_bound: 4, weights: Weights::default() }
}

#[test]
fn a_question_is_asked_as_documented() {
    let mut sites = sites(4);
    sites[0].place = Place::new(52.31, 4.76);
    sites[3].links_elsewhere = 2;
    let mut known = Known::new(4);
    known.measure(0, 1, Measured { rtt_us: 1200, deviation_us: 80, bandwidth: Some(9_000_000) });
    known.measure(1, 2, Measured { rtt_us: 90_000, deviation_us: 0, bandwidth: None });
    known.link(1, 2);
    known.keep_apart(0, 3);
    let pairs: Vec<(usize, usize)> = known.pairs().collect();
    let (names, previous) = (names(4), ring(3));
    let problem = problem(&sites, &known, 2);
    let question = Question {
        group: &group(),
        names: &names,
        problem: &problem,
        pairs: &pairs,
        previous: Some(&previous),
    };
    assert_eq!(
        question.text(),
        "topology-generator 1\n\
         group mirror-1\n\
         connectivity 2\n\
         links 4\n\
         site site-0 52.31 4.76 0\n\
         site site-1 - - 0\n\
         site site-2 - - 0\n\
         site site-3 - - 2\n\
         rtt site-0 site-1 1200 80 9000000\n\
         apart site-0 site-3\n\
         rtt site-1 site-2 90000 0 -\n\
         shared site-1 site-2\n\
         edge site-0 site-1\n\
         edge site-0 site-2\n\
         edge site-1 site-2\n\
         end\n"
    );
}

fn judged(answer: &str) -> Result<Topology, Unfit> {
    let (sites, known) = (sites(4), Known::new(4));
    accept(&problem(&sites, &known, 2), &names(4), answer.as_bytes())
}

#[test]
fn a_good_answer_is_accepted_however_it_is_spaced() {
    let answer = "# made by hand\r\n\r\ntopology-generator 1\r\nedge site-0 site-1\r\n  \
                  edge  site-2\tSITE-1 \nedge site-2 site-3\nedge site-3 site-0\n\
                  edge site-0 site-3\nend\nwhatever follows\n";
    assert_eq!(judged(answer).unwrap().edges(), ring(4).edges());
}

#[test]
fn a_bad_answer_is_refused_with_its_reason() {
    let ring = "edge site-0 site-1\nedge site-1 site-2\nedge site-2 site-3\nedge site-3 site-0\n";
    let says = |answer: &str| judged(answer).unwrap_err();
    let after = |rest: &str| says(&format!("topology-generator 1\n{rest}"));
    assert!(matches!(says(""), Unfit::Header { .. }));
    assert!(matches!(says("usage: topo [-h]\n"), Unfit::Header { .. }));
    assert!(matches!(says("topology-generator 2\nend\n"), Unfit::Header { .. }));
    assert_eq!(after(ring), Unfit::NoEnd);
    assert!(matches!(after("edge site-0\nend\n"), Unfit::Line { line: 2, .. }));
    assert!(matches!(after("edge site-0 site-1 site-2\nend\n"), Unfit::Line { line: 2, .. }));
    assert!(matches!(after("\nlink site-0 site-1\nend\n"), Unfit::Line { line: 3, .. }));
    let stranger = Unfit::UnknownSite { line: 2, name: "site-9".into() };
    assert_eq!(after("edge site-0 site-9\nend\n"), stranger);
    let loops = Unfit::SelfEdge { line: 2, name: "site-1".into() };
    assert_eq!(after("edge site-1 site-1\nend\n"), loops);
    let cut = Unfit::Flawed(Flaw::NotConnected { k: 2, sites: 4 });
    assert_eq!(after("edge site-0 site-1\nedge site-2 site-3\nend\n"), cut);
    assert_eq!(
        after(&format!("edge site-0 {}\nend\n", "x".repeat(600))),
        Unfit::NotText { line: 2 }
    );
    let shown = after(&format!("{}\nend\n", "y".repeat(400))).to_string();
    assert!(shown.chars().count() < 200, "{shown}");
}

#[test]
fn an_answer_that_overloads_a_site_is_refused() {
    let (mut sites, known) = (sites(7), Known::new(7));
    sites[0].links_elsewhere = 1;
    let star: String = (1..7)
        .map(|at| format!("edge site-0 site-{at}\nedge site-{at} site-{}\n", at % 6 + 1))
        .collect();
    let answer = format!("topology-generator 1\n{star}end\n");
    let flaw = accept(&problem(&sites, &known, 2), &names(7), answer.as_bytes()).unwrap_err();
    let expected = Flaw::TooManyLinks { site: sites[0].id, links: 7, bound: 4 };
    assert_eq!(flaw, Unfit::Flawed(expected));
}

#[test]
fn floods_of_output_are_refused_before_they_are_kept() {
    let mut flood = b"topology-generator 1\n".to_vec();
    (0..140_000).for_each(|_| flood.extend_from_slice(b"edge a b\n"));
    assert!(matches!(parse_answer(&flood), Err(Unfit::TooManyEdges { .. })));
    flood.resize(9 << 20, b'\n');
    assert_eq!(parse_answer(&flood), Err(Unfit::TooLong(9 << 20)));
    assert!(matches!(parse_answer(&[0xff; 40]), Err(Unfit::NotText { line: 1 })));
}

#[test]
fn a_decree_has_the_bytes_it_always_had() {
    let stamp = Stamp { epoch: 7, fork: 300 };
    let (decree, apart) = Decree::new(group(), stamp, &ring(4));
    assert_eq!(apart, None);
    let bytes = decree.to_bytes();
    let mut golden = b"\x08mirror-1\x07\xac\x02\x02".to_vec();
    golden.extend_from_slice(&ring(4).member_digest().0);
    golden.extend_from_slice(b"\x00\x4a\x01\x04");
    sites(4).iter().for_each(|site| golden.extend_from_slice(site.id.as_bytes()));
    // Site 0 to 1 and 3, 1 to 2, 2 to 3.
    golden.extend_from_slice(&[2, 0, 1, 1, 0, 1, 0, 0]);
    assert_eq!(bytes, golden, "{bytes:02x?}");
    let read = Decree::from_bytes(&golden).unwrap();
    assert_eq!(read, decree);
    assert_eq!(read.topology(None).unwrap(), ring(4));
}

#[test]
fn a_large_topology_travels_apart_and_is_known_by_its_digest() {
    let topology = large(5000, 1);
    let (decree, body) = Decree::new(group(), Stamp { epoch: 1, fork: 1 }, &topology);
    let body = body.unwrap();
    assert!(body.len() < 100 << 10, "{} bytes", body.len());
    assert!(decree.to_bytes().len() < 128, "{}", decree.to_bytes().len());
    assert_eq!(decree.topology(Some(&body)).unwrap(), topology);
    assert_eq!(decree.topology(None), Err(DecreeError::OtherBody));
    let mut other = body.clone();
    *other.last_mut().unwrap() ^= 1;
    assert_eq!(decree.topology(Some(&other)), Err(DecreeError::OtherBody));
}

#[test]
fn the_largest_decree_fits_into_a_record() {
    let fits = |n: usize| Decree::new(group(), Stamp::default(), &large(n, 2)).1.is_none();
    let most = (4..400).take_while(|n| fits(*n)).last().unwrap();
    assert!((140..180).contains(&most), "{most}");
    let longest: GroupName = [&*"g".repeat(60); 3].join(".").parse().unwrap();
    let stamp = Stamp { epoch: u64::MAX, fork: u64::MAX };
    let (decree, _) = Decree::new(longest, stamp, &large(most, 2));
    assert!(decree.to_bytes().len() <= 4096 - 256, "{}", decree.to_bytes().len());
}

#[test]
fn what_is_no_decree_is_refused() {
    let (decree, _) = Decree::new(group(), Stamp::default(), &ring(4));
    let refused = |decree: Decree| Decree::from_bytes(&decree.to_bytes()).is_err();
    assert!(!refused(decree.clone()));
    assert!(refused(Decree { k: MAX_CONNECTIVITY + 1, ..decree.clone() }));
    let bloated = Body::Here(vec![0; MAX_INLINE_BYTES + 1]);
    assert!(refused(Decree { body: bloated, ..decree.clone() }));
    let Body::Apart { digest, .. } = Decree::new(group(), Stamp::default(), &large(900, 3)).0.body
    else {
        panic!("900 members do not fit in a record");
    };
    assert!(refused(Decree { body: Body::Apart { digest, length: 2 << 20 }, ..decree.clone() }));
    let Body::Here(good) = &decree.body else {
        panic!("four members fit in a record");
    };
    let with = |body: Vec<u8>| Decree { body: Body::Here(body), ..decree.clone() }.topology(None);
    assert!(with(good.clone()).is_ok());
    for cut in 0..good.len() {
        assert!(with(good[..cut].to_vec()).is_err(), "the first {cut} bytes");
    }
    assert!(with([&**good, &[0]].concat()).is_err());
    let changed = |at: usize, to: u8| {
        let mut body = good.clone();
        body[at] = to;
        with(body)
    };
    assert_eq!(changed(0, 2), Err(DecreeError::Version(2)));
    assert!(changed(1, 0x7f).is_err(), "a number of members that are not there");
    assert!(changed(2, 0xff).is_err(), "members out of order");
    assert!(changed(good.len() - 2, 9).is_err(), "an edge to nobody");
    // Another list of members than the decree names.
    let other = Topology::new(sites(5)[1..].iter().map(|site| site.id).collect(), 2, &[(0, 1)]);
    let Body::Here(body) = Decree::new(group(), Stamp::default(), &other).0.body else {
        panic!("four members fit in a record");
    };
    assert_eq!(with(body), Err(DecreeError::OtherBody));
}

proptest! {
    #[test]
    fn every_topology_comes_back_from_its_bytes(seed in any::<u64>(), n in 0_usize..260) {
        let topology = if n < 2 { ring(0) } else { large(n, seed) };
        let (decree, apart) = Decree::new(group(), Stamp::default(), &topology);
        let read = Decree::from_bytes(&decree.to_bytes()).unwrap();
        prop_assert_eq!(read.topology(apart.as_deref()).unwrap(), topology);
    }
}

fn drawn(place: impl Fn(usize) -> Option<Place>) -> (String, String, String, Topology) {
    let sites = sites(9);
    let costs = Scatter::new(9, 4);
    let problem = Problem {
        sites: &sites,
        costs: &costs,
        k: 3,
        degree_bound: 8,
        weights: Weights::default(),
    };
    let topology = compute(&problem, Effort { steps: 500 }, 1).unwrap().topology;
    let names = names(9);
    let spots: Vec<Spot<'_>> = names
        .iter()
        .enumerate()
        .map(|(at, name)| Spot { name: name.as_str(), place: place(at), coordinate: None })
        .collect();
    let rtts: Vec<Option<u32>> =
        (0..topology.edges().len()).map(|at| (at > 0).then_some(at as u32 * 9000)).collect();
    let drawing = Drawing { group: "mirror-1", topology: &topology, sites: &spots, rtts: &rtts };
    (drawing.dot(), drawing.svg(), drawing.json(), topology)
}

#[test]
fn a_drawing_shows_every_site_and_every_edge() {
    for known in [false, true] {
        let (dot, svg, json, topology) = drawn(|at| {
            Place::new(40.0 + at as f64, if known { at as f64 } else { 0.0 }).filter(|_| known)
        });
        let edges = topology.edges().len();
        assert_eq!(dot.matches(" -- ").count(), edges);
        assert_eq!(svg.matches("<line ").count(), edges);
        assert_eq!(json.matches("\"rtt_us\":").count(), edges);
        assert_eq!(json.matches("\"rtt_us\":null").count(), 1);
        assert_eq!(svg.matches("<circle ").count(), 9);
        for at in 0..9 {
            let name = format!("site-{at}");
            assert!(dot.contains(&name) && svg.contains(&name) && json.contains(&name));
        }
        assert_eq!(json.contains("latitude"), known);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        for open in ["g", "title", "text", "svg", "circle"] {
            let opened = svg.matches(&format!("<{open} ")).count()
                + svg.matches(&format!("<{open}>")).count();
            assert_eq!(opened, svg.matches(&format!("</{open}>")).count(), "{open}");
        }
    }
}

#[test]
fn sites_at_one_place_do_not_hide_each_other() {
    let (_, svg, _, _) = drawn(|_| Place::new(52.0, 5.0));
    let circles = svg.lines().filter_map(|line| line.strip_prefix("<circle "));
    let spots: std::collections::BTreeSet<&str> =
        circles.filter_map(|line| line.split(" r=").next()).collect();
    assert_eq!(spots.len(), 9, "{spots:?}");
}

#[test]
fn an_edge_over_the_pacific_leaves_the_map_on_both_sides() {
    let members: Vec<_> = sites(2).iter().map(|site| site.id).collect();
    let topology = Topology::new(members, 1, &[(0, 1)]);
    let lines = |longitudes: [f64; 2]| {
        let spot = |longitude| Spot { place: Place::new(35.0, longitude), ..Spot::default() };
        let sites = longitudes.map(spot);
        let drawing =
            Drawing { group: "g", topology: &topology, sites: &sites, rtts: &[Some(100_000)] };
        drawing.svg().matches("<line ").count()
    };
    assert_eq!(lines([140.0, -122.0]), 2);
    assert_eq!(lines([5.0, -70.0]), 1);
}

#[test]
fn no_name_breaks_out_of_its_quotation() {
    let members: Vec<_> = sites(1).iter().map(|site| site.id).collect();
    let topology = Topology::new(members, 1, &[]);
    let evil = "a\"]; x -- y\\<script>&amp;\n";
    let sites = [Spot { name: evil, ..Spot::default() }];
    let drawing = Drawing { group: evil, topology: &topology, sites: &sites, rtts: &[] };
    for text in [drawing.dot(), drawing.svg(), drawing.json()] {
        assert!(!text.contains("a\"]") && !text.contains("<script") && !text.contains("y\\"));
    }
}
