//! Where an example leaves what is to be looked at.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use backprop::{Backend, Error, ErrorKind, Persist, Result, Session};

use super::plot::Chart;

pub(crate) struct Folder(PathBuf);

impl Folder {
    /// The folder of an example below `target`, there from now on.
    pub(crate) fn of(example: &str) -> Result<Self> {
        Self::at(Path::new("target").join(example))
    }

    fn at(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path).map_err(|why| unwritable(&path, &why))?;
        Ok(Self(path))
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file, and says where.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<String> {
        let file = self.file(name);
        fs::write(&file, content).map_err(|why| unwritable(&file, &why))?;
        Ok(file.display().to_string())
    }

    /// Shows how a training went, and keeps that together with what was learnt: in `file`, or else
    /// beside it.
    pub(crate) fn keep<B: Backend>(
        &self,
        chart: &Chart,
        session: &Session<B>,
        file: Option<&Path>,
    ) -> Result<()> {
        println!("{}", chart.terminal(72, 14));
        let curve = self.write("curve.svg", chart.svg())?;
        let file = file.map_or_else(|| self.file("weights.safetensors"), Path::to_owned);
        session.save(&file)?;
        println!("curves in {curve}, weights in {}\n", file.display());
        Ok(())
    }
}

fn unwritable(path: &Path, why: &io::Error) -> Error {
    Error::new(ErrorKind::Io {
        file: path.display().to_string(),
        what: format!("cannot be written: {why}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_where_it_is_said_to_be() {
        let path = std::env::temp_dir().join(format!("folder-{}", std::process::id()));
        let folder = Folder::at(path.join("a")).unwrap();
        let file = folder.write("b.txt", "c").unwrap();
        assert_eq!(fs::read(file).unwrap(), b"c");
        let error = folder.write("d/e.txt", "f").unwrap_err().to_string();
        fs::remove_dir_all(&path).unwrap();
        assert!(error.contains("e.txt: cannot be written: "), "{error}");
    }
}
