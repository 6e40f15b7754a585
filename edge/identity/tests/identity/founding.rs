//! The founding token: made once, given again to whoever asks the same again, and to nobody else.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::time::Duration;

use skep_identity::message::Message;
use skep_identity::{
    Ca, FOUNDING_FILE, Founding, FoundingToken, Identity, IssueRequest, Joining, Role, Roles, Terms,
};

use crate::ca::{begin, invite, reload, renewal, request};
use crate::common::{DAY, START, after, bloc, node};

fn token_of(answer: &Message) -> Option<FoundingToken> {
    match answer {
        Message::Founded(founded) => Some(FoundingToken::from_bytes(&founded.founding).unwrap()),
        Message::Granted(_) => None,
        other @ (Message::Join(_) | Message::Renew(_) | Message::Denied(_) | Message::Shown(_)) => {
            panic!("not granted: {other:?}")
        }
    }
}

#[test]
fn the_first_that_joins_gets_it_again_when_the_answer_was_lost_and_the_next_gets_none() {
    let bloc = bloc("example");
    let (first, second) = (invite(&bloc.ca, Terms::default()), invite(&bloc.ca, Terms::default()));
    let (dir, joining) = begin(&first, "a");
    let lost = bloc.ca.answer_join(&request(&joining), START);
    let again = reload(&bloc).answer_join(&request(&joining), after(DAY));
    assert_eq!(lost, again);
    let token = token_of(&again).unwrap();
    assert_eq!((token.number(), token.node()), (1, &node("a")));
    let identity = joining.finish(again).unwrap();
    assert_eq!(identity.founding(), Some(&token));
    let on_disk = FoundingToken::load(dir.path(), &node("a"), bloc.ca.trust(), START).unwrap();
    assert_eq!(on_disk, Some(token));
    let (_dir, joining) = begin(&second, "b");
    assert_eq!(token_of(&bloc.ca.answer_join(&request(&joining), START)), None);
}

#[test]
fn a_join_that_was_cut_off_after_the_token_was_written_gets_the_same_one_again() {
    let bloc = bloc("example");
    let invitation = invite(&bloc.ca, Terms::default());
    let (dir, joining) = begin(&invitation, "a");
    let answer = bloc.ca.answer_join(&request(&joining), START);
    let token = token_of(&answer).unwrap();
    token.store(dir.path()).unwrap();
    drop(joining);
    let joining = Joining::begin(dir.path(), invitation, Some(node("a"))).unwrap();
    let answer = bloc.ca.answer_join(&request(&joining), START);
    assert_eq!(joining.finish(answer).unwrap().founding(), Some(&token));
}

