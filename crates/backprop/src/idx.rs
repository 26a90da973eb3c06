//! Reads IDX files, the format of MNIST: a magic number naming the element type and the rank, the
//! shape, then the elements in row-major order, all big-endian.
//!
//! The header is never believed before the file bears it out: nothing is allocated by its counts,
//! and a file must hold exactly the bytes that its shape asks for. A truncated download is then an
//! error that says so, instead of a network that trains on garbage.
//!
//! ```
//! use backprop::idx;
//! let labels = idx::parse(&[0, 0, 0x08, 1, 0, 0, 0, 3, 7, 2, 1])?;
//! assert_eq!(labels.shape(), [3]);
//! assert_eq!(labels.as_u8(), Some(&[7, 2, 1][..]));
//! # Ok::<(), backprop::Error>(())
//! ```

use std::path::Path;
use std::{fmt, fs, io};

use backprop_core::{Error, ErrorKind, Result};

/// The elements of an IDX file, in row-major order and native byte order.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Data {
    /// Type byte `0x08`.
    U8(Vec<u8>),
    /// Type byte `0x09`.
    I8(Vec<i8>),
    /// Type byte `0x0b`.
    I16(Vec<i16>),
    /// Type byte `0x0c`.
    I32(Vec<i32>),
    /// Type byte `0x0d`.
    F32(Vec<f32>),
    /// Type byte `0x0e`.
    F64(Vec<f64>),
}

/// A tensor read from an IDX file: its shape and its elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Idx {
    shape: Vec<usize>,
    data: Data,
}

impl Idx {
    /// The sizes of the axes, outermost first; at least one.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements, `shape().iter().product()` of them.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The elements when they are bytes, as in every file of MNIST; `None` for another type.
    pub fn as_u8(&self) -> Option<&[u8]> {
        match &self.data {
            Data::U8(values) => Some(values),
            _ => None,
        }
    }
}

impl fmt::Display for Idx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.data {
            Data::U8(_) => "u8",
            Data::I8(_) => "i8",
            Data::I16(_) => "i16",
            Data::I32(_) => "i32",
            Data::F32(_) => "f32",
            Data::F64(_) => "f64",
        };
        write!(f, "{kind}{:?}", self.shape)
    }
}

/// Reads the IDX file at `path`.
///
/// # Errors
/// [`ErrorKind::Io`] when the file cannot be read, and [`ErrorKind::Format`] as [`parse`]; both
/// name the file.
pub fn read(path: impl AsRef<Path>) -> Result<Idx> {
    let path = path.as_ref();
    let bytes = fs::read(path).map_err(|source| unreadable(path, &source))?;
    decode(&path.display().to_string(), &bytes)
}

/// Reads the bytes of a whole IDX file.
///
/// # Errors
/// [`ErrorKind::Format`] when the bytes are gzip-compressed, have a wrong magic number or an
/// unknown element type, end too early, or go on after the last element.
pub fn parse(bytes: &[u8]) -> Result<Idx> {
    decode("IDX data", bytes)
}

/// An element type the format knows.
struct Type {
    byte: u8,
    name: &'static str,
    width: usize,
    decode: fn(&[u8]) -> Data,
}

const TYPES: [Type; 6] = [
    Type {
        byte: 0x08,
        name: "u8",
        width: 1,
        decode: |bytes| Data::U8(bytes.to_vec()),
    },
    Type {
        byte: 0x09,
        name: "i8",
        width: 1,
        decode: |bytes| Data::I8(big_endian(bytes, i8::from_be_bytes)),
    },
    Type {
        byte: 0x0b,
        name: "i16",
        width: 2,
        decode: |bytes| Data::I16(big_endian(bytes, i16::from_be_bytes)),
    },
    Type {
        byte: 0x0c,
        name: "i32",
        width: 4,
        decode: |bytes| Data::I32(big_endian(bytes, i32::from_be_bytes)),
    },
    Type {
        byte: 0x0d,
        name: "f32",
        width: 4,
        decode: |bytes| Data::F32(big_endian(bytes, f32::from_be_bytes)),
    },
    Type {
        byte: 0x0e,
        name: "f64",
        width: 8,
        decode: |bytes| Data::F64(big_endian(bytes, f64::from_be_bytes)),
    },
];

