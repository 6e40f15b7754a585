//! The CA, its books, invitations, renewal; crashes and lies.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::Duration;

use skep_base::WallTime;
use skep_identity::message::{Denial, JoinRequest, Message, RenewRequest};
use skep_identity::{
    CA_KEY_FILE, Ca, CaError, CertInfo, EnrolError, Identity, IdentityError, Invitation,
    InviteRequest, IssueRequest, Joining, KEY_FILE, LedgerError, Renewing, Role, Roles, Terms,
    parse_certificate,
};
use tempfile::TempDir;

use crate::common::{Bloc, DAY, START, address, after, bloc, node};

pub(crate) fn invite(ca: &Ca, terms: Terms) -> Invitation {
    let request = InviteRequest { terms, addresses: vec![address()], life: DAY };
    ca.invite(request, START).unwrap()
}

pub(crate) fn begin(invitation: &Invitation, name: &str) -> (TempDir, Joining) {
    let dir = tempfile::tempdir().unwrap();
    let joining = Joining::begin(dir.path(), invitation.clone(), Some(node(name))).unwrap();
    (dir, joining)
}

pub(crate) fn request(joining: &Joining) -> JoinRequest {
    let Message::Join(request) = joining.request().unwrap() else {
        panic!("not a join request");
    };
    request
}

fn granted(answer: Message) -> Vec<u8> {
    match answer {
        Message::Granted(granted) => granted.certificate,
        Message::Founded(founded) => founded.granted.certificate,
        other @ (Message::Join(_) | Message::Renew(_) | Message::Denied(_) | Message::Shown(_)) => {
            panic!("not granted: {other:?}")
        }
    }
}

fn denied(answer: Message) -> Denial {
    let Message::Denied(denial) = answer else {
        panic!("not denied: {answer:?}");
    };
    denial
}

pub(crate) fn renewal(identity: &Identity) -> (Renewing, RenewRequest) {
    let renewing = Renewing::begin(identity).unwrap();
    let Message::Renew(request) = renewing.request() else {
        panic!("not a renewal");
    };
    (renewing, request)
}

pub(crate) fn reload(bloc: &Bloc) -> Ca {
    Ca::load(bloc.ca.dir()).unwrap()
}

fn ledger(bloc: &Bloc) -> std::path::PathBuf {
    bloc.ca.dir().join("ledger")
}

#[test]
fn a_ca_is_made_once_and_loaded_as_it_was() {
    let bloc = bloc("example.com");
    let again = reload(&bloc);
    assert_eq!(again.bloc().as_str(), "example.com");
    assert_eq!(again.fingerprint(), bloc.ca.fingerprint());
    let mode = |file: &str| fs::metadata(again.dir().join(file)).unwrap().mode() & 0o7777;
    assert_eq!(mode(CA_KEY_FILE), 0o600);
    assert_eq!(fs::metadata(again.dir()).unwrap().mode() & 0o7777, 0o700);
    assert!(matches!(Ca::init(again.dir(), again.bloc(), START), Err(CaError::Exists { .. })));
    assert!(matches!(Ca::load(bloc.dir.path()), Err(CaError::Missing { .. })));
}

#[test]
fn a_ca_whose_making_was_cut_off_keeps_its_key() {
    let bloc = bloc("example");
    let dir = bloc.ca.dir();
    let key = fs::read(dir.join(CA_KEY_FILE)).unwrap();
    fs::remove_file(dir.join("ca.pem")).unwrap();
    Ca::init(dir, bloc.ca.bloc(), START).unwrap();
    assert_eq!(fs::read(dir.join(CA_KEY_FILE)).unwrap(), key);
}

#[test]
fn a_foreign_or_exposed_ca_key_is_refused() {
    let (one, two) = (bloc("example"), bloc("example"));
    let key = one.ca.dir().join(CA_KEY_FILE);
    fs::copy(two.ca.dir().join(CA_KEY_FILE), &key).unwrap();
    assert!(matches!(Ca::load(one.ca.dir()), Err(CaError::Mismatch { .. })));
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let error = Ca::load(one.ca.dir()).unwrap_err().to_string();
    assert!(error.contains("others may read") && error.contains("chmod 600"));
}

