//! The modules of a crate as written: their items, imports, and the paths in them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, File, Item, ItemMod, ItemUse, Macro, Meta, UseTree};

use crate::graph::{Graph, ModulePath};

/// Longer chains of re-exports than this are circular.
const ALIASES_MAX: usize = 8;

#[derive(Default)]
struct Module {
    /// The paths of imports, by their names here.
    aliases: BTreeMap<String, Vec<String>>,
    /// Every path in the code, as segments.
    paths: Vec<Vec<String>>,
}

/// All modules of one crate, without tests.
#[derive(Default)]
pub(crate) struct Crate {
    modules: BTreeMap<ModulePath, Module>,
}

impl Crate {
    /// Reads the crate with this root file (`lib.rs`, `main.rs`).
    pub(crate) fn read(root: &Path) -> Self {
        let mut it = Self::default();
        it.read_file(root, root.parent().unwrap(), Vec::new());
        it
    }

    /// The uses between its modules.
    pub(crate) fn graph(&self) -> Graph {
        let mut graph = Graph::default();
        for (module, content) in &self.modules {
            for path in &content.paths {
                if let Some(target) = self.resolve(module, path, 0) {
                    graph.add(module, &target, &path.join("::"));
                }
            }
        }
        graph
    }

    fn read_file(&mut self, file: &Path, folder: &Path, module: ModulePath) {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let parsed: File = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.read_items(&parsed.items, folder, module);
    }

    fn read_items(&mut self, items: &[Item], folder: &Path, module: ModulePath) {
        let mut content = Module::default();
        for item in items {
            match item {
                Item::Mod(inner) if !is_test(&inner.attrs) => self.read_module(inner, folder, &module),
                other => content.visit_item(other),
            }
        }
        self.modules.insert(module, content);
    }

    fn read_module(&mut self, inner: &ItemMod, folder: &Path, parent: &[String]) {
        let name = inner.ident.to_string();
        let path: ModulePath = parent.iter().cloned().chain([name.clone()]).collect();
        let inside = folder.join(&name);
        match &inner.content {
            Some((_, items)) => self.read_items(items, &inside, path),
            None => {
                let candidates: [PathBuf; 2] = [folder.join(format!("{name}.rs")), inside.join("mod.rs")];
                // A module without a file is generated code.
                if let Some(file) = candidates.iter().find(|file| file.is_file()) {
                    self.read_file(file, &inside, path);
                }
            }
        }
    }

    /// The module that declares what `path` names as seen from `module`; `None` for what is not of this crate.
    fn resolve(&self, module: &[String], path: &[String], aliases: usize) -> Option<ModulePath> {
        let mut here = module.to_vec();
        let mut rest = path;
        let mut anchored = false;
        while let Some((first, after)) = rest.split_first() {
            match first.as_str() {
                "crate" => here.clear(),
                "self" => {}
                "super" => drop(here.pop()?),
                _ => break,
            }
            anchored = true;
            rest = after;
        }
        while let Some((name, after)) = rest.split_first() {
            let child: ModulePath = here.iter().cloned().chain([name.clone()]).collect();
            if self.modules.contains_key(&child) {
                here = child;
            } else if let Some(alias) = self.modules.get(&here)?.aliases.get(name)
                && aliases < ALIASES_MAX
                && alias.as_slice() != path
            {
                let full: Vec<_> = alias.iter().chain(after).cloned().collect();
                // A re-export of another crate's item counts as declared here.
                return self.resolve(&here, &full, aliases + 1).or(anchored.then_some(here));
            } else {
                return anchored.then_some(here);
            }
            anchored = true;
            rest = after;
        }
        anchored.then_some(here)
    }
}

impl Module {
    fn import(&mut self, tree: &UseTree, prefix: &[String]) {
        let with = |name: String| prefix.iter().cloned().chain([name]).collect::<Vec<_>>();
        let (name, path) = match tree {
            UseTree::Path(inner) => return self.import(&inner.tree, &with(inner.ident.to_string())),
            UseTree::Group(group) => return group.items.iter().for_each(|tree| self.import(tree, prefix)),
            UseTree::Glob(_) => return self.paths.push(prefix.to_vec()),
            UseTree::Name(inner) if inner.ident == "self" => (prefix.last().cloned(), prefix.to_vec()),
            UseTree::Name(inner) => (Some(inner.ident.to_string()), with(inner.ident.to_string())),
            UseTree::Rename(inner) => (Some(inner.rename.to_string()), with(inner.ident.to_string())),
        };
        self.aliases.extend(name.map(|name| (name, path.clone())));
        self.paths.push(path);
    }
}

impl<'ast> Visit<'ast> for Module {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes: &[Attribute] = match item {
            Item::Fn(it) => &it.attrs,
            Item::Impl(it) => &it.attrs,
            Item::Mod(it) => &it.attrs,
            Item::Struct(it) => &it.attrs,
            Item::Use(it) => &it.attrs,
            _ => &[],
        };
        if !is_test(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.import(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 && path.leading_colon.is_none() {
            self.paths
                .push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    /// The content of a macro is not parsed. Its paths are recognised by their colons.
    fn visit_macro(&mut self, it: &'ast Macro) {
        let text = it.tokens.to_string().replace(" :: ", "::");
        let words = text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':')));
        let paths = words.filter(|word| word.contains("::") && !word.starts_with(':'));
        self.paths
            .extend(paths.map(|path| path.split("::").map(str::to_owned).collect()));
        self.visit_path(&it.path);
    }
}

/// Whether this is `#[cfg(test)]` or `#[test]`.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        Meta::Path(path) => path.is_ident("test"),
        Meta::NameValue(_) => false,
    })
}
