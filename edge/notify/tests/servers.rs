//! Deliveries to a real mail server (aiosmtpd) and a real receiver of webhooks, with and without
//! TLS, and what is said when they are not as they should be.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it is")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use bytes::Bytes;
use skep_base::WallTime;
use skep_notify::{Encryption, Mail, Message, NotifyError, Webhook, signature};

mod receivers;

use receivers::Receivers;

impl Receivers {
    /// The next that arrived, as JSON.
    fn arrived(&self) -> String {
        self.said.recv().unwrap()
    }

    fn secret(&self, text: &str) -> PathBuf {
        let path = self.file("secret");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn mail(&self, to: &str, encryption: Encryption) -> Mail {
        let (of, login) = match encryption {
            Encryption::None => ("plain", None),
            Encryption::StartTls => {
                ("starttls", Some(("skep".to_owned(), self.secret("hush hush\n"))))
            }
            Encryption::Tls => ("tls", Some(("skep".to_owned(), self.secret("hush hush\n")))),
        };
        Mail {
            host: "localhost".into(),
            port: Some(self.port(of)),
            encryption,
            ca_file: Some(self.file("ca.pem")),
            login,
            from: "skep@example.org".into(),
            to: vec![to.to_owned()],
        }
    }

    fn hook(&self, scheme: &str, path: &str) -> Webhook {
        let port = self.port(if scheme == "https" { "hook_tls" } else { "hook" });
        Webhook {
            url: format!("{scheme}://localhost:{port}{path}"),
            secret_file: Some(self.secret("hush hush\n")),
            ca_file: Some(self.file("ca.pem")),
        }
    }
}

fn message(id: &str) -> Message {
    Message {
        id: id.into(),
        domain: "skep.example".into(),
        follows: None,
        date: WallTime::from_unix_ms(1_700_000_000_000),
        subject: "web-1 is lost".into(),
        text: "web-1 is lost\n.\nand that was no end\n".into(),
    }
}

#[tokio::test]
async fn a_mail_server_takes_letters_in_each_way_that_it_may_be_spoken_to() {
    let Some(receivers) = Receivers::or_skip(0) else { return };
    for (encryption, by) in
        [(Encryption::None, "plain"), (Encryption::StartTls, "starttls"), (Encryption::Tls, "tls")]
    {
        let mail = receivers.mail("ops@example.org", encryption);
        let said = mail.send(&message(by)).await.unwrap();
        assert!(said.contains("taken as number 7"), "{said}");
        let arrived = receivers.arrived();
        assert!(arrived.contains(&format!("\"by\": \"{by}\"")), "{arrived}");
        assert!(arrived.contains("\"from\": \"skep@example.org\", \"to\": [\"ops@example.org\"]"));
        assert!(arrived.contains(&format!("Message-ID: <{by}@skep.example>")), "{arrived}");
        assert!(arrived.contains("\\r\\n.\\r\\nand that was no end"), "{arrived}");
        assert_eq!(arrived.contains("\"login\": \"skep\""), by != "plain", "{arrived}");
    }
}

#[tokio::test]
async fn a_receiver_that_is_refused_for_good_keeps_no_other_from_being_told() {
    let Some(receivers) = Receivers::or_skip(0) else { return };
    let to = |names: &[&str]| names.iter().map(|name| format!("{name}@example.org")).collect();
    let mail = |receivers: &Receivers, names: &[&str]| Mail {
        to: to(names),
        ..receivers.mail("x@example.org", Encryption::None)
    };
    let said = mail(&receivers, &["ops", "nobody", "team"]).send(&message("x")).await.unwrap();
    assert!(said.contains("number 7; refused for nobody@example.org"), "{said}");
    for name in ["ops", "team"] {
        let arrived = receivers.arrived();
        assert!(arrived.contains(&format!("\"to\": [\"{name}@example.org\"]")), "{arrived}");
    }
    let error = mail(&receivers, &["nobody", "nobody-else"]).send(&message("x")).await.unwrap_err();
    assert!(error.is_for_good(), "{error}");
    let error = mail(&receivers, &["nobody", "later"]).send(&message("x")).await.unwrap_err();
    assert!(!error.is_for_good(), "it may be taken another time: {error}");
}

#[tokio::test]
async fn what_a_mail_server_has_against_a_letter_is_said_with_a_way_out() {
    let Some(receivers) = Receivers::or_skip(0) else { return };
    let send = async |mail: Mail| mail.send(&message("x")).await.unwrap_err();

    let error = send(receivers.mail("nobody@example.org", Encryption::None)).await;
    assert!(
        matches!(&error, NotifyError::Refused { said, .. } if said.contains("no such")),
        "{error}"
    );
    let error = send(receivers.mail("later@example.org", Encryption::None)).await;
    assert!(
        matches!(&error, NotifyError::Refused { said, .. } if said.contains("busy")),
        "{error}"
    );

    let mail = receivers.mail("ops@example.org", Encryption::StartTls);
    let wrong = ("skep".to_owned(), receivers.secret("another\n"));
    let error = send(Mail { login: Some(wrong), ..mail.clone() }).await;
    assert!(matches!(error, NotifyError::Login { .. }), "{error}");
    assert!(!error.in_full().contains("another"), "the password is in {error}");

    receivers.secret("hush hush\n");
    let error = send(Mail { ca_file: None, ..mail.clone() }).await;
    assert!(matches!(error, NotifyError::Tls { .. }), "a stranger's certificate: {error}");
    let error = send(Mail { host: "127.0.0.1".into(), ..mail.clone() }).await;
    assert!(matches!(error, NotifyError::Tls { .. }), "another's certificate: {error}");
    let plain = receivers.port("plain");
    let error = send(Mail { port: Some(plain), ..mail.clone() }).await;
    assert!(matches!(error, NotifyError::Tls { .. } | NotifyError::Refused { .. }), "{error}");
    let error = send(Mail { encryption: Encryption::None, ..mail.clone() }).await;
    assert!(error.in_full().contains("without TLS"), "{error}");
    let error = send(Mail { port: Some(1), ..mail }).await;
    assert!(matches!(error, NotifyError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_webhook_gets_json_that_it_can_check() {
    let Some(receivers) = Receivers::or_skip(0) else { return };
    for scheme in ["http", "https"] {
        let body = Bytes::from_static(b"{\"letter\":\"x\"}");
        let said = receivers.hook(scheme, "/hook").post("name-of-it", body.clone()).await.unwrap();
        assert!(said.contains("204"), "{said}");
        let arrived = receivers.arrived();
        let signed = signature("hush hush", &body);
        assert!(arrived.contains(&format!("\"x-skep-signature\": \"{signed}\"")), "{arrived}");
        assert!(arrived.contains("\"x-skep-letter\": \"name-of-it\""), "{arrived}");
        assert!(arrived.contains("\"body\": \"{\\\"letter\\\":\\\"x\\\"}\""), "{arrived}");
    }
}

#[tokio::test]
async fn what_a_webhook_has_against_a_letter_is_said() {
    let Some(receivers) = Receivers::or_skip(0) else { return };
    let post = async |hook: Webhook| hook.post("x", Bytes::from_static(b"{}")).await.unwrap_err();

    let error = post(receivers.hook("https", "/broken")).await;
    let said = error.in_full();
    assert!(said.contains("500") && said.contains("the disk is full"), "{said}");
    let error = post(receivers.hook("http", "/moved")).await;
    assert!(matches!(error, NotifyError::Refused { .. }), "nobody follows: {error}");
    let hook = receivers.hook("https", "/hook");
    let error = post(Webhook { ca_file: None, ..hook.clone() }).await;
    assert!(matches!(error, NotifyError::Tls { .. }), "{error}");
    fs::set_permissions(receivers.file("secret"), Permissions::from_mode(0o644)).unwrap();
    let error = post(hook.clone()).await;
    assert!(matches!(error, NotifyError::Open { .. }), "{error}");
    let error =
        post(Webhook { url: "http://localhost:1/".into(), secret_file: None, ..hook }).await;
    assert!(matches!(error, NotifyError::Unreachable { .. }), "{error}");
}