#[test]
fn a_certificate_made_ahead_says_what_was_asked_for() {
    let bloc = bloc("example.com");
    let asked = IssueRequest {
        network: Some("rack-1".parse().unwrap()),
        roles: Roles::NONE.with(Role::Queen).with(Role::Operator),
        life: Some(DAY),
        ..IssueRequest::new(node("web-1"))
    };
    let identity = bloc.ca.issue(&asked, START).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("identity");
    identity.store(&dir).unwrap();
    let loaded = Identity::load(&dir).unwrap();
    assert_eq!(loaded.info(), identity.info());
    assert_eq!(loaded.sign(b"x"), identity.sign(b"x"));
    let info = loaded.info();
    assert_eq!(info.node, node("web-1"));
    assert_eq!(info.network.as_ref().unwrap().as_str(), "rack-1");
    assert_eq!(info.roles, asked.roles);
    assert_eq!((info.not_before, info.not_after), (START, after(DAY)));
    assert_eq!(loaded.trust().bloc(), bloc.ca.bloc());
    let mode = |file: &str| fs::metadata(dir.join(file)).unwrap().mode() & 0o7777;
    assert_eq!(mode(KEY_FILE), 0o600);
}

#[test]
fn a_name_is_given_out_once_unless_its_machine_is_replaced() {
    let bloc = bloc("example");
    bloc.node("a");
    let mut asked = IssueRequest::new(node("a"));
    assert!(matches!(bloc.ca.issue(&asked, START), Err(CaError::NameTaken { .. })));
    assert!(matches!(reload(&bloc).issue(&asked, after(DAY * 36)), Err(CaError::NameTaken { .. })));
    asked.replace = true;
    bloc.ca.issue(&asked, after(DAY)).unwrap();
    asked.replace = false;
    bloc.ca.issue(&asked, after(DAY * 39)).unwrap();
}

#[test]
fn lives_outside_the_bounds_are_refused() {
    let bloc = bloc("example");
    for life in [Duration::from_secs(9), DAY * 399] {
        let asked = IssueRequest { life: Some(life), ..IssueRequest::new(node("a")) };
        let refused = bloc.ca.issue(&asked, START);
        assert!(matches!(refused, Err(CaError::OutOfBounds { .. })));
        assert!(matches!(reload(&bloc).with_life(life), Err(CaError::OutOfBounds { .. })));
    }
    let invitation = |addresses, life| {
        let terms = Terms::default();
        bloc.ca.invite(InviteRequest { terms, addresses, life }, START)
    };
    assert!(invitation(vec![], DAY).is_err());
    assert!(invitation(vec![address(); 9], DAY).is_err());
    assert!(invitation(vec![address()], DAY * 91).is_err());
}

#[test]
fn no_certificate_outlives_its_ca() {
    let bloc = bloc("example");
    let end = bloc.ca.not_after();
    let shortly = WallTime::from_unix_ms(end.unix_ms - 60_000);
    let last = bloc.ca.issue(&IssueRequest::new(node("a")), shortly).unwrap();
    assert_eq!(last.info().not_after, end);
    assert!(matches!(
        bloc.ca.issue(&IssueRequest::new(node("b")), end),
        Err(CaError::AuthorityExpired { .. })
    ));
}

#[test]
fn a_node_joins_with_what_its_invitation_grants() {
    let bloc = bloc("example");
    let terms = Terms {
        node: Some(node("new-1")),
        network: Some("rack-2".parse().unwrap()),
        roles: Roles::NONE.with(Role::Manager),
    };
    let word = invite(&bloc.ca, terms.clone()).to_string();
    let invitation: Invitation = word.parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let joining = Joining::begin(dir.path(), invitation, None).unwrap();
    let answer = bloc.ca.answer_join(&request(&joining), START);
    let identity = joining.finish(answer).unwrap();
    let info = Identity::load(dir.path()).unwrap().info().clone();
    assert_eq!(info, *identity.info());
    assert_eq!(info.network, terms.network);
    assert_eq!(info.roles, terms.roles);
    let mut files: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, ["ca.pem", "founding.token", "node.key", "node.pem"]);
}

