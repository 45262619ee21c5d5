//! Links between documents lead to files that exist.

use std::path::Path;

use crate::{files, workspace};

/// The target of every link and image: `](target)` and `src="target"`.
pub(crate) fn targets(text: &str) -> Vec<&str> {
    let after = |start, end| {
        let parts = text.split(start).skip(1);
        parts.filter_map(move |rest: &str| rest.split(end).next())
    };
    after("](", ')').chain(after("src=\"", '"')).collect()
}

#[test]
fn every_relative_link_leads_to_a_file() {
    let workspace = workspace();
    let mut dead = Vec::new();
    for document in files(&workspace, "md") {
        let text = std::fs::read_to_string(&document).unwrap();
        let folder = document.parent().unwrap();
        for target in targets(&text) {
            let path = target.split('#').next().unwrap();
            let is_external = path.is_empty() || path.contains("://");
            if !is_external && !folder.join(Path::new(path)).exists() {
                dead.push(format!(
                    "{}: {target}",
                    document.strip_prefix(&workspace).unwrap().display()
                ));
            }
        }
    }
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}
