//! The command line as users meet it: each help text, each listing at 80 columns.

use expect_test::{Expect, expect, expect_file};

use skep_control::api::{
    Authority, Catalog, CatalogDiff, CatalogHistory, Flock, Freshness, Management, Wait,
};

use crate::render::{self, Style};
use crate::{definition, samples};

const TERMINAL: Style = Style { colour: false, width: Some(80) };

/// Checks `text`, and that nothing is wider than the terminal.
#[track_caller]
fn shown(text: &str, expected: &Expect) {
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "wider than 80: {line}");
    }
    expected.assert_eq(text);
}

#[test]
fn the_definition_holds_together() {
    definition().debug_assert();
}

#[test]
fn every_command_has_help_with_an_example() {
    let mut all = String::new();
    collect_help(&definition(), &["skep"], &mut all);
    expect_file!["tests/help.txt"].assert_eq(&all);
}

/// What `--help` prints for a command and for all below it.
fn collect_help(command: &clap::Command, path: &[&str], all: &mut String) {
    let asked = path.iter().copied().chain(["--help"]);
    let help = definition().term_width(100).try_get_matches_from(asked).unwrap_err().to_string();
    let said = path.join(" ");
    assert!(help.contains("EXAMPLE\n"), "`{said}` shows no example");
    for line in help.lines() {
        assert!(line.chars().count() <= 100, "wider than 100: {line}");
    }
    all.push_str(&format!("$ {said} --help\n{help}\n"));
    for child in command.get_subcommands() {
        let path: Vec<&str> = path.iter().copied().chain([child.get_name()]).collect();
        collect_help(child, &path, all);
    }
}