#[test]
fn one_invitation_makes_one_certificate_however_often_it_is_used() {
    let bloc = bloc("example");
    let invitation = invite(&bloc.ca, Terms::default());
    assert_eq!(bloc.ca.open_invitations(START).unwrap(), 1);
    let (_dir, joining) = begin(&invitation, "a");
    let first = granted(bloc.ca.answer_join(&request(&joining), START));
    let repeated = granted(bloc.ca.answer_join(&request(&joining), after(DAY * 2)));
    assert_eq!(first, repeated, "a lost answer is given again, even after the end");
    let restarted = granted(reload(&bloc).answer_join(&request(&joining), START));
    assert_eq!(first, restarted);

    let (_dir, thief) = begin(&invitation, "b");
    let refusal = denied(bloc.ca.answer_join(&request(&thief), START));
    assert_eq!(refusal, Denial::InvitationUsed { by: node("a") });
    let (_dir, same_name) = begin(&invitation, "a");
    let refusal = denied(bloc.ca.answer_join(&request(&same_name), START));
    assert_eq!(refusal, Denial::InvitationUsed { by: node("a") });
    assert_eq!(bloc.ca.open_invitations(START).unwrap(), 0, "it is used up");
}

#[test]
fn many_at_once_with_one_invitation_get_one_certificate() {
    let bloc = bloc("example");
    let invitation = invite(&bloc.ca, Terms::default());
    // Each with a CA of its own, as two processes would have.
    let answers: Vec<_> = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..8)
            .map(|n| {
                let (bloc, invitation) = (&bloc, &invitation);
                scope.spawn(move || {
                    let (_dir, joining) = begin(invitation, &format!("n{n}"));
                    reload(bloc).answer_join(&request(&joining), START)
                })
            })
            .collect();
        tries.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let granted = |answer: &&Message| matches!(answer, Message::Granted(_) | Message::Founded(_));
    let count = answers.iter().filter(granted).count();
    assert_eq!(count, 1);
    assert_eq!(bloc.ca.issued().unwrap().len(), 1);
}

#[test]
fn requests_that_do_not_fit_are_denied_by_name() {
    let (ours, other) = (bloc("example"), bloc("elsewhere"));
    ours.node("taken");
    let open = invite(&ours.ca, Terms::default());
    let fixed = invite(&ours.ca, Terms { node: Some(node("fixed")), ..Terms::default() });
    let ask = |request: &JoinRequest, now| denied(ours.ca.answer_join(request, now));

    let foreign = invite(&other.ca, Terms::default());
    let (_dir, joining) = begin(&foreign, "a");
    let wrong = Denial::WrongBloc { ours: ours.ca.bloc().clone() };
    assert_eq!(ask(&request(&joining), START), wrong);

    let (_dir, joining) = begin(&open, "taken");
    let refusal = ask(&request(&joining), START);
    assert!(matches!(refusal, Denial::NameTaken { .. }));

    let (_dir, joining) = begin(&open, "a");
    let late = after(DAY + Duration::from_secs(1));
    let refusal = ask(&request(&joining), late);
    assert_eq!(refusal, Denial::InvitationExpired { at: after(DAY) });

    let mut asked = request(&joining);
    asked.invitation = [7; 32];
    assert_eq!(ask(&asked, START), Denial::UnknownInvitation);
    for change in [
        |asked: &mut JoinRequest| asked.proof.0[0] ^= 1,
        |asked: &mut JoinRequest| asked.voucher.0[0] ^= 1,
        |asked: &mut JoinRequest| asked.public_key[0] ^= 1,
        |asked: &mut JoinRequest| asked.node = node("b"),
    ] {
        let mut asked = request(&joining);
        change(&mut asked);
        assert_eq!(ask(&asked, START), Denial::BadProof);
    }
    assert!(matches!(
        Joining::begin(tempfile::tempdir().unwrap().path(), fixed.clone(), Some(node("x"))),
        Err(EnrolError::WrongNode { .. })
    ));
    assert!(matches!(
        Joining::begin(tempfile::tempdir().unwrap().path(), open.clone(), None),
        Err(EnrolError::NoName)
    ));
    granted(ours.ca.answer_join(&request(&joining), START));
}