#[test]
fn of_many_at_once_one_gets_it() {
    let bloc = bloc("example");
    let tokens: Vec<_> = std::thread::scope(|scope| {
        let issuing: Vec<_> = (0..8)
            .map(|n| {
                let request = IssueRequest::new(node(&format!("n{n}")));
                // Each with a CA of its own, as two processes would have.
                let ca = reload(&bloc);
                scope.spawn(move || ca.issue(&request, START).unwrap().founding().cloned())
            })
            .collect();
        issuing.into_iter().filter_map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(tokens.len(), 1);
    let known = bloc.ca.founding().unwrap().unwrap();
    assert_eq!((known.number, &known.node), (1, tokens[0].node()));
}

#[test]
fn whoever_operates_from_afar_does_not_use_it_up_and_a_renewal_brings_none() {
    let bloc = bloc("example");
    let issue = |name: &str, roles: Roles| {
        bloc.ca.issue(&IssueRequest { roles, ..IssueRequest::new(node(name)) }, START).unwrap()
    };
    let operator = Roles::NONE.with(Role::Operator);
    assert!(issue("laptop", operator).founding().is_none());
    let manager = issue("m", operator.with(Role::Manager));
    assert_eq!(manager.founding().unwrap().number(), 1);
    let (_, request) = renewal(&manager);
    let answer = bloc.ca.answer_renewal(manager.info(), &request, after(DAY));
    assert_eq!(token_of(&answer), None);
}

#[test]
fn a_replacement_of_the_first_machine_gets_none_for_the_token_may_have_been_used() {
    let bloc = bloc("example");
    let ask = IssueRequest { replace: true, ..IssueRequest::new(node("a")) };
    assert!(bloc.ca.issue(&ask, START).unwrap().founding().is_some());
    assert!(bloc.ca.issue(&ask, START).unwrap().founding().is_none());
}

#[test]
fn numbers_grow_by_one_and_are_never_forgotten() {
    let bloc = bloc("example");
    let ca = reload(&bloc).with_life(Duration::from_secs(3600)).unwrap();
    let busy = ca.issue(&IssueRequest::new(node("busy")), START).unwrap();
    assert_eq!(busy.founding().unwrap().number(), 1);
    for number in 2..=4 {
        let token = ca.refound(&node("b"), DAY, START).unwrap();
        assert_eq!(token.number(), number);
        assert!(token.judge(ca.trust(), after(DAY)).is_ok());
    }
    // Long enough for the journal to be written anew, without most of its lines.
    let mut identity = busy;
    for n in 1..=1100_u64 {
        let (renewing, request) = renewal(&identity);
        let now = after(Duration::from_secs(n * 61));
        identity = renewing.finish(ca.answer_renewal(identity.info(), &request, now)).unwrap();
    }
    let ledger = fs::read_to_string(bloc.ca.dir().join("ledger")).unwrap();
    assert_eq!(ledger.lines().filter(|line| line.contains("\"founding\"")).count(), 1);
    let known = reload(&bloc).founding().unwrap();
    let (number, until) = (4, after(DAY));
    assert_eq!(known, Some(Founding { number, node: node("b"), at: START, until }));
    assert_eq!(ca.refound(&node("b"), DAY, START).unwrap().number(), 5);
}

#[test]
fn a_copy_of_the_cas_key_makes_no_first_token() {
    let bloc = bloc("example");
    let elsewhere = tempfile::tempdir().unwrap();
    let dir = elsewhere.path().join("ca");
    fs::create_dir(&dir).unwrap();
    for file in ["ca.pem", "ca.key"] {
        fs::copy(bloc.ca.dir().join(file), dir.join(file)).unwrap();
    }
    let copy = Ca::load(&dir).unwrap();
    let issued = copy.issue(&IssueRequest::new(node("a")), START).unwrap();
    assert!(issued.founding().is_none());
    assert!(bloc.node("b").founding().is_some());
}

#[test]
fn a_torn_line_made_no_token() {
    let bloc = bloc("example");
    let token = bloc.ca.refound(&node("a"), DAY, START).unwrap();
    assert_eq!(token.number(), 1);
    let path = bloc.ca.dir().join("ledger");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 9]).unwrap();
    let ca = Ca::load(bloc.ca.dir()).unwrap();
    assert_eq!(ca.founding().unwrap(), None, "it was never handed out");
    assert_eq!(ca.refound(&node("a"), DAY, START).unwrap().number(), 1);
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"half").unwrap();
    assert_eq!(Ca::load(bloc.ca.dir()).unwrap().founding().unwrap().unwrap().number, 1);
}

#[test]
fn a_life_out_of_bounds_is_refused_and_makes_nothing() {
    let bloc = bloc("example");
    for life in [Duration::from_secs(1), DAY * 31] {
        assert!(bloc.ca.refound(&node("a"), life, START).is_err());
    }
    assert_eq!(bloc.ca.founding().unwrap(), None);
}

#[test]
fn an_identity_that_is_stored_has_the_token_beside_it() {
    let bloc = bloc("example");
    let dir = tempfile::tempdir().unwrap();
    let identity = bloc.node("a");
    identity.store(dir.path()).unwrap();
    let trust = identity.trust();
    let token = FoundingToken::load(dir.path(), &node("a"), trust, START).unwrap();
    assert_eq!(token.as_ref(), identity.founding());
    assert!(Identity::load(dir.path()).unwrap().founding().is_none());
    // What is stored once more after a renewal brings no used token back.
    FoundingToken::destroy(dir.path()).unwrap();
    Identity::load(dir.path()).unwrap().store(dir.path()).unwrap();
    assert!(!dir.path().join(FOUNDING_FILE).exists());
}
