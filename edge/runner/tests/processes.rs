//! Real processes: those that do what they should, and all that do not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it is")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use skep_runner::{
    Ended, Input, Job, Origin, Output, Peer, Portions, Program, RunError, Runner, Status, User,
};

/// Whatever is waited for comes sooner on any machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn runner() -> Runner {
    Runner::with_supervisor(env!("CARGO_BIN_EXE_skep-supervisor").into())
}

/// A shell script whose outputs are kept.
fn script(text: &str) -> Job {
    let mut job = Job::new(Program::Shell(text.to_owned()));
    (job.stdout, job.stderr) = (Output::First(1 << 16), Output::First(1 << 16));
    job
}

async fn ended(job: Job) -> Ended {
    runner().run(job).await.unwrap()
}

fn said(ended: &Ended) -> &str {
    std::str::from_utf8(&ended.stdout.bytes).unwrap()
}

/// Whether this test may do what only root can; says so where it may not.
fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        std::io::Write::write_all(&mut std::io::stderr(), b"not run: needs root\n").unwrap();
    }
    root
}

/// Waits until `condition` holds.
async fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let since = Instant::now();
    while !condition() {
        assert!(since.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await; // sleeps: deadline above
    }
}

/// The process whose number a file holds is there, and no zombie.
fn lives(file: &Path) -> bool {
    let Ok(pid) = fs::read_to_string(file) else { return false };
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|stat| !stat.contains(") Z"))
}

#[tokio::test]
async fn what_is_given_is_read_and_what_is_said_is_kept() {
    let mut job = script("cat; echo done >&2; exit 3");
    job.input = [&b"one "[..], b"", b"two"].map(|part| Bytes::from_static(part).into()).into();
    let ended = ended(job).await;
    assert_eq!(said(&ended), "one two");
    assert_eq!(ended.stderr.bytes, b"done\n");
    assert_eq!(ended.status, Status::Exited(3));
    assert!(!ended.succeeded() && ended.input_written && !ended.stdout.cut);
}

#[tokio::test]
async fn a_program_gets_its_arguments_as_they_are() {
    let words = ["/usr/bin/printf", "%s|", "a b", "$HOME", "", "'"].map(str::to_owned);
    let mut job = Job::new(Program::Direct(words.to_vec()));
    job.stdout = Output::First(100);
    assert_eq!(said(&ended(job).await), "a b|$HOME||'|");
}

#[tokio::test]
async fn nothing_of_the_agent_is_inherited() {
    // A file that whoever started the agent passed on would be the command's as well.
    let open = fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&open, rustix::io::FdFlags::empty()).unwrap();
    let mut job = script("env | sort; pwd; ls /proc/self/fd | wc -l");
    job.environment = vec![("SKEP_GROUP".into(), "web".into())];
    let ended = ended(job).await;
    let lines: Vec<&str> = said(&ended).lines().collect();
    let user = User::find(None).unwrap();
    let home = format!("HOME={}", user.home);
    let name = (format!("LOGNAME={}", user.name), format!("USER={}", user.name));
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let expected = [
        home.as_str(),
        "LANG=C.UTF-8",
        &name.0,
        path,
        "PWD=/",
        "SHELL=/bin/sh",
        "SKEP_GROUP=web",
        &name.1,
        "/",
        "4",
    ];
    assert_eq!(lines, expected, "three files, and the directory that `ls` reads");
    drop(open);
}

#[tokio::test]
async fn a_command_that_hangs_is_asked_and_then_killed() {
    let dir = tempfile::tempdir().unwrap();
    let asked = dir.path().join("asked");
    let mut job =
        script(&format!("trap 'echo yes > {}; exit 7' TERM; sleep 100 & wait", asked.display()));
    // Time enough for the shell to come to its trap on a machine that has no time.
    job.limits.time = Duration::from_secs(2);
    let error = runner().run(job).await.unwrap_err();
    assert!(matches!(error, RunError::TimedOut { status: Status::Exited(7), .. }), "{error}");
    assert_eq!(fs::read_to_string(asked).unwrap(), "yes\n");

    let mut job = script("trap '' TERM; while :; do sleep 1; done");
    (job.limits.time, job.limits.grace) = (Duration::from_secs(2), Duration::from_millis(200));
    let since = Instant::now();
    let error = runner().run(job).await.unwrap_err();
    assert!(since.elapsed() < PATIENCE);
    let text = error.to_string();
    assert!(text.starts_with("`trap '' TERM; while"), "{text}");
    assert!(text.ends_with("took longer than 2s and was ended by signal 9"), "{text}");
}

