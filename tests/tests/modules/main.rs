//! Modules that use each other in a cycle cannot be read, tested or moved one at a time. No crate of the workspace has one.
//!
//! Among the child modules of every module, an edge `a → b` means that `a`, or a module inside it, names an item of `b`, or of a
//! module inside `b`. Uses between a module and its own descendants do not count, and neither does code under `#[cfg(test)]`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::fs;
use std::path::{Path, PathBuf};

mod graph;
mod krate;

use krate::Crate;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The root file of every library, program and multi-file test of the workspace.
fn roots() -> Vec<PathBuf> {
    let workspace = workspace();
    let manifest = fs::read_to_string(workspace.join("Cargo.toml")).unwrap();
    let members = manifest.lines().find(|line| line.starts_with("members")).unwrap();
    let members = members
        .split('"')
        .skip(1)
        .step_by(2)
        .map(|member| workspace.join(member));
    let mut roots = Vec::new();
    for member in members {
        roots.extend(["src/lib.rs", "src/main.rs"].map(|root| member.join(root)));
        for folder in fs::read_dir(member.join("tests")).into_iter().flatten() {
            roots.push(folder.unwrap().path().join("main.rs"));
        }
    }
    roots.retain(|root| root.is_file());
    roots.sort();
    roots
}

#[test]
fn no_crate_has_cyclic_modules() {
    let mut failures = Vec::new();
    for root in roots() {
        let cycles = Crate::read(&root).graph().cycles();
        let name = root.strip_prefix(workspace()).unwrap().display().to_string();
        if !cycles.is_empty() {
            failures.push(format!("{name}:\n{}", cycles.join("\n")));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

fn cycles(modules: &[(&str, &str)]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    for (file, text) in modules {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    Crate::read(&folder.path().join("lib.rs")).graph().cycles()
}

#[test]
fn a_cycle_is_reported_with_its_paths() {
    let found = cycles(&[
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use crate::b::B;"),
        ("b.rs", "mod inner; pub struct B;"),
        ("b/inner.rs", "fn f(_: crate::c::C) {}"),
        ("c.rs", "pub struct C; fn f() { assert!(super::a::ready()) }"),
    ]);
    assert_eq!(
        found,
        [
            "  a → b (a: crate::b::B)",
            "  b → c (b::inner: crate::c::C)",
            "  c → a (c: super::a::ready)"
        ]
    );
}

#[test]
fn a_name_that_another_module_exports_leads_to_where_it_is_declared() {
    let found = cycles(&[
        ("lib.rs", "pub mod a; mod b; pub use b::B;"),
        ("a.rs", "use crate::B; pub struct A;"),
        ("b.rs", "use super::a; pub struct B(a::A);"),
    ]);
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn parents_children_and_tests_do_not_count() {
    let found = cycles(&[
        ("lib.rs", "mod a; mod b; fn f() { a::f() }"),
        (
            "a.rs",
            "mod child; pub fn f() { child::f() } #[cfg(test)] mod tests { use crate::b::f; }",
        ),
        ("a/child.rs", "pub fn f() { super::f() } fn g() { crate::f() }"),
        ("b.rs", "use crate::a::f as g; pub fn f() {}"),
    ]);
    assert_eq!(found, Vec::<String>::new());
}
