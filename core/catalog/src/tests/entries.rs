use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec;
use alloc::vec::Vec;

use skep_base::WallTime;

use super::{command, key, place, setting, write};
use crate::*;

fn fields(pairs: &[(&str, Field)]) -> Fields {
    let mut fields = Fields::new();
    for (name, field) in pairs {
        fields.set(name, field.clone()).unwrap();
    }
    fields
}

fn text(text: &str) -> Field {
    Field::Text(text.into())
}

fn list(items: &[&str]) -> Field {
    Field::List(items.iter().map(|item| String::from(*item)).collect())
}

#[test]
fn names_of_entries_are_kept_in_one_spelling() {
    assert_eq!(key("group/Web").to_string(), "group/web");
    assert_eq!(key("kind-77/x").kind(), Kind(77));
    assert_eq!("group".parse::<Key>(), Err(KeyError::Shape("group".into())));
    assert_eq!("grp/web".parse::<Key>(), Err(KeyError::Kind("grp/web".into())));
    for bad in ["group/", "group/a b", "group/.a", "group/a/b", "group/é"] {
        assert!(matches!(bad.parse::<Key>(), Err(KeyError::Name(_))), "{bad}");
    }
}

#[test]
fn what_an_entry_may_say_is_checked_and_what_is_wrong_is_said() {
    let good = [("connectivity", Field::Number(3)), ("members", list(&["a", "b"]))];
    let Ok(Value::Group(group)) = check(&key("group/web"), &fields(&good)) else {
        panic!("a good group is refused")
    };
    assert_eq!((group.connectivity, group.members.len()), (Some(3), 2));
    let rule = fields(&[("who", list(&["role:queen", "*"])), ("may", list(&["wave"]))]);
    assert!(matches!(check(&key("rule/waves"), &rule), Ok(Value::Rule(_))));
    let why = |name: &str, pairs: &[(&str, Field)]| {
        check(&key(name), &fields(pairs)).unwrap_err().to_string()
    };
    assert_eq!(
        why("group/web", &[("connectivity", Field::Number(9))]),
        "group/web: connectivity: 9 is not within 1 and 8"
    );
    assert_eq!(
        why("group/web", &[("colour", text("red"))]),
        "group/web: colour: no such field in entries of kind group"
    );
    assert_eq!(
        why("rule/a", &[("who", list(&["*"])), ("may", list(&["fly"]))]),
        "rule/a: may: \"fly\" is nothing that a rule can permit"
    );
    assert_eq!(why("expelled/a", &[]), "expelled/a: reason: is missing");
    assert_eq!(why("setting/a", &[]), "setting/a: value: is missing");
    assert_eq!(
        why("group/web", &[("about", Field::Flag(true))]),
        "group/web: about: true or false where a text is expected"
    );
    assert!(why("group/a_b", &[]).contains("may hold only letters"));
    assert!(why("kind-9/a", &[]).contains("not written by hand"));
}

#[test]
fn ten_mebibytes_are_refused_with_the_bound() {
    let big = fields(&[("value", text(&"x".repeat(10 << 20)))]);
    let put = Some(Payload::of(Kind::SETTING, &big));
    let write = Write { key: key("setting/big"), expect: Expect::Anything, put };
    let command = Command::one("a".into(), WallTime::default(), write);
    let error = command.to_bytes().unwrap_err().to_string();
    assert!(error.starts_with("setting/big has 104857"), "{error}");
    assert!(error.ends_with("an entry at most 16384"), "{error}");
}

#[test]
fn commands_from_peers_keep_their_bounds() {
    let bytes = command(vec![write("setting/a", Expect::Absent, Some("1"))]);
    assert!(Command::from_bytes(&bytes).is_ok());
    let mut newer = bytes.to_vec();
    newer[0] = 2;
    assert!(Command::from_bytes(&newer).is_err(), "a layout of a newer build");
    let twice = |name| write(name, Expect::Anything, Some("1"));
    let twice = command(vec![twice("setting/a"), twice("setting/a")]);
    assert!(Command::from_bytes(&twice).is_err(), "an entry named twice");
    let none = command(vec![]);
    assert!(Command::from_bytes(&none).is_err(), "no change at all");
    let long = Command {
        who: "x".repeat(MAX_WHO_BYTES + 1),
        when: WallTime::default(),
        writes: vec![write("setting/a", Expect::Absent, None)],
    };
    assert!(Command::from_bytes(&long.to_bytes().unwrap()).is_err(), "a long name");
}

