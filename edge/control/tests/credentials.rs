//! What the kernel says of other users' processes, end to end. It takes root to be another user.

#![expect(clippy::unwrap_used, reason = "what fails in a test should fail there and then")]
#![expect(clippy::print_stdout, reason = "a child process tells its parent what it met")]

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use skep_base::Digest;
use skep_control::api::{Flock, Shutdown, Text};
use skep_control::{Client, ClientError, Config, Request, backend, listen};
use tokio::sync::oneshot;

/// Set for the child: the socket to ask.
const ASK: &str = "SKEP_TEST_ASK";
/// A user and groups that no system gives out.
const STRANGER: u32 = 4_000_001;
const READERS: u32 = 4_000_002;
const OTHERS: u32 = 4_000_003;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_is_what_the_kernel_says() {
    if let Some(socket) = std::env::var_os(ASK) {
        return as_somebody_else(Path::new(&socket)).await;
    }
    if !rustix::process::geteuid().is_root() {
        println!("left out: it takes root to connect as another user");
        return;
    }
    // A place that every user can reach, and a program that every user can run.
    let directory = tempfile::tempdir().unwrap();
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(directory.path(), 0o755);
    let program = directory.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    open(&program, 0o755);
    let config =
        Config { socket: directory.path().join("control.sock"), group: READERS.to_string() };
    let (ask, mut side) = backend();
    let listening = listen(&config).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(listening.serve(ask, async {
        drop(stopped.await);
    }));
    let agent = tokio::spawn(async move {
        while let Some(call) = side.calls.recv().await {
            let Request::Flock { reply, .. } = call.request else {
                panic!("let through: {call:?}")
            };
            reply.ok(flock());
        }
    });

    let met = |uid, gid| as_user(program.clone(), config.socket.clone(), uid, gid);
    assert_eq!(met(STRANGER, OTHERS).await, "no permission to connect");
    assert_eq!(met(STRANGER, READERS).await, "reads; operate: Denied");
    // Whoever loosens the socket's mode still lets nobody in.
    open(&config.socket, 0o666);
    assert_eq!(met(STRANGER, OTHERS).await, "read: Denied");
    assert_eq!(met(STRANGER, READERS).await, "reads; operate: Denied");

    drop(stop);
    server.await.unwrap();
    agent.await.unwrap();
}

fn flock() -> Flock {
    Flock {
        name: "alone".to_owned(),
        digest: Text(Digest::of(b"")),
        present: Vec::new(),
        absent: Vec::new(),
        agreed: true,
        edges: Vec::new(),
        overlay: "complete".to_owned(),
        connectivity: 0,
        management: skep_control::api::Management::default(),
    }
}

/// Runs this very test as another user, and returns what it met.
async fn as_user(program: PathBuf, socket: PathBuf, uid: u32, gid: u32) -> String {
    let run = move || {
        Command::new(program)
            .args(["--exact", "who_may_is_what_the_kernel_says", "--nocapture"])
            .env(ASK, socket)
            .current_dir("/")
            .uid(uid)
            .gid(gid)
            .output()
            .unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let met = text.lines().find_map(|line| line.split_once("met: "));
    met.map_or_else(|| format!("nothing: {text}"), |(_, met)| met.to_owned())
}

async fn as_somebody_else(socket: &Path) {
    let client = match Client::connect(socket).await {
        Ok(client) => client,
        Err(ClientError::NoPermission { .. }) => return println!("met: no permission to connect"),
        Err(error) => return println!("met: {error}"),
    };
    if let Err(error) = client.flock().await {
        return println!("met: read: {}", said(&error));
    }
    match client.shutdown(Shutdown { leave: true }).await {
        Ok(_) => println!("met: reads and operates"),
        Err(error) => println!("met: reads; operate: {}", said(&error)),
    }
}

fn said(error: &ClientError) -> String {
    if let ClientError::Refused(refusal) = error {
        format!("{:?}", refusal.code)
    } else {
        error.to_string()
    }
}
