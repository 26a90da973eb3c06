//! A file or another destination, with the name that errors give it.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use backprop_core::{Error, ErrorKind, Result};

pub(crate) struct Output {
    name: String,
    to: Box<dyn Write + Send>,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Output {
    pub(crate) fn create(path: &Path) -> Result<Output> {
        let name = path.display().to_string();
        match File::create(path) {
            Ok(file) => Ok(Output {
                name,
                to: Box::new(BufWriter::new(file)),
            }),
            Err(why) => Err(refused(&name, &why)),
        }
    }

    pub(crate) fn new(to: impl Write + Send + 'static) -> Output {
        Output {
            name: "the record".to_owned(),
            to: Box::new(to),
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.to.write_all(bytes);
        written.map_err(|why| refused(&self.name, &why))
    }

    pub(crate) fn flush(&mut self) -> Result<()> {
        self.to.flush().map_err(|why| refused(&self.name, &why))
    }
}

/// An error of writing a file.
pub(crate) fn refused(file: &str, why: &io::Error) -> Error {
    Error::new(ErrorKind::Io {
        file: file.to_owned(),
        what: format!("cannot be written: {why}"),
    })
}
