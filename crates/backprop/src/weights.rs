//! Saves and loads the parameters of a session as safetensors, the format that other frameworks
//! read: a JSON header with names, types and shapes, then the values.
//!
//! [`save`] takes all parameters, optimizer state among them, so that training goes on from a file as
//! if it had never stopped. [`save_only`] and [`load_only`] take those of a model, for files that
//! other programs write and read. A file comes into place whole or not at all, and a session either takes
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
use backprop_graph::{Param, ParameterInfo, Session};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};

/// Writes all parameters of a session, by name, in place of what was at `path`.
///
/// # Errors
/// [`ErrorKind::Io`] when the file cannot be written; an earlier file is then still there.
pub fn save<B: Backend>(session: &Session<B>, path: impl AsRef<Path>) -> Result<()> {
    save_all(session, &session.parameters(), path.as_ref())
}

/// Writes some parameters of a session, by name, in place of what was at `path`. Graphs know the
/// parameters of a model ([`Graph::parameters`](crate::Graph::parameters)) until optimizers add their
/// state.
///
/// # Errors
/// As [`save`], and [`ErrorKind::Unknown`] for a parameter of another graph.
pub fn save_only<B: Backend>(
    session: &Session<B>,
    parameters: &[Param],
    path: impl AsRef<Path>,
) -> Result<()> {
    save_all(session, &chosen(session, parameters)?, path.as_ref())
}

/// What a session knows of some parameters.
fn chosen<B: Backend>(session: &Session<B>, parameters: &[Param]) -> Result<Vec<ParameterInfo>> {
    let all = session.parameters();
    let find = |parameter: &Param| {
        let found = all.iter().find(|info| info.parameter == *parameter);
        let what = || "a parameter that is not of the session's graph".to_owned();
        found
            .cloned()
            .ok_or_else(|| Error::new(ErrorKind::Unknown { what: what() }))
    };
    parameters.iter().map(find).collect()
}

