//! The files of a policy directory, read once and bounded. Never looks into them.

use std::{collections::BTreeMap, fs, io::Read, path::Path};

use ring::digest::{Context, SHA256};

use super::problem::{LoadError, Place, Problem};

/// The catalog.
pub const CATALOG: &str = "catalog.toml";
/// The schema.
pub const SCHEMA: &str = "schema.cedarschema";
/// Folder of the policy cases.
const TESTS: &str = "tests";
/// Largest file.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Most files.
const MAX_FILES: usize = 256;

/// The files of a policy directory by name: `catalog.toml`, `access.cedar`, `tests/people.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    label: String,
    texts: BTreeMap<String, String>,
}

impl Files {
    /// Read a directory: `catalog.toml`, `schema.cedarschema`, `*.cedar`, `tests/*.toml`; anything else is left alone.
    pub fn read(dir: &Path) -> Result<Self, LoadError> {
        let mut files = Self { label: format!("{}/", dir.display()), texts: BTreeMap::new() };
        let mut problems = Vec::new();
        files.read_folder(dir, "", &mut problems, |name| {
            name == CATALOG || name == SCHEMA || has_extension(name, "cedar")
        });
        let tests = dir.join(TESTS);
        if tests.is_dir() {
            files.read_folder(&tests, "tests/", &mut problems, |name| has_extension(name, "toml"));
        }
        if problems.is_empty() { Ok(files) } else { Err(LoadError::new(problems)) }
    }

    /// From texts, as those that ship in the binary.
    pub fn from_texts<N: Into<String>, T: Into<String>>(texts: impl IntoIterator<Item = (N, T)>) -> Self {
        Self { label: String::new(), texts: texts.into_iter().map(|(n, t)| (n.into(), t.into())).collect() }
    }

    /// The text of one file.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str)
    }

    /// The name as people know it: with the directory in front.
    pub fn shown(&self, name: &str) -> String {
        format!("{}{name}", self.label)
    }

    /// Names and texts of the policies, by name.
    pub fn policies(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts.iter().filter(|(n, _)| has_extension(n, "cedar")).map(|(n, t)| (n.as_str(), t.as_str()))
    }

    /// Names and texts of every file that decides: all but the cases.
    pub fn deciding(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts.iter().filter(|(n, _)| !n.starts_with("tests/")).map(|(n, t)| (n.as_str(), t.as_str()))
    }

    /// Names and texts of the cases, by name.
    pub fn cases(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts.iter().filter(|(n, _)| n.starts_with("tests/")).map(|(n, t)| (n.as_str(), t.as_str()))
    }

    /// Twelve hex digits over name and content of every file that decides; cases do not.
    pub fn version(&self) -> String {
        let mut digest = Context::new(&SHA256);
        for (name, text) in self.deciding() {
            for part in [name, text] {
                digest.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
                digest.update(part.as_bytes());
            }
        }
        let mut text = hex::encode(digest.finish().as_ref());
        text.truncate(12);
        text
    }

    fn read_folder(&mut self, dir: &Path, prefix: &str, problems: &mut Vec<Problem>, wanted: impl Fn(&str) -> bool) {
        let folder = self.shown(prefix);
        let place = Place { file: folder.trim_end_matches('/'), text: "" };
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(e) => {
                problems.push(place.whole(
                    format!("the directory cannot be read: {e}"),
                    "name a directory that the broker may read, holding catalog.toml, schema.cedarschema and *.cedar",
                ));
                return;
            }
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(e) => {
                    problems.push(place.whole(format!("the directory cannot be listed: {e}"), "try again"));
                    return;
                }
            };
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|n| !n.starts_with('.') && wanted(n)) else { continue };
            let name = format!("{prefix}{name}");
            let shown = self.shown(&name);
            let place = Place { file: &shown, text: "" };
            if self.texts.len() >= MAX_FILES {
                problems
                    .push(place.whole(format!("more than {MAX_FILES} files"), "put several policies into one file"));
                return;
            }
            match read_bounded(&entry.path()) {
                Ok(text) => {
                    self.texts.insert(name, text);
                }
                Err(why) => problems.push(place.whole(why, "make it a text file in UTF-8 of at most 1 MiB")),
            }
        }
    }
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|e| e == extension)
}

fn read_bounded(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|f| f.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|e| format!("the file cannot be read: {e}"))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        return Err("the file is larger than 1 MiB".to_owned());
    }
    String::from_utf8(bytes).map_err(|_| "the file is not UTF-8 text".to_owned())
}