#[test]
fn status_is_one_page() {
    shown(
        &render::status(&samples::status(), TERMINAL),
        &expect![[r#"
        node         queen-1
        bloc         example
        network      rack-a
        roles        queen manager
        state        running
        life         7, since 2026-09-21 14:01:15 UTC (12 min 5 s)
        flock        queen-1.3f9a: 3 of 5 members present, 2 links
        addresses    192.0.2.1:7400 [2001:db8::1]:7400
        certificate  until 2026-10-16 14:13:20 UTC (25 d), renewed from 2026-10-06
                     14:13:20 UTC
        version      0.0.0, protocol 1, feature level 1 (flock 1)
        waits        web-3 to come back from its restart since 1.5 s, for at most 28 s
                     more
        problem      the clock was set back by 2 h (let chrony or systemd-timesyncd
                     run), since 1 min
    "#]],
    );
}

#[test]
fn members_fit_a_terminal() {
    shown(
        &render::members(&samples::members(), TERMINAL),
        &expect![[r#"
            NODE       PRESENCE    SINCE   NETWORK  RTT     ADDRESS
            old-1      given-up     4d00h  rack-a        -  192.0.2.9:7400
            queen-1 *  present     12m05s  rack-a        -  192.0.2.1:7400
            web-1      present      1d01h  rack-a   840 µs  [2001:db8:1:2::3:4]:7400
            web-2      silent        4.2s  rack-a        -  192.0.2.3:7400
            web-3      restarting    1.5s  rack-a        -  192.0.2.4:7400
        "#]],
    );
}

#[test]
fn colour_repeats_what_a_word_says() {
    let plain = render::members(&samples::members(), TERMINAL);
    let coloured = render::members(&samples::members(), Style { colour: true, ..TERMINAL });
    assert!(!plain.contains('\u{1b}'));
    assert!(coloured.contains('\u{1b}'));
    assert!(coloured.contains("silent"));
}

#[test]
fn the_flock_shows_members_and_overlay() {
    shown(
        &render::flock(&samples::flock(), TERMINAL),
        &expect![[r#"
            flock        queen-1.3f9a
            digest       c63203069a7c7130 (all present members agree)
            members      2 of 4 present
            present      queen-1 web-1
            absent       web-2 (silent) old-1 (given-up)
            overlay      complete: 1 edge, 1 node must fail to cut it
            edges        queen-1–web-1
            role         backup
            managed      as amber-finch, not stable yet: in 21 s if nothing changes
            lineage      00c0ffee00c0ffee, generation 1
            epoch        7 (stamp 7/00c0ffee), term 3
            strength     weak: no founding token was used
            founding     founding token 1 is here and waits: the master has no lease now
            master       web-1, for 3 h 6 min
            backups      queen-1
            sync set     web-1 queen-1
            strict       authority of web-1, for 2.1 s if not renewed
            waves        may start: hold-minority, 2 of 3 of the roster are there
            roster       standing = resources × availability
                         web-1     500 =  500 × 100.0 %
                         queen-1   495 =  500 ×  99.0 %; present, not well
                         old-1      10 =  500 ×   2.0 %; silent, on hold
            told         by web-1, 12 ms ago
            other flock  russet-lark-2: generation 2, led by db-7, 3 members now
            other flock  quiet-ibis: generation 1, was led by db-9, last seen 3 h 2 min ago
            waits        web-1: a second and third eligible node (1 min 1 s so far)
            waits        web-1: manager db-2 to come back, before it is replaced (4.2 s so
                         far, at most 5.8 s more)
        "#]],
    );
}

#[test]
fn what_the_master_did_not_say_is_shown_as_such() {
    let told = samples::management();
    let untold = Management {
        told_by: None,
        told_ms: Some(43_000),
        untold: Some("it did not answer in time".into()),
        role: "host".into(),
        stable_in_ms: None,
        term: 0,
        weak: Some("its master has not said here that it is strong".into()),
        token: None,
        founding: 1,
        leads_ms: None,
        roster: Vec::new(),
        waits: Vec::new(),
        others: Vec::new(),
        authority: told.authority.clone().map(|it| Authority { until_ms: None, ..it }),
        ..told.clone()
    };
    shown(
        &render::roster(&untold, false, TERMINAL),
        &expect![[r#"
            roster  none is known here
            told    NOT BY THE MASTER: it did not answer in time. Term, roster, strict
                    authority and what is waited for are as far as this node knows them. The
                    master was last heard of 43 s ago.
        "#]],
    );
    let flock = Flock { management: untold, ..samples::flock() };
    shown(
        &render::flock(&flock, TERMINAL),
        &expect![[r#"
            flock     queen-1.3f9a
            digest    c63203069a7c7130 (all present members agree)
            members   2 of 4 present
            present   queen-1 web-1
            absent    web-2 (silent) old-1 (given-up)
            overlay   complete: 1 edge, 1 node must fail to cut it
            edges     queen-1–web-1
            role      host
            managed   as amber-finch, not stable
            lineage   00c0ffee00c0ffee, generation 1
            epoch     7 (stamp 7/00c0ffee), term -
            strength  weak: its master has not said here that it is strong
            founding  number 1
            master    web-1
            backups   queen-1
            sync set  web-1 queen-1
            strict    authority of web-1
            waves     may start: hold-minority, 2 of 3 of the roster are there
            roster    -
            told      NOT BY THE MASTER: it did not answer in time. Term, roster, strict
                      authority and what is waited for are as far as this node knows them.
                      The master was last heard of 43 s ago.
        "#]],
    );

    // A node that knows of no flock, and one whose roster is long.
    let none = Management {
        role: "host".into(),
        waits: vec![Wait {
            by: Some(samples::name("queen-1")),
            what: "a flock to join".into(),
            since_ms: 2_000,
            until_ms: None,
        }],
        untold: Some("no master is known here".into()),
        ..Management::default()
    };
    let lost = render::flock(&Flock { management: none, ..samples::flock() }, TERMINAL);
    assert!(
        lost.contains("\nmanagers  none are known here\ntold      NOT BY THE MASTER: no master")
    );
    assert!(lost.ends_with("\nwaits     queen-1: a flock to join (2.0 s so far)\n"), "{lost}");
    let long =
        Management { roster: vec![told.roster[0].clone(); 20], role: "master".into(), ..told };
    let text = render::flock(&Flock { management: long, ..samples::flock() }, TERMINAL);
    assert!(text.contains("and 12 more: `skep flock roster`"), "{text}");
    assert!(!text.contains("told "), "a master knows it all: {text}");
}

fn one_entry(freshness: Freshness) -> render::OneEntry {
    let entry = samples::entry("setting/motd", 812, "noon");
    render::OneEntry { entry, freshness: Some(freshness) }
}

#[test]
fn what_may_be_old_is_never_shown_without_saying_so() {
    let stale = || Some(samples::stale());
    let listing = Catalog { current: false, freshness: stale(), ..samples::catalog() };
    shown(
        &render::catalog(&listing, TERMINAL),
        &expect![[r#"
        ENTRY         REVISION  SAYS
        setting/motd       812  value="back at noon"
        setting/zone         3  value=eu

        STALE: no master is reached since 3 min 2 s;
        this is what amber-finch said at index 812, stamp 7/00c0ffee,
        where the last change is of 2026-09-21 14:12:20 UTC
    "#]],
    );
    shown(
        &render::entry(&one_entry(samples::stale()), TERMINAL),
        &expect![[r#"
        entry     setting/motd
        revision  812 under 7/00c0ffee
        written   by uid 0 (process 812) at queen-1 at 2026-09-21 14:12:20 UTC
        value     noon
        STALE: no master is reached since 3 min 2 s;
        this is what amber-finch said at index 812, stamp 7/00c0ffee,
        where the last change is of 2026-09-21 14:12:20 UTC
    "#]],
    );
    let versions = vec![samples::entry("setting/motd", 812, "noon")];
    let history = CatalogHistory { versions, cut: false, freshness: stale() };
    let diff = CatalogDiff { from: 800, to: 812, changes: Vec::new(), freshness: stale() };
    let conflicts = Catalog { entries: Vec::new(), freshness: stale(), ..samples::catalog() };
    let marked = render::stale(stale().as_ref());
    assert!(render::history(&history, TERMINAL).ends_with(&marked));
    assert!(render::diff(&diff, TERMINAL).ends_with(&marked));
    assert!(render::conflicts(&conflicts, TERMINAL).ends_with(&marked));
    let comment = render::stale_comment(stale().as_ref());
    assert!(comment.lines().count() > 1 && comment.lines().all(|line| line.starts_with("# ")));

    // A node that never reached one since it started, and has only what was on its disk.
    let started = Freshness {
        reached_before: false,
        newest_signed: false,
        flock: None,
        signed_by: None,
        ..samples::stale()
    };
    shown(
        &render::stale(Some(&started)),
        &expect![[r#"
        STALE: no master was reached since this agent started, 3 min 2 s ago;
        this is what its disk had at index 812, stamp 7/00c0ffee,
        where the last change is of 2026-09-21 14:12:20 UTC
    "#]],
    );
    let empty = Freshness { index: 0, changed: None, ..started };
    shown(
        &render::stale(Some(&empty)),
        &expect![[r#"
        STALE: no master was reached since this agent started, 3 min 2 s ago;
        this node has nothing of a catalog yet
    "#]],
    );
    // A master is there, and what it signed last is on its way.
    let behind = Freshness { stale: true, newest_signed: false, ..samples::freshness() };
    shown(
        &render::stale(Some(&behind)),
        &expect![[r#"
        STALE: web-1 signed a newer one 4.0 s ago that has not come yet;
        this is what amber-finch said at index 812, stamp 7/00c0ffee,
        where the last change is of 2026-09-21 14:12:20 UTC
    "#]],
    );
    assert_eq!(render::stale(Some(&samples::freshness())), "");
    // An agent that does not say is not called stale, and programs are told the same.
    assert_eq!(render::stale(None), "");
    let json = serde_json::to_value(one_entry(samples::stale())).unwrap();
    assert_eq!((&json["key"], &json["freshness"]["stale"]), (&"setting/motd".into(), &true.into()));
    let old: CatalogHistory = serde_json::from_str(r#"{"versions":[],"cut":false}"#).unwrap();
    assert_eq!(old.freshness, None);
}

#[test]
fn the_catalog_fits_a_terminal() {
    shown(
        &render::catalog(&samples::catalog(), TERMINAL),
        &expect![[r#"
        ENTRY         REVISION  SAYS
        setting/motd       812  value="back at noon"
        setting/zone         3  value=eu

        index 812, stamp 7/00c0ffee: as web-1 signed it 4.0 s ago
    "#]],
    );
    shown(
        &render::entry(&one_entry(samples::freshness()), TERMINAL),
        &expect![[r#"
            entry     setting/motd
            revision  812 under 7/00c0ffee
            written   by uid 0 (process 812) at queen-1 at 2026-09-21 14:12:20 UTC
            value     noon
        "#]],
    );
    shown(
        &render::roster(&samples::management(), true, TERMINAL),
        &expect![[r#"
            NODE     STANDING  RESOURCES  NETWORK  CPU  MEMORY  DISK  AVAILABIL  STATE
                                                                      ITY
            web-1         500        500      600  410     620   900       1000  present
            queen-1       495        500      600  410     620   900        990  present,
                                                                                 not well
            old-1          10        500        -    -       -     -         20  silent,
                                                                                 on hold

            told  by web-1, 12 ms ago

            web-1: there for 2 h
              never away
              says 600 of resources now, which counts when its stay is over
            queen-1: there for 2 h
              away once, 12 min 34 s in all, last for 12 min 34 s until 2 h ago
              not well for 1 min 1 s: `skep events` there says why
            old-1: away for 2 h
              away once, 12 min 34 s in all
              on hold by an operator's word for 1 h 1 min or more

            Standing is resources times availability, each of 1000. Of resources
            network and cpu count four times what memory and disk do; a node tells them
            in steps of 100, or as its configuration says. Availability gains 50 in each
            stay of `min_stay` that the node was there, loses up to a quarter in one that
            it missed, and half when it loses an office. Absences are those that the node
            which tells of them saw since its agent started.
        "#]],
    );
}

#[test]
fn links_fit_a_terminal() {
    shown(
        &render::links(&samples::links(), TERMINAL),
        &expect![[r#"
            PEER   KIND       REMOTE                      UP      RTT      SENT     RECEIVED
            web-1  neighbour  → [2001:db8:1:2::3:4]:7400  12m05s  12.4 ms  1.2 KiB   3.0 MiB
            web-2  watch      ← 192.0.2.3:41022           12m05s  12.4 ms  1.2 KiB   3.0 MiB
        "#]],
    );
}

#[test]
fn certificates_say_until_when_they_hold() {
    shown(
        &render::certificate(&samples::certificate(), TERMINAL),
        &expect![[r#"
        node         queen-1
        bloc         example
        network      rack-a
        roles        queen manager
        fingerprint  41bc440d885f79459ff60c452768aec41914018dd4c01f41454f8403b2ebd12e
        holds from   2026-09-16 14:13:20 UTC
        holds        until 2026-10-16 14:13:20 UTC (25 d), renewed from 2026-10-06
                     14:13:20 UTC
    "#]],
    );
    let mut expired = samples::certificate();
    expired.expires_in_ms = -60_000;
    let text = render::certificate(&expired, TERMINAL);
    assert!(text.contains("EXPIRED"), "{text}");
}

#[test]
fn a_topology_says_what_it_begins_with_and_who_links_to_whom() {
    shown(
        &render::topology(&samples::topology(), TERMINAL),
        &expect![[r#"
        group    web, of which this node is no member
        overlay  computed, number 17 by web-1, mended by 2 edges
        decree   17.00000000000000ab by web-1, in force here for 1 min 1 s; for 4
                 members, 4 edges, 2-connected
        size     5 members, 6 edges, 2-connected
        figures  cost 182.6 ms, diameter 81.0 ms, mean way 12.3 ms, 2 to 3 links a
                 member
        master   web-1
        waits    old links are kept until the new overlay is whole, since 1.5 s
        problem  no topology 4.0 s ago: the solver has no licence

        NODE   LINKS  TO, NEAREST FIRST
        db-1       3  web-1 840 µs, web-2 ~12.4 ms, +web-4 ?
        web-1      3  db-1 840 µs, web-3 1.08 ms, +web-4 9.99 ms
        web-2      2  db-1 ~12.4 ms, web-3 18.2 ms
        web-3      2  web-1 1.08 ms, web-2 18.2 ms
        web-4      2  +web-1 9.99 ms, +db-1 ?
    "#]],
    );
    let hash = skep_control::api::Topology {
        basis: skep_control::api::OverlayBasis::Hash,
        why: Some("3 members all link to one another".into()),
        decree: None,
        failure: None,
        switching_ms: None,
        ..samples::topology()
    };
    let text = render::topology(&hash, TERMINAL);
    assert!(text.contains("hash: 3 members all link to one another"), "{text}");
    assert!(!text.contains('+'), "nothing was added to what nobody computed: {text}");
}

#[test]
fn a_round_trip_says_what_it_rests_on() {
    shown(
        &render::round_trip(&samples::round_trip(), TERMINAL),
        &expect![[r#"
        between     web-1 and db-2
        round trip  12.4 ms ± 310 µs
        basis       measured by db-2, 1 min 5 s ago
        bandwidth   11.9 MiB/s
    "#]],
    );
    let unknown = skep_control::api::RoundTrip {
        rtt_us: None,
        deviation_us: None,
        basis: None,
        by: None,
        age_ms: None,
        bytes_per_second: None,
        ..samples::round_trip()
    };
    let text = render::round_trip(&unknown, TERMINAL);
    assert!(text.contains("unknown") && !text.contains("basis"), "{text}");
}

#[test]
fn a_certificate_authority_is_one_page() {
    shown(
        &render::ca(&samples::ca(), TERMINAL),
        &expect![[r#"
            bloc         example
            fingerprint  41bc440d885f79459ff60c452768aec41914018dd4c01f41454f8403b2ebd12e
            holds until  2036-09-18 14:13:20 UTC
            founding     number 1, token given to web-1 on 2026-09-21 14:13:20 UTC, to be
                         used until 2026-09-28 14:13:20 UTC
            nodes        5 with a certificate that holds
            invitations  2 neither used nor expired
            requests     12 granted, 1 refused since the agent started
        "#]],
    );
}

#[test]
fn health_names_what_fails() {
    shown(
        &render::health(&samples::health(), TERMINAL),
        &expect![[r#"
        CHECK        RESULT  DETAIL
        certificate  ok      25 d left
        disk         FAILED  /var/lib/skep has 12 MiB left: make room, or waves will
                             stop
    "#]],
    );
}

#[test]
fn metrics_show_units_and_labels() {
    shown(
        &render::metrics(&samples::metrics(), TERMINAL),
        &expect![[r#"
        NAME                    VALUE    KIND     WHAT
        links                         2  gauge    what came over the links
        received{lane=bulk}     3.0 MiB  counter  what came over the links
        received{lane=control}    512 B  counter  what came over the links
    "#]],
    );
}

#[test]
fn groups_in_a_table_and_alone() {
    shown(
        &render::groups(&[samples::group()], TERMINAL),
        &expect![[r#"
            GROUP  HERE  PRESENT  UPDATES  BYTES    OLDEST  MISSING  READERS
            all    yes       2/3     4182  2.0 MiB   3d00h        0        1
        "#]],
    );
    shown(
        &render::group(&samples::group(), TERMINAL),
        &expect![[r#"
        group            all
        this node in it  yes
        members          2 of 3 present
        present          queen-1 web-1
        absent           web-2 (silent)
        neighbours       web-1
        log              4182 updates, 2.0 MiB, the oldest 3 d old, 0 missing
        subscriber       deploy at 4180, 2 updates behind
    "#]],
    );
}

#[test]
fn updates_show_text_and_never_raw_bytes() {
    shown(
        &render::pushed(&samples::update(b"hello\n")),
        &expect![[r#"
        4181 web-1:3:17 6 B, 12 ms old
        hello
    "#]],
    );
    shown(
        &render::pushed(&samples::update(b"\x1b[2J")),
        &expect![[r#"
        4181 web-1:3:17 4 B, 12 ms old
        (binary; --json prints it in base64)
    "#]],
    );
}

#[test]
fn events_are_a_line_each_and_steer_no_terminal() {
    let text: String =
        samples::events().iter().map(|event| render::event(event, TERMINAL)).collect();
    assert!(!text.contains('\u{1b}'));
    shown(
        &text,
        &expect![[r#"
            14:13:15.001       1  agent started, life 7
            14:13:15.002       2  link to web-1 is up (→ 192.0.2.2:7400)
            14:13:15.003       3  web-1 is present, life 3
            14:13:15.004       4  refused 203.0.113.9:4711: bloc �[31mevil is not ours
            14:13:15.005       5  3 events lost: the agent no longer keeps them
        "#]],
    );
}

#[test]
fn images_in_a_table_and_alone() {
    shown(
        &render::images(&[samples::image()], TERMINAL),
        &expect![[r#"
        IMAGE  VERSION       BUILT                    SIZE      HERE  APPLIED AT
        web    0d197521d9a4  2026-09-21 13:13:20 UTC  64.0 MiB   99%  /srv/web
    "#]],
    );
    shown(
        &render::image(&samples::image_detail(), TERMINAL),
        &expect![[r#"
        image       web
        version     0d197521d9a48760576da1c87dfd828a60d397ea1e16f92a5b7c44b4f4060ce1
        signed by   queen-1, 2026-09-21 13:13:20 UTC
        holds       5200 entries, 64.0 MiB, 900 chunks
        here        99%
        applied at  /srv/web

        KIND       MODE  OWNER  SIZE     PATH
        directory  0755   0:33      0 B  bin
        file       4755   0:33  1.5 MiB  bin/serve
        symlink    0777   0:33      0 B  caf\xe9
        … and 5197 more
    "#]],
    );
}

#[test]
fn waves_in_a_table_and_alone() {
    shown(
        &render::waves(&[samples::wave()], TERMINAL),
        &expect![[r#"
            WAVE       IMAGE       TO   AT        STATE    DONE  FAILED  TOOK
            queen-1:4  web 0d1975  all  /srv/web  running   1/4       1  4.2s
        "#]],
    );
    expect![[r#"
        wave            queen-1:4, running
        image           web 0d197521d9a4
        to              all
        at              /srv/web
        started         2026-09-21 14:13:15 UTC by queen-1
        took            4.2 s
        nodes           1 of 4 done, 1 failed
        left the queen  70.0 MiB, 1.09 times the image

        NODE     STEP              HAS   FETCHED   FROM     TOOK
        queen-1  done              100%  64.0 MiB  3 nodes  3.7s
        web-1    fetching           31%  20.0 MiB  3 nodes  3.7s
        web-2    failed             18%  12.0 MiB  3 nodes  3.7s
        web-3    waiting (silent)    0%       0 B  3 nodes  3.7s
        web-2: cannot write /srv/.web.new/lib: no space left
    "#]]
    .assert_eq(&render::wave(&samples::wave_detail(), TERMINAL));
}

#[test]
fn completions_and_manual_pages_name_every_command() {
    let directory = tempfile::tempdir().unwrap();
    crate::write_manual(directory.path()).unwrap();
    for page in ["skep.1", "skep-wave-start.1", "skep-ca-invite.1"] {
        let text = std::fs::read_to_string(directory.path().join(page)).unwrap();
        assert!(text.contains("\n.SH EXAMPLE\n") && !text.contains("EXTRA"), "{page}: {text}");
        let title = page.strip_suffix(".1").unwrap();
        assert!(text.contains(&format!("\n.TH {title} 1 \"\" \"skep ")), "{page}: {text}");
    }
    let first = std::fs::read_to_string(directory.path().join("skep.1")).unwrap();
    assert!(first.contains("\n.SH EXIT CODES\n"), "{first}");
    let mut script = Vec::new();
    clap_complete::generate(clap_complete::Shell::Bash, &mut definition(), "skep", &mut script);
    let script = String::from_utf8(script).unwrap();
    assert!(script.contains("join-address"));
}
