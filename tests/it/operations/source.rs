//! Reads the repository's own files.

use std::fs;
use std::path::{Path, PathBuf};

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the repository, named from its root.
pub struct Source {
    pub path: String,
    pub text: String,
}

/// The files below a directory of the repository, in a stable order; those that are not text are
/// left out.
pub fn files(below: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut waiting = vec![root().join(below)];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(entries(&path));
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            found.push(Source { path, text });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// What is in a directory, but for what tools leave there.
fn entries(directory: &Path) -> Vec<PathBuf> {
    const LEFT_BY_TOOLS: [&str; 6] =
        [".git", "target", ".tools", ".codeq", "node_modules", "__pycache__"];
    let listed = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    listed
        .filter(|path| !LEFT_BY_TOOLS.iter().any(|name| path.file_name().unwrap() == *name))
        .filter(|path| !path.is_symlink())
        .collect()
}

/// The Rust files of the package without what is compiled for tests only, and without comments.
pub fn rust() -> Vec<Source> {
    let mut sources = files("src");
    sources.retain(|source| source.path.ends_with(".rs"));
    let for_tests: Vec<_> = sources.iter().flat_map(test_modules).collect();
    let for_tests = |path: &str| for_tests.iter().any(|module| path.starts_with(module.as_str()));
    sources.retain(|source| !for_tests(&source.path));
    for source in &mut sources {
        let code = without_test_items(&source.text);
        source.text = code.iter().map(|line| without_comment(line)).collect::<Vec<_>>().join("\n");
    }
    sources
}

/// The files of the modules that a file declares for its tests: `#[cfg(test)] mod stub;`.
fn test_modules(source: &Source) -> Vec<String> {
    let own = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
    let own = if own == "src/lib" || own == "src/main" { "src" } else { own };
    let declared = source.text.split("#[cfg(test)]\n").skip(1).filter_map(|rest| {
        let line = rest.lines().next()?.trim_end();
        Some(line.strip_suffix(';')?.rsplit_once("mod ")?.1)
    });
    declared.flat_map(|name| [format!("{own}/{name}.rs"), format!("{own}/{name}/")]).collect()
}

/// The lines of a file, empty where an item is marked `#[cfg(test)]`. rustfmt has indented them, so
/// an item ends with the brace that stands as far left as its mark.
fn without_test_items(text: &str) -> Vec<&str> {
    let mut ends_with: Option<String> = None;
    let mut first = false;
    let mut code = Vec::new();
    for line in text.lines() {
        if let Some(end) = &ends_with {
            // An item of one line: `mod tests;`, `use super::*;`.
            let whole = first && line.ends_with(';');
            first = first && line.trim_start().starts_with('#');
            if whole || line.starts_with(end.as_str()) {
                ends_with = None;
            }
            code.push("");
        } else if line.trim() == "#[cfg(test)]" {
            ends_with = Some(line.replace("#[cfg(test)]", "}"));
            first = true;
            code.push("");
        } else {
            code.push(line);
        }
    }
    code
}

fn without_comment(line: &str) -> &str {
    match line.find("//") {
        // `https://…` is text, not a comment.
        Some(at) if !line[..at].ends_with(':') => &line[..at],
        _ => line,
    }
}
