//! A topology as DOT, SVG and JSON: for eyes, for Graphviz and for programs.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::f64::consts::PI;
use core::fmt::{self, Write};

use super::place::{Place, cosine, root, sine};
use super::topology::Topology;

/// The drawing's size in points, and the edge that stays free.
const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 640.0;
const MARGIN: f64 = 60.0;
/// Sites nearer on paper than this are moved apart.
const CLUTTER: f64 = 4.0;
/// How far, times the root of their number.
const SPACING: f64 = 7.0;
/// Of more sites, names are only shown where the pointer is.
const NAMED_UP_TO: usize = 80;
/// The angle by which seeds in a sunflower follow one another: no two are in line.
const GOLDEN_ANGLE: f64 = 2.399_963_229_728_653;

/// Round trips up to so many microseconds, and their colour: one that is told apart also by those
/// who see few colours, from light and near to dark and far.
const COLOURS: [(u32, &str, &str); 5] = [
    (2_000, "#9ecae1", "up to 2 ms"),
    (10_000, "#41b6c4", "10 ms"),
    (40_000, "#41ab5d", "40 ms"),
    (100_000, "#fe9929", "100 ms"),
    (u32::MAX, "#cb181d", "more"),
];
const UNKNOWN_COLOUR: &str = "#999999";

/// What is to be drawn.
#[derive(Clone, Copy, Debug)]
pub struct Drawing<'a> {
    /// Of which group.
    pub group: &'a str,
    /// What.
    pub topology: &'a Topology,
    /// Its members, in their order. One that is missing has no name and no place.
    pub sites: &'a [Spot<'a>],
    /// Round trips of its edges in microseconds, in their order, where known.
    pub rtts: &'a [Option<u32>],
}

/// A member.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spot<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where it is on the Earth.
    pub place: Option<Place>,
    /// Where it is by network coordinates, in any unit.
    pub coordinate: Option<(f64, f64)>,
}

