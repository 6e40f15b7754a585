//! How long a flock goes without its master, and what its catalog takes and keeps meanwhile.
//!
//! Agents run on this machine with TLS on, timers as they come, and a catalog on disk. What is cut
//! off, or parted, sits on hosts of `testing/lab`. The peer, where it is installed, is etcd with
//! three members and Debian's defaults: written to in the same rhythm, struck in the same
//! way. Beside a host that is cut off stands keepalived.
//!
//! | part | measures |
//! |---|---|
//! | [`mod@gaps`] | the longest time without an acknowledged write when the master is struck |
//! | [`repairs`] | a backup replaced, a flock that lost two managers, two flocks that meet |
//! | [`writes`] | writes a second, and how soon everybody sees one |
//! | [`stress`] | changes of master that nothing called for, on a machine that is busy |
//! | [`address`] | keepalived's address, when the host that has it is cut off |
//! | [`writer`] | writes in a fixed rhythm, whatever became of those before |
//! | [`flock`] | what agents say of their flock's management, and orders to it |

pub mod address;
pub mod flock;
pub mod gaps;
pub mod repairs;
pub mod stress;
pub mod writer;
pub mod writes;

use super::Measure;
use gaps::{Asked, Fault, gaps};

/// Trials of whatever happens to a master, unless it is asked otherwise.
pub const TRIALS: u32 = 30;
/// And where it shall be quick.
pub const TRIALS_QUICK: u32 = 3;

const KILLED: Asked = Asked { what: "SIGKILL of the master's agent", targets: (0.5, 1.0) };
const FROZEN: Asked = Asked { what: "SIGSTOP of the master's agent", targets: (1.8, 2.5) };
const CUT: Asked = Asked { what: "the master's host cut off", targets: (1.8, 2.5) };
const HANDED: Asked = Asked { what: "planned transfer", targets: (0.05, 0.05) };

/// Everything this bench measures.
pub const MEASURES: &[Measure] = &[
    Measure { name: "kill-5", run: |setting| gaps(setting, 5, Fault::Kill, KILLED) },
    Measure { name: "kill-50", run: |setting| gaps(setting, 50, Fault::Kill, KILLED) },
    Measure { name: "freeze", run: |setting| gaps(setting, 5, Fault::Freeze, FROZEN) },
    Measure { name: "cut", run: |setting| gaps(setting, 5, Fault::Cut, CUT) },
    Measure { name: "transfer", run: |setting| gaps(setting, 5, Fault::HandOver, HANDED) },
    Measure { name: "replaced", run: repairs::replaced },
    Measure { name: "double-loss", run: repairs::double_loss },
    Measure { name: "meeting", run: repairs::meeting },
    Measure { name: "writes", run: writes::rate },
    Measure { name: "visible", run: writes::visible },
    Measure { name: "stress", run: stress::stress },
    Measure { name: "harsh", run: stress::harsh },
    Measure { name: "lossy", run: stress::lossy },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_measures_are_unique() {
        let mut names: Vec<_> = MEASURES.iter().map(|measure| measure.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), MEASURES.len());
    }
}
