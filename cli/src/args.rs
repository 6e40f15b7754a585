//! The whole command line, as types.
//!
//! Verbs that ask a running agent are [`Online`] and are carried out in this crate; verbs that do
//! without one are [`Offline`] and are handed back as data, for the agent crate to carry out.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

mod catalog;
mod channel;
mod flock;
mod flood;
mod notify;
mod offline;
mod online;

pub use catalog::{
    CatalogConflicts, CatalogDiff, CatalogExport, CatalogGet, CatalogHistory, CatalogImport,
    CatalogRm, CatalogSet, CatalogVerb,
};
pub use channel::{ChannelOpen, ChannelServe};
pub use flock::{FlockArgs, FlockExpel, FlockNode, FlockRecover, FlockRoster, FlockVerb};
pub use flood::{Connect, FloodBench, FloodSend, FloodStats, FloodTail};
pub use notify::{NotifyAdd, NotifyRm, NotifyTest, NotifyVerb};
pub use offline::{
    AgentArgs, BeaconArgs, CaDirectory, CaInit, CaInvite, CaIssue, CaRefound, CertShow,
    ConfigCheck, ConfigFile, ConfigImport, ConfigShow, DemoArgs, ImageBuild, ImageVerify, JoinArgs,
    RoleArg, check_address,
};
pub use online::{
    EventsArgs, GroupArgs, ImagePrune, ImageShow, JoinAddressArgs, LeaveArgs, Listing, RttArgs,
    Socket, TopologyArgs, WaveStart, WaveStatus, WaveWatch,
};

/// Where the agent listens unless its configuration says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/skep/control.sock";
/// Where applications find the agent unless its configuration says otherwise: beside the control
/// socket at `control`.
#[must_use]
pub fn client_socket(control: &std::path::Path) -> PathBuf {
    let name = match control.file_stem().and_then(std::ffi::OsStr::to_str) {
        Some("control") | None => "client.sock".to_owned(),
        Some(stem) => format!("{stem}-client.sock"),
    };
    control.with_file_name(name)
}
/// Where the configuration is unless the command line says otherwise.
pub const DEFAULT_CONFIG: &str = "/etc/skep/skep.toml";

const EXIT_CODES: &str = "\
EXIT CODES
  0  done
  1  failed; the message says who, what, why and what to do
  2  the command line is wrong
  3  no agent can be reached
  4  the agent refused: not allowed, not found, or not possible as things stand

EXAMPLE
  skep demo                              see it work on this machine, without root
  skep status                            how is this node?
  skep members                           who is in the bloc, and who is there?
  skep wave start web --to all --at /srv/web --watch";