#[tokio::test]
async fn a_signal_is_no_number() {
    let status = ended(script("kill -SEGV $$")).await.status;
    assert_eq!(status, Status::Killed(11));
    assert_eq!(ended(script("exit 139")).await.status, Status::Exited(139));
}

#[tokio::test]
async fn what_a_command_leaves_behind_ends_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, session) = (dir.path().join("plain"), dir.path().join("session"));
    // One in the background, and one that has left group and session behind twice over.
    let text = format!(
        "sleep 100 & echo $! > {0}; setsid sh -c 'setsid sh -c \"echo \\$\\$ > {1}; exec sleep 9\" \
         & sleep 100' & while ! [ -s {1} ]; do :; done; exit 0",
        plain.display(),
        session.display()
    );
    let ended = ended(script(&text)).await;
    assert!(ended.succeeded());
    assert!(plain.exists() && session.exists());
    assert!(!lives(&plain) && !lives(&session), "ended before the command is said to have ended");
}

#[tokio::test]
async fn whoever_stops_waiting_ends_it_all() {
    let dir = tempfile::tempdir().unwrap();
    let pids = [dir.path().join("shell"), dir.path().join("child")];
    let text = format!(
        "echo $$ > {}; setsid sleep 100 & echo $! > {}; wait",
        pids[0].display(),
        pids[1].display()
    );
    let run = tokio::spawn(async move { runner().run(script(&text)).await });
    wait_for("both run", || pids.iter().all(|pid| lives(pid))).await;
    run.abort();
    wait_for("both are gone", || !pids.iter().any(|pid| lives(pid))).await;
}

#[tokio::test]
async fn a_killed_supervisor_takes_the_command_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let pids = [dir.path().join("command"), dir.path().join("supervisor")];
    let text = format!(
        "echo $PPID > {1}; echo $$ > {0}; exec sleep 100",
        pids[0].display(),
        pids[1].display()
    );
    let run = tokio::spawn(async move { runner().run(script(&text)).await });
    wait_for("it runs", || lives(&pids[0])).await;
    let pid: i32 = fs::read_to_string(&pids[1]).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let error = run.await.unwrap().unwrap_err();
    assert!(matches!(error, RunError::Supervisor { .. }), "{error}");
    wait_for("the command is gone", || !lives(&pids[0])).await;
}

#[tokio::test]
async fn floods_of_output_take_no_memory_and_no_time() {
    let mut job = script("yes | head -c 50000000; yes no | head -c 20000000 >&2");
    (job.stdout, job.stderr) = (Output::First(10), Output::Discard);
    let ended = ended(job).await;
    assert_eq!((said(&ended), ended.stdout.cut), ("y\ny\ny\ny\ny\n", true));
    assert!(ended.succeeded(), "what is not kept is read all the same");

    let mut job = script("yes");
    job.stdout = Output::Whole { max: 100_000 };
    let error = runner().run(job).await.unwrap_err();
    assert_eq!(error.to_string(), "`yes` wrote more than 100000 bytes and was killed");
}

#[tokio::test]
async fn input_that_nobody_reads_is_left() {
    // More than any pipe holds.
    let input = vec![Input::from(Bytes::from(vec![b'x'; 8 << 20]))];
    for text in ["exit 0", "exec 0<&-; head -c 0 /dev/null", "head -c 10 >/dev/null"] {
        let mut job = script(text);
        job.input = input.clone();
        let ended = ended(job).await;
        assert!(ended.succeeded() && !ended.input_written, "{text}");
    }
    // One that waits for somebody else is ended by its time.
    let mut job = script("sleep 100");
    (job.input, job.limits.time) = (input.clone(), Duration::from_millis(200));
    assert!(matches!(runner().run(job).await, Err(RunError::TimedOut { .. })));
    let mut job = script("wc -c");
    job.input = input;
    let ended = ended(job).await;
    assert_eq!((said(&ended).trim(), ended.input_written), ("8388608", true));
}