fn save_all<B: Backend>(
    session: &Session<B>,
    parameters: &[ParameterInfo],
    path: &Path,
) -> Result<()> {
    let file = path.display().to_string();
    let mut values = Vec::new();
    for info in parameters {
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
    let parameters = session.parameters();
    load_all(session, &parameters, path.as_ref())
}

/// Sets some parameters of a session, by name, from a file that has to hold exactly those; the others
/// keep their values. For weights that come without the state of this session's optimizer.
///
/// ```no_run
/// use backprop::nn::{Features, Layer, Linear};
/// use backprop::prelude::*;
///
/// let g = Graph::new();
/// let fc = Linear::new(&g, "fc", Features { input: 64, output: 10 }, F32);
/// let model = g.parameters();
/// let loss = fc.forward(g.input("x", [32, 64], F32)).square().mean(..);
/// let grads = g.grad(loss, &fc.parameters())?;
/// let updates = optim::adamw(&g, &fc.parameters(), &grads, AdamW::default());
/// let mut session = Session::compile(&g, Cpu::new()?, &[loss.key()], updates)?;
/// weights::load_only(&mut session, &model, "pretrained.safetensors")?;
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// As [`load`], and [`ErrorKind::Unknown`] for a parameter of another graph.
pub fn load_only<B: Backend>(
    session: &mut Session<B>,
    parameters: &[Param],
    path: impl AsRef<Path>,
) -> Result<()> {
    let parameters = chosen(session, parameters)?;
    load_all(session, &parameters, path.as_ref())
}

fn load_all<B: Backend>(
    session: &mut Session<B>,
    parameters: &[ParameterInfo],
    path: &Path,
) -> Result<()> {
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
    if let Some(error) = Error::gather(differences(&file, parameters, &stored)) {
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
        .map(|name| differs(format!("`{name}` is none of the parameters to load")));
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

#[cfg(test)]
mod tests {
    use backprop_core::Reference;
    use backprop_graph::{Graph, Init, Updates};

    use super::*;

    /// A session with the parameters of these names, types and shapes, drawn from a seed, and its
    /// values as bytes.
    fn session(seed: u64, parameters: &[(&str, DType, &[usize])]) -> Session<Reference> {
        let g = Graph::with_seed(seed);
        let mut fetched = Vec::new();
        for &(name, dtype, shape) in parameters {
            let init = Init::Uniform {
                low: 0.0,
                high: 1.9,
            };
            fetched.push(g.read(g.parameter(name, shape, dtype, init)).key());
        }
        Session::compile(&g, Reference, &fetched, Updates::none()).unwrap()
    }

    fn values(session: &Session<Reference>) -> Vec<Vec<u8>> {
        let parameters = session.parameters();
        parameters
            .iter()
            .map(|info| session.parameter_bytes(info.parameter).unwrap())
            .collect()
    }

    /// A folder of its own for a test, with a name for the file in it.
    fn scratch(test: &str) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("backprop-weights-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder.join("model.safetensors")
    }

    fn clear(file: &Path) {
        fs::remove_dir_all(file.parent().unwrap()).unwrap();
    }

    const MIXED: [(&str, DType, &[usize]); 5] = [
        ("block.weight", DType::F32, &[2, 3]),
        ("block.half", DType::F16, &[5]),
        ("mean", DType::F64, &[]),
        ("count", DType::I64, &[1, 2]),
        ("mask", DType::Bool, &[3]),
    ];

    #[test]
    fn every_type_and_rank_comes_back() {
        let file = scratch("types");
        let (saved, mut loaded) = (session(1, &MIXED), session(2, &MIXED));
        assert_ne!(values(&saved), values(&loaded));
        save(&saved, &file).unwrap();
        load(&mut loaded, &file).unwrap();
        assert_eq!(values(&saved), values(&loaded));
        let beside = fs::read_dir(file.parent().unwrap()).unwrap().count();
        assert_eq!(beside, 1, "nothing but the file is left");
        clear(&file);
    }

    #[test]
    fn some_parameters_come_back_and_the_others_stay() {
        let file = scratch("some");
        let (saved, mut loaded) = (session(1, &MIXED), session(2, &MIXED));
        let before = values(&loaded);
        let some = |session: &Session<Reference>| {
            let all = session.parameters();
            [3, 0].map(|index| all[index].parameter)
        };
        save_only(&saved, &some(&saved), &file).unwrap();
        let error = load(&mut loaded, &file).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("parameter `mean` f64[] is missing")
        );
        let foreign = load_only(&mut loaded, &some(&saved), &file).unwrap_err();
        assert!(
            matches!(foreign.kind(), ErrorKind::Unknown { .. }),
            "{foreign}"
        );
        assert_eq!(values(&loaded), before);
        let chosen = some(&loaded);
        load_only(&mut loaded, &chosen, &file).unwrap();
        let (after, wanted) = (values(&loaded), values(&saved));
        for i in 0..MIXED.len() {
            assert_eq!(
                after[i],
                if i == 0 || i == 3 {
                    &wanted[i]
                } else {
                    &before[i]
                }[..]
            );
        }
        clear(&file);
    }

    #[test]
    fn a_truncated_file_changes_nothing() {
        let file = scratch("truncated");
        save(&session(1, &MIXED), &file).unwrap();
        let whole = fs::read(&file).unwrap();
        let mut session = session(2, &MIXED);
        let before = values(&session);
        for length in 0..whole.len() {
            fs::write(&file, &whole[..length]).unwrap();
            let error = load(&mut session, &file).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Format { .. }), "{error}");
            assert!(error.to_string().contains("model.safetensors: "), "{error}");
        }
        assert_eq!(values(&session), before);
        clear(&file);
    }

    #[test]
    fn a_file_that_does_not_fit_changes_nothing() {
        #[track_caller]
        fn check(name: &str, stored: &[(&str, DType, &[usize])], said: &[&str]) {
            let file = scratch(name);
            save(&session(1, stored), &file).unwrap();
            let mut session = session(2, &[("w", DType::F32, &[2, 3]), ("b", DType::F32, &[3])]);
            let before = values(&session);
            let error = load(&mut session, &file).unwrap_err();
            let lines: Vec<String> = said
                .iter()
                .map(|what| format!("error: {}: {what}", file.display()))
                .collect();
            assert_eq!(error.to_string(), lines.join("\n"));
            assert_eq!(values(&session), before);
            clear(&file);
        }
        let (w, b) = (("w", DType::F32, &[2, 3][..]), ("b", DType::F32, &[3][..]));
        check("missing", &[w], &["parameter `b` f32[3] is missing"]);
        check(
            "unknown",
            &[w, b, ("c", DType::F32, &[1])],
            &["`c` is none of the parameters to load"],
        );
        check(
            "shape",
            &[("w", DType::F32, &[3, 2]), b],
            &["parameter `w` f32[2, 3] is f32[3, 2] in the file"],
        );
        check(
            "type",
            &[("w", DType::F64, &[2, 3]), b],
            &["parameter `w` f32[2, 3] is f64[2, 3] in the file"],
        );
        check(
            "all",
            &[("v", DType::F32, &[2, 3]), ("b", DType::F16, &[3])],
            &[
                "parameter `w` f32[2, 3] is missing",
                "parameter `b` f32[3] is f16[3] in the file",
                "`v` is none of the parameters to load",
            ],
        );
    }

    #[test]
    fn a_malformed_file_changes_nothing() {
        let file = scratch("malformed");
        let mut session = session(2, &[("m", DType::Bool, &[2])]);
        let before = values(&session);
        let mut check = |header: &str, data: &[u8]| {
            let bytes = [
                &(header.len() as u64).to_le_bytes()[..],
                header.as_bytes(),
                data,
            ]
            .concat();
            fs::write(&file, bytes).unwrap();
            let error = load(&mut session, &file).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Format { .. }), "{error}");
            assert_eq!(values(&session), before, "{header}");
        };
        let whole = r#"{"m":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}"#;
        check(whole, &[0, 2]);
        check(whole, &[0, 1, 1]);
        check(&whole.replace("[2],", "[3],"), &[0, 1]);
        check(&whole.replace("BOOL", "C3"), &[0, 1]);
        check(&whole.replace("[0,2]", "[0,4611686018427387904]"), &[0, 1]);
        check("not json", &[]);
        check("", &[]);
        clear(&file);
    }

    #[test]
    fn a_failed_save_keeps_what_was_there() {
        let file = scratch("kept");
        let session = session(1, &MIXED);
        let nowhere = file.with_file_name("none").join("model");
        let error = save(&session, &nowhere).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Io { .. }), "{error}");
        // A folder cannot be replaced by a file: writing goes well, renaming does not.
        fs::create_dir_all(file.join("inner")).unwrap();
        let error = save(&session, &file).unwrap_err();
        assert!(error.to_string().contains("cannot be written"), "{error}");
        assert!(file.join("inner").exists());
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
        clear(&file);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load(&mut session(1, &MIXED), "nowhere/at.all").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("error: nowhere/at.all: cannot be read: "),
            "{error}"
        );
    }
}