impl Drawing<'_> {
    /// For `dot`, `neato` and their kind.
    #[must_use]
    pub fn dot(&self) -> String {
        written(|out| {
            writeln!(out, "graph \"{}\" {{", Quoted(self.group))?;
            writeln!(out, "  node [shape=point, width=0.1];")?;
            for at in 0..self.topology.members().len() {
                let spot = self.spot(at);
                write!(out, "  {at} [xlabel=\"{}\"", Quoted(spot.name))?;
                if let Some(place) = spot.place {
                    let (x, y) = (place.longitude() / 10.0, place.latitude() / 10.0);
                    write!(out, ", pos=\"{x},{y}!\"")?;
                }
                writeln!(out, "];")?;
            }
            for (a, b, rtt) in self.edges() {
                write!(out, "  {a} -- {b} [color=\"{}\"", colour(rtt))?;
                if let Some(rtt) = rtt {
                    write!(out, ", len={:.2}, tooltip=\"{}\"", f64::from(rtt) / 5e4, Rtt(rtt))?;
                }
                writeln!(out, "];")?;
            }
            writeln!(out, "}}")
        })
    }

    /// One object: `group`, `connectivity`, `sites` and `edges`, whose ends are indices of sites.
    #[must_use]
    pub fn json(&self) -> String {
        written(|out| {
            let k = self.topology.connectivity();
            write!(out, "{{\"group\":\"{}\",\"connectivity\":{k},", Quoted(self.group))?;
            write!(out, "\"sites\":[")?;
            for (at, id) in self.topology.members().iter().enumerate() {
                let (spot, comma) = (self.spot(at), if at > 0 { "," } else { "" });
                write!(out, "{comma}{{\"name\":\"{}\",\"id\":\"{id}\"", Quoted(spot.name))?;
                if let Some(place) = spot.place {
                    let (latitude, longitude) = (place.latitude(), place.longitude());
                    write!(out, ",\"latitude\":{latitude},\"longitude\":{longitude}")?;
                }
                write!(out, "}}")?;
            }
            write!(out, "],\"edges\":[")?;
            for (at, (a, b, rtt)) in self.edges().enumerate() {
                let comma = if at > 0 { "," } else { "" };
                write!(out, "{comma}{{\"a\":{a},\"b\":{b},\"rtt_us\":")?;
                match rtt {
                    Some(rtt) => write!(out, "{rtt}}}")?,
                    None => write!(out, "null}}")?,
                }
            }
            write!(out, "]}}")
        })
    }

    /// A picture: by places where all are known, else by network coordinates, else in a circle.
    #[must_use]
    pub fn svg(&self) -> String {
        let positions = self.positions();
        let around = self.is_map() && self.spans_the_earth();
        written(|out| {
            writeln!(
                out,
                "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
                 font-family=\"sans-serif\" font-size=\"11\">\n\
                 <title>topology of {}</title>\n\
                 <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>",
                Quoted(self.group)
            )?;
            // The longest first, so that short edges are not hidden under them.
            let mut edges: Vec<(u32, u32, Option<u32>)> = self.edges().collect();
            edges.sort_by_key(|(_, _, rtt)| core::cmp::Reverse(*rtt));
            for (a, b, rtt) in edges {
                let (from, to) = (positions[a as usize], positions[b as usize]);
                writeln!(out, "<g stroke=\"{}\" stroke-width=\"1.2\">", colour(rtt))?;
                self.edge_title(out, a, b, rtt)?;
                for (from, to) in lines(from, to, around) {
                    let ((x1, y1), (x2, y2)) = (from, to);
                    writeln!(
                        out,
                        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
                    )?;
                }
                writeln!(out, "</g>")?;
            }
            self.write_sites(out, &positions)?;
            self.write_legend(out)?;
            writeln!(out, "</svg>")
        })
    }

    fn edge_title(&self, out: &mut String, a: u32, b: u32, rtt: Option<u32>) -> fmt::Result {
        let (from, to) = (self.spot(a as usize).name, self.spot(b as usize).name);
        write!(out, "<title>{} – {}", Quoted(from), Quoted(to))?;
        if let Some(rtt) = rtt {
            write!(out, ", {}", Rtt(rtt))?;
        }
        writeln!(out, "</title>")
    }

    fn write_sites(&self, out: &mut String, positions: &[(f64, f64)]) -> fmt::Result {
        let named = positions.len() <= NAMED_UP_TO;
        for (at, (x, y)) in positions.iter().enumerate() {
            let spot = self.spot(at);
            let links = self.topology.members().get(at);
            let links = links.map_or(0, |id| self.topology.neighbours(id).len());
            writeln!(
                out,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\"><title>{}, {links} links</title>\
                 </circle>",
                Quoted(spot.name)
            )?;
            if named {
                let name = Quoted(spot.name);
                writeln!(out, "<text x=\"{:.1}\" y=\"{:.1}\">{name}</text>", x + 4.0, y - 4.0)?;
            }
        }
        Ok(())
    }

    fn write_legend(&self, out: &mut String) -> fmt::Result {
        let (sites, edges) = (self.topology.members().len(), self.topology.edges().len());
        let k = self.topology.connectivity();
        let y = HEIGHT - 14.0;
        let mut x = MARGIN;
        for (_, colour, text) in COLOURS {
            writeln!(
                out,
                "<rect x=\"{x}\" y=\"{}\" width=\"18\" height=\"4\" fill=\"{colour}\"/>\
                 <text x=\"{}\" y=\"{y}\">{text}</text>",
                y - 6.0,
                x + 22.0
            )?;
            x += 90.0;
        }
        writeln!(
            out,
            "<text x=\"{x}\" y=\"{y}\">{}: {sites} sites, {edges} edges, {k}-connected</text>",
            Quoted(self.group)
        )
    }

    fn edges(&self) -> impl Iterator<Item = (u32, u32, Option<u32>)> + '_ {
        let edges = self.topology.edges().iter().enumerate();
        edges.map(|(at, (a, b))| (*a, *b, self.rtts.get(at).copied().flatten()))
    }

    fn spot(&self, at: usize) -> Spot<'_> {
        self.sites.get(at).copied().unwrap_or_default()
    }

    fn is_map(&self) -> bool {
        let n = self.topology.members().len();
        n > 0 && (0..n).all(|at| self.spot(at).place.is_some())
    }

    fn spans_the_earth(&self) -> bool {
        let longitudes = self.sites.iter().filter_map(|spot| spot.place).map(|at| at.longitude());
        let (least, most) = bounds(longitudes);
        most - least > 180.0
    }

    /// Where each member is on paper.
    fn positions(&self) -> Vec<(f64, f64)> {
        let n = self.topology.members().len();
        let spots = || (0..n).map(|at| self.spot(at));
        // South is down on paper.
        let places = || spots().map(|spot| spot.place.map(|at| (at.longitude(), -at.latitude())));
        let wanted: Option<Vec<_>> = places().collect();
        let wanted = wanted.or_else(|| spots().map(|spot| spot.coordinate).collect());
        let finite =
            |points: &Vec<(f64, f64)>| points.iter().all(|(x, y)| x.is_finite() && y.is_finite());
        let wanted = wanted.filter(finite).unwrap_or_else(|| circle(n));
        apart(fit(&wanted))
    }
}