/// So many portions of a mebibyte, and then the end, or a disk that fails.
#[derive(Debug)]
struct Mebibytes {
    count: u64,
    fails: bool,
}

impl Portions for Mebibytes {
    fn portion(&self, number: u64) -> std::io::Result<Option<Bytes>> {
        if number < self.count {
            return Ok(Some(vec![b'x'; 1 << 20].into()));
        }
        if self.fails { Err(std::io::ErrorKind::StaleNetworkFileHandle.into()) } else { Ok(None) }
    }
}

#[tokio::test]
async fn input_in_portions_is_read_as_it_is_taken_and_one_that_breaks_off_fails_the_run() {
    let of = |fails| {
        let portions = Input::Portions(Arc::new(Mebibytes { count: 20, fails }));
        let ends = [&b"a"[..], b"z"].map(|part| Input::from(Bytes::from_static(part)));
        let [first, last] = ends;
        let mut job = script("wc -c");
        job.input = vec![first, portions, last];
        job
    };
    let ended = ended(of(false)).await;
    assert_eq!((said(&ended).trim(), ended.input_written), ("20971522", true));
    let error = runner().run(of(true)).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot read the input of `wc -c`");
}

#[tokio::test]
async fn what_cannot_be_started_is_said() {
    let mut job = Job::new(Program::Direct(vec!["/no/such/program".into(), "x".into()]));
    let error = runner().run(job.clone()).await.unwrap_err().to_string();
    let expected = "cannot run `/no/such/program x`: cannot start it: No such file or directory \
                    (os error 2)";
    assert_eq!(error, expected);
    job.program = Program::Shell("true".into());
    job.directory = "/no/such/directory".into();
    let error = runner().run(job.clone()).await.unwrap_err().to_string();
    assert!(error.contains("No such file or directory"), "{error}");
    job.user = Some("no-such-user".into());
    let error = runner().run(job).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("there is no user \"no-such-user\""), "{source}");
}

#[tokio::test]
async fn memory_time_files_and_sizes_are_limited() {
    let dir = tempfile::tempdir().unwrap();
    let mut job = script("ulimit -v; ulimit -n; ulimit -t; ulimit -c");
    job.limits.memory_bytes = Some(64 << 20);
    (job.limits.files, job.limits.cpu) = (Some(32), Some(Duration::from_millis(1500)));
    assert_eq!(said(&ended(job.clone()).await), "65536\n32\n2\n0\n");

    job.program = Program::Shell("head -c 80000000 /dev/zero | sort | wc -c".into());
    let greedy = ended(job.clone()).await;
    assert!(!greedy.stderr.bytes.is_empty(), "sort had no memory: {}", said(&greedy));

    job.limits.cpu = Some(Duration::from_secs(1));
    job.program = Program::Shell("while :; do :; done".into());
    assert!(matches!(ended(job.clone()).await.status, Status::Killed(9 | 24)));

    let file = dir.path().join("file");
    job.limits.file_bytes = Some(100_000);
    job.program = Program::Shell(format!("yes > {}", file.display()));
    assert!(!ended(job).await.succeeded());
    assert_eq!(fs::metadata(file).unwrap().len(), 100_000);
}

#[tokio::test]
async fn it_runs_as_whom_it_should_and_only_root_may_choose() {
    if !root() {
        return;
    }
    let mut job = script("id -u; id -g; id -G; cat /proc/$PPID/status | grep ^Uid; echo $HOME");
    job.user = Some("nobody".into());
    let ended = ended(job).await;
    let nobody = User::find(Some("nobody")).unwrap();
    let lines: Vec<&str> = said(&ended).lines().collect();
    assert_eq!(lines[0], nobody.uid.to_string());
    assert_eq!(lines[1], nobody.gid.to_string());
    assert_eq!(lines[2], nobody.gid.to_string(), "none of root's groups");
    assert!(lines[3].starts_with("Uid:\t0"), "what ends it may end anybody");
    assert_eq!(lines[4], nobody.home);
}

