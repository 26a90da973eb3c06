//! Files that are not what they should be. A session keeps its parameters then.

use std::fs;
use std::panic::{AssertUnwindSafe, Location};
use std::path::PathBuf;

use backprop::prelude::*;
use backprop::{Reference, idx};

use crate::table::{Row, hold};

/// A header and the bytes after it.
type File = (&'static str, &'static [u8]);

#[track_caller]
const fn file(expected: &'static str, header: &'static str, data: &'static [u8]) -> Row<File> {
    Row {
        place: Location::caller(),
        expected,
        attempt: (header, data),
    }
}

/// For a session with `m`, `bool[2]`. The length of the header stands before each.
static SAFETENSORS: &[Row<File>] = &[
    file("Format", "", &[]),
    file("Format", "{}", &[]),
    file("Format", "not json", &[]),
    file("Format", "[]", &[]),
    file("Format", "null", &[]),
    file("Format", "{\"m\":1}", &[0, 1]),
    file("Format", "{\"m\":{}}", &[0, 1]),
    file("Format", "\u{feff}{}", &[]),
    file(
        "Format",
        r#"{"m":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}"#,
        &[],
    ),
    file(
        "Format",
        r#"{"m":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}"#,
        &[0],
    ),
    file(
        "Format",
        r#"{"m":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}"#,
        &[0, 2],
    ),
    file(
        "Format",
        r#"{"m":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}"#,
        &[0, 1, 1],
    ),
    file(
        "Format",
        r#"{"m":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}"#,
        &[0, 1],
    ),
    file(
        "Format",
        r#"{"n":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}"#,
        &[0, 1],
    ),
    file(
        "Format",
        r#"{"m":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#,
        &[0, 1],
    ),
    file(
        "Format",
        r#"{"m":{"dtype":"BOOL","shape":[],"data_offsets":[0,1]}}"#,
        &[0],
    ),
    file(
        "Format",
        r#"{"m":{"dtype":"BOOL","shape":[1,2],"data_offsets":[0,2]}}"#,
        &[0, 1],
    ),
    file(
        "Format",
        r#"{"m":{"dtype":"BOOL","shape":[3],"data_offsets":[0,2]}}"#,
        &[0, 1],
    ),
    file(
        "Format",
        r#"{"m":{"dtype":"BOOL","shape":[-2],"data_offsets":[0,2]}}"#,
        &[0, 1],
    ),
    file(
        "Format",
        r#"{"m":{"dtype":"BOOL","shape":[2.5],"data_offsets":[0,2]}}"#,
        &[0, 1],
    ),
    file(
        "Format",
        r#"{"m":{"dtype":"BOOL","shape":[18446744073709551615,2],"data_offsets":[0,2]}}"#,
        &[0, 1],
    ),
    file(
        "Format",
        r#"{"m":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,2]}}"#,
        &[0, 1],
    ),
    file(
        "Format",
        r#"{"m":{"dtype":"C3","shape":[2],"data_offsets":[0,2]}}"#,
        &[0, 1],
    ),
    file(
        "Format",
        r#"{"m":{"dtype":"BOOL","shape":[2],"data_offsets":[2,0]}}"#,
        &[0, 1],
    ),
    file(
        "Format",
        r#"{"m":{"dtype":"BOOL","shape":[2],"data_offsets":[0]}}"#,
        &[0, 1],
    ),
    file(
        "Format",
        r#"{"m":{"dtype":"BOOL","shape":[2],"data_offsets":[1,3]}}"#,
        &[0, 1, 1],
    ),
    file(
        "Format",
        r#"{"m":{"dtype":"BOOL","shape":[2],"data_offsets":[0,4611686018427387904]}}"#,
        &[0, 1],
    ),
    file(
        "Format",
        r#"{"m":{"dtype":"BOOL","shape":[2],"data_offsets":[18446744073709551614,18446744073709551615]}}"#,
        &[0, 1],
    ),
    file(
        "Format",
        r#"{"__metadata__":{"a":1},"m":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}"#,
        &[0, 1],
    ),
    file(
        "Format",
        r#"{"m":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]},"n":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}}"#,
        &[0, 1],
    ),
    file(
        "Format",
        r#"{"m":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]},"n":{"dtype":"BOOL","shape":[0],"data_offsets":[2,2]}}"#,
        &[0, 1],
    ),
];

/// Lengths of a header that its file does not hold.
const LENGTHS: [u64; 6] = [0, 3, 1 << 31, 1 << 62, i64::MAX as u64, u64::MAX];

