//! `cargo xtask manual`: writes the manual page, docs/emissary.1. Its lists of flags and variables come from the binary's own table of flags.

use core::fmt::Write as _;

use anyhow::{Context as _, Result};

use crate::tools::root;

#[path = "../../bin/src/flags.rs"]
#[allow(dead_code, reason = "only the binary's parser uses the rest")]
mod flags;

/// The page around the lists. `@FLAGS ROLES@` stands for a list.
const PAGE: &str = include_str!("manual.1");

/// Writes the page.
pub(crate) fn write() -> Result<()> {
    let path = root().join("docs/emissary.1");
    std::fs::write(&path, page()).with_context(|| format!("cannot write {}", path.display()))
}

/// The whole page.
fn page() -> String {
    let mut out = String::new();
    for line in PAGE.lines() {
        match line {
            "@FLAGS run@" => list(&mut out, flags::RUN, false),
            "@FLAGS init@" => list(&mut out, flags::INIT, false),
            "@FLAGS wait@" => list(&mut out, flags::WAIT, false),
            "@FLAGS signal@" => list(&mut out, flags::SIGNAL, false),
            "@FLAGS version@" => list(&mut out, flags::VERSION, false),
            "@FLAGS all@" => list(&mut out, flags::ALL, true),
            "@VARIABLES@" => variables(&mut out),
            _ => {
                let _ = writeln!(out, "{line}");
            }
        }
    }
    out
}

/// Text in the form of mdoc(7): a backslash and a dot at the start of a line have a meaning there.
fn escaped(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text).replace('\\', "\\e");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

fn list(out: &mut String, roles: u16, is_common: bool) {
    let _ = writeln!(out, ".Bl -tag -width Ds");
    for [name, value, help] in flags::each(roles, is_common) {
        let name = escaped(name).trim_start_matches('-').to_string();
        let dashes = if name.len() == 1 { "" } else { "-" };
        let value = if value.is_empty() { String::new() } else { format!(" Ar {}", escaped(value).replace('|', " | ")) };
        let _ = writeln!(out, ".It Fl {dashes}{name}{value}\n{}.", escaped(help));
    }
    let _ = writeln!(out, ".El");
}

fn variables(out: &mut String) {
    for [name, value, _] in flags::each(flags::RUN, true).chain(flags::each(flags::RUN, false)) {
        let name = String::from_utf8_lossy(name);
        // Flags of one letter and `--as` have no variable.
        let Some(long) = name.strip_prefix("--").filter(|long| *long != "as") else { continue };
        let variable = long.to_uppercase().replace('-', "_");
        let value = if value.is_empty() { "true".into() } else { escaped(value) };
        let _ = writeln!(out, ".It Ev EMISSARY_{variable}= Ns Ar {}", value.replace('|', " | "));
        let _ = writeln!(out, "As\n.Fl -{long} .");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_as_the_table_of_flags_makes_it() {
        let written = std::fs::read_to_string(root().join("docs/emissary.1")).unwrap();
        assert!(written == page(), "run `cargo xtask manual`");
        for flag in ["Fl -timeout Ar DURATION", "Fl -wait-file Ar PATH", "Ev EMISSARY_TERM_GROUP_ON_EXIT"] {
            assert!(written.contains(flag), "{flag}");
        }
        assert!(!written.contains('@'));
    }
}
