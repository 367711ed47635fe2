//! Compares the rooms of `bin/src` with their picture in ARCHITECTURE.md.
//!
//! Enters: the paths in every source file that begin with `crate::` or `super::`, in `use` lines and in code. Refuses: an import between two rooms for which
//! the picture has no arrow, an arrow that no file needs, a role that uses a role, files that use each other in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::Visit;

/// The name of a file below `bin/src`, as the compiler has it: `pod::folder`. Empty for `main.rs`.
type Module = Vec<String>;

/// Which file uses which: pairs of the user and the used file.
type Edges = BTreeSet<(Module, Module)>;

/// Collects the paths in a file as lists of names.
#[derive(Default)]
struct Paths(Vec<Vec<String>>);

impl Paths {
    fn tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.0.push(with(&name.ident)),
            syn::UseTree::Rename(rename) => self.0.push(with(&rename.ident)),
            syn::UseTree::Glob(_) => self.0.push(before.to_vec()),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(before, tree)),
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.0.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        syn::visit::visit_path(self, path);
    }

    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {
        // `pub(crate)` imports nothing.
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        // Unit tests may use every room.
        if item.ident != "tests" {
            syn::visit::visit_item_mod(self, item);
        }
    }
}

/// The files that one file uses. `modules` has every file.
fn uses(own: &Module, source: &str, modules: &BTreeSet<Module>) -> BTreeSet<Module> {
    let mut paths = Paths::default();
    paths.visit_file(&syn::parse_file(source).expect("a file that compiles"));
    let is_folder = modules.iter().any(|module| module.len() > own.len() && module.starts_with(own));
    let parent = if is_folder && !own.is_empty() { own.clone() } else { own.split_last().map_or(vec![], |(_, parent)| parent.to_vec()) };
    let mut found = BTreeSet::new();
    for path in paths.0 {
        let absolute = match path.first().map(String::as_str) {
            Some("crate") => path[1..].to_vec(),
            Some("super") if is_folder => [&own[..own.len().saturating_sub(1)], &path[1..]].concat(),
            Some("super") => [&parent[..], &path[1..]].concat(),
            Some("self") => [&own[..], &path[1..]].concat(),
            // `main.rs` names its modules without a prefix.
            Some(_) if own.is_empty() => path,
            _ => continue,
        };
        // The used file is the longest beginning of the path that names a file.
        let target = (0..=absolute.len()).rev().map(|length| absolute[..length].to_vec()).find(|module| modules.contains(module));
        if let Some(target) = target.filter(|target| target != own && !(own.is_empty() && target.is_empty())) {
            found.insert(target);
        }
    }
    found
}

/// The room of a file: its folder, or `main`.
fn room(module: &Module) -> String {
    if module.len() < 2 && !matches!(module.first().map(String::as_str), Some("roles" | "pod" | "process" | "save" | "report" | "os")) {
        return "main".into();
    }
    module[0].clone()
}

/// Describes what is wrong with these edges. `picture` has the arrows that are allowed and needed.
fn faults(edges: &Edges, picture: &BTreeSet<(String, String)>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut between = BTreeSet::new();
    for (from, to) in edges {
        let arrow = (room(from), room(to));
        if arrow.0 != arrow.1 {
            if !picture.contains(&arrow) {
                faults.push(format!("{} uses {}, which the picture does not have", from.join("::"), to.join("::")));
            }
            between.insert(arrow);
        } else if arrow.0 == "roles" && from.len() == 2 && to.len() == 2 && to[1] != "request" {
            faults.push(format!("the role {} uses the role {}", from[1], to[1]));
        }
    }
    faults.extend(picture.difference(&between).map(|(from, to)| format!("the picture has {from} --> {to}, which no file needs")));
    // Removes the edges to files that use no file, again and again. The edges that stay form a circle or lead to one.
    let mut left = edges.clone();
    loop {
        let users: BTreeSet<&Module> = left.iter().map(|(from, _)| from).collect();
        let kept: Edges = left.iter().filter(|(_, to)| users.contains(to)).cloned().collect();
        if kept.len() == left.len() {
            break;
        }
        left = kept;
    }
    if !left.is_empty() {
        faults.push(format!("a circle: {left:?}"));
    }
    faults
}

