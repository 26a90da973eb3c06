//! Saves and loads the parameters of a session as safetensors, the format that other frameworks
//! read: a JSON header with names, types and shapes, then the values.
//!
//! All parameters are saved, optimizer state among them, so that training goes on from a file as if
//! it had never stopped. A file comes into place whole or not at all, and a session either takes
//! all of it or keeps every value that it had: half a model is worse than none.
//!
//! ```no_run
//! # fn example<B: backprop::Backend>(session: &mut backprop::Session<B>) -> backprop::Result<()> {
//! use backprop::weights;
//! weights::save(session, "model.safetensors")?;
//! weights::load(session, "model.safetensors")?;
//! # Ok(())
//! # }
//! ```

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use backprop_core::{Backend, DType, Error, ErrorKind, Result};
use backprop_graph::{ParameterInfo, Session};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};

/// Writes all parameters of a session, by name, in place of what was at `path`.
///
/// # Errors
/// [`ErrorKind::Io`] when the file cannot be written; an earlier file is then still there.
pub fn save<B: Backend>(session: &Session<B>, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let file = path.display().to_string();
    let mut values = Vec::new();
    for info in session.parameters() {
        let mut bytes = session.parameter_bytes(info.parameter)?;
        swap_to_little_endian(&mut bytes, info.dtype.size());
        values.push((info, bytes));
    }
    let refused = |what: String| {
        Error::new(ErrorKind::Format {
            file: file.clone(),
            what,
        })
    };
    let mut views = Vec::new();
    for (info, bytes) in &values {
        let dtype = stored_type(info.dtype)
            .ok_or_else(|| refused(format!("no place for {} in this format", described(info))))?;
        let view = TensorView::new(dtype, info.shape.sizes().to_vec(), bytes);
        views.push((
            info.name.as_str(),
            view.map_err(|why| refused(why.to_string()))?,
        ));
    }
    let bytes = serialize(views, None).map_err(|why| refused(why.to_string()))?;
    replace(path, &bytes).map_err(|why| {
        Error::new(ErrorKind::Io {
            file,
            what: format!("cannot be written: {why}"),
        })
    })
}

/// Sets all parameters of a session, by name, from a file. The file has to hold exactly the
/// parameters of the session.
///
/// # Errors
/// [`ErrorKind::Io`] when the file cannot be read. [`ErrorKind::Format`] when it is malformed or
/// truncated, and for each parameter that is missing, unknown, or of another type or shape; all of
/// these are reported at once. Unless the device itself fails, the session is unchanged then.
pub fn load<B: Backend>(session: &mut Session<B>, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let file = path.display().to_string();
    let bytes = fs::read(path).map_err(|why| {
        Error::new(ErrorKind::Io {
            file: file.clone(),
            what: format!("cannot be read: {why}"),
        })
    })?;
    let stored = SafeTensors::deserialize(&bytes).map_err(|why| {
        let what = format!("no whole safetensors file ({} bytes): {why}", bytes.len());
        Error::new(ErrorKind::Format {
            file: file.clone(),
            what,
        })
    })?;
    let parameters = session.parameters();
    if let Some(error) = Error::gather(differences(&file, &parameters, &stored)) {
        return Err(error);
    }
    for info in parameters {
        if let Ok(view) = stored.tensor(&info.name) {
            let mut values = view.data().to_vec();
            swap_to_little_endian(&mut values, info.dtype.size());
            session.set_parameter_bytes(info.parameter, &values)?;
        }
    }
    Ok(())
}

/// Everything in which a file is not what the session needs.
fn differences(file: &str, parameters: &[ParameterInfo], stored: &SafeTensors<'_>) -> Vec<Error> {
    let differs = |what: String| {
        Error::new(ErrorKind::Format {
            file: file.to_owned(),
            what,
        })
    };
    let difference = |info: &ParameterInfo| {
        let Ok(view) = stored.tensor(&info.name) else {
            return Some(differs(format!("{} is missing", described(info))));
        };
        if stored_type(info.dtype) != Some(view.dtype()) || view.shape() != info.shape.sizes() {
            let found = format!(
                "{}{:?}",
                view.dtype().to_string().to_lowercase(),
                view.shape()
            );
            return Some(differs(format!(
                "{} is {found} in the file",
                described(info)
            )));
        }
        let position = view
            .data()
            .iter()
            .position(|&byte| info.dtype == DType::Bool && byte > 1)?;
        Some(differs(format!(
            "{}: element {position} is neither 0 nor 1",
            described(info)
        )))
    };
    let mut unknown: Vec<&str> = stored.names();
    unknown.retain(|name| parameters.iter().all(|info| info.name != *name));
    unknown.sort_unstable();
    let unknown = unknown
        .into_iter()
        .map(|name| differs(format!("`{name}` is no parameter of the session")));
    parameters
        .iter()
        .filter_map(difference)
        .chain(unknown)
        .collect()
}

fn described(info: &ParameterInfo) -> String {
    format!("parameter `{}` {}{}", info.name, info.dtype, info.shape)
}

fn stored_type(dtype: DType) -> Option<Dtype> {
    Some(match dtype {
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::BOOL,
        _ => return None,
    })
}

/// The format is little-endian; its own inverse.
fn swap_to_little_endian(bytes: &mut [u8], size: usize) {
    if cfg!(target_endian = "big") {
        bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
    }
}

/// Writes beside the file first: renaming is atomic, writing is not.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = OsString::from(path);
    name.push(format!(".{}.partial", std::process::id()));
    let partial = PathBuf::from(name);
    let written = File::create(&partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        // Whatever went wrong first is the error to report.
        let _ = fs::remove_file(&partial);
    }
    written
}
