//! Progress bars for a wave: one per node while they fit, one for all.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use skep_base::{ByteSize, NodeName};
use skep_control::api::{WaveDetail, WaveNode, WaveStep};

use crate::human;

/// Nodes with a bar of their own: what fits on an ordinary terminal with room for the rest.
const MAX_BARS: usize = 16;
/// Redraws a second.
const REDRAW_HERTZ: u8 = 10;

/// How often a wave that is watched is looked at: quick enough for the eye.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Bars on standard error.
#[derive(Debug)]
pub struct WaveBars {
    all: MultiProgress,
    nodes: BTreeMap<NodeName, ProgressBar>,
    total: ProgressBar,
    name_width: usize,
}

impl WaveBars {
    /// Bars for `wave`, which are drawn only where standard error is a terminal.
    #[must_use]
    pub fn new(wave: &WaveDetail) -> Self {
        Self::on(ProgressDrawTarget::stderr_with_hz(REDRAW_HERTZ), wave)
    }

    fn on(target: ProgressDrawTarget, wave: &WaveDetail) -> Self {
        let all = MultiProgress::with_draw_target(target);
        let total = all.add(ProgressBar::new(1).with_style(style("{wide_msg}")));
        let name_width =
            wave.nodes.iter().map(|node| node.node.as_str().len()).max().unwrap_or(0).clamp(4, 24);
        let mut bars = Self { all, nodes: BTreeMap::new(), total, name_width };
        bars.update(wave);
        bars
    }

    /// Shows how far `wave` is now.
    pub fn update(&mut self, wave: &WaveDetail) {
        for node in &wave.nodes {
            if let Some(bar) = self.bar(&node.node) {
                bar.set_length(node.bytes_all.max(1));
                bar.set_position(position(node));
                bar.set_message(message(node));
            }
        }
        self.total.set_message(summary(wave, self.nodes.len()));
        self.total.tick();
    }

    /// Leaves the bars as they are and the cursor below them.
    pub fn finish(&self) {
        for bar in self.nodes.values() {
            bar.abandon();
        }
        self.total.abandon();
    }

    /// Takes the bars away: what they said is told in another way.
    pub fn clear(&self) {
        self.finish();
        // Where standard error is gone there is nothing to take away.
        self.all.clear().ok();
    }

    fn bar(&mut self, node: &NodeName) -> Option<&ProgressBar> {
        if !self.nodes.contains_key(node) {
            if self.nodes.len() >= MAX_BARS {
                return None;
            }
            let template = node_template(self.name_width);
            let bar =
                ProgressBar::new(1).with_style(style(&template)).with_prefix(node.to_string());
            let bar = self.all.insert_before(&self.total, bar);
            self.nodes.insert(node.clone(), bar);
        }
        self.nodes.get(node)
    }
}

fn node_template(name_width: usize) -> String {
    format!("{{prefix:{name_width}}} {{bar:30.green/dim}} {{percent:>3}}% {{wide_msg}}")
}

fn style(template: &str) -> ProgressStyle {
    // The templates are ours and a test parses them; the default bar stands in were one wrong.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━━─")
}

/// Bytes had, but never all of them before the node is done: a full bar means done.
fn position(node: &WaveNode) -> u64 {
    let all = node.bytes_all.max(1);
    match node.step {
        WaveStep::Done => all,
        WaveStep::Waiting
        | WaveStep::Comparing
        | WaveStep::Fetching
        | WaveStep::Staging
        | WaveStep::Switching
        | WaveStep::Failed => node.bytes_have.min(all - all.div_ceil(100)),
    }
}

fn message(node: &WaveNode) -> String {
    let took = human::span(node.elapsed_ms);
    match (&node.error, node.step) {
        (Some(error), _) => format!("failed: {error}"),
        (None, WaveStep::Done) => {
            format!("done in {took}, {} from {} nodes", ByteSize(node.fetched), node.sources)
        }
        (None, WaveStep::Waiting) => format!("waiting ({})", node.presence),
        (None, step) => step.word().to_owned(),
    }
}

fn summary(wave: &WaveDetail, shown: usize) -> String {
    let row = &wave.wave;
    let hidden = wave.nodes.len().saturating_sub(shown);
    let more = if hidden > 0 { format!(" ({hidden} of them not shown)") } else { String::new() };
    format!(
        "wave {}: {} of {} nodes done{more}, {} failed, {}, {} left the queen for {} of image",
        row.id,
        row.done,
        row.targets,
        row.failed,
        human::span(row.elapsed_ms),
        ByteSize(row.queen_bytes),
        ByteSize(row.image_bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;
    use expect_test::expect;

    #[test]
    fn the_templates_are_valid() {
        for template in [node_template(4), node_template(24), "{wide_msg}".to_owned()] {
            assert!(ProgressStyle::with_template(&template).is_ok(), "{template}");
        }
    }

    #[test]
    fn bars_say_what_each_node_does_and_what_all_do() {
        let wave = samples::wave_detail();
        let said: Vec<String> = wave.nodes.iter().map(message).collect();
        expect![[r#"
            done in 3.7 s, 64.0 MiB from 3 nodes
            fetching
            failed: web-2: cannot write /srv/.web.new/lib: no space left
            waiting (silent)"#]]
        .assert_eq(&said.join("\n"));
        let total = "wave queen-1:4: 1 of 4 nodes done (2 of them not shown), 1 failed, 4.2 s, \
                     70.0 MiB left the queen for 64.0 MiB of image";
        assert_eq!(summary(&wave, 2), total);
    }

    #[test]
    fn only_so_many_nodes_get_a_bar_of_their_own() {
        let mut wave = samples::wave_detail();
        let one = wave.nodes.remove(0);
        wave.nodes = (0..40)
            .map(|number| WaveNode {
                node: samples::name(&format!("web-{number:02}")),
                ..one.clone()
            })
            .collect();
        let bars = WaveBars::on(ProgressDrawTarget::hidden(), &wave);
        assert_eq!(bars.nodes.len(), MAX_BARS);
        let first = bars.nodes.values().next().unwrap();
        assert_eq!(first.position(), first.length().unwrap());
    }

    #[test]
    fn a_node_is_at_its_bars_end_only_when_it_is_done() {
        let mut node = samples::wave_detail().nodes.remove(0);
        node.step = WaveStep::Staging;
        node.bytes_have = node.bytes_all;
        assert!(position(&node) < node.bytes_all);
        node.step = WaveStep::Done;
        assert_eq!(position(&node), node.bytes_all);
    }
}