#[tokio::test]
async fn it_sees_no_more_of_host_and_network_than_it_may() {
    if !root() {
        return;
    }
    let mut job = script("cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' '");
    job.network = false;
    assert_eq!(said(&ended(job).await), "lo\n");

    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("seen"), "").unwrap();
    let mut job = Job::new(Program::Direct(vec!["/seen".into()]));
    job.root = Some(dir.path().to_owned());
    let error = runner().run(job.clone()).await.unwrap_err().to_string();
    assert!(error.contains("Permission denied"), "it is there and no program: {error}");
    job.program = Program::Direct(vec!["/bin/sh".into()]);
    let error = runner().run(job).await.unwrap_err().to_string();
    assert!(error.contains("No such file"), "the host's shell is not: {error}");
}

#[tokio::test]
async fn a_hundred_at_once_end_well() {
    let runs: Vec<_> = (0..100)
        .map(|number| {
            let mut job = script(&format!("cat; exit {number}"));
            job.input = vec![Bytes::from(format!("{number}")).into()];
            tokio::spawn(async move { runner().run(job).await.unwrap() })
        })
        .collect();
    for (number, run) in runs.into_iter().enumerate() {
        let ended = run.await.unwrap();
        assert_eq!(said(&ended), number.to_string());
        assert_eq!(ended.status, Status::Exited(i32::try_from(number).unwrap()));
    }
}

/// Runs `text`, which connects to `listener` and says who it is; gives what was found of it.
async fn origin_of(text: &str, purpose: Option<&str>) -> Origin {
    let runner = runner();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut job = script(&text.replace("PORT", &port.to_string()));
    job.purpose = purpose.map(Into::into);
    let looked = async {
        let (stream, theirs) = listener.accept().await.unwrap();
        let peer = Peer::Tcp { ours: stream.local_addr().unwrap(), theirs };
        let runner = runner.clone();
        let origin = tokio::task::spawn_blocking(move || runner.origin(peer)).await.unwrap();
        drop(stream);
        origin
    };
    let (ended, origin) = tokio::join!(runner.run(job), looked);
    assert!(ended.unwrap().succeeded(), "{text}");
    origin
}

#[tokio::test]
async fn a_connection_is_traced_to_the_command_that_made_it() {
    // A grandchild with a session of its own, which waits until we close.
    let deep = "setsid bash -c 'exec 3<>/dev/tcp/127.0.0.1/PORT; cat <&3' & wait";
    assert_eq!(origin_of(deep, Some("web")).await, Origin::Command("web".into()));
    assert_eq!(origin_of(deep, None).await, Origin::Elsewhere, "nobody wants to know");
    // Whoever is gone may have been anybody.
    let quick = "bash -c 'exec 3<>/dev/tcp/127.0.0.1/PORT; exec 3>&-'; cat";
    let origin = origin_of(quick, Some("web")).await;
    let held = Origin::Command("web".into());
    assert!(origin == Origin::Gone(vec!["web".into()]) || origin == held, "{origin:?}");
    // This process is nobody's command.
    let runner = runner();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ours = listener.local_addr().unwrap();
    let mine = tokio::net::TcpStream::connect(ours).await.unwrap();
    let mut job = script("sleep 60");
    job.purpose = Some("web".into());
    let theirs = mine.local_addr().unwrap();
    tokio::select! {
        ended = runner.run(job) => panic!("{ended:?}"),
        () = wait_for("it runs", || runner.runs_any()) => {}
    }
    assert_eq!(runner.origin(Peer::Tcp { ours, theirs }), Origin::Elsewhere);
    let elsewhere = Peer::Tcp { ours, theirs: "192.0.2.1:5".parse().unwrap() };
    assert_eq!(runner.origin(elsewhere), Origin::Elsewhere);
    let us = i32::try_from(std::process::id()).unwrap();
    assert_eq!(runner.origin(Peer::Process(us)), Origin::Elsewhere);
}
