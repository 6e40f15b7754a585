//! Settings that came from a floodd file as a `skep.toml` for people to go on with.

use std::collections::BTreeMap;

use super::Mapped;
use crate::config::layer::Layered;
use crate::config::origin;
use crate::config::reference;

/// The file.
pub(super) fn write(mapped: &Mapped) -> String {
    let from = mapped.layer.first().map_or_else(String::new, |first| {
        let name = first.path.file_name().unwrap_or(first.path.as_os_str());
        format!(" from {}", name.display())
    });
    let mut text = format!(
        "# The configuration of site {}, made by `skep config import`{from}.\n\
         # Everything else is as `skep config default` says it.\n",
        mapped.site
    );
    let mut sections: BTreeMap<usize, Vec<&Layered>> = BTreeMap::new();
    for setting in &mapped.layer {
        sections.entry(rank(section(setting))).or_default().push(setting);
    }
    for mut settings in sections.into_values() {
        // Tables of the same kind stand together, in the order of their names.
        settings.sort_by_key(|setting| section(setting));
        let mut of = "";
        for setting in settings {
            if section(setting) != of {
                of = section(setting);
                text.push_str(&format!("\n{}\n", origin::heading(of)));
            }
            for notice in mapped.notices.iter().filter(|notice| {
                (notice.at.line, notice.at.column) == setting.at && first_there(mapped, setting)
            }) {
                text.push_str(&comment(&notice.text));
            }
            let key = setting.key.rsplit_once('.').map_or("", |(_, key)| key);
            text.push_str(&format!("{key} = {}\n", setting.value));
        }
    }
    let unplaced = mapped.notices.iter().filter(|notice| {
        let at = (notice.at.line, notice.at.column);
        !mapped.layer.iter().any(|setting| setting.at == at)
    });
    let unplaced: String = unplaced.map(|notice| comment(&notice.text)).collect();
    if !unplaced.is_empty() {
        text.push_str(&format!("\n# Besides:\n{unplaced}"));
    }
    text
}

fn section(setting: &Layered) -> &str {
    setting.key.rsplit_once('.').map_or("", |(of, _)| of)
}

/// Where a section stands in the reference.
fn rank(section: &str) -> usize {
    let kind = section.split('.').next().unwrap_or(section);
    reference::TEXT.find(&format!("[{kind}")).unwrap_or(usize::MAX)
}

/// Of several settings that come from one place, what is to be said is said once.
fn first_there(mapped: &Mapped, setting: &Layered) -> bool {
    mapped.layer.iter().find(|it| it.at == setting.at).is_some_and(|it| it.key == setting.key)
}

/// A text as comment lines within a hundred columns.
fn comment(text: &str) -> String {
    const WIDTH: usize = 98;
    let mut lines = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push_str(&format!("# {line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push_str(&format!("# {line}\n"));
    lines
}