#[test]
fn an_invitation_for_a_taken_name_replaces_its_machine() {
    let bloc = bloc("example");
    let old = bloc.node("a");
    let terms = Terms { node: Some(node("a")), ..Terms::default() };
    let invitation = invite(&bloc.ca, terms);
    let (_dir, joining) = begin(&invitation, "a");
    let now = after(Duration::from_secs(3600));
    let new = joining.finish(bloc.ca.answer_join(&request(&joining), now)).unwrap();

    let later = after(DAY * 20);
    let (_, asked) = renewal(&old);
    let refusal = denied(bloc.ca.answer_renewal(old.info(), &asked, later));
    assert_eq!(refusal, Denial::Replaced { at: now });
    let (renewing, asked) = renewal(&new);
    let answer = bloc.ca.answer_renewal(new.info(), &asked, later);
    let renewed = renewing.finish(answer).unwrap();
    let (_, asked) = renewal(&old);
    let refusal = denied(bloc.ca.answer_renewal(old.info(), &asked, after(DAY * 21)));
    assert_eq!(refusal, Denial::Replaced { at: now }, "nor after its successor's renewal");
    let (_, asked) = renewal(&renewed);
    granted(bloc.ca.answer_renewal(renewed.info(), &asked, after(DAY * 40)));
}

#[test]
fn a_joining_node_believes_no_answer_but_the_right_one() {
    let (ours, forged) = (bloc("example"), bloc("example"));
    let invitation = invite(&ours.ca, Terms::default());
    let (dir, joining) = begin(&invitation, "a");
    let key = request(&joining).public_key;

    let elsewhere = forged.ca.issue_for_key(&IssueRequest::new(node("a")), &key, START);
    let other_ca = Message::Granted(skep_identity::message::Granted {
        certificate: elsewhere.unwrap().to_vec(),
        authority: forged.ca.certificate_der().to_vec(),
    });
    assert!(matches!(joining.finish(other_ca), Err(EnrolError::WrongAuthority { .. })));
    let with = |certificate: Vec<u8>| {
        Message::Granted(skep_identity::message::Granted {
            certificate,
            authority: ours.ca.certificate_der().to_vec(),
        })
    };
    let other_key = ours.node("b").certificate_der().to_vec();
    assert!(matches!(joining.finish(with(other_key)), Err(EnrolError::Certificate(_))));
    let other_name = ours.ca.issue_for_key(&IssueRequest::new(node("c")), &key, START);
    assert!(matches!(
        joining.finish(with(other_name.unwrap().to_vec())),
        Err(EnrolError::WrongCertificate { .. })
    ));
    assert!(matches!(joining.finish(with(b"junk".to_vec())), Err(EnrolError::Certificate(_))));
    assert!(matches!(
        joining.finish(Message::Denied(Denial::Unavailable)),
        Err(EnrolError::Denied(Denial::Unavailable))
    ));
    assert!(matches!(joining.finish(joining.request().unwrap()), Err(EnrolError::NoAnswer)));
    assert!(matches!(Identity::load(dir.path()), Err(IdentityError::Missing { .. })));
    joining.finish(ours.ca.answer_join(&request(&joining), START)).unwrap();
    assert!(matches!(
        Joining::begin(dir.path(), invitation, Some(node("a"))),
        Err(EnrolError::Member { .. })
    ));
}