fn decode(file: &str, bytes: &[u8]) -> Result<Idx> {
    let malformed = |what: String| {
        Error::new(ErrorKind::Format {
            file: file.to_owned(),
            what,
        })
    };
    let &[0, 0, kind, rank, ref rest @ ..] = bytes else {
        return Err(match bytes {
            [0x1f, 0x8b, ..] => malformed(
                "compressed by gzip (it starts with 1f 8b), expected a plain IDX file".into(),
            )
            .help(format!(
                "decompress it first: `gunzip {file}` (it must be named .gz for that)"
            )),
            _ => malformed(format!(
                "no IDX file: expected it to start with 00 00, an element type and a rank, found {}",
                hex(bytes)
            )),
        });
    };
    let kind = TYPES
        .iter()
        .find(|t| t.byte == kind)
        .ok_or_else(|| malformed(no_such_type(kind)))?;
    let rank = usize::from(rank);
    if rank == 0 {
        return Err(malformed(
            "the header says rank 0, expected at least one axis".into(),
        ));
    }
    let Some((axes, elements)) = rest.split_at_checked(4 * rank) else {
        let (expected, found) = (header_len(rank), bytes.len());
        return Err(malformed(format!(
            "truncated in the header: expected {expected} bytes for rank {rank}, found {found}"
        )));
    };
    let shape: Vec<usize> = big_endian(axes, u32::from_be_bytes)
        .into_iter()
        .map(|n| n as usize)
        .collect();
    let expected = byte_len(&shape, kind.width).ok_or_else(|| {
        malformed(format!(
            "the header says {}{shape:?}, which is more than memory can address",
            kind.name
        ))
    })?;
    match bytes.len() {
        found if found == expected => Ok(Idx {
            shape,
            data: (kind.decode)(elements),
        }),
        found => {
            let verdict = if found < expected {
                "truncated"
            } else {
                "trailing bytes"
            };
            let name = kind.name;
            Err(malformed(format!(
                "{verdict}: the header says {name}{shape:?}, {expected} bytes in all, found {found}"
            )))
        }
    }
}

/// The length of a whole file, where that is a number.
fn byte_len(shape: &[usize], width: usize) -> Option<usize> {
    // The sizes besides an empty axis have to multiply too: whoever reads the file does that.
    let bytes = shape
        .iter()
        .try_fold(width, |n, &size| n.checked_mul(size.max(1)))?;
    let bytes = if shape.contains(&0) { 0 } else { bytes };
    bytes.checked_add(header_len(shape.len()))
}

fn header_len(rank: usize) -> usize {
    4 + 4 * rank
}

fn big_endian<T, const WIDTH: usize>(bytes: &[u8], element: fn([u8; WIDTH]) -> T) -> Vec<T> {
    bytes
        .as_chunks()
        .0
        .iter()
        .map(|chunk| element(*chunk))
        .collect()
}

fn unreadable(path: &Path, source: &io::Error) -> Error {
    let error = Error::new(ErrorKind::Io {
        file: path.display().to_string(),
        what: format!("cannot be read: {source}"),
    });
    let mut compressed = path.as_os_str().to_owned();
    compressed.push(".gz");
    match Path::new(&compressed) {
        gz if source.kind() == io::ErrorKind::NotFound && gz.exists() => {
            error.help(format!("decompress it first: `gunzip {}`", gz.display()))
        }
        _ => error,
    }
}

fn no_such_type(found: u8) -> String {
    let known = TYPES
        .map(|t| format!("{:#04x} ({})", t.byte, t.name))
        .join(", ");
    format!("unsupported element type {found:#04x}, expected one of {known}")
}

