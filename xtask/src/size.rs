//! `size`: shows where the bytes of the binary are: by section, by crate, and the largest functions and statics.
//!
//! It builds the binary once more, with symbols whose names contain their crate. The code is the same.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionKind, SymbolKind};

use crate::build;

/// How many functions and statics the list has.
const LARGEST: usize = 40;

/// Prints the sizes for a target.
pub(crate) fn size(target: Option<String>) -> Result<()> {
    let stripped = build::build(target.clone())?;
    let path = build::with_symbols(target)?;
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = object::File::parse(&*bytes)?;

    println!("{}: {} bytes\n\nby section", stripped.display(), stripped.metadata()?.len());
    for section in file.sections().filter(|section| section.size() > 0 && section.address() > 0) {
        let note = if section.kind() == SectionKind::UninitializedData { " (memory only)" } else { "" };
        println!("{:>8}  {}{note}", section.size(), section.name()?);
    }

    let mut by_crate: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut symbols = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for symbol in file.symbols() {
        if !matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Data) || symbol.size() == 0 || !seen.insert(symbol.address()) {
            continue;
        }
        let name = symbol.name()?;
        let entry = by_crate.entry(crate_of(name)).or_default();
        let part = if symbol.kind() == SymbolKind::Text { &mut entry.0 } else { &mut entry.1 };
        *part += symbol.size();
        symbols.push((symbol.size(), format!("{:#}", rustc_demangle::demangle(name))));
    }
    println!("\nby crate: code, named data");
    let mut crates: Vec<_> = by_crate.into_iter().collect();
    crates.sort_by_key(|(_, (code, data))| core::cmp::Reverse(code + data));
    for (name, (code, data)) in crates {
        println!("{code:>8} {data:>8}  {name}");
    }
    println!("\nthe largest");
    symbols.sort_by(|a, b| b.cmp(a));
    for (size, name) in symbols.into_iter().take(LARGEST) {
        println!("{size:>8}  {name}");
    }
    Ok(())
}

/// Where a symbol without a Rust name is from.
pub(crate) const NO_CRATE: &str = "musl, compiler-rt";

/// The crate of a symbol. A symbol without a Rust name belongs to the C library or to the compiler.
pub(crate) fn crate_of(symbol: &str) -> String {
    let Ok(name) = rustc_demangle::try_demangle(symbol) else { return NO_CRATE.into() };
    let name = format!("{name:#}");
    // `<T as Trait>::f` belongs to the crate of `T`, whose path is the first in the name.
    let name = name.trim_start_matches(|c: char| !c.is_alphabetic() && c != '_');
    let name = name.trim_start_matches("mut ").trim_start_matches("dyn ");
    name.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().to_string()
}