#[test]
fn an_interrupted_join_goes_on_with_the_same_key() {
    let bloc = bloc("example");
    let invitation = invite(&bloc.ca, Terms::default());
    let (dir, joining) = begin(&invitation, "a");
    let first = bloc.ca.answer_join(&request(&joining), START);
    drop(joining);
    // The process died before the answer came.
    let again = Joining::begin(dir.path(), invitation, Some(node("a"))).unwrap();
    let second = bloc.ca.answer_join(&request(&again), START);
    assert_eq!(first, second);
    again.finish(second).unwrap();
}

#[test]
fn renewal_keeps_everything_but_the_dates_and_the_key() {
    let bloc = bloc("example");
    let asked = IssueRequest {
        network: Some("rack-1".parse().unwrap()),
        roles: Roles::NONE.with(Role::Princess),
        ..IssueRequest::new(node("a"))
    };
    let old = bloc.ca.issue(&asked, START).unwrap();
    let (renewing, request) = renewal(&old);
    let now = old.info().renew_at();
    let answer = bloc.ca.answer_renewal(old.info(), &request, now);
    assert_eq!(
        bloc.ca.answer_renewal(old.info(), &request, now),
        answer,
        "a lost answer is given again"
    );
    let new = renewing.finish(answer).unwrap();
    let expected = CertInfo {
        not_before: now,
        not_after: after(DAY * 50),
        public_key: new.info().public_key,
        hash: new.info().hash,
        ..old.info().clone()
    };
    assert_eq!(*new.info(), expected);
    assert_ne!(new.info().public_key, old.info().public_key);
}

#[test]
fn renewals_that_do_not_fit_are_denied() {
    let (ours, other) = (bloc("example"), bloc("elsewhere"));
    let (a, b) = (ours.node("a"), ours.node("b"));
    let now = a.info().renew_at();
    let (_, request) = renewal(&a);
    let ask = |info: &CertInfo, request: &RenewRequest, now| {
        denied(ours.ca.answer_renewal(info, request, now))
    };
    assert_eq!(ask(b.info(), &request, now), Denial::BadProof, "another member's request");
    let mut changed = request.clone();
    changed.public_key[0] ^= 1;
    assert_eq!(ask(a.info(), &changed, now), Denial::BadProof);
    let foreign = other.node("a");
    let (_, theirs) = renewal(&foreign);
    let refusal = ask(foreign.info(), &theirs, now);
    assert!(matches!(refusal, Denial::WrongBloc { .. }));
    granted(ours.ca.answer_renewal(a.info(), &request, now));
    let (_, another) = renewal(&a);
    assert!(matches!(ask(a.info(), &another, now), Denial::TooSoon { .. }));
    let later = WallTime::from_unix_ms(now.unix_ms + 61_000);
    granted(ours.ca.answer_renewal(a.info(), &another, later));
}

#[test]
fn a_renewal_cut_off_between_the_two_files_is_finished_at_the_next_start() {
    let bloc = bloc("example");
    let dir = tempfile::tempdir().unwrap();
    let path = |file: &str| dir.path().join(file);
    let old = bloc.node("a");
    old.store(dir.path()).unwrap();
    let (old_key, old_pem) =
        (fs::read(path(KEY_FILE)).unwrap(), fs::read(path("node.pem")).unwrap());
    let (renewing, request) = renewal(&old);
    let answer = bloc.ca.answer_renewal(old.info(), &request, after(DAY * 20));
    let new = renewing.finish(answer).unwrap();
    new.store(dir.path()).unwrap();
    let new_pem = fs::read(path("node.pem")).unwrap();

    // The key had been renamed, the certificate not yet.
    fs::write(path("node.pem"), &old_pem).unwrap();
    fs::write(path("node.pem.next"), &new_pem).unwrap();
    assert_eq!(Identity::load(dir.path()).unwrap().info(), new.info());
    assert_eq!(fs::read(path("node.pem")).unwrap(), new_pem);
    assert!(!path("node.pem.next").exists());

    // Both had been written, neither renamed.
    fs::write(path("node.pem"), &old_pem).unwrap();
    fs::write(path("node.pem.next"), &new_pem).unwrap();
    fs::copy(path(KEY_FILE), path("node.key.next")).unwrap();
    fs::write(path(KEY_FILE), &old_key).unwrap();
    assert_eq!(Identity::load(dir.path()).unwrap().info(), old.info());

    // Files of two identities, mixed by hand.
    fs::remove_file(path("node.pem.next")).unwrap();
    fs::write(path("node.pem"), &new_pem).unwrap();
    let error = Identity::load(dir.path()).unwrap_err();
    assert!(matches!(error, IdentityError::Mismatch { .. }));
}

