//! A group's overlay as people are shown it, and how far apart two nodes are (FLOOD-10, 22, 27).

use std::time::Duration;

use skep_base::{GroupName, NodeId, NodeName};
use skep_client_port::Topology as Drawn;
use skep_control::Reply;
use skep_control::api::{
    Code, DrawAs, HashReason, OverlayBasis, ReadTopology, Refusal, RoundTrip, RttBasis, Topology,
    TopologyDecree, TopologyEdge, TopologyFailure, TopologyFigures, TopologySite,
};
use skep_estimates::{Basis, Costs};
use skep_node::Portrait;
use skep_topology::Overlay;
use skep_topology::adoption::{self, Why};
use skep_topology::computed::draw::{Drawing, Spot};
use skep_topology::computed::{self, Place};

use super::count;
use crate::spine::Spine;

impl Spine {
    /// Who links to whom in a group, and why.
    pub fn answer_topology(&self, group: &GroupName, query: ReadTopology, reply: Reply<Topology>) {
        let Some(portrait) = self.node.portrait(group) else {
            let what = format!("no present node is in group {group}");
            return reply.refuse(
                Refusal::new(Code::NotFound, what).hint("`skep group` lists those that are known"),
            );
        };
        let sketch = self.sketch(group, &portrait);
        let draw = query.draw;
        // Ways between thousands are no work for the main loop.
        let work = tokio::task::spawn_blocking(move || reply.ok(sketch.finished(draw)));
        drop(work);
    }

    /// The same for clients of the line protocol (FLOOD-10), without what takes a search.
    pub fn topology_for_clients(
        &self,
        group: &GroupName,
    ) -> Result<Drawn, skep_client_port::Refusal> {
        let Some(portrait) = self.node.portrait(group) else {
            let text = format!("no present node is in group {group}; try groups");
            return Err(skep_client_port::Refusal::new(skep_lines::code::NOT_FOUND, text));
        };
        let Portrait { overlay, view, .. } = &portrait;
        let costs = self.node.costs(overlay.members());
        let sites = self.sites(overlay, &costs);
        let edges = computed::Topology::of(overlay);
        let named = |(a, b): &(u32, u32)| {
            let (a, b) = (*a as usize, *b as usize);
            let (from, to) = (sites.get(a)?.node.clone(), sites.get(b)?.node.clone());
            let rtt = costs.rtt(a, b).map(|(rtt, _)| micros(rtt));
            Some(if from <= to { (from, to, rtt) } else { (to, from, rtt) })
        };
        let mut edges: Vec<_> = edges.edges().iter().filter_map(named).collect();
        edges.sort();
        let (kind, why) = match view.basis {
            adoption::Basis::Computed => {
                let by = view.by.map(|by| self.name_of(by)).unwrap_or_default();
                let epoch = view.stamp.unwrap_or_default().epoch;
                (OverlayBasis::Computed, format!("number {epoch} by {by}"))
            }
            adoption::Basis::Hash(why) => (OverlayBasis::Hash, self.words(why, &portrait)),
        };
        Ok(Drawn {
            group: group.clone(),
            kind: kind.word(),
            why,
            connectivity: connectivity(overlay),
            edges,
        })
    }

    fn sketch(&self, group: &GroupName, portrait: &Portrait<'_>) -> Sketch {
        let Portrait { overlay, view, joined } = portrait;
        let since = |at| millis(self.clock.now().since(at));
        let name = |id| self.name_of(id);
        let (basis, reason) = match view.basis {
            adoption::Basis::Computed => (OverlayBasis::Computed, None),
            adoption::Basis::Hash(why) => (OverlayBasis::Hash, Some(why)),
        };
        let decree = view.stamp.zip(view.topology).map(|(stamp, topology)| TopologyDecree {
            epoch: stamp.epoch,
            fork: stamp.fork,
            by: view.by.map(name).unwrap_or_default(),
            adopted_ms: view.adopted.map(since).unwrap_or_default(),
            members: count(topology.members().len()),
            edges: count(topology.edges().len()),
            connectivity: count(topology.connectivity()),
        });
        let costs = self.node.costs(overlay.members());
        let topology = Topology {
            group: group.clone(),
            joined: *joined,
            basis,
            reason: reason.map(code),
            why: reason.map(|why| self.words(why, portrait)),
            decree,
            master: view.master.map(name),
            connectivity: connectivity(overlay),
            mended: count(overlay.patches()),
            figures: TopologyFigures::default(),
            switching_ms: view.switching_since.map(since),
            computing_ms: view.computing_since.map(since),
            failure: view
                .failure
                .map(|(at, why)| TopologyFailure { ago_ms: since(at), why: why.to_owned() }),
            sites: self.sites(overlay, &costs),
            edges: Vec::new(),
            drawing: None,
        };
        let decreed = view.topology.filter(|_| reason.is_none()).map(|it| (**it).clone());
        Sketch { topology, overlay: Overlay::clone(overlay), decreed, costs }
    }

    /// Why no topology is in force, for people.
    fn words(&self, why: Why, portrait: &Portrait<'_>) -> String {
        let present = portrait.overlay.members().len();
        let master =
            portrait.view.master.map_or_else(|| "nobody".to_owned(), |id| self.name_of(id));
        match why {
            Why::Few if present == 1 => "a single member links to nobody".to_owned(),
            Why::Few => format!("{present} members all link to one another"),
            Why::Undecreed => {
                format!(
                    "no topology has been decreed; {master} computes it once members keep still"
                )
            }
            Why::Awaited(stamp) => {
                format!("the body of topology {} is being fetched", stamp.epoch)
            }
            Why::Uncovered { known } => {
                let epoch = portrait.view.stamp.unwrap_or_default().epoch;
                format!(
                    "topology {epoch} knows {known} of the {present} members present; {master} \
                     computes the next once they keep still"
                )
            }
        }
    }

