//! What is wrong with a flock, as its master sees it.

use skep_managers::{Authority, Epoch, FlockView, ForkId, Generation, Lineage, Stamp, Strength};

use super::*;

fn id(number: u8) -> NodeId {
    NodeId::from_bytes([number; NodeId::LEN])
}

fn place(number: u8) -> RosterView {
    RosterView {
        node: id(number),
        standing: 1000,
        resources: 1000,
        availability: 1000,
        present: true,
        witness: false,
        held: false,
        held_since: None,
        unwell: None,
        given_up: false,
        seen: skep_managers::Seen::default(),
    }
}

/// Node 1 is master, 2 and 3 are its backups, and 4 may be one.
fn view() -> View {
    let seen = Stamp { epoch: Epoch(3), fork: ForkId(1) };
    let flock = FlockView {
        name: "amber-heron-2".to_owned(),
        lineage: Lineage(7),
        generation: Generation(2),
        stamp: seen,
        term: 3,
        strength: Strength::Weak,
        weak: None,
        descends: false,
        founding: skep_managers::Founding(0),
        parent: None,
        acknowledged: true,
        master: Some(id(1)),
        heard: None,
        backups: vec![id(2), id(3)],
        learners: Vec::new(),
        sync_set: vec![id(1)],
        roster: (1..=4).map(place).collect(),
        committed: 1,
        applied: 1,
        last: 1,
        sync_version: 1,
        lease_until: None,
        master_since: None,
        authority: Authority::default(),
    };
    let (waits, others) = (Vec::new(), Vec::new());
    let (holding, eligible) = (Vec::new(), (1..=4).map(id).collect());
    View { role: Role::Master, flock: Some(flock), waits, seen, others, holding, eligible }
}

/// Facts in which all four nodes are present and known by their names.
fn facts(view: &View) -> Facts<'_> {
    let known = |number: u8| Known {
        name: Some(format!("web-{number}")),
        status: Some(Status::Present),
        expelled: false,
    };
    let nodes = (1..=4).map(|number| (id(number), known(number))).collect();
    Facts { me: id(1), view, office: Office::Master, nodes, open: Vec::new() }
}

fn at<'a>(facts: &'a mut Facts<'_>, number: u8) -> &'a mut Known {
    facts.nodes.entry(id(number)).or_default()
}

/// Nobody knows any more what a node that is away was called.
fn forget(facts: &mut Facts<'_>, number: u8) {
    *at(facts, number) = Known::default();
}

fn managers() -> BTreeMap<NodeId, &'static str> {
    [(id(1), "master"), (id(2), "backup"), (id(3), "backup")].into()
}

fn names(sightings: &[Sighting]) -> Vec<String> {
    sightings.iter().map(|it| it.incident.to_string()).collect()
}

fn roster(facts: &Facts<'_>) -> Vec<Sighting> {
    let mut all = Vec::new();
    facts.roster(&mut all);
    all
}

#[test]
fn a_manager_that_is_silent_is_lost_until_it_is_there_again_or_has_left() {
    let view = view();
    let mut facts = facts(&view);
    let mut managers = managers();
    assert_eq!(names(&facts.lost_managers(&mut managers)), [""; 0]);
    at(&mut facts, 2).status = Some(Status::Silent);
    assert_eq!(names(&facts.lost_managers(&mut managers)), ["manager-lost.web-2"]);
    at(&mut facts, 2).status = Some(Status::Restarting);
    assert_eq!(names(&facts.lost_managers(&mut managers)), [""; 0]);
    at(&mut facts, 2).status = Some(Status::Left);
    assert_eq!(names(&facts.lost_managers(&mut managers)), [""; 0]);
    assert!(!managers.contains_key(&id(2)));
}

#[test]
fn a_manager_that_was_expelled_is_not_lost() {
    let view = view();
    let mut facts = facts(&view);
    facts.open = vec![Incident::new(Kind::ManagerLost, "web-2")];
    at(&mut facts, 2).status = Some(Status::Silent);
    assert_eq!(names(&facts.lost_managers(&mut managers())), ["manager-lost.web-2"]);
    at(&mut facts, 2).expelled = true;
    assert_eq!(names(&facts.lost_managers(&mut managers())), [""; 0]);
    assert_eq!(names(&facts.lost_managers(&mut BTreeMap::new())), [""; 0], "noted by another");
}

