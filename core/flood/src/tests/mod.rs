//! Several machines on a virtual network, and single machines against a scripted peer.

extern crate std;

mod bounds;
mod net;
mod network;
mod pruning;
mod room;
mod served;
mod single;
mod subscribers;
