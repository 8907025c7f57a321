//! The workspace's own texts, and what is looked up in them: functions, string literals, citations.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Text files with their paths relative to the workspace's folder, in order of path.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    files: Vec<(PathBuf, String)>,
}

/// Something a file cites, and where.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Citation<'a> {
    pub(crate) what: &'a str,
    pub(crate) path: &'a Path,
    pub(crate) line: usize,
}

impl Sources {
    /// Single files, and every file with one of these extensions below folders; what tools make or fetch and hidden folders are left
    /// out.
    pub(crate) fn read(root: &Path, places: &[&str], extensions: &[&str]) -> Result<Self> {
        let mut sources = Self::default();
        for place in places {
            let path = root.join(place);
            if path.is_dir() {
                sources.read_folder(root, &path, extensions)?;
            } else if path.is_file() {
                sources.read_file(root, &path)?;
            }
        }
        sources.files.sort();
        Ok(sources)
    }

    fn read_folder(&mut self, root: &Path, folder: &Path, extensions: &[&str]) -> Result<()> {
        for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                if !matches!(&*name, "target" | "node_modules") && !name.starts_with('.') {
                    self.read_folder(root, &path, extensions)?;
                }
            } else if path
                .extension()
                .is_some_and(|found| extensions.iter().any(|extension| found == *extension))
            {
                self.read_file(root, &path)?;
            }
        }
        Ok(())
    }

    fn read_file(&mut self, root: &Path, path: &Path) -> Result<()> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        self.files
            .push((path.strip_prefix(root).unwrap_or(path).to_path_buf(), text));
        Ok(())
    }

    /// The same texts without those below `folder`.
    pub(crate) fn except(mut self, folder: &str) -> Self {
        self.files.retain(|(path, _)| !path.starts_with(folder));
        self
    }

    /// True if a file below `folder` defines a function of this name.
    pub(crate) fn has_function(&self, folder: &Path, name: &str) -> bool {
        let pattern = format!("fn {name}");
        self.below(folder).any(|text| {
            text.match_indices(&pattern).any(|(at, found)| {
                let follows = text[at + found.len()..].chars().next();
                starts_word(text, at) && !follows.is_some_and(is_word)
            })
        })
    }

    /// True if a file below `folder` contains `"literal"`.
    pub(crate) fn has_literal(&self, folder: &Path, literal: &str) -> bool {
        let pattern = format!("\"{literal}\"");
        self.below(folder).any(|text| text.contains(&pattern))
    }

    fn below<'a>(&'a self, folder: &'a Path) -> impl Iterator<Item = &'a str> {
        self.files
            .iter()
            .filter(move |(path, _)| path.starts_with(folder))
            .map(|(_, text)| text.as_str())
    }

    /// Every anchor cited as `PREFIX #anchor`, without the `#`; also one whose line breaks between the two.
    pub(crate) fn anchor_citations(&self, prefix: &str) -> Vec<Citation<'_>> {
        let mut citations = self.citations(&format!("{prefix} #"), false);
        citations.extend(self.broken_citations(prefix));
        citations.sort_by_key(|citation| (citation.path, citation.line));
        citations
    }

    fn broken_citations(&self, prefix: &str) -> Vec<Citation<'_>> {
        let mut citations = Vec::new();
        for (path, text) in &self.files {
            for ((number, line), next) in text.lines().enumerate().zip(text.lines().skip(1)) {
                let line = line.trim_end();
                if !line.ends_with(prefix) || !starts_word(line, line.len() - prefix.len()) {
                    continue;
                }
                let name = without_comment_mark(next)
                    .strip_prefix('#')
                    .map_or("", name_at_the_beginning);
                if !name.is_empty() {
                    citations.push(Citation {
                        what: name,
                        path,
                        line: number + 2,
                    });
                }
            }
        }
        citations
    }

    /// Every requirement cited as `PREFIX-area-words`. Two hyphens at least, so that plain words such as `LM-only` are free.
    pub(crate) fn requirement_citations(&self, prefix: &str) -> Vec<Citation<'_>> {
        let mut citations = self.citations(&format!("{prefix}-"), true);
        citations.retain(|citation| citation.what.matches('-').count() >= 2);
        citations
    }

    fn citations(&self, pattern: &str, with_pattern: bool) -> Vec<Citation<'_>> {
        let mut citations = Vec::new();
        for (path, text) in &self.files {
            for (number, line) in text.lines().enumerate() {
                for (at, _) in line.match_indices(pattern) {
                    let name = name_at_the_beginning(&line[at + pattern.len()..]);
                    if !name.is_empty() && starts_word(line, at) {
                        let start = if with_pattern { at } else { at + pattern.len() };
                        citations.push(Citation {
                            what: &line[start..at + pattern.len() + name.len()],
                            path,
                            line: number + 1,
                        });
                    }
                }
            }
        }
        citations
    }
}