#[test]
fn an_identity_with_another_bloc_s_ca_is_refused() {
    let (ours, other) = (bloc("example"), bloc("example"));
    let dir = tempfile::tempdir().unwrap();
    ours.node("a").store(dir.path()).unwrap();
    fs::copy(other.ca.dir().join("ca.pem"), dir.path().join("ca.pem")).unwrap();
    assert!(matches!(Identity::load(dir.path()), Err(IdentityError::Certificate { .. })));
}

#[test]
fn a_torn_last_line_never_counted_and_stands_in_nobody_s_way() {
    let bloc = bloc("example");
    let invitation = invite(&bloc.ca, Terms::default());
    let before = fs::read(ledger(&bloc)).unwrap();
    let (_dir, joining) = begin(&invitation, "a");
    granted(bloc.ca.answer_join(&request(&joining), START));
    let whole = fs::read(ledger(&bloc)).unwrap();
    // Every way in which the write of the second line can have been cut off.
    for cut in before.len()..whole.len() {
        fs::write(ledger(&bloc), &whole[..cut]).unwrap();
        let ca = reload(&bloc);
        assert_eq!(ca.issued().unwrap(), [], "cut at {cut}");
        assert_eq!(fs::read(ledger(&bloc)).unwrap(), before);
    }
    let mut zeroed = whole.clone();
    zeroed[before.len() + 40..].fill(0);
    fs::write(ledger(&bloc), &zeroed).unwrap();
    let ca = reload(&bloc);
    granted(ca.answer_join(&request(&joining), START));
    assert_eq!(reload(&bloc).issued().unwrap().len(), 1);
    assert!(bloc.ca.dir().join("ledger.torn").exists());
}

#[test]
fn damage_in_the_middle_is_refused_and_nothing_is_changed() {
    let bloc = bloc("example");
    for name in ["a", "b", "c"] {
        bloc.node(name);
    }
    let mut bytes = fs::read(ledger(&bloc)).unwrap();
    let second = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 30;
    bytes[second] ^= 1;
    fs::write(ledger(&bloc), &bytes).unwrap();
    let error = Ca::load(bloc.ca.dir()).unwrap_err();
    assert!(matches!(error, CaError::Ledger(LedgerError::Damaged { line: 2, .. })));
    assert_eq!(fs::read(ledger(&bloc)).unwrap(), bytes);
}

#[test]
fn two_processes_see_one_another_s_entries() {
    let bloc = bloc("example");
    let serving = reload(&bloc);
    let invitation = invite(&bloc.ca, Terms::default());
    let (_dir, joining) = begin(&invitation, "a");
    granted(serving.answer_join(&request(&joining), START));
    assert!(matches!(
        bloc.ca.issue(&IssueRequest::new(node("a")), START),
        Err(CaError::NameTaken { .. })
    ));
}

/// The journal cannot be opened; once it can, everything is as it was.
#[test]
fn a_ca_that_cannot_write_its_books_grants_nothing() {
    let bloc = bloc("example");
    let invitation = invite(&bloc.ca, Terms::default());
    let (_dir, joining) = begin(&invitation, "a");
    let kept = bloc.ca.dir().join("kept");
    fs::rename(ledger(&bloc), &kept).unwrap();
    fs::create_dir(ledger(&bloc)).unwrap();
    let refusal = denied(bloc.ca.answer_join(&request(&joining), START));
    assert_eq!(refusal, Denial::Unavailable);
    fs::remove_dir(ledger(&bloc)).unwrap();
    fs::rename(&kept, ledger(&bloc)).unwrap();
    granted(bloc.ca.answer_join(&request(&joining), START));
}