    /// The members in the overlay's own order, which is that of their identities: a name that is
    /// not known is one made of that.
    fn sites(&self, overlay: &Overlay, costs: &Costs) -> Vec<TopologySite> {
        let site = |(at, id): (usize, &NodeId)| {
            let known = self.node.member_view(*id).and_then(|member| member.name.cloned());
            let node = known.or_else(|| NodeName::new(&id.to_string()).ok())?;
            let place = costs.place(at).map(skep_estimates::Place::degrees_e4);
            let (latitude_e4, longitude_e4) = place.unzip();
            Some(TopologySite { node, latitude_e4, longitude_e4 })
        };
        overlay.members().iter().enumerate().filter_map(site).collect()
    }

    /// What is known of a pair of nodes.
    pub fn answer_rtt(&self, from: NodeName, to: NodeName, reply: Reply<RoundTrip>) {
        let bloc = &self.identity.current().info().bloc.clone();
        let ends = [&from, &to].map(|name| NodeId::derive(bloc, name));
        for (name, id) in [&from, &to].into_iter().zip(ends) {
            if self.node.member_view(id).is_none() {
                let refusal = Refusal::new(Code::NotFound, format!("no node is known as {name}"));
                return reply.refuse(refusal.hint("`skep members` lists those that are"));
            }
        }
        let known = self.node.between(self.clock.now(), ends[0], ends[1]);
        reply.ok(RoundTrip {
            from,
            to,
            rtt_us: known.map(|known| micros(known.rtt)),
            deviation_us: known.and_then(|known| known.deviation).map(micros),
            basis: known.map(|known| words(known.basis)),
            by: known.and_then(|known| known.by).map(|by| self.name_of(by)),
            age_ms: known.and_then(|known| known.age).map(millis),
            bytes_per_second: known.and_then(|known| known.rate),
        });
    }
}

/// A group's overlay with all that is known of it, before anybody looked for ways through it.
struct Sketch {
    topology: Topology,
    overlay: Overlay,
    /// What was decreed, where that is in force.
    decreed: Option<computed::Topology>,
    costs: Costs,
}

impl Sketch {
    fn finished(self, draw: Option<DrawAs>) -> Topology {
        let Self { mut topology, overlay, decreed, costs } = self;
        let appraised = skep_node::appraise(&overlay, &costs);
        let shape = computed::Topology::of(&overlay);
        let members = shape.members();
        let edges = shape.edges().iter().zip(&appraised.costs);
        topology.edges = edges
            .map(|((a, b), cost)| {
                let (from, to) = (*a as usize, *b as usize);
                let known = costs.rtt(from, to);
                let joins = |it: &computed::Topology| it.joins(&members[from], &members[to]);
                TopologyEdge {
                    a: *a,
                    b: *b,
                    rtt_us: known.map(|(rtt, _)| micros(rtt)),
                    basis: known.map(|(_, basis)| words(basis)),
                    cost_us: u64::from(*cost),
                    decreed: decreed.as_ref().is_some_and(joins),
                }
            })
            .collect();
        let links = |id| shape.neighbours(id).len();
        topology.figures = TopologyFigures {
            cost_us: appraised.costs.iter().map(|cost| u64::from(*cost)).sum(),
            diameter_us: appraised.figures.diameter_us,
            distance_us: appraised.figures.distance_us,
            most_links: count(members.iter().map(links).max().unwrap_or(0)),
            fewest_links: count(members.iter().map(links).min().unwrap_or(0)),
        };
        topology.drawing = draw.map(|draw| drawing(&topology, &shape, &costs, draw));
        topology
    }
}

fn drawing(topology: &Topology, shape: &computed::Topology, costs: &Costs, draw: DrawAs) -> String {
    let rtt = |edge: &TopologyEdge| edge.rtt_us.and_then(|rtt| u32::try_from(rtt).ok());
    let rtts: Vec<Option<u32>> = topology.edges.iter().map(rtt).collect();
    let spot = |(at, site): (usize, &TopologySite)| {
        let place = costs.place(at).map(skep_estimates::Place::degrees);
        let place = place.and_then(|(lat, long)| Place::new(lat, long));
        (site.node.to_string(), place, costs.plane(at))
    };
    let spots: Vec<_> = topology.sites.iter().enumerate().map(spot).collect();
    let sites: Vec<Spot<'_>> = spots
        .iter()
        .map(|(name, place, coordinate)| Spot { name, place: *place, coordinate: *coordinate })
        .collect();
    let group = topology.group.as_str();
    let drawing = Drawing { group, topology: shape, sites: &sites, rtts: &rtts };
    match draw {
        DrawAs::Dot => drawing.dot(),
        DrawAs::Svg => drawing.svg(),
    }
}

/// Disjoint paths that there are: no more than there are others.
fn connectivity(overlay: &Overlay) -> u32 {
    count(overlay.connectivity().min(overlay.members().len().saturating_sub(1)))
}

const fn code(why: Why) -> HashReason {
    match why {
        Why::Few => HashReason::Few,
        Why::Undecreed => HashReason::Undecreed,
        Why::Awaited(_) => HashReason::Awaited,
        Why::Uncovered { .. } => HashReason::Uncovered,
    }
}

const fn words(basis: Basis) -> RttBasis {
    match basis {
        Basis::Measured => RttBasis::Measured,
        Basis::Routed => RttBasis::Routed,
        Basis::Coordinates => RttBasis::Coordinates,
        Basis::Distance => RttBasis::Distance,
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