/// The words and hyphens that the text begins with.
fn name_at_the_beginning(text: &str) -> &str {
    let length = text.find(|c: char| !is_word(c) && c != '-').unwrap_or(text.len());
    text[..length].trim_end_matches('-')
}

/// A line without what makes it a comment, in any language here. A heading of Markdown loses its mark, too: it cites nothing.
fn without_comment_mark(line: &str) -> &str {
    let line = line.trim_start();
    let marks = ["//!", "///", "//", "*", "# "];
    let rest = marks.iter().find_map(|mark| line.strip_prefix(mark));
    rest.unwrap_or(line).trim_start()
}

fn starts_word(text: &str, at: usize) -> bool {
    !text[..at]
        .chars()
        .next_back()
        .is_some_and(|before| is_word(before) || before == '-')
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Sources from pairs of path and text.
    pub(crate) fn sources(files: &[(&str, &str)]) -> Sources {
        Sources {
            files: files
                .iter()
                .map(|(path, text)| (PathBuf::from(path), (*text).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn a_function_is_found_by_its_whole_name_in_its_crate() {
        let sources = sources(&[(
            "crates/auth/src/tests.rs",
            "#[test]\nfn banned_user_cannot_join() {}\nasync fn waits<T>() {}",
        )]);
        let auth = Path::new("crates/auth");
        assert!(sources.has_function(auth, "banned_user_cannot_join"));
        assert!(sources.has_function(auth, "waits"));
        assert!(!sources.has_function(auth, "banned_user"));
        assert!(!sources.has_function(auth, "user_cannot_join"));
        assert!(!sources.has_function(Path::new("crates/core"), "banned_user_cannot_join"));
    }

    #[test]
    fn a_literal_is_found_whole() {
        let sources = sources(&[("crates/check/src/send.rs", r#"Case { id: "lm-14" }"#)]);
        assert!(sources.has_literal(Path::new("crates/check/src"), "lm-14"));
        assert!(!sources.has_literal(Path::new("crates/check/src"), "lm-1"));
    }

    #[test]
    fn anchors_are_cited_with_file_and_line() {
        let sources = sources(&[(
            "crates/a.rs",
            "//! x\n// LM #int-txn-ids, then LM #int-auth-rules 5.2. XLM #no",
        )]);
        let path = Path::new("crates/a.rs");
        let expected = [
            Citation {
                what: "int-txn-ids",
                path,
                line: 2,
            },
            Citation {
                what: "int-auth-rules",
                path,
                line: 2,
            },
        ];
        assert_eq!(sources.anchor_citations("LM"), expected);
    }

    #[test]
    fn an_anchor_is_cited_also_where_its_line_is_broken() {
        for (text, line) in [
            ("//! it says. LM\n//! #int-a, steps 1 to 3", 2),
            ("fn f() {}\n    /// (LM\n    /// #int-a)", 3),
            ("# as in LM\n# #int-a", 2),
            ("- as in LM\n  #int-a", 2),
        ] {
            let sources = sources(&[("crates/a.rs", text)]);
            let path = Path::new("crates/a.rs");
            let what = "int-a";
            assert_eq!(
                sources.anchor_citations("LM"),
                [Citation { path, line, what }],
                "{text}"
            );
        }
        for text in [
            "// XLM\n// #int-a",
            "of LM\n# Heading",
            "of LM\n\n#int-a",
            "// LM\n// int-a",
        ] {
            assert_eq!(sources(&[("a.md", text)]).anchor_citations("LM"), [], "{text}");
        }
    }

    #[test]
    fn requirements_are_cited_by_id_and_plain_words_are_not() {
        let sources = sources(&[(
            "crates/a.rs",
            "requirement: \"LM-txn-process-once\", // an LM-only word, X-LM-a-b",
        )]);
        let path = Path::new("crates/a.rs");
        assert_eq!(
            sources.requirement_citations("LM"),
            [Citation {
                what: "LM-txn-process-once",
                path,
                line: 1
            }]
        );
    }
}
