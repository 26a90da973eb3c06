//! Files that come into place whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// What the names of files that are being written end with.
const PARTIAL: &str = ".partial";

/// Writes a file in place of what is at `path`. Renaming is atomic, writing is not: so the content goes
/// to a file beside it and onto the disk before that takes the name.
pub(super) fn replace(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    sweep(path);
    let (partial, mut file) = create(path)?;
    let written = write(&mut file)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        // Whatever went wrong first is the error to report.
        let _ = fs::remove_file(&partial);
        return written;
    }
    sync(folder(path));
    Ok(())
}

/// A new file beside `path` that no other writer has, in this process or another.
fn create(path: &Path) -> io::Result<(PathBuf, File)> {
    for number in 0_u32.. {
        let mut name = OsString::from(path);
        name.push(format!(".{}.{number}{PARTIAL}", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).open(&name) {
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
            Err(why) => return Err(why),
            Ok(file) => {
                // Where files cannot be locked, none is ever swept.
                let _ = file.lock();
                return Ok((name.into(), file));
            }
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Removes what processes that were killed have left beside `path`: their locks went with them, while
/// every living writer has locked its file before it wrote the first byte.
fn sweep(path: &Path) {
    let entries = fs::read_dir(folder(path)).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| is_partial(path, &entry.file_name())) {
        let abandoned = File::open(entry.path()).is_ok_and(|file| {
            file.try_lock().is_ok() && file.metadata().is_ok_and(|about| about.len() > 0)
        });
        if abandoned {
            // What cannot be removed does no harm.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_partial(path: &Path, found: &OsString) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let rest = name
        .zip(found.to_str())
        .and_then(|(name, found)| found.strip_prefix(name));
    let number = rest
        .and_then(|rest| rest.strip_prefix('.'))
        .and_then(|rest| rest.strip_suffix(PARTIAL));
    number.is_some_and(|number| number.bytes().all(|b| b == b'.' || b.is_ascii_digit()))
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Puts the names in a folder onto the disk. Some systems cannot; they do it in their own time.
fn sync(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}