/// A folder of its own, that goes with it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn folder(test: &str) -> Folder {
    let name = format!("backprop-errors-{test}-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    fs::create_dir_all(&folder).unwrap();
    Folder(folder)
}

fn masked() -> (Session<Reference>, Param) {
    let g = Graph::new();
    let m = g.parameter("m", [2], Bool, Init::Values(vec![1.0, 0.0]));
    let fetch = g.read(m).key();
    (
        Session::compile(&g, Reference, &[fetch], Updates::none()).unwrap(),
        m,
    )
}

#[test]
fn weights_that_are_malformed() {
    let folder = folder("weights");
    let path = folder.0.join("weights.safetensors");
    let (mut session, m) = masked();
    let before = session.parameter_bytes(m).unwrap();
    hold(SAFETENSORS, |row| {
        let (header, data) = row.attempt;
        let length = (header.len() as u64).to_le_bytes();
        fs::write(&path, [&length[..], header.as_bytes(), data].concat()).unwrap();
        let error = row.fails(AssertUnwindSafe(|| session.load(&path)))?;
        let named = error.to_string().contains("weights.safetensors: ");
        let kept = session.parameter_bytes(m).unwrap() == before;
        let holds = named && kept;
        holds
            .then_some(())
            .ok_or_else(|| format!("{}: kept {kept}: {error}", row.place))
    });
    for length in LENGTHS {
        fs::write(&path, [&length.to_le_bytes()[..], b"{}"].concat()).unwrap();
        let error = session.load(&path).unwrap_err();
        assert!(
            error.to_string().contains("no whole safetensors file"),
            "{error}"
        );
    }
    let row = file("Io", "", &[]);
    let load = AssertUnwindSafe(|| session.load(&folder.0));
    row.fails(load).unwrap();
    let save = AssertUnwindSafe(|| session.save(folder.0.join("none/at/all")));
    row.fails(save).unwrap();
    assert_eq!(session.parameter_bytes(m).unwrap(), before);
}

#[track_caller]
const fn bytes(expected: &'static str, attempt: &'static [u8]) -> Row<&'static [u8]> {
    Row {
        place: Location::caller(),
        expected,
        attempt,
    }
}

static IDX: &[Row<&[u8]>] = &[
    bytes("Format", &[]),
    bytes("Format", &[0]),
    bytes("Format", &[0, 0, 8]),
    bytes("Format", b"PNG data"),
    bytes("Format", &[0x1f, 0x8b, 8, 0]),
    bytes("Format", &[0, 1, 8, 1, 0, 0, 0, 0]),
    bytes("Format", &[1, 0, 8, 1, 0, 0, 0, 0]),
    bytes("Format", &[0, 0, 0, 1, 0, 0, 0, 0]),
    bytes("Format", &[0, 0, 0x0a, 1, 0, 0, 0, 0]),
    bytes("Format", &[0, 0, 0xff, 1, 0, 0, 0, 0]),
    bytes("Format", &[0, 0, 8, 0]),
    bytes("Format", &[0, 0, 8, 1]),
    bytes("Format", &[0, 0, 8, 1, 0, 0, 0]),
    bytes("Format", &[0, 0, 8, 255, 0, 0, 0, 0]),
    bytes("Format", &[0, 0, 8, 1, 0, 0, 0, 2, 1]),
    bytes("Format", &[0, 0, 8, 1, 0, 0, 0, 2, 1, 2, 3]),
    bytes("Format", &[0, 0, 8, 1, 0x80, 0, 0, 0, 1]),
    bytes("Format", &[0, 0, 8, 2, 0, 0, 0, 0, 0, 0, 0, 1, 1]),
    bytes(
        "Format",
        &[
            0, 0, 8, 4, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0,
        ],
    ),
    bytes("Format", &[0, 0, 0x0d, 1, 0, 0, 0, 1, 1, 2, 3]),
    bytes(
        "Format",
        &[0, 0, 0x0e, 2, 255, 255, 255, 255, 255, 255, 255, 255],
    ),
    bytes(
        "Format",
        &[
            0, 0, 0x0e, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
        ],
    ),
];

#[test]
fn idx_files_that_are_malformed() {
    hold(IDX, |row| row.fails(|| idx::parse(row.attempt)).map(drop));
    let folder = folder("idx");
    let row = bytes("Io", &[]);
    row.fails(|| idx::read("nowhere/at.all")).unwrap();
    row.fails(|| idx::read(folder.0.clone())).unwrap();
}
