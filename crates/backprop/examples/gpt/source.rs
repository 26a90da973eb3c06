//! Where a text comes from: one file, or all source and prose below a folder.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use backprop::{Error, ErrorKind, Result};

/// A text with the name under which errors speak of it.
pub(crate) struct Source {
    pub name: String,
    pub text: String,
}

impl Source {
    /// A text file.
    pub(crate) fn file(path: &Path) -> Result<Self> {
        let text = read(path)?;
        let name = path.display().to_string();
        Ok(Self { name, text })
    }

    /// All `.rs` and `.md` files below a folder, one after the other in the order of their paths.
    /// What was built and what is hidden does not count.
    pub(crate) fn tree(root: &Path) -> Result<Self> {
        let mut files = Vec::new();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).map_err(|why| unreadable(&folder, &why))? {
                let entry = entry.map_err(|why| unreadable(&folder, &why))?;
                let path = entry.path();
                // The type of a link is that of the link itself, so that none leads in circles.
                let kind = entry.file_type().map_err(|why| unreadable(&path, &why))?;
                if kind.is_dir() && !is_left_out(&entry.file_name()) {
                    folders.push(path);
                } else if kind.is_file() && is_text(&path) {
                    files.push(path);
                }
            }
        }
        files.sort();
        let texts: Vec<String> = files.iter().map(|file| read(file)).collect::<Result<_>>()?;
        Ok(Self {
            name: format!("the sources below {}", tidy(root).display()),
            text: texts.concat(),
        })
    }
}

fn is_left_out(folder: &OsStr) -> bool {
    folder == "target" || folder.as_encoded_bytes().starts_with(b".")
}

fn is_text(file: &Path) -> bool {
    file.extension()
        .is_some_and(|end| end == "rs" || end == "md")
}

/// The path without detours, where the system knows it.
fn tidy(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn read(file: &Path) -> Result<String> {
    let bytes = fs::read(file).map_err(|why| unreadable(file, &why))?;
    String::from_utf8(bytes).map_err(|why| {
        let at = why.utf8_error().valid_up_to();
        let byte = why.as_bytes().get(at).copied().unwrap_or_default();
        let error = Error::new(ErrorKind::Format {
            file: file.display().to_string(),
            what: format!("no UTF-8 text: byte {at} is 0x{byte:02x}, which no character has there"),
        });
        error
            .help("convert it, as with `iconv -t UTF-8`, or choose another file with `--text FILE`")
    })
}

fn unreadable(path: &Path, why: &std::io::Error) -> Error {
    let error = Error::new(ErrorKind::Io {
        file: path.display().to_string(),
        what: format!("cannot be read: {why}"),
    });
    error.help("give the path of a text file with `--text FILE`")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that is gone after the test.
    fn within<R>(name: &str, test: impl FnOnce(&Path) -> R) -> R {
        let folder = std::env::temp_dir().join(format!("gpt-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let result = test(&folder);
        fs::remove_dir_all(&folder).unwrap();
        result
    }

    #[test]
    fn says_what_is_wrong_with_a_file() {
        within("files", |folder| {
            let error = |path: &Path| Source::file(path).err().unwrap().to_string();
            let missing = error(&folder.join("missing.txt"));
            assert!(missing.contains("missing.txt: cannot be read"), "{missing}");
            assert!(missing.contains("= help: give the path"), "{missing}");
            assert!(error(folder).contains("cannot be read"), "a folder");

            let latin = folder.join("latin.txt");
            fs::write(&latin, b"caf\xe9 au lait").unwrap();
            let wrong = error(&latin);
            assert!(
                wrong.contains("latin.txt: no UTF-8 text: byte 3 is 0xe9"),
                "{wrong}"
            );
            let whole = folder.join("whole.txt");
            fs::write(&whole, "café").unwrap();
            assert_eq!(Source::file(&whole).unwrap().text, "café");
        });
    }

    #[test]
    fn reads_a_tree_in_order_without_what_was_built() {
        within("tree", |root| {
            for (path, text) in [
                ("b.md", "2"),
                ("a/z.rs", "1"),
                ("c/lib.rs", "3"),
                ("c/data.json", "x"),
                ("target/built.rs", "x"),
                (".hidden/h.rs", "x"),
            ] {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            assert_eq!(Source::tree(root).unwrap().text, "123");
            fs::write(root.join("c/bad.rs"), [0xff]).unwrap();
            let error = Source::tree(root).err().unwrap().to_string();
            assert!(error.contains("bad.rs: no UTF-8 text"), "{error}");
        });
        assert!(Source::tree(Path::new("/no/such/folder")).is_err());
    }
}