/// Keeps a fleet of servers alike, in sync and alive, with no central server
#[derive(Debug, Parser)]
#[command(name = "skep", version, about, after_help = EXIT_CODES, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true, infer_subcommands = false)]
#[command(disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Everything `skep` can do, in the order of its help.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show how this node is: name, life, flock, certificate, what is wrong
    #[command(after_help = "EXAMPLE\n  skep status\n  skep status --json | jq .problems")]
    Status(Listing),
    /// List the members of the bloc and what is derived of each
    #[command(after_help = "PRESENCE\n  \
        present     a chain of live links leads from this node to it\n  \
        restarting  it announced a restart and its time is not over\n  \
        silent      no present watcher hears it, and it did not say good-bye\n  \
        left        it said that it leaves\n  \
        given-up    silent for so long that it is dialled rarely\n\n\
        EXAMPLE\n  skep members\n  skep members --json | jq -r \
        '.[] | select(.presence==\"silent\").node'")]
    Members(Listing),
    /// Show who can reach whom now, the overlay between them, and who manages the flock
    #[command(after_help = "EXAMPLE\n  skep flock\n  skep flock --json | jq .digest     \
        # equal on all nodes of one flock\n  skep flock --json | jq .management\n  \
        sudo skep flock step-down")]
    Flock(FlockArgs),
    /// Read and change the catalog: what the fleet shall be, the same on every node
    #[command(subcommand, arg_required_else_help = true, disable_help_subcommand = true)]
    #[command(after_help = "EXAMPLE\n  skep catalog get\n  \
        sudo skep catalog set setting/motd value='back at noon'\n  \
        skep catalog history setting/motd")]
    Catalog(CatalogVerb),
    /// Show what is wrong with the flock and who was told of it, and try whether that works
    #[command(subcommand, arg_required_else_help = true, disable_help_subcommand = true)]
    #[command(after_help = "EXAMPLE\n  skep notify ls\n  sudo skep notify test")]
    Notify(NotifyVerb),
    /// List the links of this node with the kernel's figures
    #[command(after_help = "EXAMPLE\n  skep links")]
    Links(Listing),
    /// List the groups, or show one with its members and subscribers
    #[command(after_help = "EXAMPLE\n  skep group\n  skep group web")]
    Group(GroupArgs),
    /// Show who links to whom in a group, and why
    #[command(
        after_help = "A `~` stands before a round trip that was predicted and not measured, a \
        `+` before a\nlink that was added since the topology was computed, because members \
        came or went.\n\n\
        EXAMPLE\n  skep topology all\n  skep topology web --svg > web.svg\n  \
        skep topology all --dot | neato -n -Tpng > all.png"
    )]
    Topology(TopologyArgs),
    /// Show what is known of the round trip between two nodes: measured or predicted, and by whom
    #[command(
        after_help = "EXAMPLE\n  skep rtt web-1 db-2\n  skep rtt web-1 db-2 --json | jq .rtt_us"
    )]
    Rtt(RttArgs),
    /// Print what happened on this node, and with --follow what happens
    #[command(after_help = "EXAMPLE\n  skep events --last 20\n  \
        skep events --follow --json\n  skep events --flock")]
    Events(EventsArgs),
    /// Check that the agent can do its work; fails where it cannot
    #[command(after_help = "Each line is one check of the agent on itself: its certificate, its \
        name, its disk, the clock,\nwhether others are there, and whether the commands that get \
        updates take them.\n\nEXAMPLE\n  skep health\n  \
        skep health > /dev/null || logger -p daemon.err 'skep is not well'")]
    Health(Listing),
    /// Print the agent's counters and gauges
    #[command(after_help = "EXAMPLE\n  skep metrics\n  skep metrics --json")]
    Metrics(Listing),
    /// Build, list and check images: trees and files to be rolled out
    #[command(subcommand, arg_required_else_help = true, disable_help_subcommand = true)]
    #[command(after_help = "EXAMPLE\n  sudo skep image build /srv/build/web --name web\n  \
        skep image show web\n  \
        sudo skep image verify web --at /srv/web")]
    Image(ImageVerb),
    /// Roll an image out to all nodes of a group, and watch it
    #[command(subcommand, arg_required_else_help = true, disable_help_subcommand = true)]
    #[command(
        after_help = "EXAMPLE\n  sudo skep wave start web --to all --at /srv/web\n  skep wave watch"
    )]
    Wave(WaveVerb),
    /// Publish updates to a group and read them
    #[command(subcommand, arg_required_else_help = true, disable_help_subcommand = true)]
    #[command(after_help = "EXAMPLE\n  sudo skep flood tail &\n  \
        sudo skep flood send --text 'hello, flock'")]
    Flood(FloodVerb),
    /// Join the standard input and output of two hosts, through their agents
    #[command(subcommand, arg_required_else_help = true, disable_help_subcommand = true)]
    #[command(after_help = "EXAMPLE\n  \
        sudo skep channel serve dump < /dev/null > dump.sql    on web-1\n  \
        pg_dump site | sudo skep channel open web-1 dump       on db-2")]
    Channel(ChannelVerb),
    /// Have the running agent dial nodes that it does not know
    #[command(after_help = "EXAMPLE\n  sudo skep join-address 192.0.2.7:7400\n  \
        sudo skep join-address seed.example:7400 [2001:db8::7]:7400")]
    JoinAddress(JoinAddressArgs),
    /// Have the agent leave the flock for good: it says so, and stops
    #[command(after_help = "A restart needs no word: stopped by SIGTERM (`systemctl restart \
        skep`), an agent announces it.\n\nEXAMPLE\n  sudo skep leave --yes")]
    Leave(LeaveArgs),
    /// Run the agent of this host
    #[command(after_help = "The agent stays in the foreground and logs to standard error. On \
        SIGTERM it announces a restart,\nhands over what is in flight and stops.\n\n\
        EXAMPLE\n  skep agent --config /etc/skep/skep.toml\n  \
        skep agent --floodd /etc/floodd.conf")]
    Agent(AgentArgs),
    /// Check, print and explain the configuration
    #[command(subcommand, arg_required_else_help = true, disable_help_subcommand = true)]
    #[command(after_help = "EXAMPLE\n  skep config default | sudo tee /etc/skep/skep.toml\n  \
        skep config check\n  \
        skep config show --origin")]
    Config(ConfigVerb),
    /// Make and run the bloc's certificate authority
    #[command(subcommand, arg_required_else_help = true, disable_help_subcommand = true)]
    #[command(after_help = "EXAMPLE\n  \
        sudo skep ca init --bloc example              once, on the host that will serve it\n  \
        sudo skep ca issue seed-1 --role queen --out ./seed-1\n  \
        sudo skep ca invite --address 192.0.2.1:7400  for each host that joins over the network")]
    Ca(CaVerb),
    /// Make this host a node of a bloc, with a token from `skep ca invite`
    #[command(after_help = "The private key is made here and never leaves this host. The token \
        names the CA by its fingerprint,\nso nobody in between can pose as it.\n\n\
        EXAMPLE\n  sudo skep join skep-invite-aefwk6dbnvygyzjomnxw2byh\n  \
        sudo skep join TOKEN --node web-7 --address 192.0.2.7:7400")]
    Join(JoinArgs),
    /// Show this node's certificate
    #[command(subcommand, arg_required_else_help = true, disable_help_subcommand = true)]
    #[command(after_help = "EXAMPLE\n  sudo skep cert show")]
    Cert(CertVerb),
    /// Run the beacon: tells nodes without a common seed of one another's addresses
    #[command(subcommand, arg_required_else_help = true, disable_help_subcommand = true)]
    #[command(after_help = "EXAMPLE\n  skep beacon serve")]
    Beacon(BeaconVerb),
    /// Show all of it on this machine: a bloc forms, a tree is rolled out, a newcomer catches up
    #[command(after_help = "Needs no root and no network beyond loopback, and cleans up behind \
        itself. Exits with 0 only where\nevery copy was verified.\n\n\
        EXAMPLE\n  skep demo\n  skep demo --nodes 9 --tree /usr/share/doc --keep")]
    Demo(DemoArgs),
    /// Print a completion script for a shell
    #[command(after_help = "EXAMPLE\n  skep completions bash | sudo tee \
        /usr/share/bash-completion/completions/skep >/dev/null")]
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Write a manual page for every command into a directory
    #[command(after_help = "EXAMPLE\n  sudo skep man /usr/local/share/man/man1")]
    Man {
        /// Into which directory; it is made where it is missing
        dir: PathBuf,
    },
}

/// `skep image ..`
#[derive(Debug, Subcommand)]
pub enum ImageVerb {
    /// Build a version of an image from a tree or a file
    #[command(after_help = "EXAMPLE\n  sudo skep image build /srv/build/web --name web\n  \
        sudo skep image build ./web.tar --name web-archive")]
    Build(ImageBuild),
    /// List the versions of images on this node
    #[command(after_help = "EXAMPLE\n  skep image ls")]
    Ls(Listing),
    /// Show a version of an image and what is in it
    #[command(after_help = "EXAMPLE\n  skep image show web\n  skep image show web --version 3f9a")]
    Show(ImageShow),
    /// Remove old versions of images, and chunks that no version or wave needs
    #[command(after_help = "EXAMPLE\n  sudo skep image prune --dry-run\n  \
        sudo skep image prune --keep 2")]
    Prune(ImagePrune),
    /// Compare a tree with a version of an image, entry by entry
    #[command(after_help = "EXAMPLE\n  sudo skep image verify web --at /srv/web")]
    Verify(ImageVerify),
}

/// `skep wave ..`
#[derive(Debug, Subcommand)]
pub enum WaveVerb {
    /// Start rolling an image out
    #[command(after_help = "Every node of the groups fetches the chunks it lacks from whichever \
        nodes have them, verifies them,\nlays the tree out beside the active one and changes over \
        in one step. Nodes that join later catch up\nby themselves.\n\n\
        EXAMPLE\n  sudo skep wave start web --to all --at /srv/web --watch")]
    Start(WaveStart),
    /// List the waves, or show one node by node
    #[command(after_help = "EXAMPLE\n  skep wave status\n  skep wave status queen-1:4")]
    Status(WaveStatus),
    /// Watch a wave until every node has it; fails where a node cannot
    #[command(after_help = "EXAMPLE\n  skep wave watch\n  skep wave watch queen-1:4 --json")]
    Watch(WaveWatch),
}

/// `skep channel ..`
#[derive(Debug, Subcommand)]
pub enum ChannelVerb {
    /// Wait until another host opens the channel NAME here, and pass bytes both ways
    #[command(after_help = "Takes one channel, and ends when both sides have said all; fails \
        where it broke off before that.\n\n\
        EXAMPLE\n  sudo skep channel serve dump < /dev/null > dump.sql")]
    Serve(ChannelServe),
    /// Open the channel NAME that another host serves, and pass bytes both ways
    #[command(after_help = "Where neither host can dial the other, the agents find a way by a \
        third.\n\n\
        EXAMPLE\n  pg_dump site | sudo skep channel open web-1 dump")]
    Open(ChannelOpen),
}

/// `skep flood ..`
#[derive(Debug, Subcommand)]
pub enum FloodVerb {
    /// Publish an update: a file, standard input, or the text given
    #[command(after_help = "Ends when the update is on this node's disk, and prints under which \
        identity it travels.\n\n\
        EXAMPLE\n  make-update | sudo skep flood send --group web\n  \
        sudo skep flood send --group web update.sql\n  \
        sudo skep flood send --text 'hello, flock'")]
    Send(FloodSend),
    /// Print a group's updates as they come
    #[command(after_help = "With --name each update is acknowledged once it is printed, and the \
        next run reads on from there.\n\n\
        EXAMPLE\n  sudo skep flood tail\n  \
        sudo skep flood tail --group web --from first --no-follow\n  \
        sudo skep flood tail --group web --name deploy --json")]
    Tail(FloodTail),
    /// Print the agent's figures, as clients see them
    #[command(after_help = "EXAMPLE\n  sudo skep flood stats\n  sudo skep flood stats --json")]
    Stats(FloodStats),
    /// Measure how fast updates are published, and how fast they arrive
    #[command(
        after_help = "An update counts as published when it is on the disk of the node that \
        took it. With --listen it\nis measured as well when every listener has every update.\n\n\
        EXAMPLE\n  sudo skep flood bench --publishers 4 --count 100000\n  \
        sudo skep flood bench --rate 100 --count 1000 --listen 10.0.0.2:2000"
    )]
    Bench(FloodBench),
}

/// `skep config ..`
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Check a configuration; says file, line, column and what was expected
    #[command(after_help = "EXAMPLE\n  skep config check /etc/skep/skep.toml")]
    Check(ConfigCheck),
    /// Print a configuration that says the defaults, with every setting explained
    #[command(after_help = "EXAMPLE\n  skep config default | sudo tee /etc/skep/skep.toml")]
    Default,
    /// Print the configuration in force
    #[command(after_help = "EXAMPLE\n  skep config show --origin")]
    Show(ConfigShow),
    /// Print a configuration of floodd as one of Skep
    #[command(after_help = "What floodd did otherwise stands in comments, and on standard \
        error.\n\nEXAMPLE\n  skep config import floodd.conf | sudo tee /etc/skep/skep.toml\n  \
        skep config import floodd.conf --site inferno")]
    Import(ConfigImport),
}

/// `skep ca ..`
#[derive(Debug, Subcommand)]
pub enum CaVerb {
    /// Make a certificate authority for a new bloc
    #[command(after_help = "EXAMPLE\n  sudo skep ca init --bloc example")]
    Init(CaInit),
    /// Issue a certificate with its key, to be laid on a host before its first start
    #[command(
        after_help = "EXAMPLE\n  sudo skep ca issue web-1 --network rack-a --out ./web-1\n  \
        sudo skep ca issue queen-1 --role queen --out ./queen-1"
    )]
    Issue(CaIssue),
    /// Print a token with which one host may join
    #[command(after_help = "EXAMPLE\n  sudo skep ca invite --address 192.0.2.1:7400\n  \
        sudo skep ca invite --node web-7 --expires 2h --address seed.example:7400")]
    Invite(CaInvite),
    /// Sign the next founding token: for a bloc whose strong flock is gone for ever
    #[command(
        after_help = "A bloc has one flock that is strong: it alone gives strict authority, \
        and promises that writes survive.\nIts first founding token comes with the first \
        certificate. A further one is for a flock that lost a\nmajority of its roster for ever, or \
        whose token was lost or expired. Everything promised under\nlower founding numbers is \
        worth nothing once it is used. Asks before it signs.\n\n\
        EXAMPLE\n  sudo skep ca refound web-1                   asks, then writes \
        ./web-1/founding.token\n  sudo skep ca refound web-1 --valid 2h --out /root/token"
    )]
    Refound(CaRefound),
    /// Show how the CA is doing that the agent of this host serves
    #[command(after_help = "EXAMPLE\n  skep ca status\n  skep ca status --json | jq .invitations")]
    Status(Listing),
    /// Run the agent of this host, and answer joins and renewals as the CA
    #[command(after_help = "The same as `skep agent` with `ca.serve = true` in the \
        configuration.\n\nEXAMPLE\n  skep ca serve --config /etc/skep/skep.toml")]
    Serve(AgentArgs),
}

/// `skep cert ..`
#[derive(Debug, Subcommand)]
pub enum CertVerb {
    /// Print what the certificate says and until when it holds
    #[command(after_help = "EXAMPLE\n  sudo skep cert show\n  skep cert show --identity ./web-1")]
    Show(CertShow),
}

/// `skep beacon ..`
#[derive(Debug, Subcommand)]
pub enum BeaconVerb {
    /// Serve as a beacon
    #[command(
        after_help = "The beacon sees addresses and nothing else, and needs no certificate. \
        Nodes know it by its public\nkey, which is printed at the start: it goes into their \
        `join.beacon.key`.\n\n\
        EXAMPLE\n  skep beacon serve --listen 0.0.0.0:7402 --key /var/lib/skep-beacon/key"
    )]
    Serve(BeaconArgs),
}

/// What an agent is asked; carried out by [`crate::run`].
#[derive(Debug)]
pub enum Online {
    /// `skep status`
    Status(Listing),
    /// `skep members`
    Members(Listing),
    /// `skep flock ..`
    Flock(FlockArgs),
    /// `skep catalog ..`
    Catalog(CatalogVerb),
    /// `skep notify ..`
    Notify(NotifyVerb),
    /// `skep links`
    Links(Listing),
    /// `skep group`
    Group(GroupArgs),
    /// `skep topology`
    Topology(TopologyArgs),
    /// `skep rtt`
    Rtt(RttArgs),
    /// `skep events`
    Events(EventsArgs),
    /// `skep health`
    Health(Listing),
    /// `skep metrics`
    Metrics(Listing),
    /// `skep ca status`
    CaStatus(Listing),
    /// `skep image ls`
    ImageLs(Listing),
    /// `skep image show`
    ImageShow(ImageShow),
    /// `skep image prune`
    ImagePrune(ImagePrune),
    /// `skep wave start`
    WaveStart(WaveStart),
    /// `skep wave status`
    WaveStatus(WaveStatus),
    /// `skep wave watch`
    WaveWatch(WaveWatch),
    /// `skep flood send`
    FloodSend(FloodSend),
    /// `skep flood tail`
    FloodTail(FloodTail),
    /// `skep flood stats`
    FloodStats(FloodStats),
    /// `skep flood bench`
    FloodBench(FloodBench),
    /// `skep channel serve`
    ChannelServe(ChannelServe),
    /// `skep channel open`
    ChannelOpen(ChannelOpen),
    /// `skep join-address`
    JoinAddress(JoinAddressArgs),
    /// `skep leave`
    Leave(LeaveArgs),
}

/// What needs no agent, or is one.
#[derive(Debug)]
pub enum Offline {
    /// `skep agent`, and `skep ca serve`
    Agent {
        /// Which configuration.
        args: AgentArgs,
        /// Whether to serve the CA whatever the configuration says.
        serve_ca: bool,
    },
    /// `skep config check`
    ConfigCheck(ConfigCheck),
    /// `skep config default`
    ConfigDefault,
    /// `skep config show`
    ConfigShow(ConfigShow),
    /// `config import`
    ConfigImport(ConfigImport),
    /// `skep ca init`
    CaInit(CaInit),
    /// `skep ca issue`
    CaIssue(CaIssue),
    /// `skep ca invite`
    CaInvite(CaInvite),
    /// `skep ca refound`
    CaRefound(CaRefound),
    /// `skep join`
    Join(JoinArgs),
    /// `skep cert show`
    CertShow(CertShow),
    /// `skep image build`
    ImageBuild(ImageBuild),
    /// `skep image verify`
    ImageVerify(ImageVerify),
    /// `skep beacon serve`
    BeaconServe(BeaconArgs),
    /// `skep demo`
    Demo(DemoArgs),
}

/// Who carries a command out.
#[derive(Debug)]
pub enum Task {
    /// [`crate::run`], by asking an agent.
    Online(Online),
    /// The agent crate.
    Offline(Offline),
    /// [`crate::write_completions`].
    Completions(clap_complete::Shell),
    /// [`crate::write_manual`].
    Manual(PathBuf),
}

impl Cli {
    /// Who carries this command out.
    #[must_use]
    pub fn task(self) -> Task {
        let online = match self.verb {
            Verb::Status(listing) => Online::Status(listing),
            Verb::Members(listing) => Online::Members(listing),
            Verb::Flock(args) => Online::Flock(args),
            Verb::Catalog(verb) => Online::Catalog(verb),
            Verb::Notify(verb) => Online::Notify(verb),
            Verb::Links(listing) => Online::Links(listing),
            Verb::Group(args) => Online::Group(args),
            Verb::Topology(args) => Online::Topology(args),
            Verb::Rtt(args) => Online::Rtt(args),
            Verb::Events(args) => Online::Events(args),
            Verb::Health(listing) => Online::Health(listing),
            Verb::Metrics(listing) => Online::Metrics(listing),
            Verb::Image(ImageVerb::Ls(listing)) => Online::ImageLs(listing),
            Verb::Image(ImageVerb::Show(args)) => Online::ImageShow(args),
            Verb::Image(ImageVerb::Prune(args)) => Online::ImagePrune(args),
            Verb::Wave(WaveVerb::Start(args)) => Online::WaveStart(args),
            Verb::Wave(WaveVerb::Status(args)) => Online::WaveStatus(args),
            Verb::Wave(WaveVerb::Watch(args)) => Online::WaveWatch(args),
            Verb::Flood(FloodVerb::Send(args)) => Online::FloodSend(args),
            Verb::Flood(FloodVerb::Tail(args)) => Online::FloodTail(args),
            Verb::Flood(FloodVerb::Stats(args)) => Online::FloodStats(args),
            Verb::Flood(FloodVerb::Bench(args)) => Online::FloodBench(args),
            Verb::Channel(ChannelVerb::Serve(args)) => Online::ChannelServe(args),
            Verb::Channel(ChannelVerb::Open(args)) => Online::ChannelOpen(args),
            Verb::JoinAddress(args) => Online::JoinAddress(args),
            Verb::Leave(args) => Online::Leave(args),
            Verb::Completions { shell } => return Task::Completions(shell),
            Verb::Man { dir } => return Task::Manual(dir),
            Verb::Agent(args) => {
                let serve_ca = false;
                return Task::Offline(Offline::Agent { args, serve_ca });
            }
            Verb::Ca(CaVerb::Serve(args)) => {
                let serve_ca = true;
                return Task::Offline(Offline::Agent { args, serve_ca });
            }
            Verb::Config(ConfigVerb::Check(args)) => {
                return Task::Offline(Offline::ConfigCheck(args));
            }
            Verb::Config(ConfigVerb::Default) => return Task::Offline(Offline::ConfigDefault),
            Verb::Config(ConfigVerb::Show(args)) => {
                return Task::Offline(Offline::ConfigShow(args));
            }
            Verb::Config(ConfigVerb::Import(args)) => {
                return Task::Offline(Offline::ConfigImport(args));
            }
            Verb::Ca(CaVerb::Status(listing)) => Online::CaStatus(listing),
            Verb::Ca(CaVerb::Init(args)) => return Task::Offline(Offline::CaInit(args)),
            Verb::Ca(CaVerb::Issue(args)) => return Task::Offline(Offline::CaIssue(args)),
            Verb::Ca(CaVerb::Invite(args)) => return Task::Offline(Offline::CaInvite(args)),
            Verb::Ca(CaVerb::Refound(args)) => return Task::Offline(Offline::CaRefound(args)),
            Verb::Join(args) => return Task::Offline(Offline::Join(args)),
            Verb::Cert(CertVerb::Show(args)) => return Task::Offline(Offline::CertShow(args)),
            Verb::Image(ImageVerb::Build(args)) => {
                return Task::Offline(Offline::ImageBuild(args));
            }
            Verb::Image(ImageVerb::Verify(args)) => {
                return Task::Offline(Offline::ImageVerify(args));
            }
            Verb::Beacon(BeaconVerb::Serve(args)) => {
                return Task::Offline(Offline::BeaconServe(args));
            }
            Verb::Demo(args) => return Task::Offline(Offline::Demo(args)),
        };
        Task::Online(online)
    }
}

/// The command line's definition, for completions, manual pages and tests.
#[must_use]
pub fn definition() -> clap::Command {
    Cli::command()
}

/// `--json`, where a verb prints a listing.
#[derive(Clone, Copy, Debug, Args)]
pub struct Json {
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}