/// The first bytes, as a hex dump shows them.
fn hex(bytes: &[u8]) -> String {
    match bytes {
        [] => "an empty file".to_owned(),
        _ => bytes
            .iter()
            .take(4)
            .map(|byte| format!("{byte:02x}"))
            .collect::<Vec<_>>()
            .join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of the given type byte and shape whose elements are `body`.
    fn file(kind: u8, shape: &[u32], body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, kind, u8::try_from(shape.len()).unwrap()];
        bytes.extend(shape.iter().flat_map(|n| n.to_be_bytes()));
        bytes.extend(body);
        bytes
    }

    #[test]
    fn reads_every_type_and_rank() {
        #[track_caller]
        fn check(kind: u8, shape: &[u32], body: &[u8], data: Data) {
            let idx = parse(&file(kind, shape, body)).unwrap();
            assert_eq!(
                idx.shape(),
                shape.iter().map(|&n| n as usize).collect::<Vec<_>>()
            );
            assert_eq!(idx.data(), &data);
            assert!(
                TYPES
                    .iter()
                    .any(|t| t.byte == kind && idx.to_string() == format!("{}{shape:?}", t.name))
            );
        }
        check(0x08, &[3], &[0, 7, 255], Data::U8(vec![0, 7, 255]));
        check(0x09, &[2], &[0xff, 1], Data::I8(vec![-1, 1]));
        check(
            0x0b,
            &[1, 2],
            &[0x01, 0x02, 0xff, 0xfe],
            Data::I16(vec![258, -2]),
        );
        check(0x0c, &[1], &[0x80, 0, 0, 1], Data::I32(vec![i32::MIN + 1]));
        check(
            0x0d,
            &[2],
            &[0x3f, 0x80, 0, 0, 0xc0, 0x20, 0, 0],
            Data::F32(vec![1.0, -2.5]),
        );
        check(
            0x0e,
            &[1, 1, 1],
            &[0xc0, 0x04, 0, 0, 0, 0, 0, 0],
            Data::F64(vec![-2.5]),
        );
        check(0x08, &[0], &[], Data::U8(vec![]));
        check(0x0e, &[u32::MAX, 2, 0], &[], Data::F64(vec![]));
        check(
            0x08,
            &[2, 1, 2, 1, 1],
            &[1, 2, 3, 4],
            Data::U8(vec![1, 2, 3, 4]),
        );
    }

    #[test]
    fn says_what_is_wrong_with_a_malformed_file() {
        #[track_caller]
        fn check(bytes: &[u8], message: &str) {
            let error = parse(bytes).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Format { .. }));
            assert_eq!(error.to_string(), format!("error: IDX data: {message}"));
        }
        let no_magic =
            "no IDX file: expected it to start with 00 00, an element type and a rank, found";
        check(&[], &format!("{no_magic} an empty file"));
        check(&[0, 0, 8], &format!("{no_magic} 00 00 08"));
        check(b"PNG data", &format!("{no_magic} 50 4e 47 20"));
        check(
            &[0, 1, 8, 1, 0, 0, 0, 0],
            &format!("{no_magic} 00 01 08 01"),
        );
        check(
            &[0x1f, 0x8b, 8, 0, 1, 2, 3],
            "compressed by gzip (it starts with 1f 8b), expected a plain IDX file\n   \
             = help: decompress it first: `gunzip IDX data` (it must be named .gz for that)",
        );
        check(
            &file(0x0a, &[1], &[0]),
            "unsupported element type 0x0a, expected one of \
             0x08 (u8), 0x09 (i8), 0x0b (i16), 0x0c (i32), 0x0d (f32), 0x0e (f64)",
        );
        check(
            &file(0x08, &[], &[]),
            "the header says rank 0, expected at least one axis",
        );
        check(
            &file(0x08, &[3, 4], &[])[..9],
            "truncated in the header: expected 12 bytes for rank 2, found 9",
        );
        check(
            &file(0x0b, &[2, 2], &[0; 7]),
            "truncated: the header says i16[2, 2], 20 bytes in all, found 19",
        );
        check(
            &file(0x08, &[60_000, 28, 28], &[0; 10]),
            "truncated: the header says u8[60000, 28, 28], 47040016 bytes in all, found 26",
        );
        check(
            &file(0x08, &[2], &[1, 2, 3]),
            "trailing bytes: the header says u8[2], 10 bytes in all, found 11",
        );
        check(
            &file(0x08, &[9, 0], &[1]),
            "trailing bytes: the header says u8[9, 0], 12 bytes in all, found 13",
        );
        check(
            &file(0x08, &[u32::MAX, u32::MAX, u32::MAX, 0], &[]),
            "the header says u8[4294967295, 4294967295, 4294967295, 0], which is more than memory can address",
        );
        check(
            &file(0x0e, &[u32::MAX, u32::MAX, u32::MAX], &[0; 8]),
            "the header says f64[4294967295, 4294967295, 4294967295], which is more than memory can address",
        );
    }

    #[test]
    fn names_the_file_and_a_way_out() {
        let folder = std::env::temp_dir().join(format!("backprop-idx-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("labels.gz"), [0x1f, 0x8b]).unwrap();
        fs::write(folder.join("short"), [0, 0, 8, 1, 0, 0, 0, 2, 5]).unwrap();
        let check = |name: &str, said: &str, way_out: &str| {
            let file = folder.join(name).display().to_string();
            let error = read(&file).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("error: {file}: {said}")),
                "{error}"
            );
            assert!(error.contains(way_out), "{error}");
        };
        check("labels", "cannot be read: ", "labels.gz`");
        check("labels.gz", "compressed by gzip", "labels.gz`");
        check("short", "truncated: ", "10 bytes in all, found 9");
        check("nowhere", "cannot be read: ", "");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn reads_the_digits_of_the_project() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/digits");
        let images = read(folder.join("digits-images-idx3-ubyte")).unwrap();
        let labels = read(folder.join("digits-labels-idx1-ubyte")).unwrap();
        assert_eq!(images.shape(), [1797, 8, 8]);
        assert_eq!(labels.shape(), [1797]);
        assert_eq!(images.as_u8().unwrap().iter().max(), Some(&16));
        assert_eq!(labels.as_u8().unwrap().iter().max(), Some(&9));
    }
}