/// The lines of an edge: one, or two that leave the map at either side when the shorter way leads
/// around the back of the Earth.
fn lines(
    from: (f64, f64),
    to: (f64, f64),
    around: bool,
) -> impl Iterator<Item = ((f64, f64), (f64, f64))> {
    let width = WIDTH - 2.0 * MARGIN;
    let back = around && (from.0 - to.0).abs() > width / 2.0;
    let turn = if from.0 < to.0 { -width } else { width };
    let first = (from, if back { (to.0 + turn, to.1) } else { to });
    let second = back.then_some((to, (from.0 - turn, from.1)));
    core::iter::once(first).chain(second)
}

fn circle(n: usize) -> Vec<(f64, f64)> {
    let share = |at: u32| 2.0 * PI * f64::from(at) / f64::from(number(n).max(1));
    (0..number(n)).map(|at| (sine(share(at)), -cosine(share(at)))).collect()
}

/// Scales points to the paper, alike in both directions.
fn fit(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let (left, right) = bounds(points.iter().map(|(x, _)| *x));
    let (top, bottom) = bounds(points.iter().map(|(_, y)| *y));
    let (width, height) = (WIDTH - 2.0 * MARGIN, HEIGHT - 2.0 * MARGIN);
    let scale = |room: f64, span: f64| if span > 0.0 { room / span } else { f64::MAX };
    let scale = scale(width, right - left).min(scale(height, bottom - top));
    let scale = if scale < f64::MAX { scale } else { 1.0 };
    let middle = ((left + right) / 2.0, (top + bottom) / 2.0);
    let place = |(x, y): &(f64, f64)| {
        (WIDTH / 2.0 + (x - middle.0) * scale, HEIGHT / 2.0 + (y - middle.1) * scale)
    };
    points.iter().map(place).collect()
}

/// Moves points that would lie on one another apart, like the seeds of a sunflower.
fn apart(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let mut taken: BTreeMap<(i64, i64), u32> = BTreeMap::new();
    #[expect(clippy::cast_possible_truncation, reason = "points are on the paper")]
    let cell = |(x, y): (f64, f64)| ((x / CLUTTER) as i64, (y / CLUTTER) as i64);
    let place = |point: (f64, f64)| {
        let before = taken.entry(cell(point)).or_insert(0);
        let seed = f64::from(*before);
        *before += 1;
        let (radius, angle) = (SPACING * root(seed), GOLDEN_ANGLE * seed);
        let turns = angle / (2.0 * PI);
        #[expect(clippy::cast_possible_truncation, reason = "there are few turns")]
        let angle = (turns - (turns as i64) as f64) * 2.0 * PI;
        (point.0 + radius * cosine(angle), point.1 + radius * sine(angle))
    };
    points.into_iter().map(place).collect()
}

fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let wider = |(least, most): (f64, f64), value: f64| (least.min(value), most.max(value));
    let (least, most) = values.fold((f64::MAX, f64::MIN), wider);
    if least <= most { (least, most) } else { (0.0, 0.0) }
}

fn number(at: usize) -> u32 {
    crate::connectivity::index(at)
}

fn colour(rtt: Option<u32>) -> &'static str {
    let class = |rtt: u32| COLOURS.iter().find(|(most, ..)| rtt <= *most);
    rtt.and_then(class).map_or(UNKNOWN_COLOUR, |(_, colour, _)| colour)
}

fn written(write: impl FnOnce(&mut String) -> fmt::Result) -> String {
    let mut text = String::new();
    let result = write(&mut text);
    debug_assert!(result.is_ok(), "a String takes all that is written to it");
    text
}

/// Microseconds, for people.
struct Rtt(u32);

impl fmt::Display for Rtt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} ms", f64::from(self.0) / 1e3)
    }
}

/// Text without anything that ends a quotation or opens a tag, in any of the three formats. Names
/// of sites and groups hold no such thing; this does not rely on it.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let harmless = |c: char| match c {
            '"' | '\\' | '<' | '>' | '&' | '\'' => '_',
            c if c.is_control() => '_',
            c => c,
        };
        self.0.chars().try_for_each(|c| f.write_char(harmless(c)))
    }
}