#[test]
fn that_a_name_was_forgotten_ends_nothing_and_begins_nothing() {
    let mut view = view();
    let flock = view.flock.as_mut().unwrap();
    flock.backups.pop();
    flock.roster[2] = RosterView { present: false, given_up: true, ..place(3) };
    let mut facts = facts(&view);
    facts.open = [Kind::ManagerLost, Kind::GivenUp].map(|it| Incident::new(it, "web-3")).into();
    let mut remembers = managers();
    for forgets in [false, true] {
        if forgets {
            forget(&mut facts, 3);
            // As a master does that has begun only now.
            remembers.remove(&id(3));
        } else {
            at(&mut facts, 3).status = Some(Status::Unmet);
        }
        assert_eq!(names(&facts.lost_managers(&mut remembers)), ["manager-lost.web-3"]);
        assert_eq!(names(&roster(&facts)), ["given-up.web-3"], "forgotten: {forgets}");
    }
    // It is back: both are over.
    *at(&mut facts, 3) =
        Known { name: Some("web-3".to_owned()), status: Some(Status::Present), expelled: false };
    assert_eq!(names(&facts.lost_managers(&mut remembers)), [""; 0]);
}

#[test]
fn who_was_never_known_by_name_is_noted_by_number_until_it_has_one() {
    let mut view = view();
    view.flock.as_mut().unwrap().roster[2].given_up = true;
    let mut facts = facts(&view);
    forget(&mut facts, 3);
    let number = id(3).to_string();
    let expected = [format!("given-up.{number}")];
    assert_eq!(names(&roster(&facts)), expected);
    facts.open = vec![Incident::new(Kind::GivenUp, &number)];
    assert_eq!(names(&roster(&facts)), expected);
    at(&mut facts, 3).name = Some("web-3".to_owned());
    assert_eq!(names(&roster(&facts)), ["given-up.web-3"]);
}

#[test]
fn a_node_that_holds_by_itself_is_on_hold_as_one_that_an_operator_held() {
    let mut view = view();
    view.holding = vec![id(3)];
    view.flock.as_mut().unwrap().roster[3].held = true;
    let all = roster(&facts(&view));
    assert_eq!(names(&all), ["on-hold.web-3", "on-hold.web-4"]);
    assert!(all[0].what.contains("a history that nobody has compared"), "{}", all[0].what);
    assert!(all[1].what.contains("an operator's order"), "{}", all[1].what);
    // It says so whatever else it is, and an operator's word goes before its own.
    for place in [1, 3] {
        let unwell = Some(skep_base::Time::from_millis(1));
        view.flock.as_mut().unwrap().roster[place].unwell = unwell;
    }
    let all = roster(&facts(&view));
    assert_eq!(names(&all), ["on-hold.web-2", "on-hold.web-3", "on-hold.web-4"]);
    assert!(all[0].what.contains("is not well"), "{}", all[0].what);
    assert!(all[2].what.contains("an operator's order"), "{}", all[2].what);
    view.flock.as_mut().unwrap().roster[1].present = false;
    // It is away: what it held when it was last heard of is nothing that is so now.
    view.flock.as_mut().unwrap().roster[2].present = false;
    assert_eq!(names(&roster(&facts(&view))), ["on-hold.web-4"]);
}

#[test]
fn the_lowest_that_may_be_a_manager_speaks_for_those_without_a_master() {
    let mut view = view();
    view.eligible = vec![id(3), id(4)];
    let present = [id(2), id(3), id(4)];
    assert_eq!([2, 3, 4].map(|node| speaks(&view, &present, id(node))), [false, true, false]);
    view.eligible.clear();
    assert_eq!([2, 3, 4].map(|node| speaks(&view, &present, id(node))), [true, false, false]);
}