#[test]
fn golden_bytes() {
    let expect = Expect::Revision(7);
    let bytes =
        command(vec![write("setting/a", expect, Some("b")), write("group/c", expect, None)]);
    let golden = "010a756964203020617420610102040161020701010a010576616c7565000162010163020700";
    assert_eq!(hex(&bytes), golden);
    let mut catalog = Catalog::new();
    catalog.apply(
        place(3),
        Origin::Own,
        &command(vec![write("setting/a", Expect::Absent, Some("b"))]),
    );
    assert_eq!(
        hex(&catalog.to_bytes()),
        "0203018080808080808080ab01010401610103018080808080808080ab01010a756964203020\
         61742061010001010a010576616c75650001620000018080808080808080ab01010303"
    );
    assert_eq!(catalog.root().abbreviated(16), GOLDEN_ROOT);
    let head = Head { lineage: 5, stamp: super::STAMP, index: 3, root: skep_base::Digest([7; 32]) };
    let golden = format!("0105018080808080808080ab0103{}", "07".repeat(32));
    assert_eq!(hex(&head.to_body()), golden);
}

const GOLDEN_ROOT: &str = "3ae133f55525d769";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_export_has_every_entry_and_reads_as_toml() {
    let mut catalog = Catalog::new();
    super::set(&mut catalog, "setting/a.b", Some("say \"no\"\n"));
    super::set(&mut catalog, "setting/gone", Some("x"));
    super::set(&mut catalog, "setting/gone", None);
    let odd = Payload { schema: 3, body: vec![0xff, 1].into() };
    let write = Write { key: key("kind-77/x"), expect: Expect::Anything, put: Some(odd) };
    catalog.apply(place(4), Origin::Own, &command(vec![write]));
    let text = export(&catalog);
    assert!(text.contains("[setting.\"a.b\"]\nvalue = \"say \\\"no\\\"\\n\"\n"), "{text}");
    assert!(text.contains("[kind-77.\"x\"]\nSchema = 3\nBytes = \"ff01\"\n"), "{text}");
    assert!(!text.contains("gone"), "{text}");
    assert_eq!(setting("x").schema, FIRST_SCHEMA);
}

#[test]
fn a_target_names_its_secret_and_holds_none() {
    let mail = [
        ("way", text("smtp")),
        ("server", text("mail.example.org")),
        ("user", text("skep")),
        ("secret", text("skep@mail.example.org")),
        ("from", text("skep@example.org")),
        ("to", list(&["ops@example.org"])),
        ("kinds", list(&["fork"])),
    ];
    let Ok(Value::Target(target)) = check(&key("target/ops"), &fields(&mail)) else {
        panic!("a good target is refused")
    };
    let Way::Smtp { login, tls, .. } = target.way else { panic!("it is one by mail") };
    assert_eq!((login.unwrap().1.as_str(), tls), ("skep@mail.example.org", Tls::Starttls));
    assert_eq!(target.kinds, ["fork"]);
    let hook = [("way", text("webhook")), ("url", text("https://chat.example/x"))];
    assert!(matches!(check(&key("target/chat"), &fields(&hook)), Ok(Value::Target(_))));

    let with = |base: &[(&str, Field)], name: &str, field: Field| {
        let mut all = fields(base);
        all.set(name, field).unwrap();
        check(&key("target/ops"), &all).unwrap_err()
    };
    for (base, name, field, says) in [
        (&mail[..], "password", text("hush"), "every node would read it"),
        (&mail[..], "secret", text("/etc/shadow"), "no plain name of a file"),
        (&mail[..], "secret", text("../x"), "no plain name of a file"),
        (&mail[..], "ca", text(".hidden"), "no plain name of a file"),
        (&mail[..], "tls", text("none"), "no mail server without TLS"),
        (&mail[..], "url", text("https://a.b"), "means nothing"),
        (&mail[..], "to", list(&[]), "missing or empty"),
        (&mail[..], "way", text("command"), "each host's own matter"),
        (&mail[..], "way", text("pigeon"), "none that there is"),
        (&hook[..], "to", list(&["a@b.c"]), "means nothing"),
        (&hook[..], "url", text(""), "is missing"),
    ] {
        let wrong = with(base, name, field);
        assert!(wrong.to_string().contains(says) && !wrong.hint.is_empty(), "{wrong}");
        assert!(!wrong.to_string().contains("hush"));
    }
    let named = |name: &str| check(&key(name), &fields(&hook)).unwrap_err().to_string();
    assert!(named("target/a.b").contains("no name of a target"));
    let without: Vec<(&str, Field)> = mail.iter().filter(|it| it.0 != "user").cloned().collect();
    assert!(check(&key("target/ops"), &fields(&without)).unwrap_err().what.starts_with("user"));
}
