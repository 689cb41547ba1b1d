//! Where a program's configuration is, and how ours gets into it: as a file of its own, or between two marks in a file
//! that is somebody else's.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::{
    super::{exit::Failure, private_file::Pending, profile::config_dir, text::clean},
    Tool,
};

const BEGIN: &str = "# >>> tidegate >>>";
const END: &str = "# <<< tidegate <<<";
/// Unchanged lines that are shown around a change.
const AROUND: usize = 2;

/// A file, and what of it is ours.
pub struct Place {
    pub path: PathBuf,
    part: Part,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The whole of it.
    Whole,
    /// Between the marks, which stand at the beginning if they are new: there the first value holds.
    Top,
    /// Between the marks, which stand at the end if they are new.
    Bottom,
}

/// A file as it is and as it is to be.
pub struct Change {
    path: PathBuf,
    old: String,
    new: String,
}

impl Place {
    /// That program's.
    pub fn of(tool: Tool) -> Result<Self, Failure> {
        let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let home = || set("HOME").ok_or_else(|| Failure::local("there is no $HOME to write under"));
        let (path, part) = match tool {
            Tool::Aws => {
                (set("AWS_CONFIG_FILE").map_or_else(|| home().map(|h| h.join(".aws/config")), Ok)?, Part::Bottom)
            }
            Tool::Git => {
                (set("GIT_CONFIG_GLOBAL").map_or_else(|| home().map(|h| h.join(".gitconfig")), Ok)?, Part::Bottom)
            }
            Tool::Ssh => (home()?.join(".ssh/config"), Part::Top),
            Tool::Kube => (home()?.join(".kube/tidegate.yaml"), Part::Whole),
            Tool::Psql => {
                let dir = config_dir().ok_or_else(|| Failure::local("there is no $HOME to write under"))?;
                (dir.join("psql.sh"), Part::Whole)
            }
        };
        Ok(Self { path, part })
    }

    /// What writing the text would do to the file.
    pub fn change(&self, text: &str) -> Result<Change, Failure> {
        // Who keeps configuration elsewhere has links to it: what they lead to is written.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let old = match fs::read_to_string(&path) {
            Ok(old) => old,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(Failure::local(format!("{} cannot be read: {e}", path.display()))),
        };
        let new = match self.part {
            Part::Whole => text.to_owned(),
            part => with_block(&old, text, part == Part::Top)
                .ok_or_else(|| Failure::local(format!("{} has one of our two marks only", path.display())))?,
        };
        Ok(Change { path, old, new })
    }
}

/// The file with our block: in place of the one that is there, or as a new one. `None` if only half of one is there.
fn with_block(old: &str, text: &str, top: bool) -> Option<String> {
    let block = format!("{BEGIN}\n{text}{END}\n");
    let line = |mark: &str| old.lines().position(|line| line.trim() == mark);
    match (line(BEGIN), line(END)) {
        (Some(begin), Some(end)) if begin < end => {
            let lines: Vec<&str> = old.split_inclusive('\n').collect();
            let before: String = lines.get(..begin)?.concat();
            let after: String = lines.get(end + 1..)?.concat();
            Some(format!("{before}{block}{after}"))
        }
        (None, None) if old.is_empty() => Some(block),
        (None, None) if top => Some(format!("{block}\n{old}")),
        (None, None) => Some(format!("{}\n\n{block}", old.trim_end_matches('\n'))),
        _ => None,
    }
}

impl Change {
    /// The lines that differ, with a few around them; `None` if none do.
    pub fn difference(&self) -> Option<String> {
        if self.old == self.new {
            return None;
        }
        let (old, new): (Vec<&str>, Vec<&str>) = (self.old.lines().collect(), self.new.lines().collect());
        let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
        let rest = old.len().min(new.len()) - same;
        let end = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
        let part = |lines: &[&str], from: usize, to: usize, mark: &str| -> String {
            let lines = lines.get(from..to).unwrap_or_default();
            lines.iter().flat_map(|line| [mark.to_owned(), clean(line), "\n".to_owned()]).collect()
        };
        let (old_end, new_end) = (old.len() - end, new.len() - end);
        let text = [
            format!("--- {}\n", self.path.display()),
            part(&old, same.saturating_sub(AROUND), same, "  "),
            part(&old, same, old_end, "- "),
            part(&new, same, new_end, "+ "),
            part(&old, old_end, (old_end + AROUND).min(old.len()), "  "),
        ];
        Some(text.concat().trim_end().to_owned())
    }

    /// Put it there, whole or not at all, with the mode that the file has.
    pub fn write(&self) -> Result<(), Failure> {
        let failed = |e: std::io::Error| Failure::local(format!("{} could not be written: {e}", self.path.display()));
        if let Some(dir) = self.path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        }
        let mode = fs::metadata(&self.path).map(|meta| meta.permissions());
        Pending::reserve(&self.path)?.fill(self.new.as_bytes())?;
        mode.map_or(Ok(()), |mode| set_mode(&self.path, mode.mode())).map_err(failed)
    }
}

fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_put_in_once_and_nothing_else_is_touched() {
        let mine = "[user]\n\tname = Ana\n";
        let first = with_block(mine, "one\n", false).unwrap();
        assert_eq!(first, format!("{mine}\n{BEGIN}\none\n{END}\n"));
        assert_eq!(with_block(&first, "one\n", false).unwrap(), first, "again is the same");
        let edited = format!("{first}[more]\n");
        assert_eq!(with_block(&edited, "two\n", false).unwrap(), format!("{mine}\n{BEGIN}\ntwo\n{END}\n[more]\n"));
        assert_eq!(with_block(mine, "one\n", true).unwrap(), format!("{BEGIN}\none\n{END}\n\n{mine}"));
        assert_eq!(with_block("", "one\n", true).unwrap(), format!("{BEGIN}\none\n{END}\n"));
        assert_eq!(with_block(&format!("{BEGIN}\n"), "one\n", true), None);
        assert_eq!(with_block(&format!("{END}\n{BEGIN}\n"), "one\n", true), None);
    }

    #[test]
    fn the_difference_shows_what_changes_and_a_little_around_it() {
        let change = |old: &str, new: &str| Change { path: "/f".into(), old: old.into(), new: new.into() };
        assert_eq!(change("a\n", "a\n").difference(), None);
        let shown = change("a\nb\nc\nd\ne\nf\n", "a\nb\nc\nX\ne\nf\n").difference().unwrap();
        assert_eq!(shown, "--- /f\n  b\n  c\n- d\n+ X\n  e\n  f");
        assert_eq!(change("", "a\nb\n").difference().unwrap(), "--- /f\n+ a\n+ b");
        assert_eq!(change("a\na\n", "a\na\na\n").difference().unwrap(), "--- /f\n  a\n  a\n+ a");
    }

    #[test]
    fn a_file_keeps_its_mode_and_its_link() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::write(&real, "mine\n").unwrap();
        set_mode(&real, 0o644).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let place = Place { path: link.clone(), part: Part::Bottom };
        place.change("ours\n").unwrap().write().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o644);
        assert!(fs::read_to_string(&real).unwrap().starts_with("mine\n"));
        let fresh = Place { path: dir.path().join("a/b"), part: Part::Whole };
        fresh.change("ours\n").unwrap().write().unwrap();
        assert_eq!(fs::metadata(dir.path().join("a/b")).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