fn sources(folder: &Path, own: &Module, found: &mut BTreeMap<Module, String>) {
    for entry in std::fs::read_dir(folder).expect("the folder of the sources").flatten() {
        let path = entry.path();
        let stem = path.file_stem().expect("a file name").to_string_lossy().into_owned();
        if path.is_dir() {
            sources(&path, &[&own[..], &[stem]].concat(), found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let module = if stem == "main" || stem == "mod" { own.clone() } else { [&own[..], &[stem]].concat() };
            found.insert(module, std::fs::read_to_string(&path).expect("UTF-8"));
        }
    }
}

/// The arrows of the picture: the lines `a --> b` in the block `mermaid` of ARCHITECTURE.md.
fn picture(text: &str) -> BTreeSet<(String, String)> {
    let block = text.split("```mermaid\n").nth(1).and_then(|rest| rest.split("```").next()).expect("ARCHITECTURE.md has a picture");
    let arrows = block.lines().filter_map(|line| line.trim().split_once(" --> "));
    arrows.flat_map(|(from, to)| to.split(" & ").map(move |to| (from.to_string(), to.to_string())).collect::<Vec<_>>()).collect()
}

#[test]
fn the_rooms_are_as_the_picture_shows_them() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut files = BTreeMap::new();
    sources(&root.join("src"), &vec![], &mut files);
    let modules: BTreeSet<Module> = files.keys().cloned().collect();
    let edges: Edges = files.iter().flat_map(|(own, source)| uses(own, source, &modules).into_iter().map(|to| (own.clone(), to))).collect();
    let picture = picture(&std::fs::read_to_string(root.join("../ARCHITECTURE.md")).expect("ARCHITECTURE.md is there"));
    assert!(edges.len() > 50, "only {} arrows were found", edges.len());
    let faults = faults(&edges, &picture);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn each_fault_is_found() {
    let module = |text: &str| -> Module { text.split("::").map(String::from).collect() };
    let modules: BTreeSet<Module> =
        ["roles", "roles::run", "roles::wait", "pod", "pod::folder", "os", "os::fs", "report", "report::error"].map(module).into();
    let used = |own: &str, source: &str| uses(&module(own), source, &modules);
    assert_eq!(used("pod::folder", "use crate::os::{fs::{self, Name}};"), [module("os::fs")].into());
    assert_eq!(used("pod::folder", "fn f() { crate::report::error::Error::new(); }"), [module("report::error")].into());
    assert_eq!(used("roles::run", "use super::Common; use super::wait::Options;"), [module("roles"), module("roles::wait")].into());
    assert_eq!(used("roles", "use crate::os::fs; mod tests { use crate::report::error::Error; }"), [module("os::fs")].into());
    let edge = |from: &str, to: &str| (module(from), module(to));
    let drawn: BTreeSet<(String, String)> = [("pod".into(), "os".into())].into();
    assert!(faults(&[edge("pod::folder", "os::fs")].into(), &drawn).is_empty());
    for (edges, want) in [
        (vec![edge("pod::folder", "os::fs"), edge("os::fs", "pod::folder")], "os::fs uses pod::folder"),
        (vec![edge("pod::folder", "os::fs"), edge("roles::run", "roles::wait")], "the role run uses the role wait"),
        (vec![edge("pod::folder", "pod::folder")], "which no file needs"),
        (vec![edge("pod::folder", "os::fs"), edge("os::fs", "os::clock"), edge("os::clock", "os::fs")], "a circle"),
    ] {
        let faults = faults(&edges.into_iter().collect(), &drawn);
        assert!(faults.iter().any(|fault| fault.contains(want)), "{want}: {faults:?}");
    }
}