/// Runs itself again with a limit on the size of files, so that a line is really written in part.
#[test]
fn a_full_disk_loses_no_line_and_leaves_no_half_one() {
    const DIR: &str = "SKEP_TEST_FULL_DISK";
    if let Some(dir) = std::env::var_os(DIR) {
        return fill(std::path::Path::new(&dir));
    }
    let bloc = bloc("example");
    let child = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" --exact \"$1\"", &exe()])
        .arg("ca::a_full_disk_loses_no_line_and_leaves_no_half_one")
        .env(DIR, bloc.ca.dir())
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    let known = reload(&bloc).issued().unwrap().len();
    assert!(known > 2, "the child did issue certificates: {known}");
    let lines = fs::read(ledger(&bloc)).unwrap();
    let begun = 1;
    assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), begun + known);
    assert_eq!(lines.last(), Some(&b'\n'));
    assert!(!bloc.ca.dir().join("ledger.torn").exists(), "it was taken back at once");
    bloc.node("after-all");
}

fn exe() -> String {
    std::env::current_exe().unwrap().to_str().unwrap().to_owned()
}

fn fill(dir: &std::path::Path) {
    let ca = Ca::load(dir).unwrap();
    let mut issued = 0;
    let error = loop {
        match ca.issue(&IssueRequest::new(node(&format!("n{issued}"))), START) {
            Ok(_) => issued += 1,
            Err(error) => break error,
        }
        assert!(issued < 1000, "the limit does not bite");
    };
    assert!(matches!(error, CaError::Ledger(LedgerError::Io { operation: "write", .. })));
    assert_eq!(ca.issued().unwrap().len(), issued);
}

#[test]
fn old_lines_are_dropped_and_what_matters_stays() {
    let bloc = bloc("example");
    let ca = reload(&bloc).with_life(Duration::from_secs(3600)).unwrap();
    let invitation = invite(&ca, Terms::default());
    let (_dir, joining) = begin(&invitation, "joined");
    let first = granted(ca.answer_join(&request(&joining), START));
    let mut identity = ca.issue(&IssueRequest::new(node("busy")), START).unwrap();
    let mut largest = 0;
    for n in 1..=1100_u64 {
        let now = after(Duration::from_secs(n * 61));
        let (renewing, request) = renewal(&identity);
        let answer = ca.answer_renewal(identity.info(), &request, now);
        identity = renewing.finish(answer).unwrap();
        largest = largest.max(fs::metadata(ledger(&bloc)).unwrap().len());
    }
    let size = fs::metadata(ledger(&bloc)).unwrap().len();
    assert!(size * 3 < largest, "{size} of {largest} bytes");
    let again = reload(&bloc);
    assert_eq!(granted(again.answer_join(&request(&joining), START)), first);
    let newest = again.issued().unwrap();
    let busy = newest.iter().find(|issued| issued.node == node("busy")).unwrap();
    assert_eq!(busy.until, identity.info().not_after);
}

#[test]
fn lines_of_a_later_build_are_not_guessed_at() {
    let bloc = bloc("example");
    bloc.node("a");
    let json = "{\"expelled\":{\"node\":\"a\"}}";
    let digest = skep_base::Digest::of(json.as_bytes()).abbreviated(16);
    let mut file = OpenOptions::new().append(true).open(ledger(&bloc)).unwrap();
    writeln!(file, "{digest} {json}").unwrap();
    assert!(matches!(
        Ca::load(bloc.ca.dir()),
        Err(CaError::Ledger(LedgerError::Unknown { line: 3, .. }))
    ));
}

#[test]
fn everything_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Ca>();
    shared::<Identity>();
    shared::<skep_identity::IdentityHandle>();
    shared::<skep_identity::Trust>();
    let bloc = bloc("example");
    let identity = Arc::new(bloc.node("a"));
    assert!(parse_certificate(identity.certificate_der()).is_ok());
}
